"""Pages made from JSON results."""
