"""Tests of the application: table of commands, help, global options."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lpcompress
from lpcompress.cli import app
from lpcompress.config.options import Shown, note
from lpcompress.config.origin import Origin
from lpcompress.config.plan import Plan
from lpcompress.config.publishing import Publishing
from lpcompress.config.recipe import Recipe
from lpcompress.config.reporting import Reporting
from lpcompress.config.saving import Saving
from lpcompress.config.scoring import Scoring
from lpcompress.methods import METHODS


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        *(([*each, "--help"], "Usage") for each in ([], ["compress"], ["sweep"], ["demo"])),
        (["eval-glue"], "Which model is to be scored?"),
        (["compress", "org/none", "--ratio", "0.5"], "org/none is neither a local directory nor"),
    ],
)
def test_help_and_bad_input_need_neither_torch_nor_transformers(arguments, shown, tmp_path):
    code = (
        "import sys\nfrom lpcompress.cli import app as cli\n"
        f"sys.argv = ['lpcompress', *{arguments!r}]\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    place = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(Path(lpcompress.__file__).parent.parent)}}
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **place)
    assert child.returncode == 0, child.stderr
    assert shown in child.stdout + child.stderr


def test_help_says_that_ratio_is_the_share_removed(run):
    code, out, _ = run("compress", "--help")
    assert code == 0
    assert "to REMOVE" in out


def test_version_is_that_of_the_package(run):
    code, out, _ = run("--version")
    assert (code, out.strip()) == (0, lpcompress.__version__)


@pytest.mark.parametrize("arguments", [["compress"], ["compress", "x", "--ratoi", "1"], ["compresss"], ["inspect"]])
def test_a_usage_error_is_exit_code_2(run, arguments):
    code, out, _ = run(*arguments)
    assert (code, out) == (2, "")


OPTIONS = {
    "compress": (Plan, Origin, Scoring, Reporting, Saving, Publishing),
    "eval-glue": (Plan, Scoring, Reporting),
    "finetune": (Recipe,),
    "inspect": (Origin,),
    "push": (Publishing,),
}


def options_in(text):
    """Return the options in a help text: those at the beginning of a line in a panel."""
    return re.findall(r"(?m)^\W*(--[a-z][a-z-]*)", text)


@pytest.mark.parametrize("command", OPTIONS)
def test_every_field_is_an_option_exactly_once(run, command):
    code, out, _ = run(command, "--help")
    found = options_in(out)
    fields = {name for kind in OPTIONS[command] for name, field in kind.model_fields.items() if note(field, Shown)}
    assert code == 0 and len(found) == len(set(found))
    assert {"--" + name.replace("_", "-") for name in fields} <= set(found)


@pytest.mark.parametrize(("kind", "hidden"), [(Plan, {"allocation", "digest"}), (Scoring, set()), (Recipe, set())])
def test_only_what_save_plan_writes_is_no_option(kind, hidden):
    assert {name for name, field in kind.model_fields.items() if not note(field, Shown)} == hidden


@pytest.mark.parametrize(
    ("command", "panels"),
    [
        (
            "compress",
            ["How small", "What to compress", "How to fit", "Output", "Scoring", "Hub", "Which version", "Running"],
        ),
        ("eval-glue", ["Scoring", "How small", "What to compress", "How to fit", "Output", "Which version", "Running"]),
        ("finetune", ["How to train", "Output", "Distillation", "Scoring", "Which version", "Running"]),
    ],
)
def test_options_are_grouped_most_used_first(run, command, panels):
    _, out, _ = run(command, "--help")
    assert [each for each in re.findall(r"(?m)^╭─ (.*?) ─", out) if each not in ("Arguments", "Options")] == panels


def test_the_help_has_bounds_and_defaults(run):
    _, out, _ = run("compress", "--help")
    text = " ".join(out.replace("│", " ").split())
    assert "stored bytes to REMOVE, above 0 and below 1. Default: 0.28." in text
    assert "Number of subspaces, at least 1. Default: chosen by the method." in text
    assert "auto|coded|adaptive|lp|messi|svd|sketch" in text


def test_all_commands_of_the_table_are_listed(run):
    _, out, _ = run("--help")
    assert all(command.name in out for command in app.COMMANDS)
    assert "--quiet" in out and "--verbose" in out and "--show-completion" in out


TOY = '''
"""A command in one file."""

from typing import Annotated

import typer

from lpcompress.cli.options import ModelArgument
from lpcompress.cli.terminal import Terminal
from lpcompress.config.origin import Origin
from lpcompress.config.plan import Plan
from lpcompress.config.publishing import Publishing


def predict(
    terminal: Terminal, model: ModelArgument, plan: Plan, loud: Annotated[bool, typer.Option("--loud")] = False
) -> int:
    """Predict the size of MODEL."""
    text = f"{model}: {1 - plan.ratio:.2f} of it"
    terminal.show(text.upper() if loud else text)
    return 3
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A command made of one file and one row of the table."""
    (tmp_path / "toy.py").write_text(TOY)
    spec = importlib.util.spec_from_file_location("toy", tmp_path / "toy.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(app, "COMMANDS", (*app.COMMANDS, app.Command("predict", module.predict)))


def test_a_command_is_one_file_and_one_row(run, toy):
    assert run("predict", "bert", "--ratio", "0.4") == (3, "bert: 0.60 of it\n", "")
    assert run("predict", "bert", "--loud")[1] == "BERT: 0.72 OF IT\n"
    code, _, err = run("predict", "bert", "--ratio", "40")
    assert (code, "did you mean 0.4?" in err) == (2, True)
    assert "Predict the size" in run("--help")[1]
    assert "--clusters" in run("predict", "--help")[1]


def test_the_shell_completes_commands_options_and_methods(tmp_path):
    def complete(line, shell="bash"):
        words = line.split(" ")
        env = os.environ | {
            "_LPCOMPRESS_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": line,
            "_TYPER_COMPLETE_ARGS": line,  # what zsh gives instead
            "COMP_CWORD": str(len(words) - 1),
        }
        code = "import sys; sys.argv[0] = 'lpcompress'; from lpcompress.cli.app import main; main()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
        return done.stdout.split()

    assert complete("lpcompress eval") == ["eval-glue"]
    assert complete("lpcompress compress x --max-b") == ["--max-bytes"]
    assert complete("lpcompress compress x --method s") == ["svd", "sketch"]
    shown = " ".join(complete("lpcompress compress x --method sv", "zsh"))
    assert METHODS["svd"].help.partition(":")[0] in shown
