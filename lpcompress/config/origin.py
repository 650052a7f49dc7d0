"""Options that say which version of a model is meant."""

from typing import Annotated

from pydantic import Field

from lpcompress.config.options import Options, Shown

VERSION = "Which version"  # group of the command line's help


class Origin(Options):
    """Which version of a model is meant.

    Raises
    ------
    PlanError
        If a value is invalid or a key is unknown.

    Examples
    --------
    >>> Origin(revision="v1.0").given()
    {'revision': 'v1.0'}
    """

    revision: Annotated[
        str | None,
        Field(description="Branch, tag or commit of MODEL on the Hub"),
        Shown(VERSION, default="main"),
    ] = None
    subfolder: Annotated[
        str | None, Field(description="Folder of MODEL that holds the checkpoint"), Shown(VERSION, metavar="FOLDER")
    ] = None

    def given(self) -> dict[str, str]:
        """Return the fields that say something; none stands for the model as it is."""
        return self.model_dump(exclude_none=True)
