"""Plots: where things are, what is drawn, and the same picture from matplotlib."""

import re

import pytest

from lpcompress.pages import rendering
from lpcompress.pages.documents import read_sections
from lpcompress.pages.picture import draw
from lpcompress.pages.plots import Line, Plot
from lpcompress.pages.sweep import plots_of


def test_ticks_are_round_and_inside():
    plot = Plot("t", "x", "y", [Line("a", [(3e6, 0.05), (4e7, 0.5)])], log=True)
    assert plot.ticks == ([5e6, 1e7, 2e7], [0.05, 0.1, 0.2, 0.5])
    near = Plot("t", "x", "y", [Line("a", [(45e6, 0.5), (53e6, 0.4)])], log=True)
    assert near.ticks == ([46e6, 48e6, 50e6, 52e6], [0.4, 0.45, 0.5])
    plot = Plot("t", "x", "y", [Line("a", [(3e6, -1.0), (4e7, 9.0)], [0.5, 1.0])])
    assert plot.ticks[1] == [0.0, 5.0, 10.0]
    assert 0 < plot.at_y(10.0) < plot.at_y(-1.5) < 100


@pytest.mark.parametrize("points", [[(5e6, 0.3)], [(5e6, 0.0), (6e6, 0.0)]])
def test_a_single_point_and_equal_ones_have_a_place(points):
    plot = Plot("t", "x", "y", [Line("a", points)])
    assert 0 <= plot.at_x(points[0][0]) <= 100 and 0 <= plot.at_y(points[0][1]) <= 100
    assert plot.ticks[1]


def test_a_sweep_has_a_plot_of_errors_with_the_bound_and_one_of_drops(documents):
    first, second = plots_of(documents["sweep"])
    assert [(line.label, line.dashed) for line in first.lines] == [
        ("coded", False),
        ("svd", False),
        ("least error of Gaussian rows", True),
    ]
    assert list(second.lines[0].points) == [(46_000_000.0, 0.4), (50_000_000.0, 0.2)]
    assert list(second.lines[0].errors) == [0.5, 0.5]
    without = documents["sweep"] | {"bound": None}
    assert plots_of(without)[0].x == "bytes of the weight files"


def test_the_page_draws_every_point_inside_the_plot(documents, write):
    page = rendering.as_html(read_sections([write(documents["sweep"])]))
    assert page.count("<circle") == 6 and "svd: too small." in page
    places = [float(each) for each in re.findall(r'c[xy]="([-\d.]+)%"', page)]
    assert all(0 <= each <= 100 for each in places)


@pytest.mark.parametrize(("kind", "begins"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_the_picture_is_the_same_each_time(documents, kind, begins):
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")
    picture = draw(documents["sweep"], kind)
    assert picture.startswith(begins) and draw(documents["sweep"], kind) == picture
