"""Options for pushing a checkpoint to the Hub."""

from typing import Annotated

from pydantic import Field

from lpcompress.config.options import Options, Shown

PUBLISHING = "Hub"  # group of the command line's help


class Publishing(Options):
    """Options for pushing a checkpoint to the Hub.

    Raises
    ------
    PlanError
        If a value is invalid or a key is unknown.

    Examples
    --------
    >>> Publishing(private=True).create_pr
    False
    """

    private: Annotated[bool, Field(description="Make a new repository private"), Shown(PUBLISHING)] = False
    create_pr: Annotated[
        bool,
        Field(description="Open a pull request on a repository that exists, instead of writing to it"),
        Shown(PUBLISHING),
    ] = False
