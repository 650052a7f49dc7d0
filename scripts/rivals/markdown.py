"""The report in Markdown: a table for each scope, largest sizes first, rivals of about the same size together."""

from rivals.rival import SCOPES
from rivals.rows import Row, Rows
from rivals.table import RIVALS

HEAD = """\
# Rivals

What ways to make a classifier smaller do to it at equal bytes.

    {command}

Bytes are everything that a decoder needs (codes, scales, tables, positions, names), as a share of the dense float32
bytes. *Moved* is the mean squared change of the logits over their variance; *drop* is the score of the dense model
minus that of the compressed one, in points. ± is a standard error over the rows of the development set ({rows} rows a
task at most); means are over the tasks in the columns. Nothing is fine-tuned.
"""
NOTES = {
    "embedding": """\
Bytes are those of the word embedding. Everything else stays dense. Our methods
weight rows by the token prior, which `error` does not.""",
    "model": """\
Bytes are those of all tensors. The word embedding and all linear layers of the body are compressed, by our methods the
position embedding and the pooler too. The rest stays in float32 and is counted; only nncodec, which codes whole models,
gets all tensors (those of one dimension at QP -75).""",
    "matrix": """\
Relative Frobenius error of the embedding. Our methods weight all rows alike here. The bound is reverse water-filling
for independent Gaussian rows of the same second moment, at the same bytes; nothing is taken off for a basis.""",
}


def document(rows: Rows, command: str, missing: int = 0) -> str:
    """Return the report.

    Parameters
    ----------
    rows : Rows
    command : str
        That made it.
    missing : int
        Cells that are not measured yet.
    """
    limit = max((found["n"] for row in rows.rows for found in row.done.values() if "n" in found), default=0)
    parts = [HEAD.format(command=command, rows=limit), rivals()]
    if missing:
        parts.insert(1, f"Unfinished: {missing} cells (a rival, size and task each) are still to be measured.\n")
    parts += [section(name, rows.of(name)) for name in SCOPES if rows.of(name)]
    return "\n".join(parts)


def rivals() -> str:
    """Return the table of what each rival does."""
    lines = ["| rival | is |", "|---|---|"]
    return "\n".join([*lines, *(f"| {rival.name} | {rival.about} |" for rival in RIVALS)]) + "\n"


def section(name: str, rows: list[Row]) -> str:
    """Return the heading, note and table of one scope."""
    scope, tasks = SCOPES[name], sorted(rows[0].tasks)
    names = ["bytes", "rival", "setting"]
    if not scope.whole:
        names += ["error", "bound"] if not scope.scored else ["error"]
    if scope.scored:
        names += [f"moved, {task}" for task in tasks] + ["moved, mean"]
        names += [f"drop, {task}" for task in tasks] + ["drop, mean"]
    lines = [f"## {scope.title}", "", NOTES[name], "", _line(names), _line(["---"] * len(names))]
    ordered = sorted(rows, key=lambda row: -row.share)
    done = [row for row in ordered if row.done]
    lines += [_line(_cells(row, tasks, names)) for row in done]
    failed = [row for row in ordered if not row.done]
    lines += ["", *_failures(failed)] if failed else []
    return "\n".join(lines) + "\n"


def _failures(rows: list[Row]) -> list[str]:
    """Return a line for every rival that has no setting at some size."""
    by_rival: dict[str, list[Row]] = {}
    for row in rows:
        by_rival.setdefault(row.rival, []).append(row)
    return ["Without a result:", ""] + [
        f"- {rival} at {', '.join(f'{100 * row.size:g} %' if row.size else 'its size' for row in found)}:"
        f" {next(iter(found[0].by_task.values()))['reason']}"
        for rival, found in by_rival.items()
    ]


def _cells(row: Row, tasks: list[str], names: list[str]) -> list[str]:
    """Return the cells of a row, under `names`."""
    cells = [f"{100 * row.share:.2f} %", row.rival, row.settings]
    for name in names[3:]:
        kind, _, task = name.partition(", ")
        if not task:
            values = [found[kind] for found in row.done.values()]
            cells.append(f"{sum(values) / len(values):.4f}")
        elif task == "mean":
            mean = row.mean(kind)
            cells.append("" if mean is None else _with_error(kind, mean, row.mean_se(kind)))
        else:
            found = row.done.get(task)
            cells.append(_with_error(kind, found[kind], found[f"{kind}_se"]) if found else "")
    return cells


def _with_error(kind: str, value: float, error: float) -> str:
    """Return a number and its standard error: two digits after the point for drops, two that count for moves."""
    if kind == "drop":
        return f"{value:.2f} ± {error:.2f}"
    return f"{value:.2g} ± {error:.1g}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
