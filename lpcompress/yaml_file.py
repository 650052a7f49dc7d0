"""Reading what a user wrote as YAML."""

from pathlib import Path
from typing import Any

import yaml

from lpcompress.errors import PlanError


def read_yaml(path: str | Path, entry: str) -> Any:
    """Return what stands in a YAML file.

    Parameters
    ----------
    path : str or Path
    entry : str
        What a line should look like, for the message: `key: value`.

    Raises
    ------
    PlanError
        If the file cannot be read or is not YAML; the message names the line.
    """
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror}). Name a YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise PlanError(f"{path}{line}: is not YAML. Write one `{entry}` a line.") from None
