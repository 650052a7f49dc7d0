"""Validated user options, read from keyword arguments, the command line or YAML; imports no torch."""
