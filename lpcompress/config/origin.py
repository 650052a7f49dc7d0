"""Options that say which version of a model is meant."""

from typing import Annotated

from pydantic import Field

from lpcompress.config.options import Options, Shown
from lpcompress.config.plan import WHAT


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
        Shown(WHAT, default="main"),
    ] = None
    subfolder: Annotated[
        str | None, Field(description="Folder of MODEL that holds the checkpoint"), Shown(WHAT, metavar="FOLDER")
    ] = None
