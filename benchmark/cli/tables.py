"""Tables of results for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table
from rich.text import Text

from marble.errors import printable
from marble.results.choose import task_titles
from marble.results.schema import LayerResult, Result, Selected, Summary

if TYPE_CHECKING:
    from marble.jobs.many import Outcome

_SHADES = ("#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#fee838")


def result_table(result: Result) -> Table:
    """Return the layers of a result as a table for a terminal, coloured like the heatmap; ``*`` marks the selected layer."""
    metric = result.task.main_metric
    tracks = result.task.tracks["test"]
    seeds = f"{len(result.layers[0].runs)} seed{'s' * (len(result.layers[0].runs) > 1)}"
    direction = result.task.metrics[metric]
    undefined, labels = result.task.labels_without_roc_auc, len(result.task.labels)
    of_choice = _ends(result.selected.ci95_of_choice.get(metric))
    caption = f"protocol {result.protocol.label}, {seeds}; * chosen on validation; 95 % interval over tracks, "
    caption += f"with the choice repeated {of_choice}"
    caption += f"; roc_auc: mean over {labels - undefined} of {labels} labels" if undefined else ""
    table = Table(
        title=printable(f"{result.upstream.name} on {result.task.name}: {metric} of {tracks} test tracks, {direction}"),
        caption="\n".join(map(printable, [caption, *result.doubts])),
        caption_justify="left",
    )
    table.add_column("layer")
    others = [name for name in result.task.metrics if name != metric]
    for heading in ("validation", "test", "95 % interval", *others):
        table.add_column(heading, justify="right")
    for layer, relative in zip(result.layers, result.relative_scores(), strict=True):
        test = layer.test[metric]
        shade = _SHADES[round(relative * (len(_SHADES) - 1))] if test.mean is not None else "default"
        score = Text(_mean(test), style=f"{'black' if relative > 0.5 else 'white'} on {shade}")
        mark = "*" if layer.layer == result.selected.layer else " "
        cells = (_mean(layer.validation[metric]), score, _ends(test.ci95), *(_mean(layer.test[name]) for name in others))
        table.add_row(Text(printable(f"{mark} {_name(layer)}")), *cells)
    return table


def outcome_table(outcomes: Sequence[Outcome]) -> Table:
    """Return the outcomes of many runs as a table for a terminal: the selected layer and its test score, or the complaint."""
    results = [outcome.result for outcome in outcomes if outcome.result]
    titles = iter(task_titles(results))
    protocols = ", ".join(dict.fromkeys(result.protocol.label for result in results))
    table = Table(
        "upstream", "task", "layer", "metric", "test", "95 % interval", "status",
        title=f"{len(results)} of {len(outcomes)} runs have a result",
        caption=printable(f"protocol {protocols}") if results else None,
    )  # fmt: skip
    for outcome in outcomes:
        result, task, cells = outcome.result, outcome.task, ["–"] * 4
        if result:
            task, metric = next(titles), result.task.main_metric
            test = result.selected.test[metric]
            cells = [_name(result.selected), metric, _mean(test), _ends(test.ci95)]
        done = f"done, bad clips left out: {len(result.bad_clips)}" if result and result.bad_clips else "done"
        cells = [outcome.upstream, task, *cells, outcome.complaint or done]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def plan_table(plans: Sequence[dict[str, Any]]) -> Table:
    """Return plans as a table for a terminal, in hours, minutes and gigabytes."""
    units = {"hours": "h", "minutes": "min", "gigabytes": "GB"}
    headings = (" ".join(units.get(word, word) for word in key.split("_")) for key in plans[0])
    table = Table(*(Column(heading, overflow="fold") for heading in headings))
    for plan in plans:
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else printable(f"{value}") for value in plan.values()))
    return table


def _name(layer: LayerResult | Selected) -> str:
    return layer.name if layer.layer == "weighted" else f"{layer.layer} {layer.name}"


def _ends(interval: tuple[float | None, float | None] | None) -> str:
    low, high = interval or (None, None)
    return f"{_three(low)} … {_three(high)}"


def _mean(summary: Summary) -> str:
    return _three(summary.mean) + (f" ± {_three(summary.std)}" if summary.std is not None else "")


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
