"""Compressed linear layers against the plain layer with their own `.dense()`."""

import copy
import pickle

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lpcompress.errors import CheckpointError, LpCompressError
from lpcompress.nn import ClusteredLinear, FactoredLinear, build, from_factorization, spec_of

OUTPUTS, INPUTS = 30, 12
KINDS = ("low_rank", "clustered", "sparse", "levels", "entries", "coded", "coded entries")
by_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(params=["Linear", "no bias", "Conv1D"])
def pair(request, random_factorization):
    """A function kind -> (the module, the plain layer that it replaces)."""

    def make(kind):
        torch.manual_seed(0)
        plain = Conv1D(OUTPUTS, INPUTS) if request.param == "Conv1D" else nn.Linear(INPUTS, OUTPUTS)
        plain.bias = None if request.param == "no bias" else nn.Parameter(torch.randn(OUTPUTS))
        factorization = random_factorization(kind, OUTPUTS, INPUTS)
        module = from_factorization(factorization, plain)
        dense = factorization.dense()
        plain.weight.data = dense.T if request.param == "Conv1D" else dense
        return module, plain

    return make


@by_kind
@pytest.mark.parametrize("shape", [(), (1,), (0,), (7,), (2, 5)])
def test_forward_is_that_of_the_plain_layer(pair, kind, shape):
    module, plain = pair(kind)
    hidden = torch.randn(*shape, INPUTS)
    expected = nn.functional.linear(hidden, module.factorization().dense(), plain.bias)
    torch.testing.assert_close(module(hidden), expected, atol=1e-5, rtol=1e-5)
    if shape:  # a Conv1D takes no single vector
        torch.testing.assert_close(module(hidden), plain(hidden), atol=1e-5, rtol=1e-5)
    assert (module.in_features, module.out_features) == (INPUTS, OUTPUTS)


@by_kind
def test_the_plain_layer_comes_back(pair, kind):
    module, plain = pair(kind)
    again, hidden = module.plain(), torch.randn(5, INPUTS)
    assert type(again) is type(plain) and again.bias is module.bias and repr(again) == repr(plain)
    torch.testing.assert_close(again.weight, plain.weight, atol=1e-6, rtol=1e-5)
    assert torch.equal(module.dense(), again.weight) and again.weight.is_contiguous()
    torch.testing.assert_close(again(hidden), plain(hidden), atol=1e-5, rtol=1e-5)


@by_kind
def test_stored_bytes_are_those_of_the_factorization_and_the_bias(pair, random_factorization, kind):
    module, plain = pair(kind)
    bias = 0 if plain.bias is None else OUTPUTS * 4
    held = [*module.parameters(), *module.buffers()]
    stored = sum(t.numel() * t.element_size() for t in module.state_dict().values())
    assert stored == sum(t.numel() * t.element_size() for t in held)
    assert stored == random_factorization(kind, OUTPUTS, INPUTS).n_bytes + bias


@by_kind
def test_gradients_are_those_of_the_dense_formula(pair, kind):
    module, _ = pair(kind)
    hidden = torch.randn(4, 9, INPUTS, requires_grad=True)
    weight = torch.randn(4, 9, OUTPUTS)
    inputs = [hidden, *module.parameters()]
    matrix = module.factorization().dense()
    ours = torch.autograd.grad((module(hidden) * weight).sum(), inputs)
    theirs = torch.autograd.grad((nn.functional.linear(hidden, matrix, module.bias) * weight).sum(), inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@by_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(pair, kind, dtype):
    module, _ = pair(kind)
    integers = {n: t.clone() for n, t in module.state_dict().items() if not t.is_floating_point()}
    hidden = torch.randn(6, INPUTS).to(dtype)
    output = module.to(dtype)(hidden)
    assert output.dtype == dtype
    expected = nn.functional.linear(hidden.double(), module.factorization().dense().double())
    expected += 0 if module.bias is None else module.bias.double()
    torch.testing.assert_close(output.double(), expected, atol=0.1, rtol=0.1)
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in integers.items())


