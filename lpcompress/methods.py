"""The methods: one row each."""
