"""The plots of a sweep in characters."""

import pytest

from lpcompress.pages.chart import chart

pytest.importorskip("plotille", reason="the extra plots is not installed")


@pytest.fixture
def drawn(documents, monkeypatch):
    """A function (columns) -> lines of the two plots of a sweep."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # which plotille would obey
    return lambda columns: [plot.split("\n") for plot in chart(documents["sweep"], columns).split("\n\n")]


def test_each_method_has_its_mark_and_the_bound_is_a_line(drawn):
    errors, drops = drawn(80)
    assert errors[:2] == [
        "Error of the word embedding, against bytes of the embedding",
        "o coded   x svd   ⠒⠒ least error of Gaussian rows",
    ]
    assert drops[:2] == ["Points lost, mean over tasks, against bytes of the weight files", "o coded   x svd"]
    for plot in (errors, drops):
        inside = "".join(line.partition("|")[2] for line in plot[2:-2])
        assert (inside.count("o"), inside.count("x")) == (2, 1)
        assert "\x1b" not in "".join(plot)
    rows = {line.split("|")[0].strip(): line for line in errors[2:-2]}
    assert rows.keys() == {"", "0.5", "0.2", "0.1", "0.05"}
    assert errors[-1].split("|")[1].split()[:2] == ["2.9", "MB"]


@pytest.mark.parametrize(("columns", "width"), [(60, 60), (83, 83), (300, 114), (20, 48)])
def test_it_is_as_wide_as_the_terminal_within_limits(drawn, columns, width):
    assert {max(len(line) for line in plot[2:]) for plot in drawn(columns)} == {width}
