"""`compress` on models in memory: every method on every architecture."""

import copy
import dataclasses

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

import lpcompress
from lpcompress.checkpoints import loading
from lpcompress.compression import whole_model
from lpcompress.compression.whole_model import compress, count_parameters, preview
from lpcompress.errors import LpCompressError, NeedsTrainingWarning
from lpcompress.factor import METHODS
from lpcompress.factor.choice import NEGLIGIBLE
from lpcompress.methods import candidates
from lpcompress.nn import TiedHead, is_compressed_module
from lpcompress.surgery.layer import layers_of

ARCHITECTURES = ("bert", "roberta", "distilbert", "xlnet")
ALL = (*METHODS, "auto")
TOKENS = 203


@pytest.fixture
def tokenizer():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(TOKENS - 5))]
    model = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    return PreTrainedTokenizerFast(tokenizer_object=model, pad_token="[PAD]", unk_token="[UNK]")


@pytest.fixture
def model(tiny_model):
    """A function like `tiny_model`, whose padding row is not zero."""

    def make(*args, **config):
        made = tiny_model(*args, **config)
        with torch.no_grad():
            made.get_input_embeddings().weight.normal_(generator=torch.Generator().manual_seed(1))
        return made

    return make


def same_bytes(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def tensor_bytes(module):
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_method_on_every_architecture(model, ids, architecture, method):
    dense = model(architecture)
    before = dense.get_input_embeddings()
    matrix, padding, logits = before.weight.detach().clone(), before.padding_idx, dense(ids).logits
    numbers = count_parameters(dense)
    report = compress(dense, method=method, ratio=0.3)

    after = dense.get_input_embeddings()
    assert is_compressed_module(after)
    [layer] = report.layers
    assert layer.removed >= 0.3
    assert layer.removed == 1 - tensor_bytes(after) / (matrix.numel() * 4)
    assert (layer.bytes_before, layer.bytes_after) == (matrix.numel() * 4, tensor_bytes(after))
    assert (layer.kind, layer.shape, layer.p) == ("embedding", [TOKENS, 20], 2.0)
    assert layer.method == method or method == "auto"
    assert sum(layer.rows) == TOKENS and len(layer.ranks) == len(layer.rows) == layer.clusters
    assert report.parameters_before == numbers
    assert report.parameters_after == count_parameters(dense)
    assert numbers - report.parameters_after == layer.parameters_before - layer.parameters_after

    rows = after(torch.arange(TOKENS))
    if padding is not None:
        assert torch.equal(rows[padding], matrix[padding])
    others = [i for i in range(TOKENS) if i != padding]
    error = (rows - matrix)[others].norm() / matrix[others].norm()
    assert layer.error_fro == pytest.approx(error.item(), rel=1e-3)
    if method != "adaptive":  # with so few columns its table of offsets costs more than it gains
        assert layer.error_fro <= layer.svd_error_fro * 1.000001
    assert 0 < (dense(ids).logits - logits).abs().max() < 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_method_on_every_layer(model, ids, architecture, method):
    dense = model(architecture)
    logits, numbers, stored = dense(ids).logits, count_parameters(dense), tensor_bytes(dense)
    report = compress(dense, method=method, ratio=0.3, layers=["all"], clusters=2 if method == "messi" else None)

    kinds = [layer.kind for layer in report.layers]
    counts = {"xlnet": [1, 14], "bert": [2, 13]}  # positions but in XLNet, a pooler in BERT
    assert [kinds.count("embedding"), kinds.count("linear")] == counts.get(architecture, [2, 12])
    assert len(kinds) == kinds.count("embedding") + kinds.count("linear") and not report.skipped
    for layer in report.layers:
        module = dense.get_submodule(layer.name)
        assert is_compressed_module(module)
        assert layer.shape == list(module.matrix_shape)
        assert layer.removed == 1 - tensor_bytes(module) / layer.bytes_before >= 0.3
        assert layer.row_weights == (report.layers[0].row_weights if layer == report.layers[0] else "uniform")
        assert 0 < layer.error_fro < 1
    assert numbers - count_parameters(dense) == sum(r.parameters_before - r.parameters_after for r in report.layers)
    assert stored - tensor_bytes(dense) == sum(r.bytes_before - r.bytes_after for r in report.layers)
    assert 0 < (dense(ids).logits - logits).abs().max() < 1


def test_the_error_of_a_linear_layer_is_that_of_its_weight(model):
    dense = model()
    name = "bert.encoder.layer.1.attention.self.key"
    weight = dense.get_submodule(name).weight.detach().clone()
    [layer] = compress(dense, layers=[name], method="svd", ratio=0.4).layers
    singular = torch.linalg.svdvals(weight.double()).square()
    expected = (singular[layer.ranks[0] :].sum() / singular.sum()).sqrt()
    assert layer.error_fro == pytest.approx(float(expected), rel=1e-4)
    torch.testing.assert_close(dense.get_submodule(name).dense(), weight, atol=0.1, rtol=1)


def test_layers_that_cannot_reach_the_size_are_skipped_unless_named(model):
    dense = model(intermediate_size=5)
    report = compress(dense, layers=["all"], method="svd", ratio=0.9)
    assert set(report.skipped) >= {"bert.encoder.layer.0.intermediate.dense", "bert.encoder.layer.1.output.dense"}
    assert all("Ask for a smaller ratio" in reason for reason in report.skipped.values())
    assert not any(layer.name in report.skipped for layer in report.layers)
    assert type(dense.bert.encoder.layer[0].intermediate.dense) is nn.Linear
    with pytest.raises(LpCompressError, match=r"intermediate\.dense: .* Ask for a smaller ratio"):
        compress(model(intermediate_size=5), layers=["all", "*.intermediate.dense"], method="svd", ratio=0.9)
    with pytest.raises(LpCompressError, match="Ask for a smaller ratio"):
        compress(model(), layers=["linear"], method="svd", ratio=0.9999)


@pytest.mark.parametrize("architecture", ["bert", "xlnet"])
def test_sketches_have_the_requested_size_and_give_a_warning(model, ids, tmp_path, architecture):
    dense = model(architecture)
    weights = {name: layer.module.weight.detach().clone() for name, layer in layers_of(dense).items() if layer.role}
    with pytest.warns(NeedsTrainingWarning, match=r"sketched layers are unusable until trained.*lpcompress finetune"):
        report = compress(dense, layers=["all"], method="sketch", ratio=0.3, seed=1)
    assert any("word_embedding" in name for name in report.skipped)
    assert all("embedding" in name and "does not pay" in reason for name, reason in report.skipped.items())
    seeds = set()
    for record in report.layers:
        module = dense.get_submodule(record.name)
        assert (record.kind, record.method, record.p) == ("linear", "sketch", 2.0)
        assert record.removed == 1 - tensor_bytes(module) / record.bytes_before >= 0.3
        weight = weights[record.name]
        distance = (module.dense() - weight).norm() / weight.norm()
        assert record.error_fro == pytest.approx(distance.item(), rel=1e-4)
        assert record.svd_error_fro < record.error_fro < 1
        seeds.add(module.seed)
    assert len(seeds) == len(report.layers)  # each layer has its own signs
    assert f"{max(record.error_fro for record in report.layers):.2f}" in report.warnings[0]
    logits = dense(ids)[0].detach()
    dense.save_pretrained(tmp_path)
    again, _ = loading.load(str(tmp_path))
    torch.testing.assert_close(again(ids)[0], logits, atol=0, rtol=0)
    again.dequantize()
    torch.testing.assert_close(again(ids)[0], logits, atol=1e-5, rtol=1e-4)
    assert not any(is_compressed_module(module) for module in again.modules())


def test_sketched_convolutions_in_a_model(tmp_path):
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic", "num_labels": 3}
    resnet = transformers.ResNetForImageClassification(transformers.ResNetConfig(**sizes)).eval()
    with pytest.warns(NeedsTrainingWarning):
        report = compress(resnet, layers=["conv"], method="sketch", ratio=0.3)
    assert {record.kind for record in report.layers} == {"conv"} and all(r.removed >= 0.3 for r in report.layers)
    images = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    expected = resnet(images).logits
    resnet.save_pretrained(tmp_path)
    again, _ = loading.load(str(tmp_path))
    torch.testing.assert_close(again(images).logits, expected, atol=0, rtol=0)


def test_an_embedding_is_not_sketched(model):
    with pytest.raises(LpCompressError, match=r"word_embeddings: sketching an embedding does not pay.* 0\.54 .*linear"):
        compress(model(), method="sketch")


@pytest.mark.parametrize("method", METHODS)
def test_convolutions_and_transposed_layers(method, ids, tmp_path):
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic", "num_labels": 3}
    resnet = transformers.ResNetForImageClassification(transformers.ResNetConfig(**sizes))
    sizes = {"vocab_size": TOKENS, "n_embd": 20, "n_layer": 1, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}
    gpt2 = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 24}
    convbert = transformers.ConvBertModel(transformers.ConvBertConfig(vocab_size=TOKENS, embedding_size=16, **sizes))
    wanted = {"resnet": ("conv", 6), "gpt2": ("linear", 4), "convbert": ("conv", 1)}
    for name, dense in {"resnet": resnet, "gpt2": gpt2, "convbert": convbert}.items():
        given = torch.randn(2, 3, 32, 32) if name == "resnet" else ids
        dense.eval()
        before = dense(given)[0]
        report = compress(dense, layers=["all"], method=method, ratio=0.3)
        kind, count = wanted[name]
        assert [layer.kind for layer in report.layers].count(kind) == count
        after = dense(given)[0]
        assert 0 < (after - before).abs().max() < 3
        dense.save_pretrained(tmp_path / name)
        loaded = type(dense).from_pretrained(tmp_path / name)
        assert torch.equal(loaded(given)[0], after)
        loaded.dequantize()
        assert not any(map(is_compressed_module, loaded.modules()))
        torch.testing.assert_close(loaded(given)[0], after, atol=1e-4, rtol=1e-3)
        loaded.save_pretrained(tmp_path / "plain")
        torch.testing.assert_close(
            type(dense).from_pretrained(tmp_path / "plain")(given)[0], after, atol=1e-4, rtol=1e-3
        )


