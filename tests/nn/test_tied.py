"""The tied head against a plain layer."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional

from lpcompress.nn import TiedEmbedding, TiedHead, build, from_factorization


@pytest.mark.parametrize("kind", ["low_rank", "clustered", "sparse", "levels", "entries"])
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
    monkeypatch.setattr("lpcompress.formats.sparse.UNPACKED", 50)
    embedding = from_factorization(random_factorization("sparse", 203, 20), nn.Embedding(203, 20))
    hidden = torch.randn(5, 20, requires_grad=True)
    logits = embedding(hidden, project=True)
    torch.testing.assert_close(logits, hidden @ embedding.dense().T, atol=1e-5, rtol=1e-5)


def test_tied_layers_can_be_printed():
    shared = build({"kind": "low_rank", "shape": [50, 8], "rank": 2, "padding_idx": 1}, like=nn.Embedding(50, 8))
    assert repr(TiedEmbedding(shared)) == "TiedEmbedding(50, 8, padding_idx=1)"
    assert repr(TiedHead(shared, None)) == "TiedHead(in_features=8, out_features=50, bias=False)"
