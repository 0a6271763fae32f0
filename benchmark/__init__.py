"""marble measures what a frozen music model knows, layer by layer.

From Python::

    import marble

    result = marble.run("fbank-chroma", "synth-pitch", layers="all")

Nothing heavy is imported before it is used, so that ``marble --help`` answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from marble import results
    from marble.analysis.compare import compare
    from marble.analysis.layers import cca
    from marble.jobs.run import run
    from marble.registry import load_task, load_upstream

_HOMES = {
    "cca": "marble.analysis.layers",
    "compare": "marble.analysis.compare",
    "load_task": "marble.registry",
    "load_upstream": "marble.registry",
    "run": "marble.jobs.run",
}
__all__ = ["cca", "compare", "load_task", "load_upstream", "results", "run"]


def __getattr__(name: str) -> Any:
    if name == "results":
        return import_module("marble.results")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'marble' has no attribute '{name}'")
