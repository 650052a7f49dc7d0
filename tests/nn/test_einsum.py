"""Compressed bare weights against `torch.einsum` with their own `.dense()`."""

import copy
import pickle

import pytest
import torch
from torch import nn

from lpcompress.errors import LpCompressError
from lpcompress.nn import FROM_HEADS, INTO_HEADS, BareWeight, build, from_factorization, spec_of

WIDTH, HEADS, SIZE = 20, 3, 4
HIDDEN = {INTO_HEADS: (5, 2, WIDTH), FROM_HEADS: (5, 2, HEADS, SIZE)}
KINDS = ("low_rank", "clustered", "sparse", "levels", "entries", "coded", "coded entries")
pytestmark = [
    pytest.mark.parametrize("kind", KINDS),
    pytest.mark.parametrize("equation", [INTO_HEADS, FROM_HEADS]),
]


@pytest.fixture
def module(random_factorization, kind, equation):
    torch.manual_seed(0)
    plain = BareWeight(nn.Parameter(torch.randn(WIDTH, HEADS, SIZE)), equation)
    shape = (HEADS * SIZE, WIDTH) if equation == INTO_HEADS else (WIDTH, HEADS * SIZE)
    return from_factorization(random_factorization(kind, *shape), plain)


def test_the_models_product_is_computed_by_factors(module, equation, monkeypatch):
    hidden = torch.randn(HIDDEN[equation], requires_grad=True)
    expected = torch.einsum(equation, hidden, module.dense())
    (gradient,) = torch.autograd.grad(expected.square().sum(), hidden)
    monkeypatch.setattr(type(module), "dense", None)  # nothing is multiplied out
    product = torch.einsum(equation, hidden, module)
    torch.testing.assert_close(product, expected, atol=1e-5, rtol=1e-5)
    ours, *factors = torch.autograd.grad(product.square().sum(), [hidden, *module.parameters()])
    torch.testing.assert_close(ours, gradient, atol=1e-3, rtol=1e-4)
    assert all(gradient.any() for gradient in factors)


def test_it_is_a_tensor_to_any_other_function(module):
    dense = module.dense()
    assert torch.equal(torch.einsum("hnd->nd", module), torch.einsum("hnd->nd", dense))
    assert torch.equal(torch.add(dense, other=module), dense + dense)
    assert module.shape == dense.shape and module.dtype == dense.dtype
    assert torch.equal(module.plain().weight, dense) and module.plain().equation == module.equation


def test_copies_halves_and_the_compiled_product(module, equation):
    hidden = torch.randn(HIDDEN[equation])
    expected = torch.einsum(equation, hidden, module)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(torch.einsum(equation, hidden, other), expected)
    compiled = torch.compile(lambda x: torch.einsum(equation, x, module), backend="aot_eager")
    torch.testing.assert_close(compiled(hidden), expected, atol=1e-5, rtol=1e-5)
    half = torch.einsum(equation, hidden.bfloat16(), module.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, atol=0.2, rtol=0.1)


def test_spec_rebuilds_it(module, equation):
    plain = BareWeight(nn.Parameter(torch.empty(WIDTH, HEADS, SIZE, device="meta")), equation)
    empty = build(spec_of(module), plain)
    assert all(t.is_meta for t in empty.state_dict().values()) and spec_of(empty) == spec_of(module)
    with pytest.raises(LpCompressError, match=r"must replace BareWeight\. Got Linear"):
        build(spec_of(module), nn.Linear(WIDTH, HEADS * SIZE))
