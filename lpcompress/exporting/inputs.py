"""Inputs with which a model is recorded, and others with which the graph is checked."""

import inspect
from typing import Any

import torch
from torch import Tensor

from lpcompress.checkpoints.verification import Probe
from lpcompress.compression.drawn import draw_one
from lpcompress.compression.priors import row_weights
from lpcompress.errors import LpCompressError
from lpcompress.surgery.architectures import longest_text
from lpcompress.surgery.layer import input_embedding

Inputs = dict[str, Tensor]
BATCHES = ((17, 17, 9), (6,), (5, 13, 13, 23, 23))  # tokens in each text; the first is recorded
SEED = 0
NAMES = {"batch_size": 0, "sequence_length": 1}  # axes of token ids, as optimum calls them


def inputs_for(model: Any, tokenizer: Any) -> list[Inputs]:
    """Return inputs of several shapes for a model, the first for recording it.

    With a tokenizer these are drawn texts of different lengths, padded.

    Parameters
    ----------
    model : PreTrainedModel
    tokenizer : PreTrainedTokenizerBase or None

    Raises
    ------
    LpCompressError
        If no inputs are known with which the model runs.
    """
    if tokenizer is not None and getattr(model, "main_input_name", "") == "input_ids":
        return [_texts(model, tokenizer, lengths) for lengths in BATCHES]
    probe = Probe.of(model).inputs
    if probe is None:
        raise LpCompressError(f"no inputs are known with which a {type(model).__name__} runs, so it is not exported.")
    if "input_ids" in probe and "attention_mask" in inspect.signature(model.forward).parameters:
        probe = probe | {"attention_mask": torch.ones_like(probe["input_ids"])}
    return [probe, {name: tensor[:1] for name, tensor in probe.items()}]


def axes_of(inputs: Inputs) -> dict[str, dict[int, str]]:
    """Return the axes that may have any size: batch and sequence of token ids and masks, the batch of all others.

    Examples
    --------
    >>> axes_of({"input_ids": torch.zeros(2, 3), "pixel_values": torch.zeros(2, 3, 8, 8)})
    {'input_ids': {0: 'batch_size', 1: 'sequence_length'}, 'pixel_values': {0: 'batch_size'}}
    """
    return {
        name: {axis: word for word, axis in NAMES.items() if axis == 0 or tensor.dim() == 2}
        for name, tensor in inputs.items()
    }


def _texts(model: Any, tokenizer: Any, lengths: tuple[int, ...]) -> Inputs:
    """Return drawn texts with these numbers of tokens, padded to the longest."""
    rows = input_embedding(model).num_embeddings
    prior = row_weights("zipf", rows, tokenizer, 1.0)
    longest = longest_text(model, tokenizer)
    texts = []
    for place, length in enumerate(lengths):
        drawn = draw_one(tokenizer, prior, rows, SEED + place, min(length, longest))
        texts.append({name: tensor[0].tolist() for name, tensor in drawn.items()})
    padded = tokenizer.pad(texts, return_tensors="pt")
    known = inspect.signature(model.forward).parameters
    return {name: padded[name] for name in tokenizer.model_input_names if name in known and name in padded}
