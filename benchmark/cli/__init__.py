"""The command line: a thin shell over the functions of the package."""

from marble.cli.app import main

__all__ = ["main"]