@by_kind
def test_copies_and_the_compiled_module_give_the_same(pair, kind):
    module, _ = pair(kind)
    hidden = torch.randn(4, INPUTS)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(hidden), module(hidden)) and spec_of(other) == spec_of(module)
    torch.compiler.reset()  # else many modules exceed the recompilation limit of one function
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(hidden), module(hidden), atol=1e-5, rtol=1e-5)


@by_kind
def test_spec_rebuilds_an_empty_module_on_meta(pair, kind):
    module, plain = pair(kind)
    ours, theirs = module.state_dict(), build(spec_of(module) | {"method": "x"}, copy.deepcopy(plain).to("meta"))
    assert {k: (v.shape, v.dtype) for k, v in ours.items()} == {
        k: (v.shape, v.dtype) for k, v in theirs.state_dict().items()
    }
    assert all(t.is_meta for t in theirs.state_dict().values())
    filled = build(spec_of(module), plain)
    filled.load_state_dict(ours)
    filled.check("layer")
    hidden = torch.randn(4, INPUTS)
    assert torch.equal(filled(hidden), module(hidden))


def test_rows_of_a_cluster_of_rank_zero_keep_their_bias(random_factorization):
    plain = nn.Linear(INPUTS, OUTPUTS)
    factorization = random_factorization("clustered", OUTPUTS, INPUTS)
    module, zero = from_factorization(factorization, plain), factorization.labels == 2
    assert int(zero.sum()) > 1
    torch.testing.assert_close(module(torch.randn(4, INPUTS))[:, zero], plain.bias[zero].expand(4, -1))


def test_sorted_outputs_are_the_same_in_another_order(random_factorization):
    module = from_factorization(random_factorization("clustered", OUTPUTS, INPUTS), nn.Linear(INPUTS, OUTPUTS))
    hidden = torch.randn(5, INPUTS)
    before = module(hidden)
    order = module.sort_outputs()
    assert isinstance(module, ClusteredLinear) and not torch.equal(order, torch.arange(OUTPUTS))
    assert torch.equal(module(hidden), before[:, order])
    module.check("layer")
    assert spec_of(build(spec_of(module), nn.Linear(INPUTS, OUTPUTS))) == spec_of(module)
    module.offsets.data = module.offsets.flip(0)
    with pytest.raises(CheckpointError, match="layer: 'offsets' must be in ascending order"):
        module.check("layer")


def test_damage_and_refusal(random_factorization):
    class Odd(nn.Linear):
        pass

    factorization = random_factorization("low_rank", OUTPUTS, INPUTS)
    with pytest.raises(LpCompressError, match=r"plain torch\.nn\.Linear\. Got Odd"):
        from_factorization(factorization, Odd(INPUTS, OUTPUTS))
    module = from_factorization(factorization, nn.Linear(INPUTS, OUTPUTS))
    assert isinstance(module, FactoredLinear)
    module.check("layer")
    module.basis.data[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"layer\.basis holds values that are not finite"):
        module.check("layer")


def test_many_outputs_are_unpacked_in_chunks(random_factorization, monkeypatch):
    monkeypatch.setattr("lpcompress.formats.sparse.UNPACKED", 11)
    module = from_factorization(random_factorization("entries", OUTPUTS, INPUTS), nn.Linear(INPUTS, OUTPUTS))
    hidden = torch.randn(5, INPUTS, requires_grad=True)
    expected = nn.functional.linear(hidden, module.dense(), module.bias)
    torch.testing.assert_close(module(hidden), expected, atol=1e-5, rtol=1e-5)
    (gradient,) = torch.autograd.grad(module(hidden).sum(), hidden)
    torch.testing.assert_close(gradient, module.dense().sum(0).expand(5, -1), atol=1e-5, rtol=1e-5)
