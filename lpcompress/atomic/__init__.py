"""Files and directories that are written completely or not at all, whatever ends the process."""

from lpcompress.atomic.directories import atomic_directory, entries, refuse_unwritable_directory, remove_leftovers
from lpcompress.atomic.files import refuse_unwritable, write_atomically
from lpcompress.atomic.scratch import ScratchDirectory
from lpcompress.atomic.workspaces import beside, claimed

__all__ = [
    "ScratchDirectory",
    "atomic_directory",
    "beside",
    "claimed",
    "entries",
    "refuse_unwritable",
    "refuse_unwritable_directory",
    "remove_leftovers",
    "write_atomically",
]
