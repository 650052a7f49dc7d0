"""Inspect a checkpoint: its layers, the spectrum of its word embedding, and how it was compressed."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor, nn
from transformers import PreTrainedModel

from lpcompress.checkpoints import files, loading
from lpcompress.compression.reading import read_document
from lpcompress.compression.report import CheckpointReport, layer_table
from lpcompress.errors import CheckpointError
from lpcompress.factor.linalg import TINY, energy_of, gram
from lpcompress.factor.scaling import excess_of, times_power
from lpcompress.formats.packing import CHUNK
from lpcompress.nn import CompressedEmbedding, FactoredMatrix, ResidentMatrix
from lpcompress.presentation import dimensions, megabytes, plain_table
from lpcompress.surgery.layer import input_embedding
from lpcompress.surgery.sizes import stored


@dataclass(frozen=True)
class LayerGroup:
    """Layers whose names differ only in a number.

    Attributes
    ----------
    name : str
        Common name, with `*` for the number.
    kind : str
        Class of the module.
    count : int
        Number of layers.
    shape : list of int
        Logical shape of one layer: (tokens, width) or (outputs, inputs).
    parameters, bytes : int
        Totals of the group; tensors shared with an earlier group are counted there.
    bytes_in_memory : int
        The same of the loaded group, with what compressed layers keep besides what is stored.
    share : float
        Share of the whole model's bytes.
    """

    name: str
    kind: str
    count: int
    shape: list[int]
    parameters: int
    bytes: int
    bytes_in_memory: int
    share: float


@dataclass(frozen=True)
class Spectrum:
    """Energy of a matrix in its largest singular values: how well a low rank approximates it.

    Attributes
    ----------
    name : str
    shape : list of int
    energy : dict of str to float
        Share of singular values, largest first, such as "0.10" -> their share of the sum of squares.
    kurtosis : float
        Kurtosis of the entries: 3 for a normal distribution, more with outliers.
    """

    name: str
    shape: list[int]
    energy: dict[str, float]
    kurtosis: float


@dataclass(frozen=True)
class Inspection:
    """Result of `inspect`.

    Attributes
    ----------
    model, architecture, dtype : str
    parameters, bytes, bytes_in_memory : int
        Totals of the whole model, stored and loaded, counting shared tensors once.
    groups : list of LayerGroup
    embedding : Spectrum or None
        Spectrum of the word embedding; None if the model has none.
    factored : dict
        Layer name -> sizes recorded in `config.json`; empty for a dense checkpoint.
    report : dict or None
        Content of `lpcompress.json`; None if the file is missing.
    """

    model: str
    architecture: str
    dtype: str
    parameters: int
    bytes: int
    bytes_in_memory: int
    groups: list[LayerGroup]
    embedding: Spectrum | None
    factored: dict[str, Any]
    report: dict[str, Any] | None


def inspect(source: str) -> Inspection:
    """Load a checkpoint and return its layers, spectrum and compression report.

    Parameters
    ----------
    source : str
        A local directory or a Hub id.

    Returns
    -------
    Inspection

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be loaded, its word embedding is not finite, or its report is not one.

    Examples
    --------
    >>> import tempfile, transformers
    >>> directory = tempfile.mkdtemp()
    >>> sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 12}
    >>> transformers.BertModel(transformers.BertConfig(vocab_size=50, **sizes)).save_pretrained(directory)
    >>> for group in inspect(directory).groups[5:8]:
    ...     print(group.name, group.count, group.shape)
    encoder.layer.*.attention.self.key 3 [8, 8]
    encoder.layer.*.attention.self.value 3 [8, 8]
    encoder.layer.*.attention.output.dense 3 [8, 8]
    """
    files.find(source)
    _read_report(files.directory_of(source))  # before the work; of a Hub id it may come with the model
    model, _ = loading.load(source)
    groups = layer_groups(model)
    return Inspection(
        model=source,
        architecture=type(model).__name__,
        dtype=str(model.dtype).removeprefix("torch."),
        parameters=sum(group.parameters for group in groups),
        bytes=sum(group.bytes for group in groups),
        bytes_in_memory=sum(group.bytes_in_memory for group in groups),
        groups=groups,
        embedding=embedding_spectrum(model),
        factored=_factored_layers(model.config),
        report=_read_report(files.directory_of(source)),
    )


def layer_groups(model: nn.Module) -> list[LayerGroup]:
    """Return the modules that own tensors, grouped by name, in model order."""
    members: dict[tuple[str, str, tuple[int, ...]], list[list[Tensor]]] = {}
    kept: Counter[tuple[str, str, tuple[int, ...]]] = Counter()  # bytes in memory besides what is stored
    for name, module, tensors in _stored(model):
        key = (_starred(name), type(module).__name__, _shape(module, tensors))
        members.setdefault(key, []).append(tensors)
        if isinstance(module, ResidentMatrix):
            kept[key] += module.bytes_in_memory() - stored(module)[1]
    sizes = {key: sum(map(_bytes, _flat(parts))) for key, parts in members.items()}
    total = sum(sizes.values())
    return [
        LayerGroup(
            name=name,
            kind=kind,
            count=len(parts),
            shape=list(shape),
            parameters=sum(t.numel() for t in _flat(parts) if t.is_floating_point()),
            bytes=sizes[name, kind, shape],
            bytes_in_memory=sizes[name, kind, shape] + kept[name, kind, shape],
            share=sizes[name, kind, shape] / total,
        )
        for (name, kind, shape), parts in members.items()
    ]


def embedding_spectrum(model: PreTrainedModel) -> Spectrum | None:
    """Return the spectrum of the word embedding, multiplied out if it is factored."""
    module = input_embedding(model)
    if not isinstance(module, nn.Embedding):
        return None
    name = next(name for name, other in model.named_modules() if other is module)
    with torch.no_grad():
        matrix = module.dense() if isinstance(module, CompressedEmbedding) else module.weight
        if not torch.isfinite(matrix).all():
            raise CheckpointError(
                f"{name} holds values that are not finite (NaN or infinity). The checkpoint is damaged."
            )
        return spectrum(matrix, name)


def spectrum(matrix: Tensor, name: str = "") -> Spectrum:
    """Return the distribution of a matrix's energy, the sum of its squares, over its singular values.

    Parameters
    ----------
    matrix : Tensor of shape (n, d)
    name : str, optional

    Returns
    -------
    Spectrum

    Examples
    --------
    >>> spectrum(torch.diag(torch.tensor([3.0, 1.0, 1.0, 1.0]))).energy
    {'0.10': 0.75, '0.25': 0.75, '0.50': 0.8333333333333334, '0.75': 0.9166666666666666}
    """
    matrix = times_power(matrix.detach(), -excess_of(matrix))
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    energies = torch.linalg.eigvalsh(gram(tall)).flip(0).clamp(min=0)  # squares of the singular values
    return Spectrum(
        name=name,
        shape=list(matrix.shape),
        energy=energy_of(energies),
        kurtosis=kurtosis(tall),
    )


def kurtosis(matrix: Tensor) -> float:
    """Return the kurtosis of the entries: fourth central moment over squared variance; 0 if all are equal."""
    mean = float(matrix.mean(dtype=torch.float64))
    moments = torch.zeros(2, dtype=torch.float64, device=matrix.device)
    for rows in matrix.split(CHUNK):
        squares = (rows.double() - mean).square()
        moments += torch.stack([squares.sum(), squares.square().sum()])
    second, fourth = (moments / matrix.numel()).tolist()
    return fourth / max(second**2, TINY)


def _stored(model: nn.Module) -> Iterator[tuple[str, nn.Module, list[Tensor]]]:
    """Yield each module with its saved tensors, without those of an earlier module."""
    seen: set[int] = set()
    for name, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False)]
        own += [b for leaf, b in module.named_buffers(recurse=False) if leaf not in module._non_persistent_buffers_set]
        own = [tensor for tensor in own if id(tensor) not in seen]
        seen.update(map(id, own))
        if own:
            yield name, module, own


def _starred(name: str) -> str:
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def _shape(module: nn.Module, tensors: list[Tensor]) -> tuple[int, ...]:
    """Return the logical shape of a layer, which differs from the shapes of its factors if it is compressed."""
    match module:
        case FactoredMatrix():
            return module.matrix_shape
        case nn.Embedding():
            return module.num_embeddings, module.embedding_dim
        case nn.Linear():
            return module.out_features, module.in_features
        case _:
            return tuple(max(tensors, key=Tensor.numel).shape)


def _flat(parts: list[list[Tensor]]) -> list[Tensor]:
    return [tensor for part in parts for tensor in part]


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _factored_layers(config: Any) -> dict[str, Any]:
    """Return the layer sizes recorded in `config.json`."""
    return dict(config.quantization_config.layers) if files.is_compressed(config) else {}


def _read_report(directory: Path | None) -> dict[str, Any] | None:
    """Return the content of `lpcompress.json` as it is, after it has proved to be a report."""
    return read_document(directory) if CheckpointReport.read(directory) else None


def inspection_tables(found: Inspection) -> list[Table]:
    """Return the tables of `lpcompress inspect`: layers, spectrum, and compression report."""
    size = f"{found.parameters:,} parameters, {megabytes(found.bytes)}"
    if found.bytes_in_memory != found.bytes:
        size += f" on disk, {megabytes(found.bytes_in_memory)} in memory"
    layers = plain_table(f"{found.model}: {found.architecture}, {found.dtype}, {size}", "layer", "kind")
    for heading in ("count", "shape", "parameters", "on disk", "in memory", "share"):
        layers.add_column(heading, justify="right")
    for group in found.groups:
        sizes = f"{group.count:,}", dimensions(group.shape), f"{group.parameters:,}"
        stored_and_loaded = megabytes(group.bytes), megabytes(group.bytes_in_memory)
        layers.add_row(group.name, group.kind, *sizes, *stored_and_loaded, f"{group.share:.1%}")
    tables = [layers]
    if found.embedding:
        shares = [f"{float(share):.0%}" for share in found.embedding.energy]
        spectrum = plain_table(f"spectrum of {found.embedding.name}", "largest singular values", *shares)
        spectrum.add_row("energy kept", *(f"{energy:.1%}" for energy in found.embedding.energy.values()))
        spectrum.caption = f"kurtosis of the entries {found.embedding.kurtosis:.1f} (normal distribution: 3)"
        tables.append(spectrum)
    if found.report:
        tables.append(layer_table(CheckpointReport.from_document(found.report)))
    return tables
