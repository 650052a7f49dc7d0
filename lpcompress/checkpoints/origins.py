"""A revision or a folder of a model, as a local directory that everything else loads like any other."""

from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from lpcompress import hub
from lpcompress.checkpoints.companions import select
from lpcompress.checkpoints.files import CARD_FILE, INDEX, WEIGHTS
from lpcompress.errors import MissingCheckpointError, PlanError
from lpcompress.filenames import CONFIG


def located(model: str, revision: str | None = None, subfolder: str | None = None) -> str:
    """Return the directory of a revision or folder of a model; the model as it is if neither is given.

    Parameters
    ----------
    model : str
        Hub id or local directory.
    revision : str, optional
        Branch, tag or commit on the Hub.
    subfolder : str, optional
        Folder of the repository or directory.

    Raises
    ------
    PlanError
        If `model` is a directory and has no revisions, or the folder is not inside it.
    CheckpointError
        If there is no such model, revision or folder, or the Hub does not answer and the cache lacks it.

    Examples
    --------
    >>> import tempfile
    >>> directory = Path(tempfile.mkdtemp())
    >>> (directory / "encoder").mkdir()
    >>> Path(located(str(directory), subfolder="encoder")) == directory / "encoder"
    True
    """
    if not (revision or subfolder):
        return model
    folder = PurePosixPath(subfolder or "")
    if folder.is_absolute() or ".." in folder.parts:
        raise PlanError(f"subfolder must be a folder inside the model. Got {subfolder!r}.")
    path = Path(model).expanduser()
    if not path.exists():
        return str(_downloaded(model, revision, folder))
    if revision:
        raise PlanError(f"revision is for a model on the Hub. {model} is a local directory: leave it out.")
    if not (path / folder).is_dir():
        raise MissingCheckpointError(f"{model} must have the folder {subfolder}. There is none.")
    return str(path / folder)


def _downloaded(model: str, revision: str | None, folder: PurePosixPath) -> Path:
    """Return the folder in the Hub's cache, after the files that are needed were downloaded."""
    config = str(folder / CONFIG)
    if not hub.find(model, config, revision):  # the Hub answers
        inside = {PurePosixPath(name): size for name, size in hub.listing(model, revision or "main").items()}
        files = {str(name.relative_to(folder)): size for name, size in inside.items() if name.is_relative_to(folder)}
        hub.download(model, revision or "main", [str(folder / name) for name in _needed(files)])
    found = hub.cached(model, config, revision)
    if found is None:
        raise MissingCheckpointError(f"{model} is not in the local cache of the Hub: {config} was not downloaded.")
    return found.parent


def _needed(files: dict[str, int]) -> list[str]:
    """Return the files to download: one kind of weights, the config, the card and what is copied beside weights."""
    kinds = [(whole, shards, f"{whole}{INDEX}") for whole, shards in WEIGHTS.items()]
    weights = next((kind for kind in kinds if any(fnmatchcase(name, each) for name in files for each in kind)), ())
    loaded = [name for name in files if any(fnmatchcase(name, each) for each in (*weights, CONFIG, CARD_FILE))]
    return [*loaded, *select(files)[0]]
