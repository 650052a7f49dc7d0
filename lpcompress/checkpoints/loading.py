"""Load a checkpoint from a directory or the Hub."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from lpcompress.atomic import ScratchDirectory
from lpcompress.checkpoints import conversions
from lpcompress.checkpoints.files import find
from lpcompress.checkpoints.load_errors import readable
from lpcompress.checkpoints.origins import located
from lpcompress.checkpoints.precision import restore_precision
from lpcompress.checkpoints.tokenizers import load_tokenizer
from lpcompress.errors import CheckpointError
from lpcompress.filenames import CONFIG
from lpcompress.nn.residence import residing
from lpcompress.presentation import short_list
from lpcompress.surgery.layer import in_body, input_embedding
from lpcompress.surgery.offloading import ON_DISK, quiet_offloading, share_files, unreadable

SPARE = ("masked_spec_embed", "num_batches_tracked")  # only training reads them; published checkpoints lack them


def load(
    model: str,
    dtype: torch.dtype | None = None,
    on_disk: bool = False,
    revision: str | None = None,
    subfolder: str | None = None,
    resident: str | None = None,
) -> tuple[Any, Any]:
    """Load a model and its tokenizer.

    Parameters
    ----------
    model : str
        Hub id or local directory of a dense or compressed checkpoint. Remote code is never run.
    dtype : torch.dtype, optional
        Dtype of the weights; by default that of the checkpoint.
    on_disk : bool, default=False
        Keep the tensors on disk; each is read when `compress` or `model.save_pretrained` needs it. A checkpoint that
        lacks weights, or whose tensors transformers joins or splits, is loaded into memory regardless.
    revision, subfolder : str, optional
        Branch, tag or commit of a model on the Hub; folder that holds the checkpoint.
    resident : str, optional
        What compressed layers are in memory, and how they compute: "codes" (least memory), "dense" (multiplied out
        once), "int8" (linear layers as products of 8-bit integers) or "auto" (embeddings as codes, other layers as
        whatever is faster); by default what the environment variable LPCOMPRESS_RESIDENT says, else "auto". It changes
        nothing in what is saved: see `docs/resident.md`.

    Returns
    -------
    model : PreTrainedModel
        An instance of the class that the config names.
    tokenizer : PreTrainedTokenizerBase or None
        None if the checkpoint has no tokenizer.

    Raises
    ------
    CheckpointError
        If there is no such checkpoint (`MissingCheckpointError`), it cannot be read, or it lacks a weight of
        the model's body.
    LpCompressError
        If `resident` or LPCOMPRESS_RESIDENT is none of these.

    Warns
    -----
    UserWarning
        If weights of a head or a pooler are missing and therefore random, or if the tokenizer is damaged.

    Examples
    --------
    >>> import tempfile
    >>> directory = tempfile.mkdtemp()
    >>> sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 12}
    >>> transformers.BertModel(transformers.BertConfig(vocab_size=50, **sizes)).save_pretrained(directory)
    >>> model, tokenizer = load(directory, dtype=torch.bfloat16)
    >>> type(model).__name__, model.dtype, tokenizer
    ('BertModel', torch.bfloat16, None)
    """
    model = located(model, revision, subfolder)
    path = Path(model).expanduser()
    model = str(path if path.is_dir() else model)
    source: dict[str, Any] = find(model)
    scratch = ScratchDirectory() if on_disk else None  # for pickles, whose tensors cannot be read individually
    placement = {"device_map": ON_DISK, "offload_folder": scratch.path} if scratch else {}
    with residing(resident), readable(model), quiet_offloading():
        config = read_config(model, source)
        cls = class_of(config, model)
        loaded, info = cls.from_pretrained(
            model, config=config, dtype=dtype or "auto", output_loading_info=True, **placement, **source
        )
    missing = sorted(info["missing_keys"])
    share_files(loaded)
    if on_disk and (missing or unreadable(loaded) or conversions.converts(loaded)):
        # missing weights exist in no file; the in-memory load reports shape mismatches; transformers joins or splits
        # tensors wrongly when it saves them from disk
        return load(model, dtype, resident=resident)
    loaded.scratch = scratch  # kept as long as the model
    refuse_random(model, loaded, missing)
    restore_precision(loaded)
    return loaded, load_tokenizer(model, source)


def read_config(model: str, source: dict[str, Any]) -> Any:
    """Return the config of a model; raise CheckpointError if a key of it hides a method."""
    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=False, **source)
    except Exception:  # any error: the hidden method may be one that reads the config
        refuse_shadowed(PreTrainedConfig.get_config_dict(model, **source)[0], PreTrainedConfig, model)
        raise
    refuse_shadowed(vars(config), type(config), model)
    return config


def refuse_shadowed(keys: Iterable[str], cls: type, model: str) -> None:
    """Raise CheckpointError if a key takes the place of a method of the config's class, which is needed to save it."""
    taken = [key for key in keys if callable(getattr(cls, key, None))]
    if taken:
        raise CheckpointError(f"{model}: {CONFIG} must not have the key {taken[0]!r}. Remove it.")


def class_of(config: Any, model: str) -> Any:
    """Return the model class that `config` names; `AutoModel` if it names none."""
    names = config.architectures or []
    if not names:
        return AutoModel
    cls = getattr(transformers, str(names[0]), None)
    if not (isinstance(cls, type) and issubclass(cls, PreTrainedModel)):
        raise CheckpointError(
            f"{model}: 'architectures' in {CONFIG} must name a class of transformers. Got {names[0]!r}; code in"
            " checkpoints is never run."
        )
    return cls


def refuse_random(model: str, loaded: Any, missing: list[str]) -> None:
    """Raise CheckpointError if a weight of the model's body is among the `missing` ones; warn about all others.

    Only a head or a pooler may be new. A body with random weights is a damaged file or another architecture, and would
    be written into every checkpoint that is made from it.
    """
    embedding = input_embedding(loaded)
    words = tuple(f"{name}." for name, module in loaded.named_modules() if module is embedding)
    lost = [key for key in missing if key.startswith(words) or (in_body(key, loaded) and not key.endswith(SPARE))]
    if lost:
        raise CheckpointError(
            f"{model} must hold every weight of the body of a {type(loaded).__name__}. It lacks {short_list(lost)}: the"
            " weights belong to another architecture, or the files are damaged or incomplete. Copy them again."
        )
    if missing:
        warnings.warn(f"{model} lacks {', '.join(missing)}; these weights are random.", stacklevel=3)
