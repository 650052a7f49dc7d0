"""A sample of what `scripts/check_architectures.py` checks: each kind of architecture, one class of each."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "scripts"))
import check_architectures as script
from tiny_models import tiny_config, tiny_model

from lpcompress.checkpoints.verification import Probe
from lpcompress.config.plan import Plan

SAMPLE = {
    "bert": "BertForMaskedLM",
    "roberta": "RobertaForSequenceClassification",
    "distilbert": "DistilBertForMaskedLM",
    "albert": "AlbertForMaskedLM",
    "deberta": "DebertaForMaskedLM",
    "deberta-v2": "DebertaV2ForMaskedLM",
    "mobilebert": "MobileBertForMaskedLM",
    "modernbert": "ModernBertForMaskedLM",
    "nomic_bert": "NomicBertForMaskedLM",
    "gte": "GteModel",
    "jina_embeddings_v3": "JinaEmbeddingsV3Model",
    "t5": "T5ForConditionalGeneration",
    "mt5": "MT5Model",
    "bart": "BartForConditionalGeneration",
    "pegasus": "PegasusForConditionalGeneration",
    "marian": "MarianMTModel",
    "led": "LEDForConditionalGeneration",
    "xlnet": "XLNetLMHeadModel",
    "gpt2": "GPT2LMHeadModel",
    "opt": "OPTForCausalLM",
    "mamba": "MambaForCausalLM",
    "llama": "LlamaForCausalLM",
    "llama4_text": "Llama4ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "inkling2_text": "Inkling2ForCausalLM",  # its file calls a weight by the name of its layer
    "blip": "BlipForConditionalGeneration",
    "clip": "CLIPModel",
    "vit": "ViTForImageClassification",
    "convnext": "ConvNextForImageClassification",
    "detr": "DetrForObjectDetection",
    "wav2vec2": "Wav2Vec2ForCTC",
    "whisper": "WhisperForConditionalGeneration",
}
ODD_EMBEDDING = "inkling_mm_model"  # normalises the rows that it looks up


@pytest.fixture
def attempt(tmp_path):
    """A function (type of model, class, options of the plan) -> outcome and reason, for a sharded dense model."""

    def call(model_type, name, **options):
        model = tiny_model(name, tiny_config(model_type))
        assert Probe.of(model).inputs
        model.save_pretrained(tmp_path / "dense", max_shard_size="40KB")
        return script.attempt(tmp_path / "dense", tmp_path, type(model), Plan(**options))

    return call


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "model_type", [pytest.param(each, marks=pytest.mark.slow) if each == "detr" else each for each in SAMPLE]
)
def test_what_is_written_is_what_was_meant(attempt, model_type):
    outcome, reason = attempt(model_type, SAMPLE[model_type], layers=["all"], method="svd")
    assert (outcome, reason) == (script.RUNS, "")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_rounding_is_told_from_other_outputs(attempt):
    """The norms of this tiny model have a single value, so that rounding errors grow ten thousandfold."""
    outcome, reason = attempt("mm-grounding-dino", "MMGroundingDinoModel", layers=["all"], method="svd")
    assert (outcome, reason) == (script.RUNS, "")


@pytest.mark.filterwarnings("ignore")
def test_an_embedding_that_does_something_else_is_refused(attempt):
    outcome, reason = attempt(ODD_EMBEDDING, "InklingModel", layers=["embedding"], method="svd")
    assert outcome == script.REFUSED and "InklingNormedEmbedding, which overrides forward" in reason


def test_a_row_for_each_architecture(monkeypatch, capsys, tmp_path):
    """In forks of this process, so that a crash is a row."""
    cases = {"bert": [script.RUNS, script.REFUSED], "gpt2": []}

    def check(model_type, methods):
        yield from (script.Case(model_type, methods[0], outcome, "why") for outcome in cases[model_type])
        if model_type == "gpt2":
            raise SystemExit(3)

    monkeypatch.setattr(script, "check", check)
    monkeypatch.setattr(script, "quiet", lambda: None)
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "check",
            "--only",
            "bert",
            "gpt2",
            "--json",
            str(tmp_path / "out.json"),
            "--markdown",
            str(tmp_path / "out.md"),
        ],
    )
    with pytest.raises(SystemExit) as end:
        script.main()
    bert, gpt2, counts = capsys.readouterr().out.splitlines()
    assert end.value.code == 1 and counts == "1 FAULT, 1 runs"
    assert bert.split(maxsplit=2) == ["bert", "runs", "runs: why | refused: why"]
    assert gpt2.split(maxsplit=2) == ["gpt2", "FAULT", "FAULT: ended with 3"]
    found = json.loads((tmp_path / "out.json").read_text())
    assert [case["outcome"] for case in found["bert"]] == [script.RUNS, script.REFUSED]
    markdown = (tmp_path / "out.md").read_text().splitlines()
    start = markdown.index("| FAULT | 1 |")
    assert markdown[0] == "# Architectures" and markdown[start + 1] == "| runs | 1 |"
    assert markdown[-2:] == [
        "| bert | runs | runs: why / refused: why |",
        "| gpt2 | FAULT | FAULT: ended with 3 |",
    ]
    monkeypatch.setattr(script, "check", None)  # nothing is checked again
    with pytest.raises(SystemExit):
        script.main()
    assert capsys.readouterr().out.splitlines()[-1] == counts
