"""The command that gives a result, from the settings in its document."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from lpcompress.config.options import Options


def command(*words: str, **options: Any) -> str:
    """Return a command line of lpcompress; options that are None or empty are left out.

    Examples
    --------
    >>> command("eval-glue", "a model", ratio=0.28, layers=["ffn", "conv"], max_drop={"": 1.0, "rte": 3}, json=True)
    "lpcompress eval-glue 'a model' --ratio 0.28 --layers ffn --layers conv --max-drop 1 --max-drop rte=3 --json"
    """
    given = [word for name, value in options.items() for word in _option(f"--{name.replace('_', '-')}", value)]
    return shlex.join(["lpcompress", *words, *given])


def unusual(settings: Mapping[str, Any], usual: Options) -> dict[str, Any]:
    """Return the settings that are options and differ from their defaults.

    Examples
    --------
    >>> from lpcompress.config.scoring import Scoring
    >>> unusual({"limit": 100, "seed": 0, "device": "cpu"}, Scoring())
    {'limit': 100}
    """
    defaults = usual.model_dump(mode="json")
    return {key: value for key, value in settings.items() if key in defaults and value != defaults[key]}


def _option(name: str, value: Any) -> Iterator[str]:
    if value is True:
        yield name
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from (name, f"{key}={_text(each)}" if key else _text(each))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from (name, _text(each))
    elif value is not None and value is not False:
        yield from (name, _text(value))


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
