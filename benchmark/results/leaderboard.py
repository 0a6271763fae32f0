"""Results as tables: on a terminal, and as a leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas
from rich.table import Table
from rich.text import Text

from marble.probe.metrics import METRICS
from marble.results.figures import relative_scores
from marble.results.published import published_numbers
from marble.results.schema import LayerResult, Result, Selected, Summary

if TYPE_CHECKING:
    from marble.jobs.many import Outcome

_SHADES = ("#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#fee838")


def result_table(result: Result) -> Table:
    """Return the layers of a result as a table for a terminal, coloured like the heatmap; ``*`` marks the selected layer."""
    metric = result.task["main_metric"]
    tracks = result.task["tracks"]["test"]
    seeds = f"{len(result.layers[0].runs)} seed{'s' * (len(result.layers[0].runs) > 1)}"
    direction = result.task["metrics"][metric]
    table = Table(
        title=f"{result.upstream['name']} on {result.task['name']}: {metric} of {tracks} test tracks, {direction}",
        caption=f"protocol {result.protocol['label']}, {seeds}; * chosen on validation; 95 % interval over tracks",
    )
    table.add_column("layer")
    others = [name for name in result.task["metrics"] if name != metric]
    for heading in ("validation", "test", "95 % interval", *others):
        table.add_column(heading, justify="right")
    for layer, relative in zip(result.layers, relative_scores(result), strict=True):
        test = layer.test[metric]
        shade = _SHADES[round(relative * (len(_SHADES) - 1))] if test.mean is not None else "default"
        score = Text(_mean(test), style=f"{'black' if relative > 0.5 else 'white'} on {shade}")
        mark = "*" if layer.layer == result.selected.layer else " "
        cells = (_mean(layer.validation[metric]), score, _interval(test), *(_mean(layer.test[name]) for name in others))
        table.add_row(Text(f"{mark} {_name(layer)}"), *cells)
    return table


def outcome_table(outcomes: Sequence[Outcome]) -> Table:
    """Return what became of many runs as a table for a terminal: the selected layer and its test score, or why not."""
    results = [outcome.result for outcome in outcomes if outcome.result]
    protocols = ", ".join(dict.fromkeys(result.protocol["label"] for result in results))
    table = Table(
        "upstream", "task", "layer", "metric", "test", "95 % interval", "status",
        title=f"{len(results)} of {len(outcomes)} runs have a result", caption=f"protocol {protocols}" if results else None,
    )  # fmt: skip
    for outcome in outcomes:
        result, task, cells = outcome.result, outcome.task, ["–"] * 4
        if result:
            task, metric = result.task["name"], result.task["main_metric"]
            test = result.selected.test[metric]
            cells = [_name(result.selected), metric, _mean(test), _interval(test)]
        done = f"done, bad clips left out: {len(result.bad_clips)}" if result and result.bad_clips else "done"
        table.add_row(*map(Text, (outcome.upstream, task, *cells, outcome.complaint or done)))
    return table


def leaderboard(results: Sequence[Result], *, synthetic: bool = False, with_published: bool = False) -> pandas.DataFrame:
    """Return one row for each result: the selected layer and what it reached on test, best first within task and protocol.

    The column `source` says "measured", or "published" with paper and table.

    Args:
        results: any.
        synthetic: rows of the synthetic tasks instead of those of real data; the two never stand in one leaderboard. Results
            of a ``--limit`` run stand in neither.
        with_published: add the numbers of the papers, and measured rows of the metrics that papers state for a task. The
            papers' rows follow the measured ones of their task in the order of the papers, with the papers' own protocols:
            they are ranked neither among these nor among themselves.
    """
    chosen = [result for result in results if result.task["synthetic"] == synthetic and not result.task["limit"]]
    published = [number for number in published_numbers() if number["task"] != "average"] if with_published else []
    stated = {(number["task"], number["metric"]) for number in published}
    board = pandas.DataFrame(
        [
            _board_row(result, metric)
            for result in chosen
            for metric in result.selected.test
            if metric == result.task["main_metric"] or (result.task["name"], metric) in stated
        ],
        columns=_BOARD_COLUMNS,
    )
    direction = board["metric"].map(lambda name: -1 if METRICS[name].higher_is_better else 1)
    measured = (
        board.assign(order=pandas.to_numeric(board["test_mean"]) * direction)
        .sort_values(["task", "protocol", "metric", "order", "upstream"], kind="stable", ignore_index=True)
        .drop(columns="order")
    )
    if not with_published:
        return measured
    theirs = [
        number | {"upstream": number["system"], "test_mean": number["value"], "test_std": number["spread"]}
        for number in published
    ]
    both = pandas.DataFrame([*measured.to_dict("records"), *theirs], columns=_BOARD_COLUMNS, dtype=object)
    return both.sort_values("task", kind="stable", ignore_index=True)


_BOARD_COLUMNS = [
    "task", "protocol", "metric", "upstream", "layer", "layer_name", "test_mean", "test_std", "test_low", "test_high",
    "validation_mean", "seeds", "test_tracks", "bad_clips", "data", "weights", "identity", "source", "note",
]  # fmt: skip


def _board_row(result: Result, metric: str) -> dict[str, object]:
    test = result.selected.test[metric]
    low, high = test.ci95 or (None, None)
    return {
        "task": result.task["name"],
        "protocol": result.protocol["label"],
        "metric": metric,
        "upstream": result.upstream["name"],
        "layer": result.selected.layer,
        "layer_name": result.selected.name,
        "test_mean": test.mean,
        "test_std": test.std,
        "test_low": low,
        "test_high": high,
        "validation_mean": result.selected.validation[metric].mean,
        "seeds": len(result.layers[0].runs),
        "test_tracks": result.task["tracks"]["test"],
        "bad_clips": len(result.bad_clips),
        "data": result.task.get("data"),
        "weights": result.upstream["weights_sha256"][:12],
        "identity": result.identity[:12],
        "source": "measured",
        "note": "",
    }


def _name(layer: LayerResult | Selected) -> str:
    return layer.name if layer.layer == "weighted" else f"{layer.layer} {layer.name}"


def _interval(test: Summary) -> str:
    low, high = test.ci95 or (None, None)
    return f"{_three(low)} … {_three(high)}"


def _mean(summary: Summary) -> str:
    return _three(summary.mean) + (f" ± {_three(summary.std)}" if summary.std is not None else "")


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
