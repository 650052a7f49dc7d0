"""What a checkpoint directory consists of: everything else in it belongs to somebody else and is never deleted."""

from fnmatch import fnmatchcase
from pathlib import Path

from lpcompress.atomic import entries
from lpcompress.checkpoints.files import CARD_FILE, STUB
from lpcompress.filenames import CONFIG, RECORD_FILE, REPORT_FILE

# Names and shell wildcards, by what they are: all that lpcompress, `save_pretrained` and sentence-transformers write.
FILES = {
    "weights": (
        *("model.safetensors", "model-[0-9]*-of-[0-9]*.safetensors", "model.safetensors.index.json"),
        *("pytorch_model.bin", "pytorch_model-[0-9]*-of-[0-9]*.bin", "pytorch_model.bin.index.json"),
        *("model.onnx", "model.onnx.data"),
    ),
    "configs": (CONFIG, "generation_config.json"),
    "ours": (REPORT_FILE, RECORD_FILE, f"{STUB}.py"),
    "tokenizer": (
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
        *("vocab.txt", "vocab.json", "vocab.bpe", "vocab.model", "merges.txt", "bpe.codes", "dict.txt"),
        *("vocab-src.json", "vocab-tgt.json", "target_vocab.json", "entity_vocab.json", "prophetnet.tokenizer"),
        *("spiece.model", "spm*.model", "sentencepiece*.model", "tokenizer*.model", "source.spm", "target.spm"),
        *("tekken.json", "*.tiktoken"),
        *("normalizer.json", "emoji.json", "byte_maps.json", "word_shape.json", "word_pronunciation.json"),
    ),
    "chat templates": ("chat_template.jinja", "chat_template.json"),
    "processors": (
        *("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
        "audio_tokenizer_config.json",
    ),
    "sentence-transformers": ("modules.json", "config_sentence_transformers.json", "sentence_*_config.json"),
    "papers": (CARD_FILE, "modelcard.json", "LICENSE*", "NOTICE*", "USE_POLICY*", ".gitattributes"),
}
# Folders, and what may be in them. The numbered ones are modules of sentence-transformers.
FOLDERS = {
    "[0-9]_[A-Z]*": ("config.json", "model.safetensors", "pytorch_model.bin"),
    "[0-9][0-9]_[A-Z]*": ("config.json", "model.safetensors", "pytorch_model.bin"),
    "additional_chat_templates": ("*.jinja",),
}
_FILES = tuple(pattern for patterns in FILES.values() for pattern in patterns)


def has_weights(directory: Path) -> bool:
    """Return whether a directory holds a weight file of a checkpoint, even of a damaged one."""
    return any(_is_file_of(each, FILES["weights"]) for each in directory.iterdir())


def foreign(directory: Path) -> list[str]:
    """Return the names of what is in a directory and not of a checkpoint, sorted; folders end with a slash.

    Parameters
    ----------
    directory : Path

    Raises
    ------
    OSError
        If the directory cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> directory = Path(tempfile.mkdtemp())
    >>> for name in ("config.json", "model-00001-of-00002.safetensors", "spiece.model", "thesis.tex"):
    ...     (directory / name).touch()
    >>> for name in (".git", "1_Pooling"):
    ...     (directory / name).mkdir()
    >>> foreign(directory)
    ['.git/', 'thesis.tex']
    """
    found = []
    for entry in entries(directory):
        inside = next((names for folder, names in FOLDERS.items() if fnmatchcase(entry.name, folder)), None)
        if entry.is_symlink() or not entry.is_dir():
            found += [] if _is_file_of(entry, _FILES) else [entry.name]
        elif inside is None:
            found.append(f"{entry.name}/")
        else:
            found += [f"{entry.name}/{each.name}" for each in sorted(entry.iterdir()) if not _is_file_of(each, inside)]
    return found


def _is_file_of(path: Path, patterns: tuple[str, ...]) -> bool:
    return not path.is_dir() and any(fnmatchcase(path.name, pattern) for pattern in patterns)
