"""The GLUE benchmark: tasks, rows, label order, metrics, statistics. Knows nothing of models and of compression."""
