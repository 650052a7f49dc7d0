"""The table of GLUE results, for a terminal."""

from rich.table import Table

from lpcompress.evaluation.evaluation import Evaluation
from lpcompress.evaluation.grid import Grid
from lpcompress.presentation import plain_table


def glue_table(evaluation: Evaluation) -> Table:
    """Return the table of an evaluation, with several methods side by side."""
    grid = Grid.of(evaluation)
    table = plain_table(grid.title)
    table.caption = "\n".join(grid.notes)
    first, *others = grid.headings
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in grid.tasks:
        table.add_row(*row)
    table.add_section()
    for row in grid.averages:
        table.add_row(*row)
    return table
