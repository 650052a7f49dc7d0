"""A coded layer whose integers stand in a graph computes what the layer did, in every role."""

import pytest
import torch
from torch import nn

from lpcompress.exporting.integers import store_as_integers
from lpcompress.exporting.products import rounded
from lpcompress.nn import FROM_HEADS, INTO_HEADS, BareWeight, from_factorization, tied_to

KINDS = ("coded", "coded entries")


def test_each_row_stands_in_the_narrowest_table_that_holds_it(random_factorization):
    codes = torch.zeros(6, 5, dtype=torch.int16)
    codes[:, 3] = torch.tensor([7, -129, -8, 8, 128, -128])
    coded = random_factorization("coded entries", 6, 5)
    held = coded.decoded
    coded.__dict__["decoded"] = type(held)(codes, held.steps, held.rows, held.columns, held.basis, held.vectors)
    layer = from_factorization(coded, nn.Embedding(6, 5))
    expected = layer.dense()
    store_as_integers(layer)
    assert layer.sizes() == {"pairs": 2, "singles": 2, "wide": 2} and layer.pairs.shape == (2, 3)
    torch.testing.assert_close(layer.dense(), expected)
    torch.testing.assert_close(layer(torch.arange(6)), expected)


def filled(random_factorization, kind, plain, rows, columns, far=None):
    coded = random_factorization(kind, rows, columns)
    if far is not None:
        held = coded.decoded
        codes = held.codes.to(torch.int16)
        codes[2, 1] = far
        coded.__dict__["decoded"] = type(held)(
            codes, *[getattr(held, n) for n in ("steps", "rows", "columns")], held.basis, held.vectors
        )
    return from_factorization(coded, plain)


@pytest.mark.parametrize("far", [None, 4000])
@pytest.mark.parametrize("kind", KINDS)
def test_embedding_and_tied_head(random_factorization, kind, far):
    layer = filled(random_factorization, kind, nn.Embedding(50, 12, padding_idx=1), 50, 12, far)
    head = tied_to(layer, nn.Linear(12, 50))
    ids, hidden = torch.tensor([[0, 1, 2], [3, 4, 49]]), torch.randn(2, 12)
    before = layer(ids), head(hidden), layer.dense()
    store_as_integers(layer)
    for ours, theirs in zip((layer(ids), head(hidden), layer.dense()), before, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)
    assert (layer.wide is None) == (far is None)
    assert "stream" not in layer.state_dict()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("plain", "hidden"),
    [
        (nn.Linear(12, 20), (3, 12)),
        (nn.Conv1d(4, 20, 3, padding=1), (2, 4, 7)),
    ],
)
def test_linear_and_convolution(random_factorization, kind, plain, hidden):
    layer, inputs = filled(random_factorization, kind, plain, 20, 12), torch.randn(hidden)
    before = layer(inputs)
    store_as_integers(layer)
    torch.testing.assert_close(layer(inputs), before)


@pytest.mark.parametrize(
    ("equation", "shape", "hidden"), [(INTO_HEADS, (12, 4, 5), (3, 2, 12)), (FROM_HEADS, (20, 4, 3), (3, 2, 4, 3))]
)
def test_bare_weight(random_factorization, equation, shape, hidden):
    layer = filled(
        random_factorization, "coded entries", BareWeight(nn.Parameter(torch.zeros(shape)), equation), 20, 12
    )
    inputs = torch.randn(hidden)
    before = torch.einsum(equation, inputs, layer)
    store_as_integers(layer)
    torch.testing.assert_close(torch.einsum(equation, inputs, layer), before)


def test_weights_round_to_seven_bits():
    matrix = torch.randn(6, 30)
    weight, scales = rounded(matrix)
    assert weight.dtype == torch.int8 and weight.abs().amax(1).eq(63).all()
    assert (weight * scales.unsqueeze(1) - matrix).abs().amax(1).le(scales / 2 * 1.001).all()
