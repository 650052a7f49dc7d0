"""Finding, naming, swapping and tying layers, for every architecture."""

import copy
import pickle

import pytest
import torch
import transformers
from torch import nn

from lpcompress.errors import LpCompressError
from lpcompress.nn import CompressedEmbedding, TiedHead
from lpcompress.surgery import finding, swapping

ARCHITECTURES = ("bert", "roberta", "distilbert", "xlnet")
KINDS = ("low_rank", "clustered", "sparse", "levels", "coded")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("head", ["classifier", "lm", "base"])
def test_the_word_embedding_is_found_and_located_by_its_relative_name(tiny_model, architecture, head):
    model = tiny_model(architecture, head)
    [(name, layer)] = finding.find_layers(model, ["embedding"]).items()
    assert layer.module is model.get_input_embeddings() and model.get_submodule(name) is layer.module
    assert layer.name == name and layer.is_word_embedding
    relative = swapping.relative_name(model, name)
    assert not relative.startswith(model.base_model_prefix)
    for other in ("classifier", "lm", "base"):
        found = tiny_model(architecture, other)
        layer = swapping.locate(found, [relative])[relative]
        assert found.get_submodule(layer.name) is layer.module is found.get_input_embeddings()
    assert swapping.locate(model, ["no.such.layer"]) == {"no.such.layer": None}


def test_wildcards_follow_the_order_of_the_model(tiny_model):
    found = finding.find_layers(tiny_model(), ["*position_embeddings", "embedding", "*.word_embeddings"])
    assert list(found) == ["bert.embeddings.word_embeddings", "bert.embeddings.position_embeddings"]


ATTENTION = {
    "bert": ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"],
    "distilbert": ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"],
    "xlnet": [f"rel_attn.{leaf}" for leaf in "qkvro"],
}
ATTENTION["roberta"] = ATTENTION["bert"]
FFN = {
    "bert": ["intermediate.dense", "output.dense"],
    "roberta": ["intermediate.dense", "output.dense"],
    "distilbert": ["ffn.lin1", "ffn.lin2"],
    "xlnet": ["ff.layer_1", "ff.layer_2"],
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("head", ["classifier", "lm", "base"])
def test_keywords(tiny_model, architecture, head):
    model = tiny_model(architecture, head)
    [embedding] = finding.find_layers(model, ["embedding"])

    def block(i, leaves):
        start = {"bert": "encoder", "roberta": "encoder", "distilbert": "transformer", "xlnet": ""}[architecture]
        prefix = "" if head == "base" else model.base_model_prefix
        return [".".join(filter(None, (prefix, start, "layer", str(i), leaf))) for leaf in leaves]

    attention = block(0, ATTENTION[architecture]) + block(1, ATTENTION[architecture])
    ffn = block(0, FFN[architecture]) + block(1, FFN[architecture])
    assert list(finding.find_layers(model, ["attention"])) == attention
    assert list(finding.find_layers(model, ["ffn"])) == ffn
    assert sorted(finding.find_layers(model, ["linear"])) == sorted(attention + ffn)
    beside = [name for name, _ in model.named_modules() if name.endswith(("position_embeddings", "pooler.dense"))]
    assert len(beside) == {"xlnet": 0, "distilbert": 1}.get(architecture, 1 + any("pooler" in name for name in beside))
    assert sorted(finding.find_layers(model, ["all"])) == sorted([embedding, *beside, *attention, *ffn])
    assert list(finding.find_layers(model, ["ffn", "attention"])) == list(finding.find_layers(model, ["linear"]))


def test_keywords_on_other_architectures():
    sizes = {"vocab_size": 50, "n_embd": 8, "n_layer": 1, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}
    gpt2 = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))
    assert [n.removeprefix("transformer.h.0.") for n in finding.find_layers(gpt2, ["all"])] == [
        "transformer.wte",
        "transformer.wpe",
        "attn.c_attn",
        "attn.c_proj",
        "mlp.c_fc",
        "mlp.c_proj",
    ]
    assert len(finding.find_layers(gpt2, ["attention"])) == len(finding.find_layers(gpt2, ["ffn"])) == 2
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    resnet = transformers.ResNetForImageClassification(transformers.ResNetConfig(**sizes))
    assert len(finding.find_layers(resnet, ["conv"])) == 6 == len(finding.find_layers(resnet, ["all"]))
    with pytest.raises(LpCompressError, match="'embedding' matched no layer of this ResNetForImageClassification"):
        finding.find_layers(resnet, ["embedding"])


