"""Whether the Hub answers: any response counts, silence and refused connections do not."""

import http.server
import socket
import threading

import pytest
from huggingface_hub import constants

from lpcompress import hub


@pytest.fixture
def endpoint(monkeypatch):
    """A function (port) -> None: the Hub is taken to be there."""
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


def test_silence_is_none(endpoint):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint(silent.getsockname()[1])
        assert not hub.answers()


def test_nobody_there(endpoint):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    endpoint(port)
    assert not hub.answers()


def test_offline_nobody_is_asked(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert not hub.answers()
