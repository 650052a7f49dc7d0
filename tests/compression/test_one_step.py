"""One step size for the whole model, and calibration on drawn text."""

import logging
from statistics import mean

import pytest
import torch
import transformers

from lpcompress import compress
from lpcompress.compression import drawn
from lpcompress.compression.calibration import DRAWN_DOUBT, TEXT_DOUBT, calibrate
from lpcompress.compression.card import used_data
from lpcompress.compression.one_step import EMBEDDING_UNIT, unit_of
from lpcompress.compression.priors import RowWeights
from lpcompress.compression.report import CheckpointReport
from lpcompress.compression.whole_model import preview
from lpcompress.config.plan import Plan
from lpcompress.errors import LpCompressError
from lpcompress.progress import silent
from lpcompress.surgery import finding
from lpcompress.surgery.sizes import tensor_bytes

WIDE = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1}


@pytest.mark.parametrize(
    ("architecture", "target"), [("bert", 0.1), ("bert", 0.3), ("roberta", 0.1), ("distilbert", 0.3), ("xlnet", 0.1)]
)
def test_a_model_of_the_size_without_data(tiny_model, word_tokenizer, ids, tmp_path, architecture, target):
    names = {
        "xlnet": {"d_model": 64, "d_head": 32, "d_inner": 128, "n_layer": 1},
        "distilbert": {"dim": 64, "hidden_dim": 128, "n_layers": 1, "max_position_embeddings": 40},
    }
    sizes = names.get(architecture, WIDE)
    dense = tiny_model(architecture, vocab_size=600, **sizes).eval()
    before = tensor_bytes(dense)
    report = compress(dense, target_size=target, layers=["all"], tokenizer=word_tokenizer)
    assert tensor_bytes(dense) <= target * before
    assert {layer.method for layer in report.layers} == {"coded"}
    assert report.calibration["source"] == "drawn" and report.calibration["texts"] == drawn.TEXTS
    dense.save_pretrained(tmp_path)
    assert torch.equal(type(dense).from_pretrained(tmp_path)(ids)[0], dense(ids)[0])


SMALL = {"num_layers": 1, "num_heads": 2, "vocab_size": 1000}
OTHERS = {  # a model, its inputs, and why drawn text does not work for it
    "gpt2": (
        lambda: transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=2000, n_embd=64, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
        ),
        {"input_ids": torch.arange(5, 17)[None]},
        None,
    ),
    "t5": (
        lambda: transformers.T5ForConditionalGeneration(transformers.T5Config(d_model=64, d_kv=32, d_ff=128, **SMALL)),
        {"input_ids": torch.arange(5, 17)[None], "decoder_input_ids": torch.arange(4)[None]},
        "which a T5ForConditionalGeneration does not take alone. Set calibration to none. (ValueError",
    ),
    "vit": (
        lambda: transformers.ViTForImageClassification(
            transformers.ViTConfig(
                hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=256, image_size=32
            )
        ),
        {"pixel_values": torch.linspace(-1, 1, 2 * 3 * 32 * 32).view(2, 3, 32, 32)},
        "a ViTForImageClassification takes pixel_values. Set calibration to none.",
    ),
}


@pytest.mark.parametrize("architecture", OTHERS)
def test_other_architectures_at_a_tenth(word_tokenizer, tmp_path, caplog, architecture):
    make, inputs, reason = OTHERS[architecture]
    torch.manual_seed(0)
    model = make().eval()
    before = tensor_bytes(model)
    with caplog.at_level(logging.WARNING):
        report = compress(model, target_size=0.1, layers=["all"], tokenizer=word_tokenizer)
    assert 0.09 * before < tensor_bytes(model) <= 0.1 * before
    assert {layer.method for layer in report.layers} == {"coded"}
    assert (report.calibration is None) == (reason is not None)
    assert (reason or "") in caplog.text and bool(caplog.text) == bool(reason)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(type(model).from_pretrained(tmp_path)(**inputs).logits, model(**inputs).logits)


