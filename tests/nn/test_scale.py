"""Embeddings that multiply their rows by a constant, against the classes of transformers."""

import pytest
import torch
from torch import nn
from transformers.models.bart.modeling_bart import BartLearnedPositionalEmbedding, BartScaledWordEmbedding
from transformers.models.gemma.modeling_gemma import GemmaTextScaledWordEmbedding
from transformers.models.t5gemma2.modeling_t5gemma2 import T5Gemma2TextScaledWordEmbedding

from lpcompress.errors import CheckpointError, LpCompressError
from lpcompress.nn import ScaledEmbedding, TiedEmbedding, build, from_factorization, scale_of, spec_of
from lpcompress.nn.scale import Scale

ROWS, COLUMNS = 60, 12
FACTOR = 768**0.5
IDS = torch.tensor([[3, 0, 59, 3]])
CLASSES = {BartScaledWordEmbedding: False, GemmaTextScaledWordEmbedding: True}  # is the factor rounded?
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def scaled(cls, dtype=torch.float32):
    torch.manual_seed(0)
    return cls(ROWS, COLUMNS, 0, embed_scale=FACTOR).to(dtype)


class OnlyOneToken(nn.Embedding):
    def forward(self, ids):
        return torch.where(ids.unsqueeze(-1) == 17, 3.0, 2.0) * super().forward(ids)


class EveryColumn(nn.Embedding):
    factors = torch.arange(float(COLUMNS))

    def forward(self, ids):
        return self.factors * super().forward(ids)


class OtherArithmetic(nn.Embedding):
    def forward(self, ids):
        return (super().forward(ids).double() / 3).to(self.weight.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", CLASSES)
def test_the_factor_is_that_of_the_config_in_every_dtype(cls, dtype):
    assert scale_of(scaled(cls, dtype)) == Scale(FACTOR, CLASSES[cls])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", CLASSES)
def test_products_are_those_of_the_class_to_the_bit(cls, dtype):
    plain = scaled(cls)
    ours = ScaledEmbedding(ROWS, COLUMNS, scale=scale_of(plain), _weight=plain.weight.detach())
    assert torch.equal(ours.to(dtype)(IDS), plain.to(dtype)(IDS))
    assert scale_of(ours) == scale_of(plain)  # it can be compressed again


@pytest.mark.parametrize("cls", CLASSES)
def test_rows_are_scaled_but_logits_and_the_matrix_are_not(cls, random_factorization):
    plain = scaled(cls)
    module = from_factorization(random_factorization("low_rank", ROWS, COLUMNS), plain)
    assert spec_of(module)["scale"] == {"factor": FACTOR, "rounded": CLASSES[cls]}
    dense, hidden = module.dense(), torch.randn(2, COLUMNS)
    assert torch.equal(dense[0], plain.weight[0])
    torch.testing.assert_close(module(IDS), FACTOR * dense[IDS])
    torch.testing.assert_close(module(hidden, project=True), hidden @ dense.T)
    looked_up, logits = module(IDS), module(hidden, project=True)
    module.eval().reside("dense")
    torch.testing.assert_close((module(IDS), module(hidden, project=True)), (looked_up, logits))
    assert torch.equal(module.plain()(IDS), module.plain().scale(module.plain().weight[IDS]))
    again = build(spec_of(module), scaled(cls))
    assert again.scale == module.scale


def test_a_tied_embedding_has_a_scale_of_its_own(random_factorization):
    module = from_factorization(random_factorization("low_rank", ROWS, COLUMNS), scaled(BartScaledWordEmbedding))
    torch.testing.assert_close(TiedEmbedding(module)(IDS), module.dense()[IDS])
    other = TiedEmbedding(module, Scale(2.0, rounded=False))
    torch.testing.assert_close(other(IDS), 2 * module.dense()[IDS])
    torch.testing.assert_close(other.plain(nn.Parameter(module.dense()))(IDS), 2 * module.dense()[IDS])


@pytest.mark.parametrize(
    "layer",
    [
        BartLearnedPositionalEmbedding(ROWS, COLUMNS),
        T5Gemma2TextScaledWordEmbedding(ROWS, COLUMNS, 0),
        OnlyOneToken(ROWS, COLUMNS),
        EveryColumn(ROWS, COLUMNS),
        OtherArithmetic(ROWS, COLUMNS),
    ],
)
def test_all_else_is_refused(layer):
    with pytest.raises(LpCompressError, match=f"Got {type(layer).__name__}, which overrides forward with something"):
        scale_of(layer)


def test_a_factor_of_1_is_none():
    assert scale_of(BartScaledWordEmbedding(ROWS, COLUMNS, 0, embed_scale=1.0)) is None


@pytest.mark.parametrize("spec", [3, "4", {}, {"factor": float("nan"), "rounded": True}, {"factor": 2.0, "rounded": 1}])
def test_a_damaged_scale_is_refused(spec):
    with pytest.raises(CheckpointError, match="'scale' must be a finite 'factor'"):
        Scale.from_spec(spec)


def test_the_scale_must_be_that_of_the_layer(random_factorization):
    module = from_factorization(random_factorization("low_rank", ROWS, COLUMNS), scaled(BartScaledWordEmbedding))
    for spec in ({**spec_of(module), "scale": None}, {**spec_of(module), "scale": {"factor": 2.0, "rounded": False}}):
        with pytest.raises(CheckpointError, match="'scale' must be that of the model's layer"):
            build(spec, scaled(BartScaledWordEmbedding))
