"""Statistics of a model on text: token counts, second moments of layer inputs, and slopes of the output.

The text is the user's, or is drawn from the tokenizer's own statistics (see `drawn`), so that no data is used.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor
from transformers import BatchEncoding

from lpcompress.checkpoints.tokenizers import tokenizer_beside
from lpcompress.compression import drawn
from lpcompress.compression.moments import derivatives_of, moments_of
from lpcompress.compression.priors import RowWeights, row_weights
from lpcompress.compression.texts import encode, read_texts
from lpcompress.config.plan import DRAWN
from lpcompress.errors import LpCompressError
from lpcompress.progress import Progress
from lpcompress.surgery.architectures import longest_text
from lpcompress.surgery.layer import Layer

log = logging.getLogger(__name__)

TOKENS = "input_ids"  # transformers' name for the main input of models of text
PRIOR_TOKENS = 10_000  # pseudo-count: tokens of text that the prior is worth
DRAWN_DOUBT = 0.3
"""Share of the mean energy of a layer's inputs that drawn text is taken to miss, in every direction.

Drawn text has the words of real text but not its order, so that fits which trust it fully put their errors where real
inputs are: with linear layers at 8.5 % of their bytes the logits of an STS-B classifier moved by 1.3 of their variance
without this, and by .12 with it.
"""
TEXT_DOUBT = 0.03
"""The same for real text, which is a sample, where the whole model has one size.

At 5 and 10 % of the bytes the logits of an STS-B classifier moved by .030 and .0016 of their variance with this, by
.036 and .0025 without it, and by .032 and .0019 with .1.
"""
DIRECTIONS_DOUBT = 1.0
"""The same for the derivatives by rows of an embedding, on any text.

Two thirds of their energy lie in ten directions or so. With .3 the logits of four classifiers at 5 % of the bytes of
their embedding moved by 7 % less than with 1, and at 10 % by 13 % more.
"""
OUTPUTS_DOUBT = 0.1
"""The same for the roots of the squared derivatives by outputs of a layer, on any text.

