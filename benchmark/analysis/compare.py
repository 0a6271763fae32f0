"""``marble compare``: systems beside each other on the same test tracks, from their result files.

Conventions
-----------
- A *system* is the results of one upstream: its name, in the folder of all results, or a folder with results of it alone.
- On each task the newest results of all systems that were made alike are paired, each at the layer that validation chose.
  Alike means that they differ in no field of `marble.results.difference` but those of `_MAY_DIFFER`. Windows and precision
  may differ where no setting asked for it, since an upstream may take no longer windows, and a machine no other precision;
  that is noted. Where nothing is alike, the field is named.
- Tracks and targets are those of the stored answers (Parquet), and must be the same; the answers must give the score that the
  document states. Statistics are those of `marble.analysis.paired`; the family of Holm's method is all tasks and pairs of
  one call.
- Systems are *tied* on a task where the adjusted p-value is at least .05; `marble.analysis.paired.tie_groups` has the rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from marble.analysis.metrics import METRICS
from marble.analysis.paired import LEVEL, Answers, Paired, holm, layer_error, paired, tie_groups
from marble.errors import MarbleError
from marble.kinds import kind_of
from marble.results.choose import choose_results
from marble.results.difference import Difference, differences
from marble.results.schema import LayerResult, Result, folder_of
from marble.results.store import read_all

_MAY_DIFFER = ("upstream.", "layers", "selected.layer", "seeds", "versions.")
# These are noted; they follow from the upstream and the machine where the protocol asks for nothing.
_NOTED = ("protocol.windows.", "protocol.precision")


@dataclass(frozen=True)
class Comparison:
    """Systems compared.

    Attributes:
        differences: a row for each task and pair: task, protocol, metric, higher_is_better, first, second, first_layer,
            second_layer, first_score, second_score, first_group, second_group (ties share one, 1 is the best), difference
            (first less second), low, high, p_permutation, p_mcnemar, p_holm, significant, sampling_error, seed_spread,
            layer_error, minimal_detectable, tracks, seeds. What does not exist is NaN.
        systems: a row for each task and system: task, protocol, metric, system, layer, score, seed_deviation, low, high, group.
        notes: what was let through or not compared, in sentences.
    """

    differences: pandas.DataFrame
    systems: pandas.DataFrame
    notes: list[str]


@dataclass(frozen=True)
class _System:
    """The results of one upstream: how it is called, the folder of all results, and the results, newest first."""

    name: str
    root: Path
    results: list[Result]


class _Scored:
    """A result with its answers by one metric."""

    def __init__(self, system: _System, result: Result, metric: str):
        self.result, self.system, self.metric = result, system.name, metric
        self.predictions = result.predictions(system.root).sort_values(["seed", "track"])
        self.seeds = [run.seed for run in result.layers[0].runs]
        self.layers = [layer for layer in result.layers if layer.layer != "weighted"] or result.layers
        self.layer = next(layer for layer in result.layers if layer.layer == result.selected.layer)
        self.tracks, self.test = self.answers(self.layer, "test")
        stated, seen = self.layer.test[metric].mean, float(self.test.values.mean())
        if not math.isclose(math.nan if stated is None else stated, seen, abs_tol=1e-6) and not math.isnan(seen):
            raise MarbleError(
                f"The answers beside {system.root / result.path} give {metric} {seen:.6f}, where the document states {stated}: "
                "run it again."
            )

    def answers(self, layer: LayerResult, split: str) -> tuple[list[str], Answers]:
        """Return the tracks of a split, by name, and the answers of a layer to them."""
        task, table = self.result.task, self.predictions
        rows = table[(table["layer"] == str(layer.layer)) & (table["split"] == split)]
        first = rows[rows["seed"] == rows["seed"].iloc[0]]
        kind = kind_of(task.kind)
        single = not kind.numeric and task.kind != "multilabel"
        targets = [target[0] if single else tuple(target) for target in first["target"]]
        scores = np.stack([np.stack(list(of_seed["logits"])) for _, of_seed in rows.groupby("seed")])
        return list(first["track"]), Answers(METRICS[self.metric], scores, kind.encode(targets, tuple(task.labels)))

    def by_layer(self) -> tuple[list[Answers], list[float]]:
        """Return the answers of each layer to the validation tracks, and its test score."""
        scores = [layer.test[self.metric].mean for layer in self.layers]
        answers = [self.answers(layer, "valid")[1] for layer in self.layers]
        return answers, [math.nan if score is None else score for score in scores]


def compare(systems: Sequence[str | Path], results: Path | str = "results", *, metric: str | None = None) -> Comparison:
    """Compare two systems or more on the tasks that they share.

    Args:
        systems: upstream names in `results`, or folders with the results of one upstream.
        results: the folder of all results.
        metric: None is the main metric of each task; tasks without this one are left out.

    Raises:
        MarbleError: a system has no results, no task can be compared, or answers are missing or damaged.
    """
    if not isinstance(systems, Sequence) or isinstance(systems, str) or len(systems) < 2:
        raise MarbleError("There is nothing to compare: give a list of two upstreams or folders of results, or more.")
    if not isinstance(results, str | Path):
        raise MarbleError(f"results={results!r} is no folder: give its path.")
    known = _named([_system(str(name), Path(results)) for name in systems])
    notes: list[str] = []
    rows, of_systems = [], []
    tasks = dict.fromkeys(result.task.name for system in known for result in system.results)
    for task in tasks:
        if scored := _scored(known, task, metric, notes):
            pairs, sides = _of_task(scored, task)
            rows += pairs
            of_systems += sides
    if not rows:
        raise MarbleError("No task can be compared. " + " ".join(notes))
    return _grouped(pandas.DataFrame(rows), pandas.DataFrame(of_systems), notes)


def compare_results(first: Result, second: Result, root: Path) -> Paired:
    """Return the difference of two results on one task by its main metric, each at the layer that validation chose.

    Args:
        first, second: results whose answers lie beside them.
        root: the folder of all results.

    Raises:
        MarbleError: they were not made alike, or answers are missing or damaged.
    """
    notes: list[str] = []
    sides = [_System(result.upstream.name, root, [result]) for result in (first, second)]
    scored = _scored(sides, first.task.name, None, notes)
    if not scored:
        raise MarbleError(" ".join(notes))
    return paired(scored[0].test, scored[1].test, same_seeds=scored[0].seeds == scored[1].seeds)


def _system(name: str, results: Path) -> _System:
    """Return the system of an upstream's name or of a folder."""
    everything = read_all(results) if results.is_dir() else []
    if own := [result for result in everything if result.upstream.name == name]:
        return _System(name, results, _newest_first(own))
    folder = Path(name)
    if folder.is_dir():
        pattern = "*-????????????.json"
        root = folder if any(folder.glob(f"*/*/{pattern}")) else folder.parent
        own = [
            result
            for result in read_all(root)
            if root == folder or folder_of(result.upstream.name, "x").parts[0] == folder.name
        ]
        names = list(dict.fromkeys(result.upstream.name for result in own))
        if len(names) > 1:
            raise MarbleError(
                f"{folder} holds results of {', '.join(names)}: name the folder of one of them, such as {folder}/NAME."
            )
        if names:
            return _System(names[0], root, _newest_first(own))
    have = ", ".join(dict.fromkeys(result.upstream.name for result in everything)) or "none"
    raise MarbleError(f"'{name}' has no results: name a folder that holds some, or an upstream of {results} ({have}).")


