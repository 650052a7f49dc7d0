"""Push a checkpoint to the Hub: what belongs to it, undamaged, with a card that says how to load it from there."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import CommitOperationAdd, constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

from lpcompress import hub
from lpcompress.checkpoints.contents import foreign
from lpcompress.checkpoints.files import CARD_FILE, refuse_unreadable
from lpcompress.compression.card import card_of_repository
from lpcompress.compression.report import CheckpointReport
from lpcompress.compression.seal import names_in, resealed
from lpcompress.compression.verification import verify
from lpcompress.errors import LpCompressError, PlanError, cut
from lpcompress.filenames import REPORT_FILE
from lpcompress.presentation import short_list

REFUSALS = {
    401: "the Hub does not accept the token. Log in again: hf auth login",
    403: "the token may not write there. Choose a repository of yours, or open a pull request: --create-pr",
    404: "there is no such repository, or the token may not see it",
}


@dataclass(frozen=True)
class Published:
    """Result of `push`.

    Attributes
    ----------
    repo : str
    url : str
        Of the commit, or of the pull request.
    commit : str
    pull_request : bool
    files : int
    """

    repo: str
    url: str
    commit: str
    pull_request: bool
    files: int


def refuse_unpublishable(repo: str) -> None:
    """Raise unless something can be pushed to a repository; call this before the long work.

    Raises
    ------
    PlanError
        If `repo` is no id of a repository.
    LpCompressError
        If the Hub does not answer within seconds, or nobody is logged in.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise PlanError(f"the repository must be an id on the Hub such as user/model. Got {repo!r}.") from None
    if constants.HF_HUB_OFFLINE:
        raise LpCompressError(f"{repo} cannot be pushed to: HF_HUB_OFFLINE is set. Unset it.")
    if huggingface_hub.get_token() is None:
        raise LpCompressError(f"{repo} cannot be pushed to: nobody is logged in. Run hf auth login, or set HF_TOKEN.")
    if not hub.answers():
        raise LpCompressError(
            f"{repo} cannot be pushed to: the Hub does not answer. Check the network and HF_ENDPOINT."
        )


def push(directory: Path, repo: str, private: bool = False, create_pr: bool = False) -> Published:
    """Push a checkpoint to a repository on the Hub, in one commit.

    Only files that belong to the checkpoint are pushed; a warning names the others. In the model card, the directory's
    name becomes that of the repository, so that the example of loading works as it stands.

    Parameters
    ----------
    directory : Path
        A checkpoint, compressed or not.
    repo : str
        Id of the repository, which is created if there is none.
    private : bool, default=False
        Whether a new repository is private.
    create_pr : bool, default=False
        Whether to open a pull request on an existing repository instead of writing to it.

    Raises
    ------
    PlanError, LpCompressError
        As `refuse_unpublishable` does; if the checkpoint is damaged; if the Hub refuses.
    """
    refuse_unreadable(directory)
    refuse_unpublishable(repo)
    names = _names(directory)
    changed = _rewritten(directory, repo)
    operations = [CommitOperationAdd(name, changed.get(name, str(directory / name))) for name in names]
    api = huggingface_hub.HfApi()
    try:
        if not create_pr:
            api.create_repo(repo, private=private or None, exist_ok=True)
        message = f"Upload {directory.resolve().name}, made by lpcompress"
        done = api.create_commit(repo, operations, commit_message=message, create_pr=create_pr)
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        raise LpCompressError(f"{repo}: {REFUSALS.get(status, cut(str(error)))}.") from None
    except hub.UNREACHABLE as error:
        raise LpCompressError(f"{repo}: the Hub stopped answering ({type(error).__name__}). Push again.") from None
    return Published(repo, done.pr_url or done.commit_url, done.oid, bool(done.pr_url), len(operations))


def _names(directory: Path) -> list[str]:
    """Return the files that belong to a checkpoint, after comparing them with their digests if there are any."""
    report = CheckpointReport.read(directory)
    if report and report.digests:
        found = verify(directory)
        if not found.sound:
            damage = short_list([str(each) for each in found.damaged])
            raise LpCompressError(f"{directory} is not as it was written, so it was not pushed. {damage}.")
        names, others = [*report.digests.files, REPORT_FILE], found.extra
    else:
        others = foreign(directory)
        names = [name for name in names_in(directory) if not {name, f"{name.split('/')[0]}/"} & set(others)]
        names += [REPORT_FILE] * bool(report)
    if others:
        warnings.warn(
            f"{directory}: not pushed, as it is not part of the checkpoint: {short_list(others)}.", stacklevel=3
        )
    return sorted(names)


def _rewritten(directory: Path, repo: str) -> dict[str, bytes]:
    """Return the model card with the name of the repository, and the report with the digest of that card."""
    report, card = CheckpointReport.read(directory), directory / CARD_FILE
    if report is None or not card.is_file():
        return {}
    content = card_of_repository(card.read_text(encoding="utf-8"), report, repo).encode()
    document: dict[str, Any] = json.loads((directory / REPORT_FILE).read_text(encoding="utf-8"))
    if not report.digests:
        return {CARD_FILE: content}
    return {CARD_FILE: content, REPORT_FILE: resealed(document, CARD_FILE, content).encode()}
