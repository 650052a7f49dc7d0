"""Asking the Hugging Face Hub, and giving up within seconds where it does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

PROBE_SECONDS = 2.5
# OSError, and the base of the errors of whichever HTTP client the Hub's library uses
UNREACHABLE: tuple[Any, ...] = HfHubHTTPError.__bases__


def ask(url: str) -> None:
    """Raise one of `UNREACHABLE` if the Hub does not answer within seconds; any response is an answer.

    The request is bare, for the headers that the Hub's library adds may cost another request first.
    """
    huggingface_hub.get_session().head(url, timeout=PROBE_SECONDS)


REPOSITORY = "nyu-mll/glue"


@contextmanager
def asked_once() -> Iterator[None]:
    """Work from the local cache, as with HF_HUB_OFFLINE=1, if the Hub does not answer within seconds."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not answers()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def answers() -> bool:
    """Tell whether the Hub can be reached."""
    try:
        ask(huggingface_hub.hf_hub_url(REPOSITORY, "README.md", repo_type="dataset"))
    except UNREACHABLE:
        return False
    return True