def test_the_rest_of_a_model_can_be_compressed_later(model, ids, tmp_path):
    dense = model()
    compress(dense, ratio=0.3, method="coded")
    compress(dense, ratio=0.4, method="svd", layers=["attention"])
    assert len(dense.config.quantization_config.layers) == 9
    dense.save_pretrained(tmp_path)
    assert torch.equal(type(dense).from_pretrained(tmp_path)(ids).logits, dense(ids).logits)


@pytest.mark.parametrize("method", ALL)
def test_the_norm_is_passed_on(model, method):
    report = compress(model(), method=method, ratio=0.5, p=1.0)
    assert report.layers[0].p == (2.0 if method == "svd" else 1.0)
    assert 0 < report.layers[0].error_p < 1


def test_auto_keeps_the_best_candidate_and_reports_all(model):
    [layer] = compress(model(), ratio=0.8).layers
    assert tuple(layer.candidates) == candidates()
    assert layer.candidates[layer.method] == min(layer.candidates.values())
    [layer] = compress(model(), ratio=0.5, method="svd").layers
    assert layer.candidates == {}


def test_auto_stops_once_the_error_is_negligible(model):
    [layer] = compress(model(), ratio=0.28).layers
    assert layer.candidates == {"coded": layer.error_weighted} and layer.error_weighted <= NEGLIGIBLE


