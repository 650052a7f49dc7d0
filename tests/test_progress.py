"""Tests of `Progress`."""

from lpcompress.progress import Progress, silent


def test_a_callback_always_gets_three_arguments():
    told = []
    progress = Progress.of(lambda description, done, total: told.append((description, done, total)))
    progress("loading")
    progress("scoring", 3)
    progress.under("mrpc: ").under("svd: ")("fitting", 1, 2)
    assert told == [("loading", None, None), ("scoring", 3, None), ("mrpc: svd: fitting", 1, 2)]


def test_a_progress_is_kept_and_none_is_silent():
    assert Progress.of(silent) is silent
    Progress.of(None)("not reported")
