"""Small inputs to try a model with: drawn token ids, pixels, sound or series."""

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

TOKENS = 8  # in a sequence
SEED = 0
SAMPLES = 4000  # of sound, a quarter of a second at 16 kHz
PIXELS = 64  # in a row or column of an image of any size
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


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
    parameters = inspect.signature(model.forward).parameters
    required = {name for name, each in parameters.items() if each.default is each.empty and each.kind not in VARIADIC}
    named = getattr(model, "main_input_name", "input_ids")
    main = {named} if isinstance(named, str) else set(named)
    for batch in (2, 1):  # some classifiers accept one row only
        known = {name: layouts for name, layouts in known_inputs(model.config, batch).items() if name in parameters}
        decoder = {name for name in known if name.startswith("decoder_")}
        chosen = [names & known.keys() for names in (main, main | required, required, main | decoder, known.keys())]
        for layout in range(max(map(len, known.values()), default=0)):
            for names in filter(None, dict.fromkeys(map(frozenset, chosen))):
                yield {name: to_dtype(known[name][min(layout, len(known[name]) - 1)], model) for name in sorted(names)}
    given = getattr(model, "dummy_inputs", None)  # transformers' own
    if isinstance(given, dict):
        yield {name: tensor for name, tensor in given.items() if isinstance(tensor, Tensor)}


def known_inputs(config: Any, batch: int) -> dict[str, list[Tensor]]:
    """Return the name of every kind of input that `config` describes -> its layouts, the likeliest first."""
    generator = torch.Generator().manual_seed(SEED)
    known: dict[str, list[Tensor]] = {"bbox": [torch.zeros(batch, TOKENS, 4, dtype=torch.long)]}
    text = config.get_text_config()
    vocabulary = first(text, ("vocab_size", "n_vocab"))
    if vocabulary:
        ids = torch.randint(0, vocabulary, (batch, TOKENS), generator=generator)
        ids = without_specials(ids, text, vocabulary)
        known |= {"input_ids": [ids], "decoder_input_ids": [ids.clone()]}
    parts = [part for part in vars(config).values() if isinstance(part, PreTrainedConfig)]
    for name, shape in (pair for part in (*parts, config) for pair in shapes(part)):
        known.setdefault(name, []).append(torch.randn(batch, *shape, generator=generator))
    known.setdefault("pixel_values", [torch.randn(batch, 3, PIXELS, PIXELS, generator=generator)])
    return known


def shapes(config: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield names and shapes, without the batch, of pixels, sound and series that one part of a config describes."""
    size = sizes_of_image(config)
    if size:
        image = (first(config, ("num_channels", "in_channels", "in_chans")) or 3, *size)
        frames = first(config, ("num_frames", "frames_per_clip"))
        if frames:
            yield "pixel_values", (frames, *image)
            yield "pixel_values_videos", (frames, *image)
        yield "pixel_values", image
    bins = first(config, ("num_mel_bins", "input_feat_per_channel", "feature_size"))
    if bins:
        by_bin = (bins, 2 * (first(config, ("max_source_positions",)) or 50))
        by_frame = (100, bins)
        is_by_frame = hasattr(config, "input_feat_per_channel")  # Speech2Text
        for layout in (by_frame, by_bin) if is_by_frame else (by_bin, by_frame):
            yield "input_features", layout
        yield "input_values", (first(config, ("max_length",)) or 100, bins)  # audio spectrogram transformers
    if hasattr(config, "audio_channels"):  # codecs of sound
        yield "input_values", (config.audio_channels, SAMPLES)
    if hasattr(config, "conv_kernel"):  # wav2vec 2.0 and its relatives read samples
        yield "input_values", (SAMPLES,)
    steps = first(config, ("context_length",))
    if steps:
        yield "past_values", (steps, first(config, ("num_input_channels",)) or 1)


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
    return (PIXELS, PIXELS) if hasattr(config, "num_channels") and not hasattr(config, "conv_kernel") else None


def first(config: Any, names: tuple[str, ...]) -> int | None:
    """Return the first of the settings `names` that is a positive number."""
    found = (getattr(config, name, None) for name in names)
    return next((value for value in found if isinstance(value, int) and value > 0), None)


def to_dtype(tensor: Tensor, model: Any) -> Tensor:
    """Return drawn numbers in the dtype of the model; token ids as they are."""
    return tensor.to(model.dtype) if tensor.is_floating_point() else tensor