def _newest_first(results: list[Result]) -> list[Result]:
    chosen = [result for group in choose_results(results).values() for result in group]
    return sorted(chosen, key=lambda result: result.provenance.date, reverse=True)


def _named(systems: list[_System]) -> list[_System]:
    """Return systems with names that differ: those of one upstream are followed by their folders."""
    names = [system.name for system in systems]
    named = [
        _System(f"{system.name} ({system.root})" if names.count(system.name) > 1 else system.name, system.root, system.results)
        for system in systems
    ]
    if len({system.name for system in named}) < len(named):
        raise MarbleError(f"{names[0]} is named twice: a system differs from itself in nothing.")
    return named


def _scored(systems: list[_System], task: str, metric: str | None, notes: list[str]) -> list[_Scored]:
    """Return the results of a task that were made alike, of all systems that have it; empty where there are none."""
    having = [(system, [result for result in system.results if result.task.name == task]) for system in systems]
    if absent := [system.name for system, own in having if not own]:
        notes.append(f"{task}: {', '.join(absent)} {'has' if len(absent) == 1 else 'have'} no result.")
        having = [(system, own) for system, own in having if own]
    if len(having) < 2:
        return []
    refused: tuple[_System, Difference] | None = None
    for chosen in product(*(own for _, own in having)):
        pairs = [(system, _apart(chosen[0], result)) for (system, _), result in zip(having, chosen, strict=True)]
        apart = next(((system, fields[0]) for system, (fields, _) in pairs if fields), None)
        refused = refused or apart
        if apart is None:
            break
    else:
        assert refused
        notes.append(f"{task}: {having[0][0].name} and {refused[0].name} are not paired, since they differ in {refused[1]}.")
        return []
    for system, (_, let_through) in pairs:
        for field in let_through:
            notes.append(f"{task}: {having[0][0].name} and {system.name} are paired though they differ in {field}.")
    name = metric or chosen[0].task.main_metric
    if name not in chosen[0].task.metrics or name not in METRICS:
        why = "is no metric of tracks that marble pairs" if name in chosen[0].task.metrics else "does not score it"
        notes.append(f"{task}: {name} {why}.")
        return []
    scored = [_Scored(system, result, name) for (system, _), result in zip(having, chosen, strict=True)]
    for other in scored[1:]:
        if other.tracks != scored[0].tracks or not np.array_equal(other.test.targets, scored[0].test.targets):
            alone = sorted(set(other.tracks) ^ set(scored[0].tracks))
            what = f"test tracks such as {alone[0]}" if alone else "the targets of test tracks"
            notes.append(f"{task}: {scored[0].system} and {other.system} are not paired, since they differ in {what}.")
            return []
    return scored


