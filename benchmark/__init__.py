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
    from marble.jobs.run import run
    from marble.registry import load_task, load_upstream

__all__ = ["load_task", "load_upstream", "results", "run"]


def __getattr__(name: str) -> Any:
    if name == "results":
        return import_module("marble.results")
    if name in __all__:
        return getattr(import_module("marble.jobs.run" if name == "run" else "marble.registry"), name)
    raise AttributeError(f"module 'marble' has no attribute '{name}'")
