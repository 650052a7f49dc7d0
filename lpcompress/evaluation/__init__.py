"""Scoring models on GLUE, before and after compression."""
