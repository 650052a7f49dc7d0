"""Options for writing a checkpoint."""

from typing import Annotated

from pydantic import Field

from lpcompress.config.options import Options, Shown
from lpcompress.config.sizes import Bytes

OUTPUT = "Output"  # group of the command line's help


class Saving(Options):
    """Options for writing a compressed checkpoint.

    Raises
    ------
    PlanError
        If a value is invalid or a key is unknown.

    Examples
    --------
    >>> Saving(max_shard_size="2GB").max_shard_size
    2000000000
    """

    max_shard_size: Annotated[
        Bytes,
        Field(description="Largest size of a weight file, such as 2GB"),
        Shown(OUTPUT, metavar="SIZE", default="the model's largest shard", text=True),
    ] = None
    stub: Annotated[
        bool,
        Field(description="Add a module that imports lpcompress when loaded with trust_remote_code=True"),
        Shown(OUTPUT),
    ] = False
    no_verify: Annotated[
        bool,
        Field(description="Do not load the result again to compare it with the model in memory"),
        Shown(OUTPUT),
    ] = False
    overwrite: Annotated[bool, Field(description="Replace the output if it exists"), Shown(OUTPUT)] = False
