"""`densify` ends well only if the plain model computes what the compressed one does."""

import pytest
import torch
import transformers
from conftest import ENCODERS

from lpcompress.checkpoints import densifying
from lpcompress.checkpoints.outputs import same_outputs
from lpcompress.errors import CheckpointError
from lpcompress.nn import CompressedEmbedding


@pytest.fixture
def densify(compressed, tmp_path):
    """A function (kind of factorization, options) -> densify a checkpoint of it; returns the directory."""

    def call(kind, **options):
        compressed("bert", kind=kind).save_pretrained(tmp_path / "small")
        densifying.densify(tmp_path / "small", tmp_path / "plain", **options)
        return tmp_path / "plain"

    return call


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_difference_in_float32_alone_is_rounding(densify, monkeypatch, kind):
    answers = []

    def first_differs(*given):
        answers.append(bool(answers) and same_outputs(*given))
        return answers[-1]

    monkeypatch.setattr(densifying, "same_outputs", first_differs)
    transformers.BertForSequenceClassification.from_pretrained(densify(kind))
    assert answers == [False, True]


def test_other_outputs_are_found_and_nothing_is_written(densify, monkeypatch, tmp_path):
    plain = CompressedEmbedding.plain

    def doubled(layer):
        layer = plain(layer)
        layer.weight.data *= 2
        return layer

    monkeypatch.setattr(CompressedEmbedding, "plain", doubled)
    with pytest.raises(CheckpointError, match=r"gives other outputs than the compressed one\. Nothing was written"):
        densify("low_rank")
    assert not (tmp_path / "plain").exists()
    assert densify("low_rank", verify=False).exists()


@pytest.mark.parametrize("odd", [torch.inf, -torch.inf, torch.nan])
def test_odd_outputs_hide_no_difference(odd):
    ours = torch.tensor([1.0, odd])
    assert same_outputs([ours], [ours.clone()], 1e-4)
    assert not same_outputs([ours], [torch.tensor([1.1, odd])], 1e-4)
    assert not same_outputs([ours], [torch.tensor([1.0, 2.0])], 1e-4)
    assert not same_outputs([ours], [], 1e-4)
