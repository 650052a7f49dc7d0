"""Fixtures: a setup on the test rows, a cheap variant of a model, and evaluations with made-up numbers."""

import pytest
import torch

from lpcompress.compression.records import CompressionReport
from lpcompress.config.plan import Plan
from lpcompress.config.scoring import Scoring
from lpcompress.evaluation.evaluation import Evaluation
from lpcompress.evaluation.results import FAILED, NOT_AVAILABLE, OK, UNLABELLED, TaskResult
from lpcompress.evaluation.setup import Setup, Variant
from lpcompress.processes import Workers


@pytest.fixture
def setup(glue_dir):
    def make(store=None, context=None, **scoring):
        return Setup(Workers("cpu"), Scoring(data=str(glue_dir), **scoring), store, context or {})

    return make


@pytest.fixture
def reversing():
    """A function (name, key) -> a variant that replaces the embedding by one with its rows in reverse order."""

    def prepare(model, tokenizer, progress):
        table = model.get_input_embeddings()
        rows = torch.nn.Embedding.from_pretrained(table.weight.flip(0), padding_idx=table.padding_idx)
        model.set_input_embeddings(rows)
        return CompressionReport([], parameters_before=2, parameters_after=1, seed=0, seconds=0.0)

    return lambda name="reversed_rows", key=None: Variant(name, prepare, key or {})


@pytest.fixture
def result():
    """A function (score, base, metrics, n) -> the result of a task."""

    def make(score, base, metrics=None, n=408):
        compared = {"baseline_score": base, "drop": base - score, "recovery": score / base, "se": 0.125} if base else {}
        return TaskResult(OK, "m", n, metrics or {"accuracy": score}, score, **compared)

    return make


@pytest.fixture
def results(result):
    """Results of every kind, by task."""
    return {
        "mrpc": result(80.0, 81.0, {"accuracy": 76.0, "f1": 84.0}),
        "mnli": result(83.5, 84.0, {"accuracy": 83.0, "accuracy_mm": 84.0}, n=19647),
        "wnli": result(56.34, 56.34, n=71),
        "qqp": TaskResult(NOT_AVAILABLE, "m", reason="no model is named for qqp"),
        "rte": TaskResult(FAILED, "m", reason="no memory"),
        "ax": TaskResult(UNLABELLED, "m", 1104, agreement=97.34),
    }


@pytest.fixture
def make():
    """A function (results, baseline, plan, methods, **scoring) -> an evaluation."""

    def made(results=None, baseline="m", plan=Plan(method="svd", p=1.0), methods=None, **scoring):  # noqa: B008
        methods = methods or {"": results}
        setup = Setup(Workers("cpu"), Scoring(**scoring))
        return Evaluation.of("m", baseline, methods, setup, dict.fromkeys(methods, plan) if plan else {})

    return made
