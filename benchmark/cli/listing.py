"""Rows of plain data for ``ls`` and ``info``: upstreams, tasks, suites, recipes, protocols, results and cache spaces.

Each function imports its modules when it is called: protocols, suites and results need no torch.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marble import registry
from marble.tasks import ARGUMENTS as TASK_ARGUMENTS

if TYPE_CHECKING:
    from marble.features.cache import FeatureCache


def upstreams() -> list[dict[str, Any]]:
    """Return one row for each upstream."""
    keys = ("name", "parameters", "sample_rate", "frame_rate", "layers", "licence", "training_data")
    rows = []
    for name in registry.upstream_names():
        info = getattr(registry.upstreams.find(name)[0], "info", None)
        rows.append({key: getattr(info, key, None) for key in keys} | {"name": name, "layers": info and len(info.layers)})
    return rows


def upstream(name: str) -> dict[str, Any]:
    """Return everything that is known about an upstream; errors as `registry.upstream_info` raises them."""
    return asdict(registry.upstream_info(name))


def tasks() -> list[dict[str, Any]]:
    """Return one row for each task; those that need an argument say so."""
    rows = []
    for name in registry.complete_task_names():
        loaded = registry.load_task(name)
        about = loaded.description.split("\n")[0]
        rows.append(_row(name, loaded.kind, f"{len(loaded.labels)} labels", loaded.main_metric, about))
    for name, argument in TASK_ARGUMENTS.items():
        rows.append(_row(f"{name}:{argument}", "", "", "", "the user's own data"))
    return rows


def task(name: str) -> dict[str, Any]:
    """Return everything that is declared about a task.

    Raises:
        MarbleError: nothing has this name.
    """
    loaded = registry.load_task(name)
    fields = {key: value for key, value in vars(loaded).items() if key != "clips"}
    if loaded.frames:
        fields["frames"] = {key: value for key, value in vars(loaded.frames).items() if key != "encode"}
    return fields | {"main_metric": loaded.main_metric, "resources": [resource.path for resource in loaded.resources]}


def protocols() -> list[dict[str, Any]]:
    """Return one row for each protocol."""
    from marble.probe.presets import PROTOCOLS

    return [
        {
            "name": protocol.name,
            "windows": protocol.windows.model_dump(),
            "probe": protocol.probe.identity(),
            "about": protocol.description,
        }
        for protocol in PROTOCOLS.values()
    ]


def protocol(name: str) -> list[dict[str, Any]]:
    """Return one row for each statement of the sources of a protocol: field, value, source, and how marble expresses it.

    Raises:
        MarbleError: nothing has this name.
    """
    from marble.probe.protocol import Protocol

    return [statement.row() for statement in registry.protocols.load(name, Protocol).stated]


def recipes() -> list[dict[str, Any]]:
    """Return one row for each recipe of pretraining."""
    from marble.pretraining.recipes import RECIPES

    keys = ("name", "upstream", "seconds", "batch", "steps", "precision")
    return [
        {key: getattr(entry, key) for key in keys} | {"about": entry.source.partition(":")[0]} for entry in RECIPES.values()
    ]


def recipe(name: str) -> dict[str, Any]:
    """Return a whole recipe, with its source and assumptions.

    Raises:
        MarbleError: nothing has this name.
    """
    from marble.pretraining.recipes import load_recipe

    return load_recipe(name).model_dump(mode="json")


def suites() -> list[dict[str, Any]]:
    """Return one row for each suite; tasks that marble cannot run by name are listed apart."""
    from marble.tasks.suites import SUITES

    return [suite(name) for name in SUITES]


def suite(name: str) -> dict[str, Any]:
    """Return everything that is known about a suite.

    Raises:
        MarbleError: nothing has this name.
    """
    name = name.removeprefix("suite:")
    opened = registry.open_suites([f"suite:{name}"])
    missing = [f"{task} ({why})" for task, why in opened.items() if why]
    about = {key: value for key, value in vars(registry.load_suite(name)).items() if key != "tasks"}
    return {"name": f"suite:{name}", "tasks": [task for task, why in opened.items() if not why], "missing": missing, **about}


def results(root: Path) -> list[dict[str, Any]]:
    """Return one row for each result below a folder; a damaged one is named in a warning.

    Raises:
        MarbleError: there is no such folder.
    """
    from marble.results.choose import task_titles
    from marble.results.store import read_all

    rows, found = [], read_all(root)
    for result, task in zip(found, task_titles(found), strict=True):
        mean = result.selected.test[result.task.main_metric].mean
        rows.append(
            {
                "upstream": result.upstream.name,
                "task": task,
                "protocol": result.protocol.label,
                "layer": result.selected.layer,
                "metric": result.task.main_metric,
                "test": None if mean is None else round(mean, 4),
                "bad_clips": len(result.bad_clips),
                "data_sha256": result.task.data_sha256,
                "weights_sha256": result.upstream.weights_sha256[:12],
                "date": result.provenance.date,
                "file": str(root / result.path),
            }
        )
    return rows


def spaces(cache: FeatureCache) -> list[dict[str, Any]]:
    """Return one row for each space of a cache."""
    rows = []
    for space in cache.spaces():
        clips, layers, size = space.size()
        about = space.description
        rows.append(
            {
                "upstream": about.get("upstream"),
                "version": about.get("version"),
                "weights_sha256": str(about.get("weights"))[:12],
                "precision": about.get("precision"),
                "windows": about.get("windows"),
                "state": "older: marble cache gc removes it" if space.is_older else "current",
                "clips": clips,
                "layers": len(layers),
                "megabytes": round(size / 1e6, 1),
                "folder": str(space.folder),
            }
        )
    return rows


def _row(name: str, kind: str, labels: str, metric: str, about: str) -> dict[str, Any]:
    return {"name": name, "kind": kind, "labels": labels, "main_metric": metric, "about": about}