def test_the_report_has_the_documented_fields(model):
    report = dataclasses.asdict(compress(model(), ratio=0.5, method="adaptive", clusters=2, seed=7))
    assert report["seed"] == 7 and report["seconds"] > 0
    known = "name kind shape method p clusters ranks rows parameters_before parameters_after bytes_before bytes_after"
    known += " removed row_weights error_fro error_p error_weighted seconds candidates"
    assert set(known.split()) <= set(report["layers"][0])
    assert report["layers"][0]["name"] == "bert.embeddings.word_embeddings"


def test_row_weights_lower_the_weighted_error(model, tokenizer):
    plain, weighted = model(), model()
    [uniform] = compress(plain, ratio=0.6, row_weights="uniform", tokenizer=tokenizer).layers
    [zipf] = compress(weighted, ratio=0.6, tokenizer=tokenizer, exponent=1.0).layers
    assert (uniform.row_weights, zipf.row_weights) == ("uniform", "zipf (WordPiece ids)")
    assert uniform.error_weighted == uniform.error_fro
    assert zipf.error_weighted < uniform.error_weighted
    assert zipf.error_fro > uniform.error_fro
    assert zipf.error_weighted < zipf.svd_error_weighted


def test_a_larger_exponent_raises_the_unweighted_error(model, tokenizer):
    errors = [
        compress(model(), ratio=0.6, method="svd", tokenizer=tokenizer, exponent=exponent).layers[0].error_fro
        for exponent in (0.0, 0.5, 1.0)
    ]
    assert errors == sorted(errors) and errors[0] < errors[2]
    default = compress(model(), ratio=0.6, method="svd", tokenizer=tokenizer).layers[0].error_fro
    assert default == errors[1]


