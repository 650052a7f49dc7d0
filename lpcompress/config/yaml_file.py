"""Read YAML files that users write."""

from pathlib import Path
from typing import Any

import yaml

from lpcompress.errors import PlanError, briefly

LARGEST = 4_000_000  # characters; the plan of a model with 10,000 layers has one million


def read_yaml(path: str | Path, entry: str) -> Any:
    """Return the content of a YAML file.

    Parameters
    ----------
    path : str or Path
    entry : str
        What a line should look like, such as `key: value`, for error messages.

    Raises
    ------
    PlanError
        If the file cannot be read, is not YAML, or gives a key twice; the message names the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        if len(text) > LARGEST:
            raise PlanError(f"must be at most {LARGEST:,} characters. It has {len(text):,}.")
        return yaml.load(text, _Unambiguous)
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from None
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror}). Name a YAML file.") from None
    except Exception as error:  # any: PyYAML does not check what it makes numbers and dates of, nor how deep it goes
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise PlanError(f"{path}{line}: not valid YAML. Write one `{entry}` per line.") from None


class _Unambiguous(yaml.SafeLoader):
    """A YAML loader that refuses duplicate keys and references.

    YAML itself would silently keep the last of several values. References (`*name`) let a file of 300 bytes stand for
    gigabytes.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            line = event.start_mark.line + 1
            raise PlanError(f"line {line}: references are not read. Write the value of {briefly('*' + event.anchor)}.")
        return super().compose_node(parent, index)

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        try:
            str(value).encode()
        except UnicodeEncodeError:
            line = node.start_mark.line + 1
            raise PlanError(f"line {line}: {briefly(value)} holds half a character. Write it whole.") from None
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                line = node.value[i][0].start_mark.line + 1
                raise PlanError(f"line {line}: {briefly(key)} is given twice. Remove one.")
        return super().construct_mapping(node, deep)


# a set has no order, but the order of patterns may count
_Unambiguous.add_constructor("tag:yaml.org,2002:set", _Unambiguous.construct_undefined)  # type: ignore[type-var]
