"""Training dense or compressed classifiers on GLUE tasks."""
