"""Content of the page, as plain values: results by task, by upstream and one by one."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from marble.errors import MarbleError
from marble.results.choose import choose_results, task_titles
from marble.results.report.answers import Confusion, HardClip, confusion, hardest
from marble.results.report.curves import Curves, draw_curves
from marble.results.schema import LayerResult, Result
from marble.results.store import read_readable

if TYPE_CHECKING:
    import pandas

SHADES = 11  # of the colour scale in style.css


class Interval(Protocol):
    """The difference of two results and its 95 % interval; NaN where a metric has no value."""

    @property
    def difference(self) -> float:
        """First less second."""
        ...

    @property
    def low(self) -> float:
        """The lower end."""
        ...

    @property
    def high(self) -> float:
        """The upper end."""
        ...


# From two results and the folder of all results to the difference of their selected layers on the same test tracks, such as
# `marble.analysis.compare.compare_results`. A MarbleError says why two results cannot be paired.
Paired = Callable[[Result, Result, Path], Interval]


@dataclass
class Entry:
    """A chosen result with its numbers in the page.

    Attributes:
        result: the result.
        task: how the page calls its task.
        upstream: how the page calls its upstream; with its weights where results of several stand in the page.
        number, task_number: of upstream and task, for the filters.
        confusion: of its answers; None where there is none, or its answers cannot be read.
    """

    result: Result
    task: str
    upstream: str
    number: int
    task_number: int
    confusion: Confusion | None = None

    @property
    def anchor(self) -> str:
        """The place of its details in the page."""
        return f"result-{self.result.identity[:12]}"

    @property
    def metric(self) -> str:
        """The main metric."""
        return self.result.task.main_metric

    @property
    def protocol(self) -> str:
        """The protocol, and the limit where there is one."""
        limit = self.result.task.limit
        return self.result.protocol.label + (f", at most {limit} tracks of each split" if limit else "")

    @property
    def mean(self) -> float | None:
        """The test score of the selected layer."""
        return self.result.selected.test[self.metric].mean

    @property
    def shades(self) -> dict[str, int | None]:
        """The shade of each layer, from that of the worst to that of the best; None for one without a score."""
        scores = zip(self.result.layers, self.result.relative_scores(), strict=True)
        return {str(layer.layer): None if math.isnan(score) else round(score * (SHADES - 1)) for layer, score in scores}

    @property
    def layers(self) -> dict[str, LayerResult]:
        """The layers by index."""
        return {str(layer.layer): layer for layer in self.result.layers}

    @property
    def facts(self) -> dict[str, list[tuple[str, str]]]:
        """Protocol, task, upstream, machine and files, as pairs of a name and a value."""
        parts = self.result.document()
        labels = parts["task"].pop("labels")
        parts["upstream"].pop("layers")
        parts["task"]["labels"] = f"{len(labels)}: {', '.join(labels[:40])}{', …' if len(labels) > 40 else ''}"
        parts["task"].pop("notes")
        parts["files"] = {"result": str(self.result.path), "identity": self.result.identity, "seal": self.result.seal}
        parts["selection"] = {"rule": self.result.selected.rule}
        headings = ("protocol", "selection", "task", "upstream", "provenance", "files")
        return {heading: list(_flat("", parts[heading])) for heading in headings}


@dataclass
class Group:
    """The results of one upstream under one protocol and limit, by task."""

    entries: list[Entry]

    @property
    def rows(self) -> dict[str, str]:
        """The names of all layers, by index in ascending order, the weighted sum last."""
        names = {index: layer.name for entry in self.entries for index, layer in entry.layers.items()}
        return dict(sorted(names.items(), key=lambda row: (not row[0].isdigit(), int(row[0]) if row[0].isdigit() else 0)))


@dataclass
class Difference:
    """The best upstream less another one, or why there is no difference."""

    second: Entry
    value: Interval | None
    complaint: str = "The metric has no value for one of them."


@dataclass
class Comparison:
    """The results on one task under one protocol and limit, best first.

    Attributes:
        entries: the results.
        differences: of the best one less the others.
        hardest: the test tracks that are answered wrongly most often.
    """

    entries: list[Entry]
    differences: list[Difference] = field(default_factory=list)
    hardest: list[HardClip] = field(default_factory=list)

    @property
    def first(self) -> Entry:
        """The best result."""
        return self.entries[0]

    def rank(self, entry: Entry) -> int:
        """Return the rank of a result; equal scores share one."""
        result = entry.result
        return 1 + sum(result.better(other.mean, entry.mean) for other in self.entries)

    @cached_property
    def curves(self) -> Curves | None:
        """The scores over layers; None where no result has two layers."""
        results = {entry.upstream: entry.result for entry in self.entries}
        return draw_curves(results, {entry.upstream: entry.number for entry in self.entries})


@dataclass
class Content:
    """All that the page shows.

    Attributes:
        root: the folder of all results.
        files: number of results that were found.
        complaints: about results, and answers, that cannot be read.
        unreadable: number of results among these.
        entries: the chosen results, by upstream.
        groups: the same results by upstream, protocol and limit.
        comparisons: the same results by task.
        upstreams, tasks: the names of the filters.
    """

    root: str
    files: int
    complaints: list[str]
    unreadable: int
    entries: list[Entry]
    groups: list[Group]
    comparisons: list[Comparison]
    upstreams: list[str]
    tasks: list[str]

    @property
    def boards(self) -> list[tuple[str, list[Comparison]]]:
        """The leaderboards that are not empty: of real data, and of the synthetic tasks."""
        ranked = [comparison for comparison in self.comparisons if not comparison.first.result.task.limit]
        boards = [
            (title, [comparison for comparison in ranked if comparison.first.result.task.synthetic == synthetic])
            for title, synthetic in (("Real data", False), ("Synthetic tasks", True))
        ]
        return [board for board in boards if board[1]]

    @property
    def limited(self) -> int:
        """The number of results that stand in no leaderboard."""
        return sum(entry.result.task.limit is not None for entry in self.entries)


def collect(root: Path, paired: Paired | None) -> Content:
    """Return what the page shows of all results below a folder; what cannot be read is named in a warning, too.

    Raises:
        MarbleError: there is no such folder.
    """
    results, complaints = read_readable(root)
    chosen = list(choose_results(results).values())
    flat = [result for group in chosen for result in group]
    titles = dict(zip((result.identity for result in flat), task_titles(flat), strict=True))
    tasks = sorted(set(titles.values()))
    names = _upstream_names(flat)
    upstreams = sorted(set(names.values()))

    def entry(result: Result) -> Entry:
        task, upstream = titles[result.identity], names[result.identity]
        return Entry(result, task, upstream, upstreams.index(upstream), tasks.index(task))

    groups = [Group(sorted(map(entry, group), key=lambda entry: entry.task)) for group in chosen]
    entries = [entry for group in groups for entry in group.entries]
    comparisons, unreadable = _compare(entries), len(complaints)
    for comparison in comparisons:
        complaints += _add_answers(comparison, root)
        if paired:
            comparison.differences = [_difference(comparison.first, entry, root, paired) for entry in comparison.entries[1:]]
    return Content(
        str(root.absolute()), len(results) + unreadable, complaints, unreadable, entries, groups, comparisons, upstreams, tasks
    )


def _upstream_names(results: Sequence[Result]) -> dict[str, str]:
    """Return the name of the upstream of each result, by identity, with its weights where there are several of one name."""
    weights = Counter(name for name, _ in {(result.upstream.name, result.upstream.weights_sha256) for result in results})
    return {
        result.identity: result.upstream.name
        + (f" ({result.upstream.weights_sha256[:6]})" if weights[result.upstream.name] > 1 else "")
        for result in results
    }


def _compare(entries: Sequence[Entry]) -> list[Comparison]:
    """Return results by task, protocol, limit and metric, best first."""
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.task, entry.protocol, entry.metric), []).append(entry)
    comparisons = [Comparison(group) for _, group in sorted(groups.items())]
    for comparison in comparisons:
        comparison.entries = sorted(comparison.entries, key=lambda entry, of=comparison: (of.rank(entry), entry.upstream))
    return comparisons


def _add_answers(comparison: Comparison, root: Path) -> list[str]:
    """Add confusions and hard clips to a comparison; return the complaints about answers that cannot be read."""
    answers: dict[str, pandas.DataFrame] = {}
    complaints = []
    for entry in comparison.entries:
        try:
            table = entry.result.predictions(root)
        except MarbleError as error:
            complaints.append(str(error))
            warnings.warn(str(error), stacklevel=2)
            continue
        entry.confusion = confusion(entry.result, table)
        if entry.result.task.data_sha256 == comparison.first.result.task.data_sha256:
            answers[entry.result.identity] = table
    comparison.hardest = hardest([entry.result for entry in comparison.entries], answers)
    return complaints


def _difference(first: Entry, second: Entry, root: Path, paired: Paired) -> Difference:
    try:
        value = paired(first.result, second.result, root)
    except MarbleError as error:
        return Difference(second, None, str(error))
    return Difference(second, None if math.isnan(value.difference) else value)


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), part)
    elif value is not None and value != []:
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
