"""The GLUE benchmark: rows, models, predictions, metrics. Knows nothing of compression."""
