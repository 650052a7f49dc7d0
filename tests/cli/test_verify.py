"""The command `lpcompress verify`."""

import json
from pathlib import Path


def test_verify(run, tiny, one_line):
    assert run("compress", tiny, "--method", "svd", "--out", "out")[0] == 0
    code, out, err = run("verify", "out")
    assert code == 0 and "everything is as it was written" in out and "Error" not in err
    code, out, _ = run("verify", "out", "--json")
    assert code == 0 and json.loads(out)["sound"] is True
    assert json.loads(Path("out/lpcompress.json").read_text())["digests"]["algorithm"] == "xxh3-64"
    with open("out/README.md", "a") as card:
        card.write("My own words.\n")
    code, out, err = run("verify", "out", "--json")
    assert code == 1 and json.loads(out)["damaged"] == [
        {"file": "README.md", "problem": "is damaged or was changed", "tensor": None}
    ]
    assert one_line(err) == "Error: out is not as it was written. README.md: is damaged or was changed."
    assert run("inspect", "out")[0] == 0  # an edited card keeps nothing from loading
    code, out, _ = run("verify", "out")
    assert code == 1 and "README.md" in out
    code, _, err = run("verify", tiny)
    assert code == 1 and "must hold digests" in one_line(err)


def test_compress_prints_what_it_writes(run, tiny):
    code, out, _ = run("compress", tiny, "--method", "svd", "--out", "out", "--json")
    assert code == 0
    assert json.loads(out) == json.loads(Path("out/lpcompress.json").read_text())