def test_an_unknown_tokenizer_gives_uniform_weights_and_the_report_says_so(model):
    [layer] = compress(model(), ratio=0.5, method="svd", tokenizer=object()).layers
    assert layer.row_weights.startswith("uniform (")
    [layer] = compress(model(), ratio=0.5, method="svd").layers  # the model has no checkpoint
    assert layer.row_weights.startswith("uniform (")


def test_the_tokenizer_is_loaded_from_the_checkpoint(model, tokenizer, tmp_path):
    model().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert preview(loaded).layers[0].row_weights == "zipf (WordPiece ids)"
    assert compress(loaded, ratio=0.5, method="svd").layers[0].row_weights == "zipf (WordPiece ids)"


def test_counts_from_a_file(model, tmp_path):
    counts = tmp_path / "counts.txt"
    counts.write_text("\n".join(map(str, range(TOKENS))))
    [layer] = compress(model(), ratio=0.5, method="svd", row_weights=str(counts)).layers
    assert layer.row_weights == "counts (counts.txt)"
    counts.write_text("1 2 3")
    with pytest.raises(LpCompressError, match="must hold 203 numbers"):
        compress(model(), ratio=0.5, method="svd", row_weights=str(counts))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_language_models_head_stays_tied(model, architecture):
    dense = model(architecture, "lm")
    numbers = count_parameters(dense)
    report = compress(dense, ratio=0.4, method="coded")
    head, embedding = dense.get_output_embeddings(), dense.get_input_embeddings()
    assert isinstance(head, TiedHead) and head.embedding is embedding
    assert numbers - count_parameters(dense) == report.layers[0].parameters_before - report.layers[0].parameters_after
    states = torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    bias = 0 if head.bias is None else head.bias
    assert torch.allclose(head(states), states @ embedding.dense().T + bias, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("head", ["classifier", "lm"])
def test_logits_are_equal_to_the_bit_after_loading(model, ids, tmp_path, head, architecture, method):
    saved = model(architecture, head)
    compress(saved, ratio=0.4, method=method)
    saved.save_pretrained(tmp_path)
    assert torch.equal(type(saved).from_pretrained(tmp_path)(ids).logits, saved(ids).logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", ALL)
def test_half_precision_stays_half(model, method, dtype):
    half = model().to(dtype)
    rows = half.get_input_embeddings().weight.detach().clone()
    [layer] = compress(half, method=method, ratio=0.3).layers
    embedding = half.get_input_embeddings()
    assert {t.dtype for t in embedding.state_dict().values() if t.is_floating_point()} == {dtype}
    assert layer.bytes_before == rows.numel() * 2 and layer.removed >= 0.3
    assert torch.equal(embedding(torch.tensor([0]))[0], rows[0])
    error = (embedding(torch.arange(TOKENS)).float() - rows.float()).norm() / rows.float().norm()
    assert layer.error_fro == pytest.approx(error.item(), rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["bert", "xlnet"])
def test_every_layer_of_a_half_precision_model(model, ids, tmp_path, architecture, dtype):
    half = model(architecture, "lm").to(dtype)
    method = {"method": "adaptive", "clusters": 2} if dtype == torch.float16 else {"method": "coded"}
    report = compress(half, layers=["all"], ratio=0.3, **method)
    assert all(layer.removed >= 0.3 for layer in report.layers)
    assert {t.dtype for t in half.state_dict().values() if t.is_floating_point()} == {dtype}
    half.save_pretrained(tmp_path, max_shard_size="8KB")
    loaded = type(half).from_pretrained(tmp_path).to(dtype)  # transformers leaves XLNet's attention in float32
    assert torch.equal(loaded(ids).logits, half(ids).logits)


@pytest.mark.parametrize("p", [1.0, 2.0])
@pytest.mark.parametrize("method", ALL)
def test_same_seed_same_bytes(model, method, p):
    first, second = model(num_hidden_layers=1), model(num_hidden_layers=1)
    for each in (first, second):
        compress(each, ratio=0.5, method=method, p=p, seed=5, layers=["embedding", "ffn"])
    assert same_bytes(first.state_dict(), second.state_dict())
    assert first.config.to_dict() == second.config.to_dict()


@pytest.mark.parametrize("ratio", [0.99, 0.996, 0.9999])  # at the second, the padding row alone takes all bytes
@pytest.mark.parametrize("method", ALL)
def test_a_ratio_too_near_one_is_refused(model, method, ratio):
    with pytest.raises(LpCompressError, match=r"word_embeddings: .* Ask for a smaller ratio"):
        compress(model(), ratio=ratio, method=method)


@pytest.mark.parametrize("ratio", [0, 1, -0.1, 28])
def test_a_ratio_outside_0_to_1_is_refused(model, ratio):
    with pytest.raises(LpCompressError, match=r"above 0 and below 1: .*\. Got"):
        compress(model(), ratio=ratio)


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"ratio": 0.926, "layers": ["*word_embeddings", "*.position_embeddings"]}, r"position_embeddings: .* smaller"),
        ({"layers": ["*word_embeddings", "*.LayerNorm"]}, r"LayerNorm' matched no layer"),
        ({"layers": ["nothing"]}, "matched no layer"),
        ({"method": "pca"}, "method must be one of"),
        ({"p": 3.0}, "p must be from 1 to 2: exponent of the l_p norm to minimize. Got 3"),
        ({"row_weights": "none.txt"}, "file of token counts"),
    ],
)
def test_an_error_leaves_the_model_unchanged(model, wish, sentence):
    dense = model()
    before, config = copy.deepcopy(dense.state_dict()), dense.config.to_dict()
    with pytest.raises(LpCompressError, match=sentence):
        compress(dense, **{"method": "svd"} | wish)
    assert same_bytes(dense.state_dict(), before)
    assert type(dense.get_input_embeddings()) is nn.Embedding
    assert dense.config.to_dict() == config


