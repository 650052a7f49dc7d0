"""Embeddings that several places of a model share, and heads that read the embedding's weight."""

import pytest
import torch
import transformers

import lpcompress
from lpcompress.errors import LpCompressError
from lpcompress.nn import CompressedEmbedding, Tied
from lpcompress.surgery.finding import choose_layers
from lpcompress.surgery.layer import layers_of
from lpcompress.surgery.tying import sharing

ONE = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20}
BOTH = {
    **{"vocab_size": 60, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 20},
    **{"decoder_ffn_dim": 20, "encoder_attention_heads": 2, "decoder_attention_heads": 2},
}
IDS = torch.tensor([[5, 6, 7, 8]])

MODELS = {  # class, settings, other inputs, places tied to the embedding
    "t5": ("T5ForConditionalGeneration", {"vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 20, "num_layers": 1}, 3),
    "pegasus": ("PegasusForConditionalGeneration", BOTH, 3),
    "bart": ("BartForConditionalGeneration", BOTH | {"scale_embedding": True}, 3),
    "m2m_100": ("M2M100ForConditionalGeneration", BOTH | {"pad_token_id": 1}, 3),
    "gemma": ("GemmaForCausalLM", ONE | {"head_dim": 8, "num_key_value_heads": 1}, 1),
    "marian": ("MarianMTModel", BOTH | {"pad_token_id": 59, "decoder_start_token_id": 59}, 3),
    "led": ("LEDForConditionalGeneration", BOTH | {"attention_window": 4}, 3),
    "openai-gpt": ("OpenAIGPTLMHeadModel", {"vocab_size": 60, "n_embd": 16, "n_layer": 1, "n_head": 2}, 1),
    "deberta": ("DebertaV2ForMaskedLM", ONE, 1),
    "modernbert": (
        "ModernBertForMaskedLM",
        ONE | dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 1),
        1,
    ),
    "mobilebert": (
        "MobileBertForMaskedLM",
        ONE | {"hidden_size": 32, "embedding_size": 16, "true_hidden_size": 16, "intra_bottleneck_size": 16},
        1,
    ),
    "mamba": ("MambaForCausalLM", {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1}, 1),
}


def build(name):
    cls, settings, places = MODELS[name]
    torch.manual_seed(0)
    model_class = getattr(transformers, cls)
    model = model_class(model_class.config_class(**settings)).eval()
    with torch.no_grad():  # initial weights are too small for an output that depends on them
        model.get_input_embeddings().weight.normal_(generator=torch.Generator().manual_seed(1))
    return model, places


@torch.no_grad()
def logits(model):
    inputs = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    return model(IDS, **inputs).logits


@pytest.mark.parametrize("name", MODELS)
def test_all_places_refer_to_one_compressed_embedding(name, tmp_path):
    model, places = build(name)
    lpcompress.compress(model, ratio=0.3, method="svd", layers=["embedding"])
    embedding, expected = model.get_input_embeddings(), logits(model)
    assert isinstance(embedding, CompressedEmbedding)
    tied = [module for module in model.modules() if isinstance(module, Tied)]
    assert len(tied) == places and all(module.embedding is embedding for module in tied)
    model.save_pretrained(tmp_path / "small")
    loaded = type(model).from_pretrained(tmp_path / "small")
    assert torch.equal(logits(loaded), expected)
    loaded.resize_token_embeddings(70)
    grown = logits(loaded)
    assert grown.shape[-1] == 70
    torch.testing.assert_close(grown[..., :60], expected, atol=1e-5, rtol=1e-5)
    loaded.save_pretrained(tmp_path / "grown")
    again = type(model).from_pretrained(tmp_path / "grown")
    assert torch.equal(logits(again), grown)
    again.dequantize()
    torch.testing.assert_close(logits(again), grown, atol=1e-5, rtol=1e-5)
    again.save_pretrained(tmp_path / "dense")
    dense = type(model).from_pretrained(tmp_path / "dense")
    assert torch.equal(logits(dense), logits(again))
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in dense.state_dict().items())


@pytest.mark.parametrize("method", ["svd", "coded"])
def test_a_model_that_reads_the_dtype_of_linear_layers_runs(method, tmp_path):
    model, _ = build("t5")  # T5 casts hidden states to the dtype of a layer's weight
    lpcompress.compress(model, ratio=0.5, method=method, layers=["linear"])
    expected = logits(model)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(type(model).from_pretrained(tmp_path)), expected)
    model.dequantize()
    torch.testing.assert_close(logits(model), expected, atol=1e-4, rtol=1e-4)


def test_which_layers_share_a_weight_is_known_from_the_table_and_from_the_parameters():
    model, _ = build("pegasus")
    names = {"model.shared", "model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head"}
    assert sharing(model)["lm_head"] == names
    model.model.encoder.layers[0].fc1.weight = model.model.decoder.layers[0].fc1.weight
    assert sharing(model)["model.encoder.layers.0.fc1"] == {
        "model.encoder.layers.0.fc1",
        "model.decoder.layers.0.fc1",
    }


def test_layers_that_share_a_weight_are_skipped_by_a_word_and_refused_by_name():
    model, _ = build("pegasus")
    model.model.encoder.layers[0].fc1.weight = model.model.decoder.layers[0].fc1.weight
    chosen = choose_layers(model, ["linear"])
    assert set(chosen.skipped) == {"model.encoder.layers.0.fc1", "model.decoder.layers.0.fc1"}
    assert "shares its weight with model.decoder.layers.0.fc1" in chosen.skipped["model.encoder.layers.0.fc1"]
    report = lpcompress.compress(model, ratio=0.5, method="svd", layers=["linear"])
    assert set(chosen.skipped) <= set(report.skipped)
    with pytest.raises(LpCompressError, match=r"encoder\.layers\.0\.fc1: it shares its weight with"):
        choose_layers(build_shared(), ["model.encoder.layers.0.fc1"])


def build_shared():
    model, _ = build("pegasus")
    model.model.encoder.layers[0].fc1.weight = model.model.decoder.layers[0].fc1.weight
    return model


def test_an_embedding_that_no_tied_place_can_follow_is_refused_with_the_reason():
    model, _ = build("pegasus")

    class Doubled(torch.nn.Embedding):
        def forward(self, ids):
            return 2 * super().forward(ids) + 1

    odd = Doubled(60, 16)
    odd.weight = model.model.shared.weight
    model.model.decoder.embed_tokens = odd
    with pytest.raises(LpCompressError, match=r"shares its weight with model\.decoder\.embed_tokens, which cannot be"):
        choose_layers(model, ["embedding"])
    assert not any(layer.is_compressed for layer in layers_of(model).values())
