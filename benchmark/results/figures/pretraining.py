"""The curves of a pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from marble.errors import printable
from marble.results.figures.style import STYLES


@rc_context(STYLES["screen"].rc)
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
