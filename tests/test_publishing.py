"""Push to the Hub: a server on this machine stands for it, and huggingface_hub itself talks to it."""

import base64
import http.server
import json
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants

from lpcompress import hub
from lpcompress.compression.verification import verify

TOKEN = "hf_" + "Aa1" * 12
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)


@dataclass
class FakeHub:
    """What was asked of the Hub, and what it holds after that."""

    requests: list = field(default_factory=list)
    files: dict = field(default_factory=dict)
    created: dict | None = None
    refusal: int = 0
    url: str = ""

    def answer(self, method, path, body):
        """Return status and JSON for a request."""
        self.requests.append((method, path))
        if method == "HEAD":
            return 200, {}
        if self.refusal:
            return self.refusal, {"error": f"no, {TOKEN}"}
        if path == "/api/repos/create":
            self.created = json.loads(body)
            return 200, {"url": f"{self.url}/me/small"}
        if "/preupload/" in path:
            names = [each["path"] for each in json.loads(body)["files"]]
            return 200, {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
        if "/commit/" in path:
            lines = [json.loads(line) for line in body.splitlines()]
            values = [line["value"] for line in lines if line["key"] == "file"]
            self.files = {value["path"]: base64.b64decode(value["content"]) for value in values}
            pull = {"pullRequestUrl": f"{self.url}/me/small/discussions/1"} if "create_pr=1" in path else {}
            return 200, {"commitUrl": f"{self.url}/me/small/commit/abc", "commitOid": "abc", **pull}
        return 200, {"errors": [], "warnings": []}

    def commits(self):
        return [path for _, path in self.requests if "/commit/" in path]


@pytest.fixture
def fake_hub(monkeypatch):
    """A Hub on this machine, where somebody is logged in."""
    fake = FakeHub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def respond(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, document = fake.answer(self.command, self.path, body)
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_GET = do_POST = respond

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        fake.url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", fake.url)
        monkeypatch.setattr(hub.huggingface_hub, "hf_hub_url", lambda *_, **__: f"{fake.url}/x")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield fake
        server.shutdown()


@pytest.fixture
def base(tiny_classifier, tmp_path, monkeypatch):
    """A tiny classifier with a card of its own, in the current directory."""
    monkeypatch.chdir(tmp_path)
    tiny_classifier("mrpc", directory=tmp_path / "base")
    card = "---\nlicense: apache-2.0\nlanguage: [en]\npipeline_tag: text-classification\ntags: [x]\n---\n# Base\n"
    (tmp_path / "base/README.md").write_text(card)
    return "base"


@pytest.fixture
def small(run, base):
    """A compressed checkpoint, `small`."""
    code, _, err = run("compress", base, "--method", "svd", "--out", "small")
    assert code == 0, err
    return Path("small")


@pytest.mark.filterwarnings("always")
def test_what_is_pushed_can_be_verified_and_loaded_as_its_card_says(run, small, fake_hub, fresh_python, tmp_path):
    (small / "notes.txt").write_text("private")
    (small / ".env").write_text("secret")
    code, out, err = run("push", small, "me/small", "--private")
    assert (code, out) == (0, f"{fake_hub.url}/me/small/commit/abc: 6 files.\n"), err
    assert "Warning: small: not pushed, as it is not part of the checkpoint: notes.txt." in err
    assert fake_hub.created["visibility"] == "private" and fake_hub.created["name"] == "small"
    assert set(fake_hub.files) == {each.name for each in small.iterdir()} - {"notes.txt", ".env"}
    there = tmp_path / "me/small"
    there.mkdir(parents=True)
    for name, content in fake_hub.files.items():
        (there / name).write_bytes(content)
    found = verify(there)
    assert found.sound and found.files == len(fake_hub.files)
    [snippet] = CODE.findall((there / "README.md").read_text())
    assert 'from_pretrained("me/small")' in snippet
    done = fresh_python(f"import os; os.chdir({str(tmp_path)!r})\n{snippet}\nprint(type(model).__name__)")
    assert done.stdout == "BertForSequenceClassification\n", done.stderr


def test_the_card_has_what_the_hub_reads(run, base, glue_dir):
    options = ("--method", "svd", "--eval-glue", "mrpc", "--data", glue_dir, "--limit", "8", "--out", "small")
    assert run("compress", base, *options)[0] == 0
    card = ModelCard.load("small/README.md").data
    assert (card.license, card.language, card.pipeline_tag) == ("apache-2.0", ["en"], "text-classification")
    assert card.tags == ["lpcompress", "compression", "low-rank"]
    assert card.base_model is None  # a directory is no model on the Hub
    assert {each.metric_type for each in card.eval_results} == {"accuracy", "f1"}
    assert " MB before compression and take " in Path("small/README.md").read_text()


def test_a_model_of_the_hub_is_named_as_the_base(small):
    from dataclasses import replace

    from lpcompress.compression.card import model_card
    from lpcompress.compression.report import CheckpointReport

    card = ModelCard(model_card(replace(CheckpointReport.read(small), model="org/base"), "BertModel"))
    assert (card.data.base_model, card.data.base_model_relation) == ("org/base", "quantized")


@pytest.mark.parametrize(
    "card", ["---\nlicense: [1, {a: b}]\n---\n", "---\n{\n---\n", "no metadata", "---\n- a\n---\n"]
)
def test_an_odd_card_of_the_base_does_no_harm(run, base, card):
    Path("base/README.md").write_text(card)
    code, _, err = run("compress", base, "--method", "svd", "--out", "small")
    assert code == 0, err
    assert ModelCard.load("small/README.md").data.license is None


def test_compress_pushes_what_it_wrote(run, base, fake_hub):
    options = ("--method", "svd", "--out", "small", "--push-to-hub", "me/small", "--create-pr", "--json")
    code, out, err = run("compress", base, *options)
    assert (code, json.loads(out)["out"]) == (0, "./small")
    assert err.splitlines()[-1] == f"pushed: {fake_hub.url}/me/small/discussions/1"
    assert fake_hub.created is None  # a pull request is for a repository that exists
    assert fake_hub.commits() == ["/api/models/me/small/commit/main?create_pr=1"]


def test_a_failed_gate_is_not_pushed(run, base, fake_hub, glue_dir):
    options = ("--method", "svd", "--out", "small", "--push-to-hub", "me/small", "--ratio", "0.28")
    gate = ("--eval-glue", "mrpc", "--max-drop", "-200", "--data", glue_dir, "--limit", "8")
    code, _, err = run("compress", base, *options, *gate)
    assert code == 3 and "small was not pushed to me/small" in err.splitlines()[-1]
    assert not fake_hub.commits() and Path("small").is_dir()


def test_a_damaged_checkpoint_is_not_pushed(run, small, fake_hub):
    (small / "tokenizer.json").write_text("{}")
    code, out, err = run("push", small, "me/small")
    assert (code, out) == (1, "")
    assert "small is not as it was written, so it was not pushed. tokenizer.json: is damaged or was changed" in err
    assert not fake_hub.commits()


@pytest.mark.filterwarnings("always")
def test_a_dense_checkpoint_can_be_pushed_too(run, base, fake_hub):
    (Path(base) / "thesis.tex").touch()
    code, _, err = run("push", base, "me/base", "--json")
    assert code == 0 and "thesis.tex" in err
    assert set(fake_hub.files) == {each.name for each in Path(base).iterdir()} - {"thesis.tex"}


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "me/small: the Hub does not accept the token. Log in again: hf auth login."),
        (403, "me/small: the token may not write there."),
        (404, "me/small: there is no such repository"),
        (500, "me/small: "),
    ],
)
def test_a_refusal_is_one_line_without_the_token(run, small, fake_hub, status, sentence, monkeypatch):
    fake_hub.refusal = status
    code, out, err = run("push", small, "me/small", "--create-pr")
    assert (code, out) == (1, "")
    assert f"Error: {sentence}" in err and "Traceback" not in err
    assert TOKEN not in err


