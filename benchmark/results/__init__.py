"""Results: the document, the folder of all of them, and what ranks and draws them. Nothing here imports torch."""

from marble.results.store import load

__all__ = ["load"]
