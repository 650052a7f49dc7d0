"""Run the command line with `python -m lpcompress`."""

from lpcompress.cli.app import main

main()
