"""The digests in `lpcompress.json`: of every tensor, of every other file of a checkpoint, and of the report itself."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xxhash import xxh3_64

from lpcompress.checkpoints.digests import of_file
from lpcompress.checkpoints.files import weight_files
from lpcompress.checkpoints.integrity import Weights
from lpcompress.filenames import REPORT_FILE
from lpcompress.presentation import as_json

BLANK = "0" * 16  # stands for the report's own digest while that is computed
OWN = '"report": "{}"'


@dataclass(frozen=True, kw_only=True)
class Seal:
    """Digests of a checkpoint when it was written; see `checkpoints.digests`.

    Attributes
    ----------
    report : str
        Digest of `lpcompress.json` with zeros in place of this digest.
    files : dict of str to str
        Path relative to the checkpoint, with forward slashes -> digest of its bytes, weight files included.
    tensors : dict of str to str
        Name of a tensor -> digest of its dtype, shape and bytes.
    algorithm : str
    """

    report: str = BLANK
    files: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, str] = field(default_factory=dict)
    algorithm: str = "xxh3-64"

    @classmethod
    def of(cls, directory: Path) -> "Seal":
        """Return the digests of what is in a directory, apart from the report.

        Examples
        --------
        >>> import tempfile
        >>> directory = Path(tempfile.mkdtemp())
        >>> _ = (directory / "vocab.txt").write_text("cat")
        >>> Seal.of(directory).files
        {'vocab.txt': '42548a8a111c54ee'}
        """
        weights = Weights([file for file in weight_files(directory) if file.suffix == ".safetensors"])
        return cls(files={name: of_file(directory / name) for name in names_in(directory)}, tensors=weights.digests())


def names_in(directory: Path) -> list[str]:
    """Return the files of a checkpoint that a report has digests of: all but hidden ones and the report."""
    return sorted(path.relative_to(directory).as_posix() for path in _walk(directory) if path.name != REPORT_FILE)


def own_digest(text: bytes, given: str = BLANK) -> str:
    """Return the digest of the text of a report in which the digest `given` stands for it."""
    given_text, blank_text = (OWN.format(digest).encode() for digest in (given, BLANK))
    return str(xxh3_64(text.replace(given_text, blank_text, 1)).hexdigest())


def with_own_digest(text: str) -> str:
    """Return the text of a report with its digest in place of zeros."""
    return text.replace(OWN.format(BLANK), OWN.format(own_digest(text.encode())), 1)


def resealed(document: dict[str, Any], name: str, content: bytes) -> str:
    """Return the text of a report in which a file has other content.

    Parameters
    ----------
    document : dict
        The content of `lpcompress.json`, with digests.
    name : str
        The file, as in the digests.
    content : bytes
    """
    digests = document["digests"]
    files = digests["files"] | {name: xxh3_64(content).hexdigest()}
    return with_own_digest(as_json(document | {"digests": digests | {"report": BLANK, "files": files}}) + "\n")


def _walk(directory: Path) -> Iterator[Path]:
    """Yield the files below a directory, apart from what is hidden."""
    for path in directory.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path
