"""Read YAML files that users write."""

from pathlib import Path
from typing import Any

import yaml

from lpcompress.errors import PlanError


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
        return yaml.load(Path(path).read_text(encoding="utf-8"), _Unambiguous)
    except PlanError as error:
        raise PlanError(f"{path}, {error}") from None
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror}). Name a YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise PlanError(f"{path}{line}: not valid YAML. Write one `{entry}` per line.") from None


class _Unambiguous(yaml.SafeLoader):
    """A YAML loader that refuses duplicate keys; YAML itself would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                line = node.value[i][0].start_mark.line + 1
                raise PlanError(f"line {line}: {key!r} is given twice. Remove one.")
        return super().construct_mapping(node, deep)