def test_keywords_skip_grouped_convolutions_and_wildcards_are_refused(tiny_model):
    sizes = {"vocab_size": 50, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = transformers.ConvBertModel(transformers.ConvBertConfig(**sizes, embedding_size=8, intermediate_size=12))
    assert [name.rpartition(".")[2] for name in finding.find_layers(model, ["conv"])] == ["pointwise"]
    with pytest.raises(LpCompressError, match=r"depthwise: a convolution must have groups=1\. Got 8"):
        finding.find_layers(model, ["*.depthwise"])


def test_a_wildcard_may_match_heads_and_poolers(tiny_model):
    assert list(finding.find_layers(tiny_model(), ["classifier", "*pooler*"])) == ["bert.pooler.dense", "classifier"]


def test_a_tied_head_is_refused(tiny_model):
    with pytest.raises(
        LpCompressError, match=r"cls\.predictions\.decoder: it shares its weight with the word embedding"
    ):
        finding.find_layers(tiny_model("bert", "lm"), ["*.decoder"])
    untied = tiny_model("bert", "lm", tie_word_embeddings=False)
    assert list(finding.find_layers(untied, ["*.decoder"])) == ["cls.predictions.decoder"]


def test_a_layer_with_its_own_forward_is_refused(tiny_model):
    class Odd(nn.Linear):
        def forward(self, hidden):
            return super().forward(hidden) * 2

    model = tiny_model()
    model.bert.encoder.layer[0].intermediate.dense = Odd(20, 32)
    assert "bert.encoder.layer.0.intermediate.dense" not in finding.find_layers(model, ["linear"])
    with pytest.raises(LpCompressError, match=r"intermediate\.dense: the layer must be a plain torch\.nn\.Linear.*Odd"):
        finding.find_layers(model, ["*.0.intermediate.dense"])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("embeding", r"Nearest: 'embedding'\."),
        ("x" * 30, "Keywords: embedding, linear, .*`lpcompress inspect` shows layer names"),
        ("*.word_embedding", "matched no layer of this BertFor.*Nearest: 'bert.embeddings.word_embeddings'"),
        ("conv", "layers 'conv' matched no layer of this BertForSequenceClassification that can be factored"),
        ("*.LayerNorm", "matched no layer of this BertForSequenceClassification that can be factored"),
    ],
)
def test_patterns_that_match_nothing(tiny_model, pattern, message):
    with pytest.raises(LpCompressError, match=message):
        finding.find_layers(tiny_model(), [pattern])


def test_a_compressed_layer_is_refused(compressed):
    with pytest.raises(LpCompressError, match="word_embeddings: it is already compressed"):
        finding.find_layers(compressed(), ["embedding"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("head", ["classifier", "lm"])
def test_logits_are_those_of_the_dense_model(tiny_model, compressed, ids, architecture, head, kind):
    model, dense = compressed(architecture, head, kind), tiny_model(architecture, head)
    matrix = model.get_input_embeddings().dense().detach()
    before = {n: t for n, t in dense.state_dict().items() if t.shape != matrix.shape}
    dense.get_input_embeddings().weight.data = matrix
    dense.tie_weights()
    torch.testing.assert_close(model(ids).logits, dense(ids).logits, atol=1e-4, rtol=1e-4)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_tied_head_stays_tied(compressed, ids, architecture, kind):
    model = compressed(architecture, "lm", kind)
    logits = model(ids).logits
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other.tie_weights()
        head, embedding = other.get_output_embeddings(), other.get_input_embeddings()
        assert isinstance(head, TiedHead) and head.embedding is embedding
        assert embedding is not model.get_input_embeddings()
        assert torch.equal(other(ids).logits, logits)
        with torch.no_grad():
            embedding.get_parameter(embedding.weight_name).mul_(2)
        assert not torch.allclose(other(ids).logits, logits)
    assert torch.equal(model(ids).logits, logits)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_moves_the_shared_factors(compressed, ids, architecture, kind):
    model = compressed(architecture, "lm", kind)
    model(input_ids=ids, labels=ids).loss.backward()
    embedding = model.get_input_embeddings()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in embedding.parameters())
    assert embedding.get_parameter(embedding.weight_name).grad.abs().sum() > 0


def test_an_untied_head_is_not_changed(compressed, ids):
    model = compressed("bert", "lm", "sparse", tie_word_embeddings=False)
    head = model.get_output_embeddings()
    assert type(head) is nn.Linear
    model.resize_token_embeddings(210)
    assert model(ids).logits.shape[-1] == 210


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_densify_restores_a_plain_model(compressed, ids, architecture, kind):
    model = compressed(architecture, "lm", kind)
    logits = model(ids).logits
    swapping.densify(model)
    assert not any(isinstance(m, CompressedEmbedding | TiedHead) for m in model.modules())
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.all_tied_weights_keys == type(model)(model.config).all_tied_weights_keys
    torch.testing.assert_close(model(ids).logits, logits, atol=1e-5, rtol=1e-5)


def test_a_layer_that_is_called_through_a_list_is_left_out(tiny_model):
    model = tiny_model("bert", "base")
    block = model.encoder.layer[0].output
    block.layers = [block.dense]
    chosen = finding.choose_layers(model, ["linear"])
    assert list(chosen.skipped) == ["encoder.layer.0.output.dense"] and len(chosen.layers) == 11
    with pytest.raises(LpCompressError, match="calls it through a Python list, in which it cannot be replaced"):
        finding.find_layers(model, ["encoder.layer.0.output.dense"])
