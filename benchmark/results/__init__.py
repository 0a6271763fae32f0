"""Results: their document, their folder, their ranking and figures. No module of this package imports torch."""

from marble.results.difference import differences
from marble.results.tidy import load

__all__ = ["differences", "load"]
