"""Advice on a checkpoint: three commands, with an estimate of what each would give."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

from lpcompress.checkpoints import loading
from lpcompress.checkpoints.files import directory_of, file_bytes, is_compressed
from lpcompress.compression.foresight import Foresight, Sort, foresee
from lpcompress.compression.priors import exponent_for, weights_of
from lpcompress.errors import BudgetError, LpCompressError
from lpcompress.methods import CODED
from lpcompress.presentation import megabytes
from lpcompress.progress import Progress
from lpcompress.surgery.finding import find_layers
from lpcompress.surgery.layer import Layer
from lpcompress.surgery.sizes import tensor_bytes

RATIOS = (0.8, 0.95)  # of the word embedding
WORTHWHILE = 0.2  # share of the model that the word embedding must have to be compressed alone
KEPT = (0.25, 0.15, 0.08)  # shares of the bytes of all layers

LOSSES = {
    0.05: "nothing measurable",
    0.15: "0 to 0.5 points of a classifier",
    0.4: "0 to 1 point of a classifier",
    0.65: "1 to 3 points of a classifier",
    inf: "so much that it has to be fine-tuned",
}
"""What a relative error of the word embedding up to this cost MiniLM's classifiers; see docs/coded.md."""

WHOLE = "0 to 3 points of a classifier, 1 on average, at 10% of a model; less at larger sizes"
EMBEDDING_SPEED = "as before; loading decodes the embedding, under half a second for 10 million numbers"
LINEAR_SPEED = "as before, once loading has decoded all layers, which takes seconds for a hundred million numbers"


@dataclass(frozen=True)
class Suggestion:
    """A command, and what it would give.

    Attributes
    ----------
    command : str
    bytes, bytes_in_memory : int
        Estimated size of the weight files, and of the loaded weights.
    error : float
        Estimated relative error of the layers.
    expected_loss, speed : str
        In words.
    """

    command: str
    bytes: int
    bytes_in_memory: int
    error: float
    expected_loss: str
    speed: str


@dataclass(frozen=True)
class Advice:
    """Result of `advise`.

    Attributes
    ----------
    model, architecture : str
    bytes : int
        Of the weight files.
    embedding_share : float
        Share of the tensors that the word embedding has.
    suggestions : list of Suggestion
        From the safest to the smallest.
    measure : str
        The command that finds the smallest size for a task.
    """

    model: str
    architecture: str
    bytes: int
    embedding_share: float
    suggestions: list[Suggestion]
    measure: str


def advise(source: str, name: str, progress: Progress, options: Mapping[str, Any] | None = None) -> Advice:
    """Read a dense checkpoint and suggest three ways to compress it.

    Parameters
    ----------
    source : str
        Directory or Hub id to load.
    name : str
        What the commands call it.
    progress : Progress
    options : mapping, optional
        Options that all commands need to find it, such as `revision`.

    Raises
    ------
    LpCompressError
        If the checkpoint cannot be read, is compressed already, or has no layer that can be replaced.
    """
    progress(f"loading {name}")
    model, tokenizer = loading.load(source, on_disk=True)
    if is_compressed(model.config):
        raise LpCompressError(f"{name} is compressed already. To see how: lpcompress inspect {shlex.quote(name)}")
    layers, whole = find_layers(model, ["all"]), tensor_bytes(model)
    words = [layer for layer in layers.values() if layer.is_word_embedding]
    others = [layer for layer in layers.values() if not layer.is_word_embedding]
    directory = directory_of(source)
    dense = file_bytes(directory) if directory else whole
    progress("estimating errors")
    sorts = [
        Sort.of(alike[0], weights_of(model, alike[0], "zipf", tokenizer, exponent_for(0.0, CODED)), len(alike))
        for alike in [*_alike(words), *_alike(others)]
    ]
    found = [flag for key, value in (options or {}).items() for flag in (f"--{key}", value)]
    begin = ["lpcompress", "compress", name, *found]
    share = sum(layer.stored()[1] for layer in words) / whole
    before = sum(layer.stored()[1] for layer in layers.values())
    try:
        suggestions = _of_embedding(begin, sorts[0], words[0], dense) if share >= WORTHWHILE else []
        for kept in KEPT[len(suggestions) :]:
            target = ceil(100 * (1 - (1 - kept) * before / whole)) / 100
            seen = foresee(sorts, before - (1 - target) * whole)
            command = [*begin, "--layers", "all", "--target-size", f"{target:g}"]
            suggestions.append(_suggestion(command, dense - before, seen, WHOLE, LINEAR_SPEED))
    except BudgetError:
        raise LpCompressError(
            f"{name} is too small to gain from compression: it takes {dense:,} bytes, and tables would fill the rest."
        ) from None
    measure = shlex.join([*begin, "--layers", "all", "--max-drop", "0.5", "--eval-glue", "TASK"])
    return Advice(name, type(model).__name__, dense, share, suggestions, measure)


def _of_embedding(begin: list[str], sort: Sort, layer: Layer, dense: int) -> list[Suggestion]:
    """Return suggestions for the word embedding alone, of a model whose weight files take `dense` bytes."""
    suggestions, (_, before) = [], layer.stored()
    for ratio in RATIOS:
        seen = foresee([sort], (1 - ratio) * before)
        loss = next(text for limit, text in LOSSES.items() if seen.error <= limit)
        command = [*begin, "--ratio", f"{ratio:g}"]
        suggestions.append(_suggestion(command, dense - before, seen, loss, EMBEDDING_SPEED))
    return suggestions


def _alike(layers: Sequence[Layer]) -> list[list[Layer]]:
    """Return layers in groups of equal role and shape."""
    groups: dict[Any, list[Layer]] = {}
    for layer in layers:
        groups.setdefault((layer.role, layer.matrix().shape), []).append(layer)
    return list(groups.values())


def _suggestion(command: list[str], rest: int, seen: Foresight, loss: str, speed: str) -> Suggestion:
    size = rest + round(seen.bytes)
    return Suggestion(shlex.join(command), size, size + round(seen.decoded), round(seen.error, 4), loss, speed)


def advice_text(advice: Advice) -> str:
    """Return the advice for a terminal."""
    share = f", the word embedding is {advice.embedding_share:.0%} of it" if advice.embedding_share else ""
    lines = [f"{advice.model}: {advice.architecture}, {megabytes(advice.bytes)}{share}"]
    for each in advice.suggestions:
        lines += [
            "",
            each.command,
            f"    on disk         {megabytes(each.bytes)} ({each.bytes / advice.bytes:.0%})",
            f"    in memory       {megabytes(each.bytes_in_memory)}",
            f"    loss, estimated {each.expected_loss} (relative error {each.error:.2g})",
            f"    speed           {each.speed}",
        ]
    lines += [
        "",
        "Sizes, errors and losses are estimates: nothing was compressed or scored; losses are those of other models.",
        "To find the smallest size that your task allows:",
        f"    {advice.measure}",
    ]
    return "\n".join(lines)
