"""ISO/IEC 15938-17, the standard for coding neural networks, by its authors' own coder: `nncodec`.

It needs NumPy below 2, so it runs in a virtual environment of its own, made on first use. Its installer compiles it: a
C++ compiler is needed.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import ceil, floor, log, log2
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from lpcompress.errors import LpCompressError
from rivals.rival import Fit, Subject

PACKAGES = ("nncodec==2.1.3", "numpy==1.26.4")
WORKER = Path(__file__).parent / "standard_worker.py"
ENVIRONMENT = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lpcompress-rivals" / "nncodec"
FINEST, COARSEST = -60, 8  # quantization parameters; four are an octave of the step
PER_OCTAVE = 4


def interpreter(environment: Path = ENVIRONMENT) -> Path:
    """Return the Python of the environment, which is made if it is missing or unfinished."""
    python, done = environment / "bin" / "python", environment / "installed.txt"
    if not (done.exists() and done.read_text() == " ".join(PACKAGES)):
        print(f"installing {', '.join(PACKAGES)} into {environment}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES]
        if subprocess.run(install, stdout=sys.stderr).returncode:
            raise LpCompressError(
                f"nncodec could not be installed into {environment}: see above. It needs a C++ compiler and a Python"
                " with wheels of NumPy below 2; leave it out with --only."
            )
        done.write_text(" ".join(PACKAGES))
    return python


def finest_fitting(size_at: Callable[[int], int], budget: float, known: dict[int, int], guess: int) -> int | None:
    """Return the finest quantization parameter (QP) whose size is within `budget`; None if there is none.

    Parameters
    ----------
    size_at : callable
        Bytes at a QP; must not grow with it.
    budget : float
    known : dict of int to int
        QP -> size, from earlier searches. New sizes are added.
    guess : int
        Where to begin if nothing is known.

    Examples
    --------
    >>> finest_fitting(lambda qp: 1000 - 10 * qp, 1055, {}, -20)
    -5
    """
    while True:
        low = max((qp for qp, size in known.items() if size > budget), default=FINEST - 1)
        high = min((qp for qp, size in known.items() if size <= budget), default=COARSEST + 1)
        if high - low <= 1:
            return high if high in known else None
        if low in known and high in known:
            place = low + round((high - low) * log(known[low] / budget) / log(known[low] / known[high]))
        elif known:
            nearest = low if low in known else high
            octaves = log2(known[nearest] / budget)  # sizes change by less than the step does
            place = nearest + PER_OCTAVE * (max(1, ceil(octaves)) if octaves > 0 else min(-1, floor(octaves)))
        else:
            place = guess
        place = min(max(place, low + 1), high - 1)
        known[place] = size_at(place)


@dataclass
class Standard:
    """The coder with one kind of quantization; it remembers sizes, so that searches for other sizes are short.

    Attributes
    ----------
    quantization : str
        `plain` or `dependent` (trellis-coded).
    guess : int
        The QP at which a search begins.
    known : dict
        (title of the scope, task) -> QP -> bytes.
    """

    quantization: str
    guess: int = -20
    known: dict[tuple[str, str], dict[int, int]] = field(default_factory=dict)

    @torch.no_grad()
    def fit(self, subject: Subject, share: float | None) -> Fit:
        """Code the matrices, or all tensors if the whole model counts; see `Rival.fit`."""
        tensors = subject.model.state_dict() if subject.scope.whole else subject.matrices()
        budget = (share or 1.0) * subject.dense_bytes()
        known = self.known.setdefault((subject.scope.title, subject.task), {})
        with TemporaryDirectory() as folder:
            source, decoded = Path(folder) / "source.npz", Path(folder) / "decoded.npz"
            np.savez(source, **{name: tensor.float().numpy() for name, tensor in tensors.items()})
            code = partial(run, source, decoded, self.quantization)
            qp = finest_fitting(code, budget, known, self.guess)
            if qp is None:
                raise LpCompressError(f"nncodec has no QP up to {COARSEST} with at most {budget:,.0f} bytes.")
            self.guess = qp
            n_bytes = code(qp)
            with np.load(decoded) as arrays:
                for name, tensor in tensors.items():
                    tensor.copy_(torch.from_numpy(arrays[name]))
        return Fit(n_bytes, f"QP {qp}")


def run(source: Path, decoded: Path, quantization: str, qp: int) -> int:
    """Code the arrays in `source`, write what a decoder gets to `decoded`, and return the bytes of the bitstream."""
    command = [str(interpreter()), str(WORKER), str(source), str(qp), quantization, str(decoded)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise LpCompressError(f"nncodec failed at QP {qp}: {done.stderr.strip().splitlines()[-1:]}")
    return int(done.stdout.split()[-1])