def test_an_interruption_leaves_the_model_unchanged(model):
    dense = model()
    before = copy.deepcopy(dense.state_dict())

    def interrupt(description, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(dense, progress=interrupt)
    assert same_bytes(dense.state_dict(), before)


def test_weights_that_are_not_finite_are_refused(model):
    dense = model()
    with torch.no_grad():
        dense.get_input_embeddings().weight[7, 3] = torch.nan
    with pytest.raises(LpCompressError, match=r"word_embeddings: .*not finite"):
        compress(dense)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    ("architecture", "layer", "tensor", "place"),
    [
        ("bert", "bert.embeddings.word_embeddings", "weight", 0),  # the padding row, which no fit sees
        ("bert", "bert.encoder.layer.1.output.dense", "bias", 5),
        ("bert", "bert.encoder.layer.1.output.dense", "weight", 3),
        ("xlnet", "transformer.layer.0.rel_attn.q", "weight", 2),
        ("xlnet", "transformer.layer.1.ff.layer_2", "bias", 1),
    ],
)
@pytest.mark.parametrize("on_disk", [False, True])
def test_no_fit_begins_if_a_tensor_is_not_finite(
    model, monkeypatch, tmp_path, architecture, layer, tensor, place, value, on_disk
):
    dense = model(architecture)
    with torch.no_grad():
        getattr(layers_of(dense)[layer].module, tensor)[place] = value
    if on_disk:
        dense.save_pretrained(tmp_path)
        dense, _ = loading.load(str(tmp_path), on_disk=True)
    monkeypatch.setattr(whole_model, "fit_layers", lambda *_: pytest.fail("a fit began"))
    sentence = rf"^{layer}: {tensor} has values that are not finite .* first at index {place}\."
    with pytest.raises(LpCompressError, match=sentence):
        compress(dense, layers=["all"], method="svd")


