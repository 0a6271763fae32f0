"""Choose the results of a figure or a table, and one of several results on one task.

- Of one upstream's results on a task the newest is taken; of those on the same data the one with the most layers, so that a
  look at one layer replaces no scan.
- Results under a changed protocol or a limit, or of older weights of one name, stand apart from the others.
- Two data sets of one name, which lie in different places and differ in content, are two tasks (`task_titles`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from marble.errors import MarbleError
from marble.results.schema import Result
from marble.system.files import digest


def choose_results(results: Iterable[Result]) -> dict[Path, list[Result]]:
    """Return the chosen results of each upstream and protocol, one for each task, by the stem of their figure.

    The stem, such as ``muq/marble``, is a path below the folder of all results; it ends with a hash of the
    differences where a group stands apart.
    """
    by_date = sorted(results, key=lambda result: result.provenance.date)
    groups: dict[Path, dict[str, Result]] = {}
    newest = {result.upstream.name: result.upstream.weights_sha256 for result in by_date}
    for result, title in zip(by_date, task_titles(by_date), strict=True):
        weights = result.upstream.weights_sha256
        older = None if weights == newest[result.upstream.name] else weights
        group = groups.setdefault(_stem(result, [result.protocol.changes, result.task.limit, older]), {})
        before = group.get(title)
        if not before or before.task.data_sha256 != result.task.data_sha256 or len(before.layers) <= len(result.layers):
            group[title] = result
    return {stem: list(group.values()) for stem, group in sorted(groups.items())}


def across_upstreams(groups: Mapping[Path, list[Result]], *, limits: bool = False) -> dict[str, list[Result]]:
    """Return the chosen results of all upstreams under each protocol, by the last part of the stems of `choose_results`.

    Args:
        groups: of `choose_results`.
        limits: join the results of different limits, too.
    """
    joined: dict[str, list[Result]] = {}
    for stem, group in groups.items():
        for result in group:
            name = stem.name
            if limits and result.task.limit:
                name = _stem(result, [result.protocol.changes, None, None]).name
            joined.setdefault(name, []).append(result)
    return joined


def filter_results(
    results: Iterable[Result], upstream: str | None = None, task: str | None = None, protocol: str | None = None
) -> list[Result]:
    """Return the results of some upstreams and tasks under some protocols.

    Args:
        results: any.
        upstream, task, protocol: names, separated by commas, in which ``*`` stands for any letters; a protocol is also meant
            by its whole label. None is all.

    Raises:
        MarbleError: a name is that of no result.
    """
    kept = list(results)
    for word, names, of in (
        ("upstream", upstream, lambda result: (result.upstream.name,)),
        ("task", task, lambda result: (result.task.name,)),
        ("protocol", protocol, lambda result: (result.protocol.name, result.protocol.label)),
    ):
        if names is None:
            continue
        wanted = [names] if any(names in of(result) for result in kept) else [name.strip() for name in names.split(",")]
        for name in wanted:
            if not any(_matches(name, of(result)) for result in kept):
                known = ", ".join(sorted({of(result)[0] for result in kept})) or "none"
                raise MarbleError(f"There is no result of the {word} '{name}': there are {known}.")
        kept = [result for result in kept if any(_matches(name, of(result)) for name in wanted)]
    return kept


def _matches(pattern: str, names: Iterable[str]) -> bool:
    """Return whether one of some names is a pattern in which ``*`` stands for any letters."""
    form = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    return any(form.fullmatch(name) for name in names)


def _stem(result: Result, changes: Sequence[object]) -> Path:
    """Return upstream and protocol of a result as a path, with a hash of what sets it apart."""
    stem = Path(result.path.parts[0], result.path.stem.rpartition("-")[0])
    return stem.with_name(f"{stem.name}-{digest(changes)[:6]}") if any(changes) else stem


def task_titles(results: Sequence[Result]) -> list[str]:
    """Return how figures and tables call the task of each result.

    That is its name; where data sets of one name lie in different places and differ in content, followed by as much of the
    place as tells them apart. A result from before places were recorded belongs to the data of its content, else to the newest.
    """
    titles = [result.task.name for result in results]
    for name in set(titles):
        group = [number for number, result in enumerate(results) if result.task.name == name]
        places = _places([results[number] for number in group])
        ends = _distinct_ends(set(places))
        for number, place in zip(group, places, strict=True):
            titles[number] = f"{name} ({ends[place]})" if len(ends) > 1 else name
    return titles


def _places(results: Sequence[Result]) -> list[str]:
    """Return the place of the data of each result; the first one for data that is the same in several places."""
    of_source: dict[str, str] = {}
    of_data: dict[str | None, str] = {}
    newest = ""
    for task in (result.task for result in sorted(results, key=lambda result: result.provenance.date)):
        if task.source is not None:
            newest = of_source.setdefault(task.source, of_data.get(task.data_sha256, task.source.rstrip("/")))
            of_data.setdefault(task.data_sha256, newest)
    return [of_source.get(result.task.source or "") or of_data.get(result.task.data_sha256, newest) for result in results]


def _distinct_ends(places: Collection[str]) -> dict[str, str]:
    """Return the shortest ends of some paths, in whole parts, that differ from each other."""
    length = 1
    while len({tuple(place.split("/")[-length:]) for place in places}) < len(places):
        length += 1
    return {place: "/".join(place.split("/")[-length:]) for place in places}
