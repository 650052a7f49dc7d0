"""The action for GitHub and the template for GitLab: their schemas, and their shell steps, run on a tiny model."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
import yaml

from lpcompress.cli.verdict import GITHUB, SUMMARY

ROOT = Path(__file__).parent.parent.parent
GITLAB = "configs/ci/glue-gate.gitlab-ci.yml"
SCHEMAS = {
    "action.yml": ("vendor.github-actions",),
    "configs/ci/glue-gate.yaml": ("vendor.github-workflows",),
    GITLAB: ("vendor.gitlab-ci", "--data-transform", "gitlab-ci"),
}
STUB = (
    '#!/bin/bash\n[ "$1 $2" = "-m pip" ] && {{ printf "%s\\n" "$*" >> "{log}"; exit; }}\nexec {python} {module} "$@"\n'
)


@pytest.mark.parametrize("file", SCHEMAS)
def test_a_file_follows_its_published_schema(file):
    pytest.importorskip("check_jsonschema", reason="check-jsonschema holds the schemas: pip install check-jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", *SCHEMAS[file], ROOT / file]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def shell(tmp_path):
    """A function (script, **environment) that runs a step where pip only notes what it was asked for."""
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for name, module in (("python", ""), ("lpcompress", "-m lpcompress")):
        (stubs / name).write_text(STUB.format(log=tmp_path / "pip.log", python=sys.executable, module=module))
        (stubs / name).chmod(0o755)
    base = {"PATH": f"{stubs}:{os.environ['PATH']}", "HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    base |= {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}

    def run(script, command=("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"), **environment):
        return subprocess.run(
            [*command, script], capture_output=True, text=True, env=base | environment, cwd=tmp_path, timeout=300
        )

    return run


class Action:
    """A composite action, and as much of a runner as its steps need."""

    def __init__(self, given, github, shell):
        self.document = yaml.safe_load((ROOT / "action.yml").read_text())
        self.inputs = {name: each.get("default") for name, each in self.document["inputs"].items()} | given
        self.outputs, self._github, self._shell = {}, github, shell

    def filled(self, text):
        """Return a text with its expressions replaced by their values."""
        values = {f"inputs.{name}": value for name, value in self.inputs.items()}
        values |= {f"steps.names.outputs.{name}": value for name, value in self.outputs.items()}
        values["github.action_path"] = str(ROOT)
        return re.sub(r"\$\{\{ ([\w.-]+) \}\}", lambda found: values[found[1]], text)

    def run(self):
        """Run the steps of the shell, and return the last one's process."""
        for step in self.document["runs"]["steps"]:
            if "run" not in step:
                continue
            output = self._github / "output"
            output.write_text("")
            env = {name: self.filled(value) for name, value in step.get("env", {}).items()}
            env |= {GITHUB: "true", SUMMARY: str(self._github / "summary.md"), "GITHUB_OUTPUT": str(output)}
            done = self._shell(step["run"], **env)
            if step.get("id") == "names":
                self.outputs = dict(line.split("=", 1) for line in output.read_text().splitlines())
            if done.returncode:
                break
        return done


@pytest.fixture
def action(shell, tiny_classifier, glue_dir, tmp_path):
    """A function (**inputs) -> an action with a tiny model."""
    (tmp_path / "github").mkdir()
    model = str(tiny_classifier("mrpc", directory=tmp_path / "models" / "a model of mrpc"))

    def make(**inputs):
        given = {"model": model, "tasks": "mrpc", "data": str(glue_dir), "options": "--method svd --limit 8"} | inputs
        return Action(given, tmp_path / "github", shell)

    return make


def test_the_action_scores_summarizes_and_fails_on_a_gate(action, tmp_path):
    made = action(size="0.7", **{"max-drop": "average=300,mrpc=-200"})
    done = made.run()
    assert done.returncode == 3, done.stderr
    out = tmp_path / "lpcompress-results"
    paths = {name: made.filled(each["value"]) for name, each in made.document["outputs"].items()}
    assert {name: tmp_path / path for name, path in paths.items()} == {
        "json": out / "glue.json",
        "junit": out / "junit.xml",
        "markdown": out / "glue.md",
    }
    assert json.loads((out / "glue.json").read_text())["settings"]["compression"]["target_size"] == 0.7
    assert Xml.parse(out / "junit.xml").getroot().get("failures") == "1"
    assert (tmp_path / "github/summary.md").read_text() == (out / "glue.md").read_text() + "\n"
    assert "\n::error title=lpcompress gate::mrpc: drop" in done.stderr
    assert (tmp_path / "pip.log").read_text().splitlines()[-1] == f"-m pip install --quiet {ROOT}"
    assert made.outputs["hub"] == str(tmp_path / "home/.cache/huggingface")


def test_a_name_never_becomes_a_command(action, tmp_path):
    (tmp_path / "stubs/lpcompress").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    name = 'x"; touch stolen; $(touch stolen) `touch stolen` "'
    done = action(model=name).run()
    assert done.stdout.splitlines()[:2] == ["eval-glue", name]
    assert not (tmp_path / "stolen").exists()


def test_the_key_of_the_cache_tells_models_apart(action):
    keys = []
    for inputs in ({}, {}, {"model": "org/a,b"}, {"tasks": "rte"}, {"cache-key": "2"}):
        made = action(**inputs)
        made.document["runs"]["steps"] = made.document["runs"]["steps"][:1]
        made.run()
        keys.append(made.outputs["key"])
    assert len(set(keys)) == 4 and keys[0] == keys[1]
    assert all(re.fullmatch("lpcompress-hub-[0-9a-f]{16}", key) for key in keys)  # GitHub refuses commas


def test_every_input_is_used_and_declared():
    text = (ROOT / "action.yml").read_text()
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(yaml.safe_load(text)["inputs"])


def test_the_workflow_gives_inputs_that_the_action_has():
    steps = yaml.safe_load((ROOT / "configs/ci/glue-gate.yaml").read_text())["jobs"]["gate"]["steps"]
    [given] = [step["with"] for step in steps if step.get("uses") == "./"]
    assert given.keys() <= yaml.safe_load((ROOT / "action.yml").read_text())["inputs"].keys()


@pytest.mark.slow  # a new interpreter, as the action above
def test_the_job_of_gitlab_scores_and_fails_on_a_gate(shell, tiny_classifier, glue_dir, tmp_path):
    job = yaml.safe_load((ROOT / GITLAB).read_text())[".lpcompress-gate"]
    model = str(tiny_classifier("mrpc"))
    given = {"MODEL": model, "TASKS": "mrpc", "RATIO": "0.3", "MAX_DROP": "-200", "DATA": str(glue_dir)}
    given |= {"OPTIONS": "--method svd --limit 8", "CI_PROJECT_DIR": str(tmp_path)}
    script = "\n".join(["set -e", *job["before_script"], *job["script"]])
    done = shell(script, command=("sh", "-c"), **(job["variables"] | given))  # GitLab takes the image's shell
    assert done.returncode == 3, done.stderr
    [kept] = job["artifacts"]["paths"]
    assert Xml.parse(tmp_path / job["artifacts"]["reports"]["junit"]).getroot().get("failures") == "2"
    assert json.loads((tmp_path / kept / "glue.json").read_text())["settings"]["compression"]["ratio"] == 0.3
