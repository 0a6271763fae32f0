"""Results: the document, and what reads and draws it. Nothing here imports torch."""

from marble.results.schema import load

__all__ = ["load"]
