"""The factored linear layer and the tied head against plain layers."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional

from lpcompress.errors import CheckpointError, LpCompressError
from lpcompress.nn import TiedHead, build, from_factorization, spec_of


@pytest.mark.parametrize("bias", [True, False])
def test_factored_linear(random_factorization, bias):
    plain = nn.Linear(12, 30, bias=bias)
    factorization = random_factorization("low_rank", 30, 12)
    module = from_factorization(factorization, plain)
    hidden = torch.randn(2, 5, 12)
    expected = functional.linear(hidden, factorization.dense(), plain.bias)
    torch.testing.assert_close(module(hidden), expected, atol=1e-5, rtol=1e-5)
    assert (module.in_features, module.out_features) == (12, 30)
    torch.testing.assert_close(module.dense(), factorization.dense())
    empty = build(spec_of(module), plain.to("meta"))
    assert {k: v.shape for k, v in empty.state_dict().items()} == {k: v.shape for k, v in module.state_dict().items()}


def test_factored_linear_damage_and_refusal(random_factorization):
    class Odd(nn.Linear):
        pass

    factorization = random_factorization("low_rank", 30, 12)
    with pytest.raises(LpCompressError, match=r"plain torch\.nn\.Linear\. Got Odd"):
        from_factorization(factorization, Odd(12, 30))
    module = from_factorization(factorization, nn.Linear(12, 30))
    module.check("layer")
    module.basis.data[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"layer\.basis holds values that are not finite"):
        module.check("layer")


@pytest.mark.parametrize("kind", ["low_rank", "clustered", "sparse", "signed"])
@pytest.mark.parametrize("padding_idx", [None, 7])
def test_tied_head(random_factorization, kind, padding_idx):
    original = nn.Embedding(203, 20, padding_idx=padding_idx)
    embedding = from_factorization(random_factorization(kind, 203, 20), original)
    head = TiedHead(embedding, nn.Parameter(torch.randn(203)))
    hidden = torch.randn(2, 5, 20)
    expected = functional.linear(hidden, embedding.dense(), head.bias)
    torch.testing.assert_close(head(hidden), expected, atol=1e-5, rtol=1e-5)
    assert list(head.state_dict()) == ["bias"]
    both = nn.ModuleList([embedding, head])
    for other in (copy.deepcopy(both), pickle.loads(pickle.dumps(both))):
        assert other[1].embedding is other[0]
        assert torch.equal(other[1](hidden), head(hidden))
    embedding.resize(210)
    head.follow()
    assert head.out_features == 210 and head(hidden).shape == (2, 5, 210)


def test_a_long_vocabulary_is_projected_in_chunks(random_factorization, monkeypatch):
    monkeypatch.setattr("lpcompress.nn.sparse.CHUNK", 50)
    embedding = from_factorization(random_factorization("sparse", 203, 20), nn.Embedding(203, 20))
    hidden = torch.randn(5, 20, requires_grad=True)
    logits = embedding(hidden, project=True)
    torch.testing.assert_close(logits, hidden @ embedding.dense().T, atol=1e-5, rtol=1e-5)