def test_a_saved_plan_repeats_the_bytes_and_refuses_other_text(tiny_model, word_tokenizer, tmp_path):
    first, second = (tiny_model(vocab_size=600, **WIDE) for _ in range(2))
    options = {"target_size": 0.2, "layers": ["all"]}
    compress(first, tokenizer=word_tokenizer, **options)
    plan = preview(second, tokenizer=word_tokenizer, **options).plan
    (tmp_path / "plan.yaml").write_text(plan.to_yaml())
    read = Plan.from_yaml(tmp_path / "plan.yaml")
    assert read == plan and read.calibration == "drawn" and all(each.delta for each in read.allocation.values())
    compress(second, read, tokenizer=word_tokenizer)
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())
    with pytest.raises(LpCompressError, match=f"made with other calibration text: its digest is {plan.digest}"):
        compress(tiny_model(vocab_size=600, **WIDE), read, seed=1, tokenizer=word_tokenizer)


def test_without_calibration_or_where_text_cannot_be_drawn(tiny_model, caplog):
    for options in ({"calibration": "none"}, {}):  # the second: there is no tokenizer
        dense = tiny_model(vocab_size=600, **WIDE)
        before = tensor_bytes(dense)
        with caplog.at_level(logging.WARNING):
            report = compress(dense, target_size=0.2, layers=["all"], **options)
        assert report.calibration is None and tensor_bytes(dense) <= 0.2 * before
    assert "Not calibrated on drawn text: calibration needs the model's tokenizer" in caplog.text
    with pytest.raises(LpCompressError, match="needs the model's tokenizer"):
        compress(tiny_model(), target_size=0.2, calibration="drawn")


def test_position_embedding_and_pooler_are_coded_under_a_size_and_sized_like_words(tiny_model, word_tokenizer):
    model = tiny_model(vocab_size=2000, max_position_embeddings=256, **WIDE)
    layers = finding.find_layers(model, ["all"])
    [words], [positions] = ([n for n in layers if n.endswith(f"{it}_embeddings")] for it in ("word", "position"))
    measured = calibrate(model, layers, "drawn", "hub", word_tokenizer, "zipf", 0, True, silent)
    assert measured.tokens_per_text == mean(drawn.LENGTHS)
    uniform = RowWeights(None, "uniform")
    units = {name: unit_of(layers[name], uniform, measured) / measured.slopes[name] for name in (words, positions)}
    assert units[words] * 2000 == pytest.approx(units[positions] * mean(drawn.LENGTHS)) == EMBEDDING_UNIT
    report = compress(model, target_size=0.2, layers=["all"], tokenizer=word_tokenizer)
    coded = [each.name for each in report.layers]
    assert positions in coded and any("pooler" in name for name in coded)


def test_rows_that_lead_to_outputs_which_the_model_ignores_are_coded_coarsely(tiny_model, word_tokenizer):
    model = tiny_model(vocab_size=2000, num_labels=1, **WIDE)
    with torch.no_grad():
        model.classifier.weight[:, ::2] = 0  # it reads every other output of the pooler
    before = model.bert.pooler.dense.weight.detach().clone()
    report = compress(model, target_size=0.1, layers=["all"], tokenizer=word_tokenizer)
    errors = (model.bert.pooler.dense.weight.detach() - before).square().mean(1)
    assert float(errors[::2].mean()) > 4 * float(errors[1::2].mean())
    [pooler] = [layer for layer in report.layers if "pooler" in layer.name]
    assert pooler.row_weights == "slopes (drawn)"


@pytest.mark.parametrize(
    ("source", "slopes", "doubt"),
    [("drawn", False, DRAWN_DOUBT), (["word1 word2"], False, 0), (["word1 word2"], True, TEXT_DOUBT)],
)
def test_moments_are_doubted(tiny_model, word_tokenizer, source, slopes, doubt):
    model = tiny_model()
    layers = finding.find_layers(model, ["*.query"])
    measured = calibrate(model, layers, source, "hub", word_tokenizer, "zipf", 0, slopes, silent)
    for moment in measured.moments.values():
        least, energy = float(torch.linalg.eigvalsh(moment)[0]), float(moment.diagonal().mean())
        added = doubt / (1 + doubt) * energy
        assert least >= 0.999 * added - 1e-6 * energy
        if source != "drawn":  # two words do not fill the space
            assert least == pytest.approx(added, abs=1e-3 * energy)


def test_the_card_says_that_no_data_was_used():
    calibration = {"source": "drawn", "texts": 256, "digest": "0"}
    assert used_data(CheckpointReport(calibration=calibration)).startswith("No data was used: statistics come from 256")
    assert used_data(CheckpointReport(calibration=None)) == "No data was used."
    assert "unlabelled texts (glue:mrpc)" in used_data(
        CheckpointReport(calibration=calibration | {"source": "glue:mrpc"})
    )