def test_layers_that_stay_may_hold_any_values(model):
    dense = model()
    with torch.no_grad():
        dense.classifier.bias[0] = torch.nan
    assert compress(dense, method="svd").layers


def test_a_compressed_layer_is_refused(model):
    dense = model()
    compress(dense, ratio=0.3, method="coded")
    before = copy.deepcopy(dense.state_dict())
    with pytest.raises(LpCompressError, match=r"word_embeddings: it is already compressed .* Start from the dense"):
        compress(dense, ratio=0.5)
    assert same_bytes(dense.state_dict(), before)


def test_several_layers_by_wildcard(model, tokenizer):
    dense = model()
    layers = ["embedding", "*.position_embeddings"]
    assert [layer.name for layer in preview(dense, layers=layers).layers] == [
        "bert.embeddings.word_embeddings",
        "bert.embeddings.position_embeddings",
    ]
    report = compress(dense, ratio=0.5, method="svd", layers=layers, tokenizer=tokenizer)
    assert [layer.row_weights for layer in report.layers] == ["zipf (WordPiece ids)", "uniform"]
    assert all(layer.removed >= 0.5 for layer in report.layers)


def test_the_preview_matches_compress(model):
    dense = model()
    [found] = preview(dense, ratio=0.5, method="svd", exponent=1.0).layers
    assert found.bytes_budget == found.bytes_before // 2
    [layer] = compress(dense, ratio=0.5, method="svd").layers
    assert layer.bytes_after <= found.bytes_budget
    assert layer.ranks[0] <= found.svd_rank


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_preview_of_every_layer(model, architecture):
    dense = model(architecture)
    found = preview(dense, ratio=0.5, layers=["all"]).layers
    report = compress(dense, ratio=0.5, method="svd", layers=["all"])
    for told, done in zip(found, report.layers, strict=True):
        assert (told.name, told.shape, told.bytes_before) == (done.name, done.shape, done.bytes_before)
        assert done.bytes_after <= told.bytes_budget and done.ranks == [told.svd_rank]


