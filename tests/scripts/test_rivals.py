"""The rivals of `scripts/bench_rivals.py`: their bytes are exact, their errors fall with their bytes."""

import doctest
import importlib
import json
import shutil
import sys
from math import ceil
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "scripts"))
import bench_rivals
from rivals import gobo, rounding, standard
from rivals.cells import Cell, Cells
from rivals.examiner import Examiner, embedding_of, moved
from rivals.rival import SCOPES, Fit, Rival, Subject
from rivals.table import RIVALS

from lpcompress.errors import LpCompressError
from lpcompress.factor.bound import least_errors
from lpcompress.factor.norms import relative_error

CELL = Cell("embedding", "int8", None, "mrpc", "bert", 9)
BY_NAME = {rival.name: rival for rival in RIVALS}


def gaussian(n=300, d=70, seed=0):
    return 0.05 * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def subject(tiny_model, word_tokenizer):
    """A function (scope) -> a tiny classifier to compress."""

    def make(scope):
        return Subject(tiny_model(), word_tokenizer, "mrpc", SCOPES[scope], "unused")

    return make


@pytest.mark.parametrize("name", ["cells", "examiner", "gobo", "rounding", "standard"])
def test_examples(name):
    assert doctest.testmod(importlib.import_module(f"rivals.{name}")).failed == 0


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("d", [1, 63, 64, 70, 128])
def test_rounding_takes_its_bytes_and_is_within_half_a_step(bits, d):
    matrix = gaussian(d=d)
    decoded, n_bytes = rounding.rounded(matrix, bits)
    assert n_bytes == ceil((300 * d * bits + 300 * -(-d // 64) * (16 + bits)) / 8)
    for start in range(0, d, 64):
        group, back = (each[:, start : start + 64] for each in (matrix, decoded))
        steps = (group.amax(1).clamp_min(0) - group.amin(1).clamp_max(0)) / (2**bits - 1)
        # half a step, as much again for the ends after rounding the zero point, and the float16 scale
        assert ((group - back).abs() <= steps[:, None] * (1 + 2**bits * 2**-10)).all()


@pytest.mark.parametrize("encode", [rounding.rounded, gobo.quantized])
def test_error_falls_with_bits(encode):
    matrix = gaussian()
    found = [encode(matrix, bits) for bits in (2, 3, 4)]
    errors, sizes = [relative_error(matrix, each[0]) for each in found], [each[1] for each in found]
    assert errors == sorted(errors, reverse=True) and sizes == sorted(sizes)
    least = least_errors(matrix, sizes, lengths_known=False)
    assert all(error > bound for error, bound in zip(errors, least, strict=True))


@pytest.mark.parametrize("encode", [rounding.rounded, gobo.quantized])
def test_a_matrix_of_zeros_stays_one(encode):
    assert not encode(torch.zeros(5, 64), 3)[0].any()


def test_gobo_keeps_outliers_and_a_few_levels():
    matrix = gaussian()
    matrix[3, 4], matrix[250, 69] = 0.9, -0.7
    outliers = gobo.is_outlier(matrix)
    decoded, n_bytes = gobo.quantized(matrix, 3)
    count = int(outliers.sum())
    assert outliers[3, 4] and outliers[250, 69] and count < 0.01 * matrix.numel()
    assert torch.equal(decoded[outliers], matrix[outliers])
    assert len(decoded[~outliers].unique()) == 8
    assert n_bytes == ceil((300 * 70 * 3 + 8 * 32 + count * (32 + 15)) / 8)  # 15 bits: one of 21,000 places


def test_gobo_finds_outliers_by_the_density_of_a_gaussian():
    matrix = gaussian()
    z = (matrix - matrix.mean()) / matrix.std(correction=0)
    density = torch.distributions.Normal(matrix.double().mean(), matrix.double().std(correction=0)).log_prob(matrix)
    assert torch.equal(gobo.is_outlier(matrix), density < -4)
    assert 3 < float(z[gobo.is_outlier(matrix)].abs().min()) < 4  # a deviation of 0.05: about 3.5 of them


def test_gobo_lowers_the_l1_error_of_its_first_bins():
    values = np.sort(gaussian().flatten().numpy())
    first = np.array([part.mean() for part in np.array_split(values, 8)])
    best = gobo.levels_of(values, 8)
    before, after = (np.abs(values[:, None] - levels).min(1).sum() for levels in (first, best))
    assert after < 0.99 * before and np.array_equal(best, np.sort(best))


def test_gobo_with_more_levels_than_values():
    decoded, _ = gobo.quantized(torch.tensor([[0.5, -0.5, 0.25]]), 4)
    assert torch.equal(decoded, torch.tensor([[0.5, -0.5, 0.25]]))


@pytest.mark.parametrize("budget", [100, 333, 400, 1200, 5000])
@pytest.mark.parametrize("guess", [-30, -20, 5])
def test_the_finest_parameter_within_the_budget(budget, guess):
    asked = []

    def size_at(qp):
        asked.append(qp)
        return round(1000 * 2 ** (-(qp + 20) / 8)) + 50

    known = {}
    found = standard.finest_fitting(size_at, budget, known, guess)
    fitting = [qp for qp in range(standard.FINEST, standard.COARSEST + 1) if size_at(qp) <= budget]
    assert found == (fitting[0] if fitting else None)
    assert len(known) <= 12 and standard.finest_fitting(None, budget, known, guess) == found  # nothing new to ask


@pytest.fixture
def fake_coder(monkeypatch):
    """Instead of nncodec: the decoded arrays are 0.5 everywhere, and a byte more for each QP below 0."""

    def run(source, decoded, quantization, qp):
        arrays = np.load(source)
        np.savez(decoded, **{name: np.full_like(arrays[name], 0.5) for name in arrays.files})
        return sum(array.nbytes for array in arrays.values()) // 10 - qp

    monkeypatch.setattr(standard, "run", run)


@pytest.mark.parametrize(("scope", "all_tensors"), [("embedding", False), ("model", True)])
def test_the_standard_gets_matrices_or_all_tensors(fake_coder, subject, scope, all_tensors):
    given = subject(scope)
    before = given.dense_bytes()
    fit = standard.Standard("plain").fit(given, 0.1)
    assert fit.n_bytes == before // 10 and fit.setting == "QP 0"
    assert (embedding_of(given.model) == 0.5).all()
    assert bool((given.model.classifier.bias == 0.5).all()) == all_tensors


def test_the_standard_says_when_nothing_is_small_enough(fake_coder, subject):
    with pytest.raises(LpCompressError, match=r"no QP up to 8 with at most [\d,]+ bytes"):
        standard.Standard("plain").fit(subject("embedding"), 0.01)


def test_an_environment_that_cannot_be_made_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(standard.subprocess, "run", lambda command, **options: CompletedProcess(command, 1))
    with pytest.raises(LpCompressError, match=f"could not be installed into {tmp_path}"):
        standard.interpreter(tmp_path / "env")


@pytest.mark.skipif(not (standard.ENVIRONMENT / "installed.txt").exists(), reason="nncodec was never installed here")
@pytest.mark.parametrize("quantization", ["plain", "dependent"])
def test_the_real_coder_keeps_its_budget(subject, quantization):
    given = subject("embedding")
    before = embedding_of(given.model).detach().clone()
    fit = standard.Standard(quantization).fit(given, 0.2)
    assert 0.15 * given.dense_bytes() < fit.n_bytes <= 0.2 * given.dense_bytes()
    error = relative_error(before, embedding_of(given.model))
    assert 0 < error < 2 * least_errors(before, [fit.n_bytes], lengths_known=False)[0]


@pytest.mark.parametrize("name", ["int4", "GOBO, 3 bits", "svd", "coded, no calibration"])
@pytest.mark.parametrize("scope", ["embedding", "model"])
def test_bytes_are_counted_once(subject, name, scope):
    given, rival = subject(scope), BY_NAME[name]
    before = given.dense_bytes()
    plain = {key: tensor.clone() for key, tensor in given.model.state_dict().items()}
    fit = rival.fit(given, 0.5 if rival.sized else None)
    assert 0 < fit.n_bytes <= (0.5 if rival.sized else 0.9) * before
    after = given.model.state_dict()
    assert torch.equal(after["classifier.weight"], plain["classifier.weight"])  # the rest stays dense
    if name == "int4":
        shapes = [tensor.shape for key, tensor in plain.items() if key in changed(plain, after)]
        codes = sum(rounding.rounded(torch.zeros(shape), 4)[1] for shape in shapes)
        rest = (
            0
            if scope == "embedding"
            else sum(4 * t.numel() for k, t in plain.items() if k not in changed(plain, after))
        )
        assert fit.n_bytes == codes + rest


def changed(before, after):
    return {key for key, tensor in before.items() if not torch.equal(tensor, after[key])}


def test_moved_logits_have_a_standard_error():
    generator = np.random.default_rng(0)
    before = generator.normal(size=(4000, 2))
    draws = [moved(before, before + 0.1 * generator.normal(size=before.shape)) for _ in range(50)]
    values, errors = np.array(draws).T
    assert values.mean() == pytest.approx(0.01, rel=0.05)
    assert errors.mean() == pytest.approx(values.std(), rel=0.6)


def test_cells_survive_a_run_and_can_be_forgotten(tmp_path):
    other = Cell("model", "svd", 0.1, "sst2", "bert", 9)
    cells = Cells(tmp_path / "cells.jsonl")
    cells.keep(CELL, {"drop": 1.0})
    cells.keep(other, {"drop": 2.0})
    assert Cells(tmp_path / "cells.jsonl").found == {CELL: {"drop": 1.0}, other: {"drop": 2.0}}
    cells.forget(lambda cell: cell.scope == "model")
    assert Cells(tmp_path / "cells.jsonl").found == {CELL: {"drop": 1.0}}


@pytest.fixture
def run(monkeypatch, tmp_path, tiny_classifier, glue_dir, capsys):
    """A function (*options) -> the parsed rivals.json and what was printed; results are in `tmp_path / "out"`."""
    for task in ("mrpc", "sst2", "stsb"):
        tiny_classifier(task, directory=tmp_path / "models" / "bert" / task, num_hidden_layers=1)
        (tmp_path / "glue" / task).mkdir(parents=True)
        for split in ("train", "validation"):  # the training texts are those of the development set
            shutil.copy(glue_dir / task / "validation.jsonl", tmp_path / "glue" / task / f"{split}.jsonl")

    def call(*options):
        common = [
            "--data",
            tmp_path / "glue",
            "--models",
            tmp_path / "models",
            "--out",
            tmp_path / "out",
            "--sizes",
            "0.5",
        ]
        monkeypatch.setattr(sys, "argv", ["bench_rivals.py", *map(str, [*common, *options])])
        bench_rivals.main()
        return json.loads((tmp_path / "out" / "rivals.json").read_text()), capsys.readouterr().err

    return call


def test_rows_for_every_rival_and_scope(run, tmp_path):
    rows, _ = run("--only", "ours,rounding,gobo", "--scopes", "embedding,matrix", "--tasks", "mrpc,stsb")
    assert len(rows) == 3 + 4 + 3 + 1 + 4 + 3  # ours, rounding, GOBO; no calibrated row in `matrix`
    for row in rows:
        assert set(row["tasks"]) == ({"mrpc", "stsb"} if row["scope"] == "embedding" else {"mrpc"}), row
        assert 0 < row["mean"]["share"] <= 0.5 and 0 <= row["mean"]["error"] < 1
        assert ("drop" in row["mean"]) == (row["scope"] == "embedding")
    text = (tmp_path / "out" / "rivals.md").read_text()
    assert "python scripts/bench_rivals.py --data" in text and "## Errors of the word embedding, rows alike" in text
    assert "| coded, no calibration | --layers embedding --method coded --ratio 0.5 --calibration none |" in text


def test_a_second_run_measures_nothing_but_what_is_asked_again(run):
    options = ("--scopes", "embedding", "--tasks", "mrpc")
    first, _ = run(*options, "--only", "ours,rounding")
    same, said = run(*options, "--only", "ours,rounding")
    assert same == first and said.count(" of ") == 0
    rows, said = run(*options, "--only", "ours", "--again")
    assert said.count("1 of 3: ") == 1 and "int8" not in said and len(rows) == len(first)


def test_a_size_that_cannot_be_had_is_a_line_with_the_reason(run, tmp_path):
    run("--scopes", "model", "--only", "ours", "--tasks", "mrpc", "--sizes", "0.001")
    text = (tmp_path / "out" / "rivals.md").read_text()
    assert "- coded, no calibration at 0.1 %: the size leaves 0 bytes for the chosen layers" in text


def test_pictures(run, tmp_path):
    pytest.importorskip("matplotlib")
    run("--scopes", "embedding,model", "--only", "rounding", "--tasks", "mrpc")
    assert (tmp_path / "out" / "rivals.svg").read_text().startswith("<?xml")
    assert (tmp_path / "out" / "rivals.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_family_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("--only", "our")
    assert "--only must be of ours, standard, rounding, gobo, factored. Got our." in capsys.readouterr().err


def test_the_examiner_measures_the_dense_model_as_unmoved(tiny_classifier, glue_dir, tmp_path):
    examiner = Examiner("mrpc", str(tiny_classifier("mrpc")), str(glue_dir), 20)
    nothing = Rival("nothing", "none", "", lambda subject, share: Fit(subject.dense_bytes(), "as it is"), sized=False)
    found = examiner.measure(nothing, SCOPES["embedding"], None)
    assert (found["share"], found["error"], found["moved"], found["drop"], found["drop_se"]) == (1, 0, 0, 0, 0)
