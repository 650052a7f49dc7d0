"""What the wheel must hold besides Python files."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lpcompress"


def test_every_file_that_the_code_reads_is_in_the_wheel():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["lpcompress"]
    packed = {file for pattern in patterns for file in PACKAGE.glob(pattern)}
    others = {file for file in PACKAGE.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")}
    assert {file for file in others if file.name != "README.md"} == packed
    assert PACKAGE / "compression/templates/card.md" in packed