def test_progress_is_reported(model):
    told = []
    compress(model(), ratio=0.5, progress=lambda *words: told.append(words))
    assert ("bert.embeddings.word_embeddings: fitting coded", 0, 1) in told
    assert told[-1] == ("done", 1, 1)


def test_requires_grad_is_kept(model):
    frozen, layer = model(), "bert.encoder.layer.0.attention.self.query"
    frozen.get_input_embeddings().weight.requires_grad_(False)
    frozen.get_submodule(layer).bias.requires_grad_(False)
    compress(frozen, ratio=0.5, method="svd", layers=["embedding", layer])
    assert not any(parameter.requires_grad for parameter in frozen.get_input_embeddings().parameters())
    wanted = {name: parameter.requires_grad for name, parameter in frozen.get_submodule(layer).named_parameters()}
    assert wanted == {"codes": True, "basis": True, "bias": False}


def test_compress_is_a_public_name(model):
    assert lpcompress.compress(model(), ratio=0.5, method="svd").layers[0].method == "svd"


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"ratio": "much"}, r"^ratio must be a number: .*\. Got 'much'"),
        ({"ratio": [0.28]}, r"^ratio must be a number: .*\. Got \[0\.28\]"),
        ({"ratio": True}, r"^ratio must be a number: .*\. Got True"),
        ({"p": None}, r"^p must be a number: .*\. Got None"),
        ({"clusters": 2.5}, r"^clusters must be a whole number: .*\. Got 2\.5"),
        ({"layers": None}, r"^layers must be a list of texts: .*\. Got None"),
        ({"layers": []}, "^layers must name at least one pattern"),
        ({"layers": [3]}, r"^layers must be text: .*\. Got 3"),
        ({"seed": "a"}, r"^seed must be a whole number: .*\. Got 'a'"),
        ({"seed": -1}, r"^seed must be from 0 to 9223372036854775807: .*\. Got -1"),
        ({"row_weights": torch.ones(3)}, r"^row_weights must be text: .*\. Got tensor"),
        ({"exponent": 9}, "^exponent must be from 0 to 2: exponent applied to token frequency"),
        ({"max_bytes": "much"}, r"^max_bytes must be a size such as 40MB or 40000000: .*\. Got 'much'"),
        ({"allocation": 5}, "^allocation must be a mapping: method and ratio of each layer"),
        ({"calibration": 5}, r"^calibration must be a file, glue:TASK, or texts"),
        ({"calibration": [1, 2]}, r"^calibration must be a file, glue:TASK, or texts"),
        ({"tokenizer": "bert-base-uncased"}, r"^tokenizer must be a tokenizer, as returned by lpcompress\.load"),
        ({"device": "gpu"}, "^device must be one of this machine's"),
    ],
)
def test_an_option_of_a_wrong_type_or_value_is_refused(model, wish, sentence):
    with pytest.raises(LpCompressError, match=sentence):
        compress(model(), **wish)
    if not {"tokenizer", "device", "calibration"} & set(wish):
        with pytest.raises(LpCompressError, match=sentence):
            preview(model(), **wish)


@pytest.mark.parametrize("thing", ["bert-base-uncased", None])
def test_compress_refuses_what_is_not_a_model(thing):
    with pytest.raises(LpCompressError, match=r"compress takes a model, as returned by lpcompress\.load"):
        compress(thing)


def test_options_may_be_given_as_text(model, tmp_path):
    (tmp_path / "counts.txt").write_text("1\n" * 203)
    counts = tmp_path / "counts.txt"
    plain, spoken = (
        compress(model(), method="svd", **wish)
        for wish in (
            {"ratio": 0.4, "layers": ["embedding"], "row_weights": str(counts)},
            {"ratio": "0.4", "layers": "embedding", "row_weights": counts},
        )
    )
    assert plain.layers[0].bytes_after == spoken.layers[0].bytes_after
    assert [layer.name for layer in spoken.layers] == [layer.name for layer in plain.layers]
