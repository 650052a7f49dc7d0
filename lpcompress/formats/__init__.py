"""Stored forms of a matrix: one file holds a form's container and its module."""
