"""`weight` of a compressed layer: other code can read it, but not write to it."""

import pytest
import torch
import transformers
from torch import nn

import lpcompress
from lpcompress.errors import LpCompressError
from lpcompress.formats.readable import ReadableWeight
from lpcompress.nn import from_factorization

PLAIN = {
    "embedding": lambda: nn.Embedding(30, 20, padding_idx=3),
    "linear": lambda: nn.Linear(20, 30),
    "Conv1D": lambda: transformers.pytorch_utils.Conv1D(30, 20),
    "conv": lambda: nn.Conv2d(5, 30, kernel_size=2),
}


def compressed(plain, method="svd"):
    matrix = plain.weight.detach()
    rows = matrix.T.contiguous() if isinstance(plain, transformers.pytorch_utils.Conv1D) else matrix.flatten(1)
    return from_factorization(lpcompress.factorize(rows, method, ratio=0.4), plain)


@pytest.mark.parametrize("role", PLAIN)
@pytest.mark.parametrize("method", ["svd", "coded"])
def test_shape_and_dtype_are_known_without_multiplying_out(role, method, monkeypatch):
    plain = PLAIN[role]().half()
    layer = compressed(plain, method)
    monkeypatch.setattr(type(layer), "dense", lambda _: pytest.fail("multiplied out"))
    weight = layer.weight
    assert isinstance(weight, ReadableWeight) and isinstance(weight, torch.Tensor)
    assert weight.shape == plain.weight.shape and weight.dtype == torch.float16
    assert weight.size(0) == plain.weight.size(0) and weight.device == plain.weight.device


@pytest.mark.parametrize("role", PLAIN)
def test_products_are_those_of_the_multiplied_out_weight_with_gradients(role):
    layer = compressed(PLAIN[role]())
    assert torch.equal(layer.weight.flatten(1), layer.dense().flatten(1))
    torch.cat([layer.weight, layer.weight]).sum().backward()
    assert layer.codes.grad.abs().sum() > 0


WRITERS = {
    "in place": lambda layer: layer.weight.add_(1),
    "data": lambda layer: setattr(layer.weight, "data", torch.ones(30, 20)),
    "item": lambda layer: layer.weight.__setitem__(0, 1.0),
    "initialisation": lambda layer: nn.init.normal_(layer.weight),
    "out": lambda layer: torch.add(layer.weight, 1, out=layer.weight),
    "a parameter": lambda layer: setattr(layer, "weight", nn.Parameter(torch.ones(30, 20))),
    "a tensor": lambda layer: setattr(layer, "weight", torch.ones(30, 20)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_writing_is_refused(writer):
    layer = compressed(nn.Linear(20, 30))
    before = layer.dense().clone()
    with pytest.raises(LpCompressError, match=r"cannot be written to.*model\.dequantize\(\) first"):
        WRITERS[writer](layer)
    assert torch.equal(layer.dense(), before)


def test_augmented_assignment_is_refused():
    layer = compressed(nn.Linear(20, 30))
    with pytest.raises(LpCompressError, match="cannot be written to"):
        layer.weight.data += 1


def test_it_compiles_without_a_break():
    layer = compressed(nn.Linear(20, 30))
    read = torch.compile(lambda hidden: nn.functional.linear(hidden, layer.weight), fullgraph=True, backend="eager")
    hidden = torch.randn(2, 20)
    assert torch.equal(read(hidden), nn.functional.linear(hidden, layer.dense()))
