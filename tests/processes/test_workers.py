"""One process, and two on the CPU."""

import json

import pytest

from lpcompress.errors import LpCompressError
from lpcompress.processes import Workers, joined_processes

SCRIPT = """
import json, sys
from lpcompress.processes import Workers, joined_processes

with joined_processes():
    workers = Workers()
    found = {"count": workers.count, "gathered": workers.gather(workers.rank), "main": workers.from_main(workers.rank)}

    def work():
        if workers.rank == 1:
            raise RuntimeError("no memory left")
        return "done"

    try:
        workers.together(work)
    except Exception as error:
        found["error"] = f"{type(error).__name__}: {error}"
    found["after"] = workers.together(lambda: workers.rank)
    open(f"{sys.argv[1]}/{workers.rank}.json", "w").write(json.dumps(found))
"""


def test_a_single_process():
    workers = Workers("cpu")
    assert (workers.rank, workers.count, workers.is_main, workers.device.type) == (0, 1, True, "cpu")
    assert (workers.together(lambda: 3), workers.gather(4), workers.from_main(5)) == (3, [4], 5)
    with pytest.raises(LpCompressError, match="no"), joined_processes():
        workers.together(lambda: (_ for _ in ()).throw(LpCompressError("no")))


def test_a_failure_is_reported_to_the_other_process(tmp_path, two_processes):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = two_processes(tmp_path / "script.py", tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == {
        "count": 2,
        "gathered": [0, 1],
        "main": 0,
        "error": "LpCompressError: process 1 of 2 failed. RuntimeError: no memory left",
        "after": 0,
    }
    assert second == first | {"error": "RuntimeError: no memory left", "after": 1}
