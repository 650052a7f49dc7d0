"""The command `lpcompress push`."""

from pathlib import Path
from typing import Annotated

import typer

from lpcompress.cli.options import JsonOption
from lpcompress.cli.terminal import Terminal
from lpcompress.config.publishing import Publishing


def push(
    terminal: Terminal,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of a checkpoint.")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Repository on the Hub: user/model.")],
    how: Publishing,
    as_json: JsonOption = False,
) -> None:
    """Push the checkpoint in DIR to REPO on the Hub, which is created if there is none.

    Only what belongs to the checkpoint is pushed, after it was compared with its digests.

    Example: lpcompress push roberta-base-lpcompress me/roberta-base-lpcompress --private
    """
    with terminal.importing():
        from lpcompress import presentation, publishing

    with terminal.progress() as progress:
        progress(f"pushing {directory} to {repo}")
        done = publishing.push(directory, repo, how.private, how.create_pr)
    terminal.show(presentation.as_json(done) if as_json else f"{done.url}: {done.files:,} files.")


def push_if_passed(terminal: Terminal, directory: Path, repo: str, how: Publishing, passed: bool) -> None:
    """Push what `compress` wrote, unless a gate failed, and say so."""
    from lpcompress import publishing

    if not passed:
        terminal.error(
            f"{directory} was not pushed to {repo}. To do so all the same: lpcompress push {directory} {repo}"
        )
    elif terminal.prints:  # once, if a launcher started several processes
        terminal.note(f"pushed: {publishing.push(directory, repo, how.private, how.create_pr).url}")
