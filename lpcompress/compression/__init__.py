"""Compress a model in memory."""
