"""Load the tokenizer of a checkpoint, if it has one."""

import warnings
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from lpcompress.checkpoints.files import directory_of
from lpcompress.checkpoints.load_errors import in_one_line

VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model")  # a checkpoint with none of these files has no tokenizer
SETTINGS = ("tokenizer_config_file", "normalizer_file")  # in `vocab_files_names`, although they hold no vocabulary


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
    except Exception as error:  # any: see `readable`
        if directory and any(file for pattern in VOCABULARIES for file in directory.glob(pattern)):
            warnings.warn(
                f"{model}: the tokenizer cannot be read, so the model is loaded without it. {in_one_line(error)}",
                stacklevel=1,
            )
        return None
    # without a vocabulary file, transformers creates a tokenizer that has special tokens only
    return tokenizer if directory and has_vocabulary(directory, tokenizer) else None


def has_vocabulary(directory: Path, tokenizer: Any) -> bool:
    """Return whether a directory holds a file with the vocabulary of `tokenizer`, or whether that needs none.

    Any fast tokenizer can be read from tokenizer.json, whether or not its class names that file.
    """
    names = {name for key, name in tokenizer.vocab_files_names.items() if key not in SETTINGS}
    if tokenizer.is_fast:
        names |= {"tokenizer.json", "tokenizer.*.json"}  # the second: for versions of transformers from the one named
    return not names or any(file for name in names for file in directory.glob(name))


def tokenizer_beside(model: Any) -> Any:
    """Return the tokenizer of the local or cached checkpoint that a loaded model came from; None if there is none."""
    origin = getattr(model.config, "_name_or_path", "")
    return load_tokenizer(origin, {"local_files_only": True}) if origin else None
