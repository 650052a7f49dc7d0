"""`python -m lpcompress`."""

from lpcompress.cli import main

main()
