import os
import signal

import pytest


@pytest.fixture
def child():
    """A function (work) -> a function that kills a forked process once it has run `work` with a pipe's writing end."""
    started = []

    def start(work):
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            try:
                work(lambda: os.write(writing, b"."))
                signal.pause()
            finally:
                os._exit(1)
        started.append(process)
        os.close(writing)
        assert os.read(reading, 1) == b"."  # it has come so far
        os.close(reading)

        def kill():
            started.remove(process)
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)

        return kill

    yield start
    for process in started:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


@pytest.fixture
def outcome_of():
    """A function (work) that runs `work` in a forked process and returns its exit code, -9 if it was killed."""

    def run(work):
        process = os.fork()
        if process == 0:
            code = 1
            try:
                work()
                code = 0
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    return run
