"""What follows an evaluation: files for CI, the job summary and annotations of GitHub Actions, the exit code."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lpcompress.atomic import refuse_unwritable, write_atomically
from lpcompress.cli.terminal import Terminal
from lpcompress.config.reporting import Reporting

if TYPE_CHECKING:
    from lpcompress.evaluation.evaluation import Evaluation

GITHUB = "GITHUB_ACTIONS"  # "true" in a job of GitHub Actions
SUMMARY = "GITHUB_STEP_SUMMARY"  # the file whose Markdown GitHub shows on the page of the job


def refuse_unwritable_reports(reporting: Reporting) -> None:
    """Raise LpCompressError unless every file that was asked for can be written; call this before the work."""
    for file in reporting.files:
        refuse_unwritable(file)


def conclude(evaluation: "Evaluation", reporting: Reporting, terminal: Terminal) -> int:
    """Write the files for CI, say which gates failed, and return the exit code of an evaluation."""
    from lpcompress.evaluation.junit import junit_xml
    from lpcompress.evaluation.markdown import as_markdown

    if terminal.prints:  # once, if a launcher started several processes
        if reporting.junit:
            write_atomically(reporting.junit, junit_xml(evaluation))
        if reporting.markdown:
            write_atomically(reporting.markdown, as_markdown(evaluation))
        if os.environ.get(SUMMARY):
            _summarize(Path(os.environ[SUMMARY]), as_markdown(evaluation), terminal)
    for line in evaluation.failures:
        terminal.error(f"Gate: {line}")
        if os.environ.get(GITHUB) == "true":
            terminal.error(annotation(line))
    return 3 if evaluation.failures else int(evaluation.failed)


def annotation(message: str) -> str:
    """Return the line that makes GitHub show a message at the head of the run; it is read from stderr too.

    Examples
    --------
    >>> annotation("rte: drop 2.00 exceeds 1")
    '::error title=lpcompress gate::rte: drop 2.00 exceeds 1'
    """
    escaped = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::error title=lpcompress gate::{escaped}"


def _summarize(file: Path, text: str, terminal: Terminal) -> None:
    """Append to the summary of the job. Nobody asked for it, so a failure is no reason to lose the results."""
    try:
        with file.open("a", encoding="utf-8") as summary:
            summary.write(text + "\n")
    except OSError as error:
        terminal.note(f"Warning: {SUMMARY}={file} cannot be written: {error.strerror}.")
