"""The leaderboard, as tables of pandas: a row for each chosen result, or as in papers a row for each upstream.

Beside it `ranks` says what ties, ranks and their intervals are, and `board_text` writes the tables as text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas

from marble.results.choose import choose_results, task_titles
from marble.results.published import published_numbers
from marble.results.ranking.ranks import Estimate, estimate, rank_intervals, tie_groups, tied
from marble.results.schema import Result

_COLUMNS = [
    "task", "protocol", "metric", "upstream", "layer", "layer_name", "test_mean", "test_std", "test_low", "test_high",
    "rank", "rank_low", "rank_high", "tie",
    "validation_mean", "seeds", "test_tracks", "bad_clips", "data_sha256", "weights_sha256", "identity", "source", "note",
]  # fmt: skip
_RANKS = ["rank", "rank_low", "rank_high", "tie"]


@dataclass(frozen=True)
class _Entry:
    """A score of a chosen result: the row of the table in which it stands, its task and metric, its error, and its marks."""

    row: Path
    result: Result
    task: str
    metric: str
    estimate: Estimate

    @property
    def column(self) -> tuple[str, str]:
        """Task and metric: the column of a wide table."""
        return self.task, self.metric


def leaderboard(
    results: Iterable[Result], *, synthetic: bool = False, with_published: bool = False, root: Path | None = None
) -> pandas.DataFrame:
    """Return one row for each chosen result: the selected layer and its test score, best first within task and protocol.

    Rank, its 95 % interval and the number of the tie group are those within task, protocol and metric (see `ranks`).
    The column `source` says "measured", or "published" with paper and table; `note` holds the cautions about the selected
    layer, in their short form, or what the reader of a paper's number must know.

    Args:
        results: any; `choose_results` chooses one of several results of an upstream on a task.
        synthetic: rows of the synthetic tasks instead of those of real data; the two never stand in one leaderboard. Results
            of a ``--limit`` run stand in neither.
        with_published: add the numbers of the papers, and measured rows of the metrics that papers state for a task. The
            papers' rows follow the measured ones of their task in the order of the papers, with the papers' own protocols:
            they are ranked neither among these nor among themselves.
        root: the folder of all results, for the answers that ties and intervals are taken from; without it they rest on the
            intervals that the results state.
    """
    published = _published() if with_published else []
    entries = _entries(results, synthetic, published, root)
    rows = [_row(entry) | marks for entry, marks in zip(entries, _marks(entries), strict=True)]
    measured = pandas.DataFrame(rows, columns=[*_COLUMNS, "order"])
    measured["order"] = pandas.to_numeric(measured["order"])
    measured = measured.sort_values(["task", "protocol", "metric", "order", "upstream"], kind="stable", ignore_index=True)
    measured = measured.drop(columns="order").astype(dict.fromkeys(_RANKS, "Int64"))
    if not with_published:
        return measured
    theirs = [
        number | {"upstream": number["system"], "test_mean": number["value"], "test_std": number["spread"]}
        for number in published
    ]
    both = pandas.DataFrame([*measured.to_dict("records"), *theirs], columns=_COLUMNS, dtype=object)
    return both.sort_values("task", kind="stable", ignore_index=True)


def paper_table(
    results: Iterable[Result], *, synthetic: bool = False, with_published: bool = False, root: Path | None = None
) -> pandas.DataFrame:
    """Return one row for each upstream and protocol and columns for each task, as in Tables 1 and 2 of the MuQ paper.

    Columns have two levels. Of a task and metric: "mean" and "std" of the selected layer over seeds, "place" among the rows of
    the protocol, and "tie", the tie group. ``average`` is the mean over all columns of the protocol in which higher is better;
    each weighs the same, so a task with two metrics counts twice, as in that paper. It stands where an upstream has them all;
    ``rank`` with its "low" and "high" is the place by it. Best averages stand first, published rows last, without ranks.

    Args:
        results, synthetic, root: as for `leaderboard`.
        with_published: add a row for each system of the papers that has one of the columns; a task for which papers state
            metrics then has these columns, else that of its main metric.
    """
    published = _published() if with_published else []
    entries = _entries(results, synthetic, published, root)
    stated = {(number["task"], number["metric"]) for number in published}
    by_papers = {entry.task for entry in entries if (entry.result.task.name, entry.metric) in stated}
    entries = [e for e in entries if e.task not in by_papers or (e.result.task.name, e.metric) in stated]
    columns = {entry.column: entry.estimate.higher_is_better for entry in sorted(entries, key=lambda entry: entry.column)}
    rows: dict[Path, dict[tuple[str, str], Any]] = {}
    for entry, marks in zip(entries, _marks(entries), strict=True):
        name = " ".join(entry.column)
        cells = {"mean": entry.estimate.value, "std": entry.result.selected.test[entry.metric].std}
        cells |= {"place": marks.get("rank"), "tie": marks.get("tie")}
        about = {"upstream": entry.result.upstream.name, "protocol": entry.result.protocol.label, "source": "measured"}
        row = rows.setdefault(entry.row, {(key, ""): value for key, value in about.items()})
        row |= {(name, part): value for part, value in cells.items()}
    for protocol in {row["protocol", ""] for row in rows.values()}:
        _add_averages(rows, [entry for entry in entries if entry.result.protocol.label == protocol])
    averaged = sorted(
        rows.values(), key=lambda row: (row["protocol", ""], -row.get(("average", ""), -math.inf), row["upstream", ""])
    )
    every = [*averaged, *_rows_of_papers(published, columns)]
    parts = [(" ".join(column), part) for column in columns for part in ("mean", "std", "place", "tie")]
    order = [("upstream", ""), ("protocol", ""), *parts, ("average", ""), *(("rank", part) for part in ("", "low", "high"))]
    table = pandas.DataFrame(every, columns=pandas.MultiIndex.from_tuples([*order, ("source", "")]))
    whole = [key for key in order if key[0] == "rank" or key[1] in ("place", "tie")]
    numbers = [key for key in order[2:] if key not in whole]
    return table.astype(dict.fromkeys(numbers, "float64") | dict.fromkeys(whole, "Int64"))


def _entries(results: Iterable[Result], synthetic: bool, published: list[dict[str, Any]], root: Path | None) -> list[_Entry]:
    """Return the scores of the chosen results in their main metrics, and in those that papers state for their tasks."""
    ranked = [result for result in results if result.task.synthetic == synthetic and not result.task.limit]
    stated = {(number["task"], number["metric"]) for number in published}
    chosen = [(stem, result) for stem, group in choose_results(ranked).items() for result in group]
    titles = task_titles([result for _, result in chosen])
    return [
        _Entry(stem, result, task, metric, estimate(result, metric, root))
        for (stem, result), task in zip(chosen, titles, strict=True)
        for metric in result.selected.test
        if metric == result.task.main_metric or (result.task.name, metric) in stated
    ]


def _published() -> list[dict[str, Any]]:
    return [number for number in published_numbers() if number["task"] != "average"]


def _marks(entries: list[_Entry]) -> list[dict[str, int]]:
    """Return rank, its interval and tie group of each entry within task, protocol and metric; none of one without a score."""
    marks: list[dict[str, int]] = [{} for _ in entries]

    def group_of(number: int) -> tuple[str, str, str]:
        return *entries[number].column, entries[number].result.protocol.label

    known = [number for number, entry in enumerate(entries) if not math.isnan(entry.estimate.value)]
    for _, group in groupby(sorted(known, key=group_of), key=group_of):
        numbers = list(group)
        parts = [entries[number].estimate for number in numbers]
        ties = tie_groups(
            [part.value for part in parts], lambda a, b, parts=parts: tied(parts[a], parts[b]), parts[0].higher_is_better
        )
        for number, ranks, tie in zip(numbers, rank_intervals({"": [parts]}), ties, strict=True):
            marks[number] = dict(zip(_RANKS, (*ranks, tie), strict=True))
    return marks


def _add_averages(rows: dict[Path, dict[tuple[str, str], Any]], entries: list[_Entry]) -> None:
    """Add average and rank to the rows of one protocol that have all columns in which higher is better."""
    entries = [entry for entry in entries if entry.estimate.higher_is_better]
    columns = sorted({entry.column for entry in entries})
    of_row: dict[Path, dict[tuple[str, str], Estimate]] = {}
    for entry in entries:
        if not math.isnan(entry.estimate.value):
            of_row.setdefault(entry.row, {})[entry.column] = entry.estimate
    whole = {row: parts for row, parts in of_row.items() if len(parts) == len(columns)}
    if not whole:
        return
    tasks = {task: [column for column in columns if column[0] == task] for task, _ in columns}
    ranks = rank_intervals({task: [[parts[column] for parts in whole.values()] for column in of] for task, of in tasks.items()})
    for (row, parts), (rank, low, high) in zip(whole.items(), ranks, strict=True):
        average = math.fsum(part.value for part in parts.values()) / len(columns)
        rows[row] |= {("average", ""): average, ("rank", ""): rank, ("rank", "low"): low, ("rank", "high"): high}


def _rows_of_papers(published: list[dict[str, Any]], columns: dict[tuple[str, str], bool]) -> list[dict[tuple[str, str], Any]]:
    """Return a row for each system of the papers, and for its weighted sum, that has one of some columns."""
    rows: dict[tuple[str, str, bool], dict[tuple[str, str], Any]] = {}
    for number in published:
        column = number["task"], number["metric"]
        if column in columns:
            weighted = number["layer"] == "weighted"
            key = number["paper"], number["system"], weighted
            about = {"upstream": number["system"] + " (weighted sum)" * weighted, "protocol": number["protocol"]}
            about |= {"source": f"published: {number['paper']}"}
            row = rows.setdefault(key, {(name, ""): value for name, value in about.items()})
            row.setdefault((" ".join(column), "mean"), number["value"])
            row.setdefault((" ".join(column), "std"), number["spread"])
    averaged = [(" ".join(column), "mean") for column, higher in columns.items() if higher]
    for row in rows.values():
        if all(key in row for key in averaged):
            row["average", ""] = math.fsum(row[key] for key in averaged) / len(averaged)
    return list(rows.values())


def _row(entry: _Entry) -> dict[str, object]:
    result = entry.result
    test = result.selected.test[entry.metric]
    low, high = test.ci95 or (None, None)
    return {
        "task": entry.task,
        "protocol": result.protocol.label,
        "metric": entry.metric,
        "upstream": result.upstream.name,
        "layer": result.selected.layer,
        "layer_name": result.selected.name,
        "test_mean": test.mean,
        "test_std": test.std,
        "test_low": low,
        "test_high": high,
        "validation_mean": result.selected.validation[entry.metric].mean,
        "seeds": len(result.layers[0].runs),
        "test_tracks": result.task.tracks["test"],
        "bad_clips": len(result.bad_clips),
        "data_sha256": result.task.data_sha256,
        "weights_sha256": result.upstream.weights_sha256[:12],
        "identity": result.identity[:12],
        "source": "measured",
        "note": "; ".join(result.short_cautions),
        "order": None if test.mean is None else -test.mean if entry.estimate.higher_is_better else test.mean,
    }
