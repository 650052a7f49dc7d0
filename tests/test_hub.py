"""Tests of whether the Hub answers (any response counts, a timeout or refused connection does not) and the fallback."""

import http.server
import socket
import threading

import pytest
from huggingface_hub import constants

from lpcompress import hub


@pytest.fixture
def endpoint(monkeypatch):
    """A function (port) -> None that moves the Hub to a port of this machine."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.3)

    def move(port):
        monkeypatch.setattr(hub.huggingface_hub, "hf_hub_url", lambda *_, **__: f"http://127.0.0.1:{port}/x")

    return move


@pytest.mark.parametrize("status", [200, 401, 404, 503])
def test_any_response_is_an_answer(endpoint, status):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        endpoint(server.server_port)
        assert hub.answers()


def test_a_timeout_is_no_answer(endpoint):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint(silent.getsockname()[1])
        assert not hub.answers()


def test_a_refused_connection_is_no_answer(endpoint):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    endpoint(port)
    assert not hub.answers()


def test_offline_no_request_is_made(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert not hub.answers()


def test_loading_gives_up_within_seconds_if_the_hub_does_not_answer(fresh_python):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        script = """
import time
from lpcompress import errors, hub
from lpcompress.checkpoints import loading
assert hub.PROBE_SECONDS <= 5  # the client adds about three
hub.PROBE_SECONDS = 1
start = time.monotonic()
try:
    loading.load("roberta-base")
except errors.CheckpointError as error:
    print(error)
assert time.monotonic() - start < 7
"""
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = fresh_python(script, HF_HUB_OFFLINE="0", HF_ENDPOINT=endpoint, HF_HOME="/nonexistent")
    assert done.returncode == 0, done.stderr
    assert "the Hub cannot be reached" in done.stdout


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_cached_model_loads_without_the_hub(compressed, tmp_path, fresh_python, offline):
    home = tmp_path / "hub" / "models--user--model"
    compressed().save_pretrained(home / "snapshots" / "abc")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("abc")
    script = """
from lpcompress.checkpoints import files, loading
model, _ = loading.load("user/model")
print(type(model.get_input_embeddings()).__name__, files.directory_of("user/model").name)
"""
    done = fresh_python(script, HF_HOME=str(tmp_path), HF_HUB_OFFLINE=offline, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.stdout == "SparseCodedEmbedding abc\n", done.stderr
