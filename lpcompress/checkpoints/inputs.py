"""Small inputs to try a model with: drawn token ids, pixels or sound."""

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

TOKENS = 8  # in a sequence
SEED = 0
SAMPLES = 4000  # of sound, a quarter of a second at 16 kHz
ATTENTION = "attention_mask"


def candidates(model: Any) -> Iterator[dict[str, Tensor]]:
    """Yield inputs to try, the likeliest first.

    Parameters
    ----------
    model : PreTrainedModel

    Yields
    ------
    dict of str to Tensor
        Keyword arguments of `forward`. Values are drawn from a fixed seed.
    """
    accepted = set(inspect.signature(model.forward).parameters)
    main = getattr(model, "main_input_name", "input_ids")
    for batch in (2, 1):  # some classifiers accept one row only
        drawn = dict(known_inputs(model.config, batch))
        usable = {name: tensor for name, tensor in drawn.items() if name in accepted}
        with_decoder = {name: tensor for name, tensor in usable.items() if name.startswith("decoder_") or name == main}
        for names in ({main}, with_decoder.keys(), usable.keys()):
            chosen = {name: usable[name] for name in names if name in usable}
            if chosen:
                yield {name: to_dtype(tensor, model) for name, tensor in chosen.items()}
    given = getattr(model, "dummy_inputs", None)  # transformers' own
    if isinstance(given, dict):
        yield {name: tensor for name, tensor in given.items() if isinstance(tensor, Tensor)}


def known_inputs(config: Any, batch: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and the value of every kind of input that `config` describes."""
    generator = torch.Generator().manual_seed(SEED)
    text = config.get_text_config()
    vocabulary = first(text, ("vocab_size", "n_vocab"))
    if vocabulary:
        ids = torch.randint(0, vocabulary, (batch, TOKENS), generator=generator)
        ids = without_specials(ids, text, vocabulary)
        yield "input_ids", ids
        yield "decoder_input_ids", ids.clone()
    parts = [config, *(part for name in ("vision_config", "audio_config") if (part := getattr(config, name, None)))]
    for part in parts:
        height_width = sizes_of_image(part)
        if height_width:
            channels = first(part, ("num_channels", "in_channels")) or 3
            yield "pixel_values", torch.randn(batch, channels, *height_width, generator=generator)
        bins = first(part, ("num_mel_bins", "input_feat_per_channel", "feature_size"))
        if bins:
            positions = first(part, ("max_source_positions",)) or 50
            by_frame = hasattr(part, "input_feat_per_channel")  # Speech2Text: (frames, bins), not (bins, frames)
            shape = (100, bins) if by_frame else (bins, 2 * positions)
            yield "input_features", torch.randn(batch, *shape, generator=generator)
    if hasattr(config, "conv_kernel"):  # wav2vec 2.0 and its relatives read samples
        yield "input_values", torch.randn(batch, SAMPLES, generator=generator)


def without_specials(ids: Tensor, config: Any, vocabulary: int) -> Tensor:
    """Replace special tokens by others, and end each row with the end-of-sequence token if there is one.

    Classifiers of encoder-decoder models read the hidden state there.
    """
    named = (value for name, value in config.to_dict().items() if name.endswith("_token_id"))
    special = {value for value in named if isinstance(value, int)}
    ordinary = next((number for number in range(vocabulary - 1, -1, -1) if number not in special), 0)
    for number in special:
        ids[ids == number] = ordinary
    end = getattr(config, "eos_token_id", None)
    if isinstance(end, int) and 0 <= end < vocabulary:
        ids[:, -1] = end
    return ids


def sizes_of_image(config: Any) -> tuple[int, int] | None:
    """Return height and width of the images that a config describes; None if it describes none."""
    size = getattr(config, "image_size", None)
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple) and len(size) == 2:
        return int(size[0]), int(size[1])
    return (64, 64) if hasattr(config, "num_channels") and not hasattr(config, "conv_kernel") else None


def first(config: Any, names: tuple[str, ...]) -> int | None:
    """Return the first of the settings `names` that is a positive number."""
    found = (getattr(config, name, None) for name in names)
    return next((value for value in found if isinstance(value, int) and value > 0), None)


def to_dtype(tensor: Tensor, model: Any) -> Tensor:
    """Return drawn pixels or sound in the dtype of the model; token ids as they are."""
    return tensor.to(model.dtype) if tensor.is_floating_point() else tensor
