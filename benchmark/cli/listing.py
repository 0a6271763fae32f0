"""What there is: upstreams, tasks, protocols, results and cache spaces as rows of plain data."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from marble import registry
from marble.features.cache import FeatureCache
from marble.files import digest
from marble.pretraining.recipes import RECIPES, load_recipe
from marble.probe.protocol import PROTOCOLS
from marble.results.schema import Result, read_all
from marble.tasks import ARGUMENTS as TASK_ARGUMENTS
from marble.tasks.suites import SUITES


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
        found = registry.load_task(name)
        rows.append(_row(name, found.kind, f"{len(found.labels)} labels", found.main_metric, found.description.split("\n")[0]))
    for name, argument in TASK_ARGUMENTS.items():
        rows.append(_row(f"{name}:{argument}", "", "", "", "the user's own data"))
    return rows


def task(name: str) -> dict[str, Any]:
    """Return everything that is declared about a task.

    Raises:
        MarbleError: nothing has this name.
    """
    found = registry.load_task(name)
    fields = {key: value for key, value in vars(found).items() if key != "clips"}
    return fields | {"main_metric": found.main_metric, "resources": [resource.path for resource in found.resources]}


def protocols() -> list[dict[str, Any]]:
    """Return one row for each protocol."""
    return [
        {"name": one.name} | one.model_dump(mode="json", include={"probe", "windows"}) | {"about": one.description}
        for one in PROTOCOLS.values()
    ]


def recipes() -> list[dict[str, Any]]:
    """Return one row for each recipe of pretraining."""
    keys = ("name", "upstream", "seconds", "batch", "steps", "precision")
    return [{key: getattr(one, key) for key in keys} | {"about": one.source.partition(":")[0]} for one in RECIPES.values()]


def recipe(name: str) -> dict[str, Any]:
    """Return a recipe whole, with its source and assumptions.

    Raises:
        MarbleError: nothing has this name.
    """
    return load_recipe(name).model_dump(mode="json")


def suites() -> list[dict[str, Any]]:
    """Return one row for each suite; those of its tasks that marble cannot run by name stand apart."""
    return [suite(name) for name in SUITES]


def suite(name: str) -> dict[str, Any]:
    """Return everything that is known about a suite.

    Raises:
        MarbleError: nothing has this name.
    """
    opened = registry.open_suites([f"suite:{name}"])
    missing = [f"{task} ({why})" for task, why in opened.items() if why]
    about = {key: value for key, value in vars(registry.load_suite(name)).items() if key != "tasks"}
    return {"name": f"suite:{name}", "tasks": [task for task, why in opened.items() if not why], "missing": missing, **about}


def results(root: Path) -> list[dict[str, Any]]:
    """Return one row for each result below a folder."""
    rows = []
    for result in read_all(root):
        metric = result.task["main_metric"]
        mean = result.selected.test[metric].mean
        rows.append(
            {
                "upstream": result.upstream["name"],
                "task": result.task["name"],
                "protocol": result.protocol["label"],
                "layer": result.selected.layer,
                "metric": metric,
                "test": None if mean is None else round(mean, 4),
                "bad_clips": len(result.bad_clips),
                "data": result.task.get("data"),
                "weights": result.upstream["weights_sha256"][:12],
                "date": result.provenance["date"],
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
                "upstream": about["upstream"],
                "version": about["version"],
                "weights": str(about["weights"])[:12],
                "precision": about["precision"],
                "windows": about["windows"],
                "clips": clips,
                "layers": len(layers),
                "megabytes": round(size / 1e6, 1),
                "folder": str(space.folder),
            }
        )
    return rows


def by_upstream(root: Path) -> list[tuple[Path, list[Result]]]:
    """Return for each upstream and protocol the stem of its heatmap and its newest result on each task.

    Of results on the same data the one with the most layers is taken, so that a look at one layer replaces no scan.
    Results under a changed protocol or a limit, or of older weights of one name, share no figure with others; its name ends
    with a hash of what is different.
    """
    groups: dict[Path, dict[str, Result]] = {}
    found = sorted(read_all(root), key=lambda result: result.provenance["date"])
    newest = {result.upstream["name"]: result.upstream["weights_sha256"] for result in found}
    for result in found:
        stem = root / result.path.parts[0] / f"heatmap-{result.path.stem.rpartition('-')[0]}"
        changes = [result.protocol["changes"], result.task["limit"], _older_weights(result, newest)]
        if any(changes):
            stem = stem.with_name(f"{stem.name}-{digest(changes)[:6]}")
        held = groups.setdefault(stem, {}).get(result.task["name"])
        if not held or held.task["data"] != result.task["data"] or len(held.layers) <= len(result.layers):
            groups[stem][result.task["name"]] = result
    return [(stem, list(group.values())) for stem, group in sorted(groups.items())]


def _older_weights(result: Result, newest: dict[str, str]) -> str | None:
    weights = result.upstream["weights_sha256"]
    return None if weights == newest[result.upstream["name"]] else weights


def plain(value: Any) -> str:
    """Return a value as a person reads it."""
    if isinstance(value, dict):
        if set(value) == {"name", "width"}:
            return f"{value['name']} ({value['width']})"
        return " ".join(f"{key}={plain(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value))
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


def _row(name: str, kind: str, labels: str, metric: str, about: str) -> dict[str, Any]:
    return {"name": name, "kind": kind, "labels": labels, "main_metric": metric, "about": about}
