"""The site builds without a warning, asks nobody for anything, and has all that its reference is made from."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lpcompress
from lpcompress.cli.app import COMMANDS

pytest.importorskip("mkdocs", reason="mkdocs is not installed")
ROOT = Path(__file__).parent.parent.parent
FETCHED = re.compile(r"""<(?:script|img|iframe)[^>]*src=["']?http|<link[^>]*rel=["']?stylesheet[^>]*href=["']?http""")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", out]
    env = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_no_page_fetches_anything(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    assert not [page.name for page in pages if FETCHED.search(page.read_text())]


def test_the_search_works_in_plain_files_too(site):
    assert (site / "search/search_index.js").read_text().startswith("var __index = {")
    home = (site / "index.html").read_text()
    assert '<script src="iframe-worker.js">' in home and (site / "iframe-worker.js").is_file()


def test_the_reference_has_every_command_and_name(site):
    commands, names = ((site / f"reference/{page}.html").read_text() for page in ("cli", "python"))
    assert not [command.name for command in COMMANDS if f">{command.name}<" not in commands]
    assert "--target-size" in commands
    assert not [name for name in lpcompress.__all__ if name != "__version__" and f"lpcompress.{name}<" not in names]


def test_the_picture_of_the_floors_is_that_of_the_contract():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    drawn = (ROOT / "docs/pictures/floors.svg").read_text()
    rooms = [room for floor in contracts[0]["layers"] for room in floor.split(" | ")]
    assert not [room for room in rooms if not re.search(rf">{room}/?</text>", drawn)], "run scripts/draw_docs.py"


def test_the_readme_fits_a_screen_or_three():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
