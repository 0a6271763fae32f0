"""Figures: the layer-wise heatmap, and the curves of a pretraining.

Conventions
-----------
- Rows are layers, columns tasks; a cell holds the mean test score of the task's main metric.
- Colour is relative within a column (its worst layer to its best), since metrics of different tasks share no scale. The map
  ("cividis") reads the same to colour-blind eyes and in grey.
- A frame marks the layer that *validation* chose; it need not be the darkest or brightest cell. Cautions about it stand
  above, in their short form, with the tasks that they concern.
- Names are drawn as `marble.errors.printable` writes them, so that an SVG is valid XML whatever a folder is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from marble.errors import printable
from marble.results.choose import task_titles
from marble.results.schema import Result
from marble.system.files import atomic_write

_LETTERS = 13.5  # of 9 points, in an inch
_MAP = colormaps["cividis"]
_UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
_STYLE: Any = {"svg.hashsalt": "marble", "font.size": 9, "svg.fonttype": "none", "text.parse_math": False}


@rc_context(_STYLE)
def heatmap(results: Sequence[Result]) -> Figure:
    """Return the heatmap of one upstream's results, one for each task, all under one protocol and one limit.

    Args:
        results: of one upstream; tasks stand in this order.
    """
    rows = _row_names(results)
    names = list(rows)
    metrics = [result.task.main_metric for result in results]
    labels = list(zip(map(printable, task_titles(results)), map(printable, metrics), strict=True))
    longest = max(len(part) for label in labels for part in label)
    width = max(2.4 + len(results) * max(1.25, (longest + 2) / _LETTERS), 5.0)
    title = _title(results, round(width * _LETTERS))
    figure = Figure(figsize=(width, 1.5 + 0.15 * len(title) + 0.3 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    for column, result in enumerate(results):
        metric = result.task.main_metric
        for layer, relative in zip(result.layers, result.relative_scores(), strict=True):
            row = names.index(str(layer.layer))
            mean = layer.test[metric].mean
            colour = _MAP(relative) if mean is not None else (1, 1, 1, 1)
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour))
            text = "–" if mean is None else f"{mean:.3f}"
            axes.text(
                column, row, text, ha="center", va="center", color="black" if relative > 0.55 or mean is None else "white"
            )
            if layer.layer == result.selected.layer:
                axes.add_patch(
                    Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, fill=False, edgecolor="#d62728", linewidth=2.2, zorder=3)
                )
    axes.set(xlim=(-0.5, len(results) - 0.5), ylim=(-0.5, len(names) - 0.5), ylabel="layer")
    axes.set_xticks(range(len(results)), ["\n".join(label) for label in labels])
    axes.set_yticks(range(len(names)), [rows[name] for name in names])
    axes.tick_params(length=0)
    figure.suptitle("\n".join(title), fontsize=9)
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), _MAP), ax=axes, ticks=[0, 1], fraction=0.05, pad=0.02)
    bar.ax.set_yticklabels(["worst layer\nof the task", "best layer\nof the task"])
    return figure


@rc_context(_STYLE)
def save_figure(figure: Figure, path: Path, kinds: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write a figure, by default as PNG (200 dpi) and SVG; return the paths.

    Args:
        figure: drawn by this module.
        path: without extension.
        kinds: of files: png, svg or pdf.

    Raises:
        MarbleError: the disk is full or the folder cannot be written.
    """
    written = []
    for kind in kinds:
        target = path.with_name(f"{path.name}.{kind}")
        with atomic_write(target) as beside:
            figure.savefig(beside, format=kind, dpi=200, metadata=_UNDATED.get(kind))
        written.append(target)
    return written


@rc_context(_STYLE)
def training_curve(log: Sequence[dict[str, Any]], scores: Sequence[dict[str, str]]) -> Figure:
    """Return the curves of a pretraining over its steps: the loss, and for each probed task the validation score.

    Args:
        log: lines of the log; those with a loss are drawn.
        scores: rows with step, task, metric and validation.
    """
    tasks = list(dict.fromkeys(row["task"] for row in scores))
    figure = Figure(figsize=(3.2 * (1 + len(tasks)), 2.6), layout="constrained")
    first, *others = figure.subplots(1, 1 + len(tasks), sharex=True, squeeze=False)[0]
    lines = [line for line in log if "loss" in line]
    first.plot([line["step"] for line in lines], [line["loss"] for line in lines], color="black", linewidth=1)
    first.set(xlabel="step", ylabel="nats + squared error", title="training loss")
    for axes, task in zip(others, tasks, strict=True):
        points = [row for row in scores if row["task"] == task]
        steps, values = [int(row["step"]) for row in points], [float(row["validation"]) for row in points]
        axes.plot(steps, values, color="#0072b2", marker="o", markersize=4)
        axes.set(xlabel="step", ylabel=f"validation {points[0]['metric']}", title=printable(task.rpartition("/")[2]))
    return figure


def _title(results: Sequence[Result], letters: int) -> list[str]:
    """Return the lines above a heatmap, each of at most this many letters."""
    counts = sorted({len(layer.runs) for result in results for layer in result.layers})
    about = f"mean test score of {' or '.join(map(str, counts))} seed{'s' * (counts != [1])}"
    about += f", protocol {results[0].protocol.label}"
    if limit := results[0].task.limit:
        about += f", at most {limit} tracks of each split"
    tasks: dict[str, list[str]] = {}
    for result in results:
        for caution in result.short_cautions:
            tasks.setdefault(caution, []).append(result.task.name)
    cautions = (f"{caution}: {', '.join(names)}" for caution, names in tasks.items())
    lines = [f"{results[0].upstream.name}: {about}", "red frame: layer chosen on validation", *cautions]
    return [part for line in lines for part in wrap(printable(line), letters)]


def _row_names(results: Sequence[Result]) -> dict[str, str]:
    """Return the label of each row, layer 0 at the bottom and the weighted sum on top."""
    rows: dict[str, str] = {}
    for result in results:
        for layer in result.layers:
            name = printable(layer.name)
            rows[str(layer.layer)] = name if layer.layer == "weighted" else f"{layer.layer}  {name}"
    return dict(sorted(rows.items(), key=lambda item: (item[0] == "weighted", int(item[0]) if item[0].isdigit() else 0)))
