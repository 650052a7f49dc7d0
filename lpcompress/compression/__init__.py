"""Compressing a model in memory."""
