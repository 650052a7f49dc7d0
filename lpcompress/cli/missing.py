"""Refuse a model that is not there at once: importing torch and transformers first takes seconds."""

from lpcompress.config.origin import Origin


def refuse_missing(model: str, origin: Origin) -> None:
    """Raise CheckpointError if there is no such model; of another version only loading can say so."""
    from lpcompress.checkpoints.files import find  # not above: --help needs no client of the Hub

    if not origin.given():
        find(model)
