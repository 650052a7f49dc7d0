"""Load models fine-tuned on a GLUE task; models without a trained head are refused."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForSequenceClassification

from lpcompress.checkpoints import files, loading
from lpcompress.checkpoints.origins import located
from lpcompress.checkpoints.precision import restore_precision
from lpcompress.config.origin import Origin
from lpcompress.errors import CheckpointError
from lpcompress.glue.tasks import Task
from lpcompress.surgery.architectures import longest_text
from lpcompress.surgery.layer import in_body

TEXT_FILES = ("*.json", "*.jsonl", "*.txt", "*.model")  # configuration and tokenizer
SETTINGS = (files.CONFIG, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
WAY_OUT = (
    "Give a model fine-tuned on the task, or a template such as 'textattack/bert-base-uncased-{TASK}', or fine-tune one"
    " with: lpcompress finetune"
)


@dataclass
class Classifier:
    """A fine-tuned model that is ready to be scored.

    Attributes
    ----------
    model : PreTrainedModel
        In evaluation mode, on the CPU.
    tokenizer : PreTrainedTokenizerBase
        Truncates texts to the model's maximum length.
    name : str
        Hub id or directory, as the caller gave it.
    fingerprint : str
        The commit on the Hub, or the SHA-256 of the files.
    new_head : bool
        Whether the head is newly initialised instead of read from the checkpoint.
    """

    model: Any
    tokenizer: Any
    name: str
    fingerprint: str
    new_head: bool = False


def load_classifier(name: str, task: Task, head_seed: int | None = None, origin: Origin | None = None) -> Classifier:
    """Load the model, dense or compressed, and the tokenizer for a task.

    Parameters
    ----------
    name : str
        Hub id or local directory.
    task : Task
        The head must have its number of outputs.
    head_seed : int, optional
        Seed of a new head, to train a model that has none. Without a seed such a model is refused.
    origin : Origin, optional
        Which version of the model.

    Raises
    ------
    PlanError
        If a local directory is to have a revision.
    CheckpointError
        If the model or that version does not exist, its head is missing or belongs to another task, any other weight is
        missing, or there is no tokenizer with a padding token. No model gets random weights unless `head_seed` is
        given.
    """
    place = located(name, **origin.given()) if origin else name
    directory = fetch(place, loading.find(place))
    local = {"local_files_only": True, "trust_remote_code": False}
    with loading.readable(name):
        config = AutoConfig.from_pretrained(directory, **local)
        head, stored = head_weights(config), stored_shapes(directory)
        new_head = head_seed is not None and head.isdisjoint(stored)
        if new_head:
            _name_outputs(config, task)
        _set_outputs(config, stored, head)
        with _seeded(head_seed):
            model, info = AutoModelForSequenceClassification.from_pretrained(
                directory, config=config, dtype="auto", output_loading_info=True, **local
            )
    missing = sorted(info["missing_keys"])
    _refuse_untrained(name, task, [key for key in missing if not new_head or in_body(key, model)], head)
    if model.config.num_labels != task.n_outputs:
        wanted = ", ".join(task.classes) or "a similarity"
        raise CheckpointError(
            f"{name}: the number of outputs must be {task.n_outputs} for {task.key} ({wanted}). It is"
            f" {model.config.num_labels}: the model was fine-tuned on another task."
        )
    restore_precision(model)
    tokenizer = loading.load_tokenizer(str(directory), {"local_files_only": True})
    if tokenizer is None or tokenizer.pad_token_id is None:
        raise CheckpointError(f"{name} has no tokenizer with a padding token. Copy the tokenizer's files into it.")
    tokenizer.model_max_length = longest_text(model, tokenizer)
    return Classifier(model.eval(), tokenizer, name, fingerprint(directory, tokenizer), new_head)


def fetch(name: str, source: dict[str, Any]) -> Path:
    """Return the directory of a model's files, after downloading them if necessary."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    for whole, shards in files.WEIGHTS.items():
        wanted = [*TEXT_FILES, whole, shards]
        with loading.readable(name):
            directory = Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted, **source))
        if any(file.is_file() for file in files.weight_files(directory)):
            return directory
    raise CheckpointError(f"{name} must hold weights ({' or '.join(files.WEIGHTS)}). It has none.")


def head_weights(config: Any) -> set[str]:
    """Return the names of the weights whose shape depends on the number of labels, for any architecture."""
    shapes = []
    for labels in (2, 3):
        variant = type(config).from_dict({**config.to_dict(), "num_labels": labels, "id2label": None, "label2id": None})
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(variant)
        shapes.append({key: tensor.shape for key, tensor in model.state_dict().items()})
    return {key for key, shape in shapes[0].items() if shape != shapes[1][key]}


def stored_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a checkpoint, from the files' headers."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in files.weight_files(directory):
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
        else:
            state = torch.load(path, map_location="meta", weights_only=True)
            shapes |= {key: tuple(tensor.shape) for key, tensor in state.items()}
    return shapes


def fingerprint(directory: Path, tokenizer: Any) -> str:
    """Return an identifier of a checkpoint's content: its commit on the Hub, or a hash of its files."""
    if directory.parent.name == "snapshots":
        return directory.name
    names = {*SETTINGS, *tokenizer.vocab_files_names.values()}
    digest = hashlib.sha256()
    for path in [*files.weight_files(directory), *(directory / name for name in sorted(names))]:
        if path.is_file():
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _set_outputs(config: Any, stored: dict[str, tuple[int, ...]], head: set[str]) -> None:
    """Set the number of labels to that of the stored head: old configs keep it in a field that is no longer read."""
    rows = {stored[key][0] for key in head if key in stored}
    if len(rows) == 1 and config.num_labels not in rows:
        config.num_labels = rows.pop()


def _name_outputs(config: Any, task: Task) -> None:
    """Set a config's outputs to a task's classes, in the data set's order."""
    names = task.classes or ("LABEL_0",)
    config.num_labels = len(names)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}
    config.problem_type = "single_label_classification" if task.classes else "regression"


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Seed torch for new weights, and restore its global generator after the block."""
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def _refuse_untrained(name: str, task: Task, missing: list[str], head: set[str]) -> None:
    """Raise if any weight is missing from the checkpoint: it would be random."""
    if head & set(missing):
        raise CheckpointError(f"{name} has no trained head for {task.key} (no {', '.join(missing)}). {WAY_OUT}")
    if missing:
        raise CheckpointError(f"{name} lacks {', '.join(missing)}: the checkpoint is incomplete. Copy it again.")
