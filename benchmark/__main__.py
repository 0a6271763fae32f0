"""The command line as ``python -m marble``: for torchrun, and without the console script."""

from marble.cli import main

main()
