"""Options for reports that other programs show: CI servers and pages."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from lpcompress.config.options import Options, Shown
from lpcompress.config.saving import OUTPUT


class Reporting(Options):
    """Files to write the scores to, besides the results themselves. Existing files are replaced.

    Raises
    ------
    PlanError
        If a value is invalid or a key is unknown.

    Examples
    --------
    >>> [file.name for file in Reporting(junit="junit.xml").files]
    ['junit.xml']
    """

    junit: Annotated[
        Path | None,
        Field(description="JUnit XML file for CI, with a test case for each task and gate"),
        Shown(OUTPUT, metavar="FILE"),
    ] = None
    markdown: Annotated[
        Path | None,
        Field(description="Markdown file with the table of scores and the gates"),
        Shown(OUTPUT, metavar="FILE"),
    ] = None

    @property
    def files(self) -> list[Path]:
        """The files that were asked for."""
        return [file for file in (self.junit, self.markdown) if file]