def _apart(first: Result, second: Result) -> tuple[list[Difference], list[Difference]]:
    """Return the fields that keep two results from being paired, and those that are let through and noted."""
    fields = [field for field in differences(first, second) if not field.field.startswith(_MAY_DIFFER)]
    same_protocol = (first.protocol.name, first.protocol.changes) == (second.protocol.name, second.protocol.changes)
    noted = [field for field in fields if same_protocol and field.field.startswith(_NOTED)]
    return [field for field in fields if field not in noted], noted


def _of_task(scored: list[_Scored], task: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of the pairs and of the systems on one task."""
    result = scored[0].result
    metric = scored[0].metric
    higher = result.higher_is_better(metric)
    about = {"task": task, "protocol": result.protocol.label, "metric": metric, "higher_is_better": higher}
    by_layer = [side.by_layer() if metric == result.task.main_metric else None for side in scored]
    pairs = []
    for (a, first), (b, second) in combinations(enumerate(scored), 2):
        seen = paired(first.test, second.test, same_seeds=first.seeds == second.seeds)
        chosen = [by_layer[a], by_layer[b]]
        error = math.nan
        if chosen[0] and chosen[1]:
            error = layer_error([side[0] for side in chosen if side], [side[1] for side in chosen if side], higher)
        pairs.append(about | _sides(first, second) | _statistics(seen, error))
    sides = []
    for side in scored:
        summary = side.layer.test[metric]
        low, high = summary.ci95 or (None, None)
        of_side = {"system": side.system, "layer": side.layer.layer, "score": summary.mean, "seed_deviation": summary.std}
        sides.append(about | of_side | {"low": low, "high": high})
    return pairs, sides


def _sides(first: _Scored, second: _Scored) -> dict[str, Any]:
    return {
        "first": first.system,
        "second": second.system,
        "first_layer": first.layer.layer,
        "second_layer": second.layer.layer,
        "first_score": float(first.test.values.mean()),
        "second_score": float(second.test.values.mean()),
        "seeds": min(len(first.seeds), len(second.seeds)),
    }


def _statistics(seen: Paired, layer_error: float) -> dict[str, float]:
    return {
        "difference": seen.difference,
        "low": seen.low,
        "high": seen.high,
        "p_permutation": seen.p_permutation,
        "p_mcnemar": seen.p_mcnemar,
        "sampling_error": seen.sampling_error,
        "seed_spread": seen.seed_spread,
        "layer_error": layer_error,
        "minimal_detectable": seen.minimal_detectable,
        "tracks": seen.tracks,
    }


def _grouped(pairs: pandas.DataFrame, systems: pandas.DataFrame, notes: list[str]) -> Comparison:
    """Adjust the p-values of all pairs, and group the systems of each task into ties."""
    pairs["p_holm"] = holm(pairs["p_permutation"])
    pairs["significant"] = pairs["p_holm"] < LEVEL
    apart = pairs[pairs["significant"]]
    different = {frozenset(names) for names in zip(apart["task"], apart["first"], apart["second"], strict=True)}
    systems["group"] = 0
    for task, rows in systems.groupby("task", sort=False):
        names = list(rows["system"])
        groups = tie_groups(
            rows["score"].astype(float).tolist(),
            lambda a, b, task=task, names=names: frozenset((task, names[a], names[b])) not in different,
            bool(rows["higher_is_better"].iloc[0]),
        )
        systems.loc[rows.index, "group"] = groups
    group = systems.set_index(["task", "system"])["group"]
    for side in ("first", "second"):
        pairs[f"{side}_group"] = [group[task, name] for task, name in zip(pairs["task"], pairs[side], strict=True)]
    columns = [
        "task", "protocol", "metric", "higher_is_better", "first", "second", "first_layer", "second_layer", "first_score",
        "second_score", "first_group", "second_group", "difference", "low", "high", "p_permutation", "p_mcnemar", "p_holm",
        "significant", "sampling_error", "seed_spread", "layer_error", "minimal_detectable", "tracks", "seeds",
    ]  # fmt: skip
    return Comparison(pairs[columns], systems, notes)
