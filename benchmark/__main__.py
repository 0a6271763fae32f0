"""``python -m marble``: the command line, for torchrun and where no script is installed."""

from marble.cli import main

main()
