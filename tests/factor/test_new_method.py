"""A new method is one file and one row: no other code is needed."""

from dataclasses import replace

import pytest
import torch

from lpcompress import methods
from lpcompress.errors import LpCompressError
from lpcompress.factor import LowRank, factorize
from lpcompress.factor.choice import choose
from lpcompress.factor.norms import relative_error
from lpcompress.factor.problem import Settings

FILE = '''
"""Column selection: the columns of the most energy are kept, the others are zero."""

import torch

from lpcompress.factor.low_rank import on_basis
from lpcompress.factor.whitening import whitened


@whitened
def columns(matrix, budget, settings):
    kept = matrix.square().sum(0).topk(budget.rank(*matrix.shape)).indices
    return on_basis(matrix, torch.eye(matrix.shape[1], dtype=matrix.dtype)[:, kept])

'''
ROW = """methods.Method(
    "columns",
    "the columns of the most energy",
    fit="columns:columns",
    one_subspace=True,
    demo_p=1.0,
)"""


@pytest.fixture
def file(tmp_path):
    """Directory that contains the file of the method."""
    (tmp_path / "columns.py").write_text(FILE)
    return tmp_path


@pytest.fixture
def row(file, monkeypatch):
    """Adds the row of the method to the table."""
    monkeypatch.syspath_prepend(file)
    monkeypatch.setitem(methods.METHODS, "columns", eval(ROW))


@pytest.fixture
def matrix():
    """Columns of decreasing energy."""
    return torch.randn(300, 40, generator=torch.Generator().manual_seed(0)) * 0.8 ** torch.arange(40)


def test_factorize(row, matrix):
    fitted = factorize(matrix, "columns", ratio=0.5)
    assert isinstance(fitted, LowRank) and fitted.n_bytes <= 0.5 * matrix.numel() * 4
    kept = fitted.right.sum(0) > 0
    assert kept[: fitted.ranks[0]].all() and torch.equal(fitted.dense(), matrix * kept)


def test_other_norms_and_row_weights(row, matrix):
    weights = torch.linspace(0.1, 1, 300)
    plain = factorize(matrix, "columns", ratio=0.7, row_weights=weights)
    robust = factorize(matrix, "columns", ratio=0.7, row_weights=weights, p=1.0)
    error, least = (relative_error(matrix, each.dense(), 1.0, weights) for each in (plain, robust))
    assert least < error


def test_auto_tries_it_where_the_row_says_so(row, matrix, monkeypatch):
    assert "columns" not in methods.candidates()
    monkeypatch.setitem(methods.METHODS, "columns", replace(methods.METHODS["columns"], candidate=True))
    assert methods.candidates() == ("coded", "lp", "columns")
    tried = choose(matrix, "auto", 0.9, Settings())
    assert tuple(tried.errors) == methods.candidates()


def test_the_message_for_an_unknown_method_lists_it(row, matrix):
    with pytest.raises(LpCompressError, match=r"coded, adaptive, lp, messi, svd, columns or auto\. Got 'pca'"):
        factorize(matrix, "pca")


SCRIPT = f"""
import json, sys
from lpcompress import methods
methods.METHODS["columns"] = {ROW}

import torch, transformers, lpcompress
from typer.testing import CliRunner
from lpcompress.cli.app import COMMANDS, application
from lpcompress.config.plan import Plan
from lpcompress.errors import PlanError

model = transformers.AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
report = lpcompress.compress(model, method="columns", ratio=0.3, p=1.5, layers=["all"], row_weights="uniform")
assert {{layer.method for layer in report.layers}} == {{"columns"}} and report.layers[0].p == 1.5
assert all(0.3 <= layer.removed and layer.error_fro < 1 for layer in report.layers)
out, inputs = sys.argv[1] + "/small", torch.arange(6).view(1, 6)
model.save_pretrained(out)
again = transformers.AutoModelForSequenceClassification.from_pretrained(out)
assert torch.equal(again(inputs).logits, model(inputs).logits)

run = lambda *arguments: CliRunner().invoke(application(COMMANDS), list(arguments))
assert "columns" in run("compress", "--help").stdout
done = run("compress", sys.argv[1], "--method", "columns", "--target-size", "0.8", "--layers", "all", "--json",
           "--out", sys.argv[1] + "/smaller", "--row-weights", "uniform")
assert done.exit_code == 0, done.output
layers = json.loads(done.stdout)["layers"]
assert layers and {{layer["method"] for layer in layers}} == {{"columns"}}
assert "columns" in open(sys.argv[1] + "/smaller/lpcompress.json").read()
try:
    Plan(method="columns", clusters=4)  # its row says one_subspace
except PlanError:
    print("known everywhere")
"""


def test_checkpoints_command_line_and_plan_know_it(file, tiny_model, tokenizer, fresh_python):
    tiny_model("bert").save_pretrained(file / "model")
    tokenizer("bert").save_pretrained(file / "model")
    done = fresh_python(f"import sys; sys.path.insert(0, {str(file)!r})\n{SCRIPT}", file / "model", COLUMNS="200")
    assert done.stdout.endswith("known everywhere\n"), done.stderr
