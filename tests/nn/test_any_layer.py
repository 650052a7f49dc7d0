"""Every method in every role, over random shapes, dtypes, sizes and degenerate matrices."""

from dataclasses import dataclass
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from lpcompress.errors import LpCompressError
from lpcompress.factor import METHODS, factorize
from lpcompress.factor.methods.sketch import largest_sketch, nearest_sketch
from lpcompress.nn import FROM_HEADS, INTO_HEADS, BareWeight, build, from_factorization, role_of, spec_of, window_of

DTYPES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}  # dtype -> tolerance
TO_BE_TRAINED = "sketch"


@dataclass(frozen=True)
class Case:
    """A plain layer, its matrix (n, d), inputs, and its output as a function of inputs, weight and bias."""

    plain: nn.Module
    matrix: torch.Tensor
    inputs: torch.Tensor
    product: object


def matrix_of(draw, n, d, dtype):
    """A matrix: random, of low rank, with duplicate rows, rows or columns of zeros, rows of uneven scale, or zero."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    matrix = torch.randn(n, d, generator=generator)
    kind = draw(st.sampled_from(["random", "low rank", "duplicates", "empty rows", "empty columns", "uneven", "zero"]))
    if kind == "low rank":
        matrix = matrix[:, :2] @ torch.randn(min(2, d), d, generator=generator)
    if kind == "duplicates":
        matrix = matrix[torch.randint(max(1, n // 8), (n,), generator=generator)]
    if kind == "empty rows":
        matrix[torch.rand(n, generator=generator) < 0.5] = 0
    if kind == "empty columns":
        matrix[:, torch.rand(d, generator=generator) < 0.5] = 0
    if kind == "uneven":
        matrix *= 10 ** (4 * torch.rand(n, 1, generator=generator) - 3)
    return (matrix * (kind != "zero")).to(dtype)


def embedding(draw, n, d, dtype):
    plain = nn.Embedding(n, d, dtype=dtype, padding_idx=draw(st.sampled_from([None, 0, n - 1])))
    return plain, torch.arange(n), lambda ids, weight, _: weight[ids]


def linear(draw, n, d, dtype):
    plain = nn.Linear(d, n, bias=draw(st.booleans()), dtype=dtype)
    return plain, torch.randn(5, d, dtype=dtype), functional.linear


def transposed(draw, n, d, dtype):
    plain = Conv1D(n, d).to(dtype)
    return plain, torch.randn(5, d, dtype=dtype), lambda hidden, weight, bias: hidden @ weight + bias


def convolution(draw, n, d, dtype):
    kernel = draw(st.sampled_from([(1,), (3,), (1, 2), (2, 2)]))
    layer, convolve = (nn.Conv1d, functional.conv1d) if len(kernel) == 1 else (nn.Conv2d, functional.conv2d)
    channels, stride = -(-d // prod(kernel)), draw(st.integers(1, 2))
    plain = layer(channels, n, kernel, stride, padding=1, bias=draw(st.booleans()), dtype=dtype)
    inputs = torch.randn(2, channels, *[5] * len(kernel), dtype=dtype)
    return plain, inputs, lambda hidden, weight, bias: convolve(hidden, weight, bias, stride, 1)


def bare_weight(draw, n, d, dtype):
    equation, heads = draw(st.sampled_from([INTO_HEADS, FROM_HEADS])), draw(st.integers(1, 3))
    width, size = (d, -(-n // heads)) if equation == INTO_HEADS else (n, -(-d // heads))
    plain = BareWeight(nn.Parameter(torch.empty(width, heads, size, dtype=dtype)), equation)
    inputs = torch.randn(3, 2, *((width,) if equation == INTO_HEADS else (heads, size)), dtype=dtype)
    return plain, inputs, lambda hidden, weight, _: torch.einsum(equation, hidden, weight)


@st.composite
def cases(draw, role):
    """A layer of a role with 1 to 40 rows and columns."""
    dtype = draw(st.sampled_from(list(DTYPES)))
    torch.manual_seed(0)
    plain, inputs, product = role(draw, draw(st.integers(1, 40)), draw(st.integers(1, 40)), dtype)
    with torch.no_grad():
        view = role_of(plain).matrix_of(plain)
        view.copy_(matrix_of(draw, *view.shape, dtype))
    return Case(plain, view.detach().clone(), inputs, product)


def fit(case, method, ratio, p):
    """Return the factorization of a layer's matrix."""
    if method != TO_BE_TRAINED:
        return factorize(case.matrix, method, ratio, p)
    n_bytes, window = int((1 - ratio) * case.matrix.numel() * case.matrix.element_size()), window_of(case.plain)
    return nearest_sketch(case.matrix, largest_sketch(case.matrix, n_bytes, 1, window), 1, 7, window)


def outputs(module, inputs):
    """Return the output of a module as a model computes it: a bare weight is an operand of `einsum`."""
    equation = getattr(module, "equation", None)
    return module(inputs) if equation is None else torch.einsum(equation, inputs, module)


def n_bytes(*tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@pytest.mark.parametrize("role", [embedding, linear, transposed, convolution, bare_weight])
@pytest.mark.parametrize("method", [*METHODS, TO_BE_TRAINED])  # auto is one of them
@settings(deadline=None, derandomize=True, max_examples=15)
@given(data=st.data())
@torch.no_grad()
def test_a_layer(method, role, data):
    if (method, role) == (TO_BE_TRAINED, embedding):
        pytest.skip("an embedding is not sketched")
    case = data.draw(cases(role))
    ratio, p = data.draw(st.floats(0.02, 0.97)), data.draw(st.sampled_from([1.0, 1.5, 2.0]))
    try:
        factorization = fit(case, method, ratio, p)
    except LpCompressError as error:
        assert "Ask for a smaller ratio" in str(error)
        return
    module, bias = from_factorization(factorization, case.plain), getattr(case.plain, "bias", None)
    module.check("layer")
    beside = [] if bias is None else [bias]
    if getattr(case.plain, "padding_idx", None) is not None:
        beside = [case.plain.weight[case.plain.padding_idx]]
    stored = module.state_dict()
    assert n_bytes(*stored.values()) - n_bytes(*beside) <= (1 - ratio) * n_bytes(case.matrix)

    dense, precision = module.dense(), DTYPES[case.matrix.dtype]
    assert dense.dtype == case.matrix.dtype and dense.shape == case.plain.weight.shape
    found = outputs(module, case.inputs)
    exact = [
        each.double() if each is not None and each.is_floating_point() else each for each in (case.inputs, dense, bias)
    ]
    expected = case.product(*exact)
    assert found.dtype == dense.dtype and found.shape == expected.shape
    scale = float(expected.abs().max()) + 1e-6
    assert float((found.double() - expected).abs().max()) <= precision * scale

    again = build(spec_of(module), case.plain)
    again.load_state_dict(load(save({name: tensor.contiguous() for name, tensor in stored.items()})))
    assert all(torch.equal(tensor, stored[name]) for name, tensor in again.state_dict().items())
    assert torch.equal(again.dense(), dense) and torch.equal(outputs(again, case.inputs), found)
