from lpcompress.progress import Progress, silent


def test_a_callback_is_always_told_three_things():
    told = []
    progress = Progress.of(lambda description, done, total: told.append((description, done, total)))
    progress("loading")
    progress("scoring", 3)
    progress.under("mrpc: ").under("svd: ")("fitting", 1, 2)
    assert told == [("loading", None, None), ("scoring", 3, None), ("mrpc: svd: fitting", 1, 2)]


def test_progress_stays_what_it_is_and_none_is_silent():
    assert Progress.of(silent) is silent
    Progress.of(None)("nobody hears it")