Roots, because at low rates errors are too large for derivatives to foretell what they do: at 5 % of the bytes the
logits of an MRPC classifier moved by .169 of their variance with the roots, by .225 with the squares, and by .215 with
neither.
"""


@dataclass(frozen=True)
class Calibration:
    """Statistics of a model on text.

    Attributes
    ----------
    source : str
        Name of the text, for the report.
    texts : int
        Number of texts read or drawn.
    digest : str
        SHA-256 of the token ids, hexadecimal: with equal digests, plans give equal results.
    counts : mapping of int to int
        Token id -> number of occurrences.
    moments : dict of str to Tensor of shape (d, d)
        Second moments E[x x^T] of the inputs x of linear layers, convolutions and bare weights, float64, by layer name;
        with `DRAWN_DOUBT`, or `TEXT_DOUBT` if slopes were measured. For embeddings those of the derivatives of the
        output by their rows, with `DIRECTIONS_DOUBT`, and a diagonal of mean 1.
    slopes : dict of str to float
        See `moments.Derivatives.slopes`; empty if not measured.
    outputs : dict of str to Tensor of shape (n,)
        Weights of the outputs of linear layers, convolutions and bare weights, by how much the model's output follows
        them, with `OUTPUTS_DOUBT`: float64, of mean 1; empty if slopes were not measured.
    """

    source: str
    texts: int
    digest: str
    counts: Mapping[int, int]
    moments: dict[str, Tensor]
    slopes: dict[str, float]
    outputs: dict[str, Tensor]

    @property
    def tokens_per_text(self) -> float:
        """Mean length of the texts, special tokens included."""
        return sum(self.counts.values()) / self.texts

    @property
    def is_drawn(self) -> bool:
        """Whether no data was used."""
        return self.source == DRAWN

    def record(self) -> dict[str, Any]:
        """Return the entry of the report."""
        return {"source": self.source, "texts": self.texts, "digest": self.digest}

    def word_weights(self, prior: RowWeights, rows: int, exponent: float) -> RowWeights:
        """Return weights of words: token counts of the text plus a prior of shape (rows,), to the power `exponent`."""
        expected = torch.ones(rows, dtype=torch.float64) if prior.values is None else prior.values
        weights = expected * (PRIOR_TOKENS / expected.sum())
        ids = torch.tensor([i for i in self.counts if i < rows], dtype=torch.int64)
        weights[ids] += torch.tensor([self.counts[int(i)] for i in ids], dtype=torch.float64)
        return RowWeights(weights.pow(exponent), f"calibration ({self.source})")

    def output_weights(self, name: str) -> RowWeights | None:
        """Return the weights of the rows of a layer, which lead to its outputs; None if they were not measured."""
        found = self.outputs.get(name)
        return None if found is None else RowWeights(found.cpu(), f"slopes ({self.source})")


def calibrate(
    model: Any,
    layers: Mapping[str, Layer],
    source: str | Iterable[str],
    data: str,
    tokenizer: Any | None,
    frequencies: str,
    seed: int,
    slopes: bool,
    tell: Progress,
) -> Calibration:
    """Run text through a model and measure its statistics.

    Parameters
    ----------
    model : PreTrainedModel
    layers : mapping of str to Layer
        Layers to compress, by name.
    source : str or iterable of str
        `drawn`, a file, `glue:TASK`, or the texts themselves; see `texts.read_texts`.
    data : str
        Where GLUE is: the Hub or a directory.
    tokenizer : PreTrainedTokenizerBase or None
        None means the tokenizer stored with the model's checkpoint.
    frequencies : str
        Where the frequencies of drawn tokens come from, as for `priors.row_weights`: `zipf` or a file of counts.
    seed : int
        Seed of the drawn text, and of the random signs in `moments.derivatives_of`.
    slopes : bool
        Whether to measure slopes too.
    tell : Progress

    Returns
    -------
    Calibration

    Raises
    ------
    LpCompressError
        If there is no text or no tokenizer, or the model cannot be run on text alone.
    """
    refuse_other_inputs(model)
    tokenizer = tokenizer or tokenizer_beside(model)
    if source == DRAWN:
        refuse_no_tokenizer(tokenizer)
        name, candidates = DRAWN, drawn_texts(model, tokenizer, frequencies, seed)
        encoded = [each for inputs in candidates for each in inputs]
    else:
        texts, name = read_texts(source, data)
        refuse_no_tokenizer(tokenizer)
        encoded, candidates = encode(texts, tokenizer, longest_text(model, tokenizer)), []
    try:
        measured = _statistics(model, layers, encoded, candidates, seed, slopes, tell)
    except LpCompressError as error:
        if slopes or any(layer.role != "embedding" for layer in layers.values()):
            raise
        log.warning("Errors of embeddings count alike in all directions: %s", str(error))
        measured = {}, {}, {}
    counts = Counter(int(i) for each in encoded for i in each["input_ids"].flatten())
    count = sum(len(each["input_ids"]) for each in encoded)
    return Calibration(name, count, _digest(encoded), counts, *measured)


def _statistics(
    model: Any,
    layers: Mapping[str, Layer],
    encoded: Sequence[BatchEncoding],
    candidates: Sequence[Sequence[BatchEncoding]],
    seed: int,
    slopes: bool,
    tell: Progress,
) -> tuple[dict[str, Tensor], dict[str, float], dict[str, Tensor]]:
    """Return the `moments`, `slopes` and `outputs` of a `Calibration`.

    `candidates` are `encoded` if that was drawn, or empty.
    """
    embeddings = {name for name, layer in layers.items() if layer.role == "embedding"}
    moments: dict[str, Tensor] = {}
    telling = encoded
    with evaluating(model):
        if candidates or len(embeddings) < len(layers):
            moments, outputs = moments_of(model, layers, encoded, tell)
            doubt = DRAWN_DOUBT if candidates else TEXT_DOUBT if slopes else 0.0
            moments = {name: _doubted(moment, doubt) for name, moment in moments.items()}
        if candidates:
            telling = spread_out(candidates, outputs)
        if not (slopes or embeddings):
            return moments, {}, {}
        found = derivatives_of(model, layers, telling, seed, tell)
    for name, total in found.directions.items():
        if energy := float(total.diagonal().mean()):
            moments[name] = _doubted(total / energy, DIRECTIONS_DOUBT) / (1 + DIRECTIONS_DOUBT)
    if not slopes:
        return moments, {}, {}
    return moments, found.slopes(layers), {name: _rooted(total) for name, total in found.by_output.items()}


def drawn_texts(model: Any, tokenizer: Any, frequencies: str, seed: int) -> list[list[BatchEncoding]]:
    """Draw candidates for a model: lists of inputs of one length."""
    rows = model.get_input_embeddings().num_embeddings
    prior, longest = row_weights(frequencies, rows, tokenizer, 1.0), longest_text(model, tokenizer)
    return list(drawn.draw(tokenizer, prior, rows, seed, longest))


def spread_out(candidates: Sequence[Sequence[BatchEncoding]], outputs: Sequence[Tensor]) -> list[BatchEncoding]:
    """Return as many texts of each list of candidates as one input holds: those whose outputs are spread out."""
    kept, left = [], iter(outputs)
    for inputs in candidates:
        chosen = drawn.spread_out(torch.cat([next(left) for _ in inputs]).cpu(), drawn.BATCH)
        kept.append(BatchEncoding({key: torch.cat([each[key] for each in inputs])[chosen] for key in inputs[0]}))
    return kept


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Put a model into evaluation mode while the block runs."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _rooted(squares: Tensor) -> Tensor:
    """Return weights (n,) of mean 1 from squared derivatives (n,)."""
    roots = squares.sqrt()
    mean = float(roots.mean())
    return (roots / mean + OUTPUTS_DOUBT) / (1 + OUTPUTS_DOUBT) if mean else torch.ones_like(roots)


def _doubted(moment: Tensor, share: float) -> Tensor:
    """Return the second moment of vectors to which noise was added that is the same in every direction."""
    return moment + share * moment.diagonal().mean() * torch.eye(len(moment)).to(moment)


def refuse_no_tokenizer(tokenizer: Any | None) -> None:
    """Raise LpCompressError if there is no tokenizer."""
    if tokenizer is None:
        raise LpCompressError("calibration needs the model's tokenizer, and none was found. Pass tokenizer.")


def _digest(encoded: Iterable[Any]) -> str:
    """Return the SHA-256 of the token ids of all texts."""
    digest = sha256()
    for each in encoded:
        digest.update(each["input_ids"].cpu().to(torch.int64).numpy().tobytes())  # the model may have moved them
    return digest.hexdigest()


def refuse_other_inputs(model: Any) -> None:
    """Raise LpCompressError if a model is made for something else than text."""
    given = getattr(model, "main_input_name", TOKENS)
    if given != TOKENS:
        raise LpCompressError(
            f"calibration runs texts through the model, but a {type(model).__name__} takes {given}. Set"
            " calibration to none."
        )
