"""A revision or folder of a model: of a directory, and of a Hub that a server on this machine stands for."""

import http.server
import json
import threading

import pytest
from huggingface_hub.errors import RevisionNotFoundError
from transformers import BertForSequenceClassification

from lpcompress import hub
from lpcompress.checkpoints.loading import load
from lpcompress.checkpoints.origins import located
from lpcompress.errors import CheckpointError, PlanError

COMMIT = "0f3c2a1" + 33 * "0"


def test_without_revision_and_folder_nothing_is_asked():
    assert located("org/none at all") == "org/none at all"


def test_a_folder_of_a_directory_is_loaded(compressed, tmp_path, run):
    compressed().save_pretrained(tmp_path / "all/encoder")
    plain = BertForSequenceClassification.from_pretrained(tmp_path / "all", subfolder="encoder")
    assert type(plain.get_input_embeddings()).__name__ == "SparseCodedEmbedding"
    code, out, err = run("inspect", tmp_path / "all", "--subfolder", "encoder")
    assert (code, f"{tmp_path / 'all'}: BertForSequenceClassification" in out) == (0, True), err
    code, out, err = run("densify", tmp_path / "all", tmp_path / "dense", "--subfolder", "encoder")
    assert code == 0, err
    model, _ = load(str(tmp_path / "all"), subfolder="encoder")
    assert type(model.get_input_embeddings()).__name__ == "SparseCodedEmbedding"


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"revision": "v1"}, PlanError, "revision is for a model on the Hub."),
        ({"subfolder": "../x"}, PlanError, "must be a folder inside the model. Got '../x'"),
        ({"subfolder": "/x"}, PlanError, "must be a folder inside the model"),
        ({"subfolder": "none"}, CheckpointError, "must have the folder none. There is none."),
    ],
)
def test_what_a_directory_does_not_have_is_refused(tmp_path, options, error, sentence):
    with pytest.raises(error, match=sentence):
        located(str(tmp_path), **options)


@pytest.fixture
def hub_of():
    """A function (directory) -> the address of a Hub whose model `org/model` is that, at revision `v1`."""
    servers = []

    def serve(directory):
        asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def respond(self):
                asked.append(self.path)
                if self.path.startswith("/api/models/org/model/revision/v1"):
                    files = sorted(each for each in directory.rglob("*") if each.is_file())
                    names = [(each.relative_to(directory).as_posix(), each.stat().st_size) for each in files]
                    siblings = [{"rfilename": name, "size": size} for name, size in names]
                    return self.send(json.dumps({"id": "org/model", "sha": COMMIT, "siblings": siblings}).encode())
                file = next((self.path.removeprefix(f"/org/model/resolve/{each}/") for each in ("v1", COMMIT)
                             if self.path.startswith(f"/org/model/resolve/{each}/")), None)  # fmt: skip
                if file is None:
                    return self.send(b"", 404, "RevisionNotFound")
                path = directory / file
                return self.send(path.read_bytes()) if path.is_file() else self.send(b"", 404, "EntryNotFound")

            do_HEAD = do_GET = respond

            def send(self, content, status=200, error=""):
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hash(content) & 0xFFFFFFFF:x}"')
                if error:
                    self.send_header("X-Error-Code", error)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(content)

            def log_message(self, *_):
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}", asked

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


SCRIPT = """
import sys
from huggingface_hub import constants
from lpcompress.cli.app import main

def call(*arguments):
    sys.argv = ["lpcompress", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code, arguments

origin = ["org/model", "--revision", "v1", "--subfolder", "encoder"]
call("compress", *origin, "--method", "svd", "--out", sys.argv[1], "--quiet")
constants.HF_HUB_OFFLINE = True  # from the cache
call("inspect", *origin)
"""


def test_a_revision_and_folder_of_the_hub_are_compressed(tiny_model, hub_of, fresh_python, tmp_path):
    there = tmp_path / "hub"
    tiny_model("bert").save_pretrained(there / "encoder")
    (there / "encoder/tf_model.h5").write_text("not needed")
    (there / "encoder/README.md").write_text("---\nlicense: mit\n---\n")
    (there / "config.json").write_text("{}")
    address, asked = hub_of(there)
    out = tmp_path / "small"
    done = fresh_python(SCRIPT, out, HF_ENDPOINT=address, HF_HUB_OFFLINE="0", HF_HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "lpcompress.json").read_text())
    assert (report["model"], report["origin"]) == ("org/model", {"revision": "v1", "subfolder": "encoder"})
    card = (out / "README.md").read_text()
    assert "license: mit" in card and "base_model: org/model" in card
    assert not any("tf_model" in path for path in asked)
    assert "org/model: BertForSequenceClassification" in done.stdout


def test_an_unknown_revision_is_one_sentence(monkeypatch):
    def unknown(*_, **__):
        raise RevisionNotFoundError.__new__(RevisionNotFoundError)

    monkeypatch.setattr(hub, "ask", lambda _: None)
    monkeypatch.setattr(hub.huggingface_hub, "get_hf_file_metadata", unknown)
    with pytest.raises(CheckpointError, match=r"^org/model on the Hub has no revision 'v2'\. Check the spelling\.$"):
        located("org/model", revision="v2")
