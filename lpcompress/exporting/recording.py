"""Record a model as a graph of standard ONNX operators and write it to a file."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lpcompress.exporting.inputs import Inputs, axes_of
from lpcompress.exporting.integers import store_as_integers
from lpcompress.exporting.products import IntegerProducts
from lpcompress.exporting.translations import translations
from lpcompress.formats.coded import Coded
from lpcompress.nn import CompressedLinear, FactoredMatrix
from lpcompress.surgery.layer import layers_of

OPSET = 20  # of the file
OFF = ("use_cache", "use_mems_eval", "output_hidden_states", "output_attentions")  # settings that add outputs
PRODUCTS = (CompressedLinear, *CompressedLinear.replaces)


def simplify(model: Any) -> None:
    """Make a model compute in float32 and return nothing but its main outputs."""
    model.float().eval()
    for setting in OFF:
        if hasattr(model.config, setting):
            setattr(model.config, setting, False)


def prepare(model: Any, int8: bool) -> int:
    """Make the layers of a model fit for recording, in place; return the bytes of the coded layers' streams.

    Parameters
    ----------
    model : PreTrainedModel
        It can no longer be saved.
    int8 : bool
        Make all linear layers of the body int8 products.
    """
    coded = 0
    for layer in layers_of(model).values():
        module = layer.module
        if isinstance(module, FactoredMatrix) and module.holds is Coded:
            coded += module.factorization().stream.numel()  # type: ignore[attr-defined]
            store_as_integers(module)
        if int8 and layer.in_body and layer.has_matrix and isinstance(module, PRODUCTS):
            layer.replace(IntegerProducts.of(module))
    return coded


def write(model: nn.Module, inputs: Inputs, outputs: list[str], file: Path) -> None:
    """Record a model and write the graph; more than 2 GB of weights go into a file beside it.

    Parameters
    ----------
    model : nn.Module
        As `prepare` left it.
    inputs : dict of str to Tensor
        Example inputs.
    outputs : list of str
        Names of the outputs.
    file : Path
    """
    with _quiet(), torch.no_grad():
        program: Any = torch.onnx.export(
            model,
            kwargs=inputs,
            output_names=outputs,
            dynamic_shapes=axes_of(inputs),
            opset_version=OPSET,
            custom_translation_table=translations(),
            dynamo=True,
            verbose=False,
        )
        for node in program.model.graph.all_nodes():  # where in the source each comes from: a tenth of a small file
            node.metadata_props.clear()
        program.save(file)


def integer_bytes(file: Path) -> int:
    """Return the bytes of integer weights in a graph; sizes and indices, which are int64, do not count."""
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    kinds = {
        getattr(onnx.TensorProto, name): size for name, size in {"UINT8": 1, "INT8": 1, "INT16": 2, "INT32": 4}.items()
    }
    return sum(kinds.get(each.data_type, 0) * prod(each.dims) for each in graph.initializer)


def named_outputs(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in the outputs of a model with their names, in the order in which they are recorded."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from named_outputs(each, f"{name}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for place, each in enumerate(value):
            yield from named_outputs(each, f"{name}.{place}".lstrip("."))


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the exporter says about itself and packages that it does not need."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
