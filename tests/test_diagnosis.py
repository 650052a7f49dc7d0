"""What `lpcompress doctor` finds, and that it needs no network and tells no secret."""

import json
import time
import tomllib
from pathlib import Path

import pytest
from huggingface_hub import constants

from lpcompress import diagnosis, hub

TOKEN = "hf_" + "s" * 34
PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


@pytest.fixture(autouse=True)
def needed(monkeypatch):
    """The requirements in pyproject.toml, as an installed package states them; tests also run from a bare clone."""
    extras = [f'{line}; extra == "{name}"' for name, lines in EXTRAS.items() for line in lines]
    monkeypatch.setattr(diagnosis, "requires", lambda _: PROJECT["dependencies"] + extras)


def test_what_is_found_on_this_machine(run, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "none yet"))
    code, out, _ = run("doctor", "--json")
    found = json.loads(out)
    assert (code, found["problems"]) == (0, [])
    assert found["versions"].keys() >= {"lpcompress", "python", "torch", "transformers"}
    assert found["devices"]["cpu"].endswith("cores") and found["kernels"]["instructions"]
    assert found["hub"]["reachable"] is None  # tests are offline
    assert found["cache"] == {"path": str(tmp_path / "none yet"), "models": 0}
    assert found["free_bytes"][str(tmp_path)] > 0  # of the directory that will hold the cache
    assert {extra["name"] for extra in found["extras"]} >= {"demo", "dev"}


def test_it_is_shown_as_tables(run):
    code, out, err = run("doctor")
    assert (code, err) == (0, "looking at this machine and asking the Hub\n")
    for part in ("device cpu", "kernels, oneDNN", "not asked, because HF_HUB_OFFLINE is set", "free in", "scipy"):
        assert part in out


def test_a_token_is_in_no_output(run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "ENDPOINT", f"https://me:{TOKEN}@hub.example.org")
    for options in ((), ("--json",)):
        _, out, err = run("doctor", *options)
        assert TOKEN not in out + err
        assert ("logged in" in out, "not logged in" in out) == (not options, False)


@pytest.mark.parametrize("answers", [True, False])
def test_the_hub_is_asked_unless_offline(monkeypatch, answers):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "answers", lambda: answers)
    assert diagnosis.diagnose().hub["reachable"] is answers


def test_a_hub_that_is_not_there_costs_seconds(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.huggingface_hub, "hf_hub_url", lambda *_, **__: "http://127.0.0.1:9/x")
    began = time.monotonic()
    assert diagnosis.diagnose().hub["reachable"] is False
    assert time.monotonic() - began < 10


NEEDED = ["torch>=2.6", "nonesuch>=1", "numpy>=9999", 'nowhere; extra == "onnx"', 'torch>=1; extra == "demo"']


def test_what_is_missing_is_named_with_the_way_to_get_it(run, monkeypatch):
    monkeypatch.setattr(diagnosis, "requires", lambda _: NEEDED)
    code, out, err = run("doctor", "--json")
    found = json.loads(out)
    assert code == 1
    assert [problem.split()[0] for problem in found["problems"]] == ["nonesuch>=1", "numpy>=9999"]
    assert "Error: nonesuch>=1 is needed and not installed in such a version: pip install 'nonesuch>=1'" in err
    assert {extra["name"]: extra["missing"] for extra in found["extras"]} == {"demo": [], "onnx": ["nowhere"]}
    assert "pip install 'lpcompress[onnx]' (lacks nowhere)" in run("doctor")[1]


def test_every_extra_of_the_package_is_explained():
    assert EXTRAS.keys() <= diagnosis.EXTRAS.keys()


def test_in_a_clone_that_is_not_installed_the_rest_is_shown(monkeypatch):
    monkeypatch.setattr(diagnosis, "requires", lambda _: diagnosis.version("no package of this name"))
    found = diagnosis.diagnose()
    assert (found.problems, found.extras) == ([], []) and found.devices
