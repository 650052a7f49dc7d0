"""Load the tokenizer of a checkpoint, if it has one."""

import warnings
from typing import Any

from transformers import AutoTokenizer

from lpcompress.checkpoints.files import directory_of
from lpcompress.checkpoints.load_errors import LOAD_ERRORS, in_one_line

VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model")  # a checkpoint with none of these files has no tokenizer


def load_tokenizer(model: str, source: dict[str, Any]) -> Any:
    """Return the tokenizer of a checkpoint; None if it has none, or, with a warning, if it is damaged.

    Parameters
    ----------
    model : str
        Local directory or Hub id.
    source : dict
        Keyword arguments from `files.find`.
    """
    directory = directory_of(model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False, **source)
    except (*LOAD_ERRORS, TypeError, AttributeError) as error:  # transformers raises any of these if files are missing
        if directory and any(file for pattern in VOCABULARIES for file in directory.glob(pattern)):
            warnings.warn(f"{model}: the tokenizer cannot be read and is left out. {in_one_line(error)}", stacklevel=1)
        return None
    # without a vocabulary file, transformers creates a tokenizer that has special tokens only
    found = directory and any((directory / name).exists() for name in tokenizer.vocab_files_names.values())
    return tokenizer if found else None


def tokenizer_beside(model: Any) -> Any:
    """Return the tokenizer of the local or cached checkpoint that a loaded model came from; None if there is none."""
    origin = getattr(model.config, "_name_or_path", "")
    return load_tokenizer(origin, {"local_files_only": True}) if origin else None
