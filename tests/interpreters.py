"""Separate interpreters for tests, forked from one that has already imported torch and transformers.

These imports take five to ten seconds, a test a fraction of one. A forked interpreter has never imported lpcompress,
holds no model and has its own environment, so reloading a checkpoint in it proves as much as in a new one.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

EVERYTHING = """
import accelerate.utils, datasets, evaluate, scipy.stats, sklearn.metrics, torch, torch.distributed, transformers
from transformers import (
    AutoTokenizer, BertForMaskedLM, DistilBertForMaskedLM, RobertaForMaskedLM, Trainer, XLNetLMHeadModel
)
"""
SERVER = """
import atexit, json, os, runpy, signal, sys, time, traceback

torch.set_num_threads(1)


def execute(kind, arguments):
    sys.argv = arguments
    if kind == "-c":
        exec(compile(arguments[0], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(arguments[0], run_name="__main__")


def be_child(request, environment):
    for number, path in ((1, request["stdout"]), (2, request["stderr"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin = open(os.devnull)
    sys.path.insert(0, environment["PYTHONPATH"])
    code = 0
    try:
        execute(request["kind"], request["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


for line in sys.stdin:
    request = json.loads(line)
    children = []
    for environment in request["environments"]:
        child = os.fork()
        if child == 0:
            be_child(request, environment)
        children.append(child)
    codes, end = {}, time.monotonic() + request["timeout"]
    while len(codes) < len(children):
        for child in set(children) - set(codes):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                codes[child] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    print(json.dumps([codes[child] for child in children]), flush=True)
"""


class Interpreters:
    """A server that forks interpreters; it starts at the first call of `run`.

    Parameters
    ----------
    root : Path
        Directory that holds the package lpcompress.
    imports : str
        Code that imports what forked interpreters share; torch at least.
    """

    def __init__(self, root, imports=EVERYTHING):
        self.imports = imports
        self.environment = {"PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        self.server = None

    def run(self, kind, *arguments, environments=({},), timeout=300):
        """Run `python kind arguments` in a forked interpreter for each of `environments`; return the finished process.

        `kind` is "-c", "-m", or "" for a script. The exit code is the first nonzero one, else 0.
        """
        if self.server is None:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            command = [sys.executable, "-c", self.imports + SERVER]
            self.server = subprocess.Popen(command, text=True, env=os.environ | self.environment, **pipes)
        with tempfile.TemporaryDirectory() as folder:
            streams = {name: str(Path(folder) / name) for name in ("stdout", "stderr")}
            for path in streams.values():
                Path(path).touch()
            now = os.environ | {
                key: self.environment[key] for key in ("PYTHONPATH", "HF_HUB_OFFLINE", "OMP_NUM_THREADS")
            }
            request = streams | {"kind": kind, "arguments": [str(each) for each in arguments], "timeout": timeout}
            request["environments"] = [now | each for each in environments]
            self.server.stdin.write(json.dumps(request) + "\n")
            self.server.stdin.flush()
            codes = json.loads(self.server.stdout.readline())
            out, err = (Path(path).read_text() for path in streams.values())
        code = next((code for code in codes if code), 0)
        return subprocess.CompletedProcess([kind, *arguments], code, out, err)

    def stop(self):
        """Stop the server."""
        if self.server is not None:
            self.server.communicate(timeout=30)