@pytest.mark.parametrize("command", ["push", "compress"])
@pytest.mark.parametrize(
    ("prepare", "code", "sentence"),
    [
        (lambda patch: patch.setattr(constants, "HF_HUB_OFFLINE", True), 1, "HF_HUB_OFFLINE is set. Unset it."),
        (lambda patch: patch.setenv("HF_TOKEN", ""), 1, "nobody is logged in. Run hf auth login, or set HF_TOKEN."),
        (lambda patch: None, 2, "the repository must be an id on the Hub such as user/model. Got 'a/b/c'."),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_the_work(
    run, base, tmp_path, fake_hub, monkeypatch, command, prepare, code, sentence
):
    prepare(monkeypatch)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    repo = "a/b/c" if code == 2 else "me/small"
    arguments = ("push", base, repo) if command == "push" else ("compress", base, "--out", "out", "--push-to-hub", repo)
    found, out, err = run(*arguments)
    assert (found, out) == (code, "") and sentence in err.splitlines()[-1]
    assert not Path("out").exists() and not fake_hub.requests


def test_a_hub_that_does_not_answer_costs_seconds(run, base, fake_hub, monkeypatch):
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(
            hub.huggingface_hub, "hf_hub_url", lambda *_, **__: f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        )
        began = time.monotonic()
        code, _, err = run("push", base, "me/base")
        assert time.monotonic() - began < 10
    assert (code, "the Hub does not answer. Check the network and HF_ENDPOINT." in err) == (1, True)


def test_options_of_pushing_need_a_repository(run, base):
    code, _, err = run("compress", base, "--private")
    assert (code, "Name it with --push-to-hub." in err) == (2, True)
