"""The table of GLUE results and the gates as Markdown, for the page of a CI run or a comment."""

from collections.abc import Iterable
from html import escape

from lpcompress.evaluation.evaluation import Evaluation
from lpcompress.evaluation.gates import Gates
from lpcompress.evaluation.grid import Grid


def as_markdown(evaluation: Evaluation) -> str:
    """Return the results as Markdown: a heading, the verdict of the gates, the table, and its notes."""
    grid = Grid.of(evaluation)
    lines = [f"### {_plain(grid.title)}", "", *_verdict(evaluation)]
    lines += [_row(grid.headings), _row([":--", *["--:"] * (len(grid.headings) - 1)])]
    lines += [_row(map(_plain, row)) for row in grid.tasks]
    lines += [_row(f"**{cell}**" if cell else "" for cell in map(_plain, row)) for row in grid.averages]
    return "\n".join([*lines, "", *(f"- {_plain(note)}" for note in grid.notes), ""])


def _verdict(evaluation: Evaluation) -> list[str]:
    if not Gates.of(evaluation.scoring):
        return []
    if not evaluation.failures:
        return ["**Every gate passed.**", ""]
    return ["**A gate failed:**", "", *(f"- {_plain(failure)}" for failure in evaluation.failures), ""]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Return a text in which nothing is markup: names of models and reasons of failures come from anywhere."""
    return escape(text, quote=False).replace("|", "\\|").replace("*", "\\*").replace("\n", "<br>")
