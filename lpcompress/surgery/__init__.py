"""Finding, swapping and resizing layers of a model."""
