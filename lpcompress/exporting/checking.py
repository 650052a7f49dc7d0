"""Check a graph: ONNX Runtime must give what the model in memory gave."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lpcompress.errors import CheckpointError
from lpcompress.exporting.inputs import Inputs

EXACT = 1e-3  # largest difference of an exact graph, in units of the largest output
MOVED = 0.1  # mean squared difference of a graph of int8 products, in units of the outputs' variance
Outputs = dict[str, Tensor]


@dataclass(frozen=True)
class Difference:
    """How far the outputs of a graph are from the model's.

    Attributes
    ----------
    largest : float
        Largest absolute difference.
    moved : float
        Mean squared difference over the variance, of the output that differs most.
    rows : int
        Number of rows compared.
    """

    largest: float
    moved: float
    rows: int


def check(file: Path, rows: list[Inputs], expected: list[Outputs], int8: bool) -> Difference:
    """Run a graph in ONNX Runtime and compare it with the outputs of the model.

    Parameters
    ----------
    file : Path
    rows : list of dict of str to Tensor
        Inputs of the model.
    expected : list of dict of str to Tensor
        Its outputs for each.
    int8 : bool
        Whether products are int8, and outputs therefore only near.

    Raises
    ------
    CheckpointError
        If the graph cannot be run, or gives other outputs.
    """
    try:
        found = [run(file, inputs) for inputs in rows]
    except Exception as error:  # ONNX Runtime raises classes of its own
        raise CheckpointError(f"ONNX Runtime cannot run the graph: {str(error).strip()[:300]}") from error
    difference = compared(found, expected, sum(len(next(iter(inputs.values()))) for inputs in rows))
    scale = max(float(tensor.abs().max()) for outputs in expected for tensor in outputs.values())
    wrong = not difference.moved <= MOVED if int8 else not difference.largest <= EXACT * max(scale, 1e-6)
    if wrong:
        raise CheckpointError(
            f"ONNX Runtime gives other outputs than the model: they differ by up to {difference.largest:.3g}, and the"
            f" largest is {scale:.3g}. Nothing was written."
            + " Export without --int8." * int8
            + " Please report this model." * (not int8)
        )
    return difference


def run(file: Path, inputs: Inputs) -> Outputs:
    """Return the outputs of a graph by name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    wanted = {each.name for each in session.get_inputs()}
    found = session.run(names, {name: tensor.numpy() for name, tensor in inputs.items() if name in wanted})
    return {name: torch.from_numpy(array) for name, array in zip(names, found, strict=True)}


def compared(found: list[Outputs], expected: list[Outputs], rows: int) -> Difference:
    """Return how far outputs are from the expected ones, over all batches.

    Examples
    --------
    >>> compared([{"logits": torch.tensor([1.0, 3.5])}], [{"logits": torch.tensor([1.0, 3.0])}], 2)
    Difference(largest=0.5, moved=0.125, rows=2)
    """
    largest, moved = 0.0, 0.0
    for name in expected[0]:
        ours, theirs = (torch.cat([each[name].flatten().double() for each in side]) for side in (found, expected))
        if ours.shape != theirs.shape:
            return Difference(float("inf"), float("inf"), rows)
        squares = (ours - theirs).square()
        largest = max(largest, float(squares.max().sqrt()))
        moved = max(moved, float(squares.mean() / theirs.var(correction=0).clamp_min(1e-12)))
    return Difference(largest, moved, rows)
