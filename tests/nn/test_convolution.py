"""Compressed convolutions against the plain layer with their own `.dense()`."""

import copy
import pickle

import pytest
import torch
from torch import nn

from lpcompress.errors import LpCompressError
from lpcompress.nn import build, from_factorization, spec_of

KINDS = ("low_rank", "clustered", "sparse", "levels", "entries", "coded", "coded entries")
LAYERS = {
    "1d": (lambda: nn.Conv1d(5, 18, 3, padding=1), (5, 11)),
    "1d, strided, no bias": (lambda: nn.Conv1d(4, 12, 4, stride=2, bias=False), (4, 13)),
    "1d, reflected": (lambda: nn.Conv1d(4, 12, 3, padding=2, padding_mode="reflect"), (4, 9)),
    "2d": (lambda: nn.Conv2d(3, 16, (3, 2), stride=(2, 1), padding=(1, 0)), (3, 8, 7)),
    "2d, same": (lambda: nn.Conv2d(3, 16, 3, padding="same", dilation=2), (3, 8, 7)),
    "2d, circular": (lambda: nn.Conv2d(3, 16, 3, padding=1, padding_mode="circular"), (3, 6, 6)),
    "2d, pointwise": (lambda: nn.Conv2d(6, 14, 1), (6, 4, 5)),
}
by_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(params=LAYERS)
def case(request, random_factorization):
    """A function kind -> (the module, the plain layer that it replaces, an input)."""

    def make(kind):
        torch.manual_seed(0)
        layer, shape = LAYERS[request.param]
        plain = layer()
        factorization = random_factorization(kind, *plain.weight.flatten(1).shape)
        module = from_factorization(factorization, plain)
        plain.weight.data = factorization.dense().view_as(plain.weight)
        return module, plain, torch.randn(2, *shape)

    return make


@by_kind
def test_forward_is_that_of_the_plain_layer(case, kind):
    module, plain, hidden = case(kind)
    for given_hidden in (hidden, hidden[0]):  # a batch, and a single image
        torch.testing.assert_close(module(given_hidden), plain(given_hidden), atol=1e-4, rtol=1e-4)
    assert (module.stride, module.kernel_size, module.in_channels) == (
        plain.stride,
        plain.kernel_size,
        plain.in_channels,
    )


@by_kind
def test_the_plain_layer_comes_back(case, kind):
    module, plain, hidden = case(kind)
    again = module.plain()
    assert type(again) is type(plain) and repr(again).replace(", bias=False", "") == repr(plain).replace(
        ", bias=False", ""
    )
    torch.testing.assert_close(again(hidden), plain(hidden), atol=1e-5, rtol=1e-5)


@by_kind
def test_gradients_reach_everything(case, kind):
    module, plain, hidden = case(kind)
    hidden.requires_grad_()
    weight = torch.randn_like(plain(hidden))
    theirs = torch.autograd.grad((plain(hidden) * weight).sum(), hidden)[0]
    ours, *factors = torch.autograd.grad((module(hidden) * weight).sum(), [hidden, *module.parameters()])
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
    assert all(torch.isfinite(gradient).all() and gradient.any() for gradient in factors)


@by_kind
def test_copies_and_half_precision(case, kind):
    module, _, hidden = case(kind)
    expected = module(hidden)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(hidden), expected) and spec_of(other) == spec_of(module)
    half = module.to(torch.bfloat16)(hidden.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, atol=0.2, rtol=0.1)


@by_kind
@pytest.mark.parametrize("case", ["1d, reflected", "2d, same"], indirect=True)  # compiling takes long
def test_the_compiled_module_gives_the_same(case, kind):
    module, _, hidden = case(kind)
    torch.compiler.reset()  # else many modules exceed the recompilation limit of one function
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(hidden), module(hidden), atol=1e-5, rtol=1e-5)


@by_kind
def test_spec_rebuilds_an_empty_module_on_meta(case, kind):
    module, plain, hidden = case(kind)
    empty = build(spec_of(module), copy.deepcopy(plain).to("meta"))
    assert all(t.is_meta for t in empty.state_dict().values())
    filled = build(spec_of(module), plain)
    filled.load_state_dict(module.state_dict())
    assert torch.equal(filled(hidden), module(hidden)) and spec_of(empty) == spec_of(module)


def test_groups_are_refused(random_factorization):
    with pytest.raises(LpCompressError, match=r"must have groups=1\. Got 2"):
        from_factorization(random_factorization("low_rank", 8, 6), nn.Conv1d(4, 8, 3, groups=2))


def test_a_parametrized_layer_is_refused(random_factorization):
    layer = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 8, 3))
    with pytest.raises(LpCompressError, match=r"plain torch\.nn\.Conv1d or Conv2d\. Got ParametrizedConv1d"):
        from_factorization(random_factorization("low_rank", 8, 12), layer)
