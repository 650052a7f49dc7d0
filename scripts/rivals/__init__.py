"""The rivals of `bench_rivals.py`: one file each, and `table.py`, which lists them."""
