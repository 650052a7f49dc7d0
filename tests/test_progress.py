"""Tests of `Progress`."""

from lpcompress.progress import Progress, silent, stretch


def test_a_callback_always_gets_three_arguments():
    told = []
    progress = Progress.of(lambda description, done, total: told.append((description, done, total)))
    progress("loading")
    progress("scoring", 3)
    progress.under("mrpc: ").under("svd: ")("fitting", 1, 2)
    assert told == [("loading", None, None), ("scoring", 3, None), ("mrpc: svd: fitting", 1, 2)]


def test_parts_of_parts_rise_to_their_ends():
    told = []
    layer = Progress(lambda *words: told.append(words)).under("query: ").within(0.5, 1)
    fit = layer.within(0, 0.5).about("fitting")
    stretch(fit, 0.5, 1)(0.5)
    layer("comparing", 3, 4)
    layer("comparing")  # how much is done is not known: it begins
    assert told == [
        ("query: fitting", 0.5, 1),
        ("query: fitting", 0.6875, 1),
        ("query: comparing", 0.875, 1),
        ("query: comparing", 0.5, 1),
    ]


def test_a_progress_is_kept_and_none_is_silent():
    assert Progress.of(silent) is silent
    Progress.of(None)("not reported")
