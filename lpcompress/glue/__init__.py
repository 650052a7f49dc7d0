"""The GLUE benchmark: tasks, rows, label order, metrics, statistics. Independent of models and compression."""
