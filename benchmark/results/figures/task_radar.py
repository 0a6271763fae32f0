"""The radar of upstreams over tasks, as in Figure 5 of the MuQ paper: an axis for each task, a polygon for each upstream.

- A point is the test score of the layer that validation chose, as a share of the best score of its axis, which stands beside
  the name of the task; of an error, where lower is better, the best over it.
- The centre is no zero but a share that the title states, below all that is drawn: differences look larger than they are, and
  the rings say how large they are. A score below zero, as of R², stands in the centre.
- An upstream without a score on a task has a gap there.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from marble.errors import MarbleError, printable
from marble.results.figures.scans import Scan, Source, ordered, scans_of
from marble.results.figures.style import Style, about, look, metric_of, put_legend, put_title, series_of, style_of

_FEWEST = 3
_CENTRES = (0.0, 0.2, 0.6, 0.8, 0.9)  # shares that leave round numbers for four rings


def radar(source: Source, *, style: str = "screen") -> Figure:
    """Return the radar of some upstreams.

    Args:
        source: results, or a table of them (`marble.results.figures.scans`), of three tasks or more.
        style: "screen" or "paper".

    Raises:
        MarbleError: there are fewer tasks, or there is no such style.
    """
    scans, chosen = scans_of(source), style_of(style)
    scans = [scan for scan in scans if scan.selected and not math.isnan(scan.selected.mean)]
    tasks = ordered(scan.task for scan in scans)
    if len(tasks) < _FEWEST:
        raise MarbleError(f"A radar needs {_FEWEST} tasks, there are {len(tasks)}: marble curve shows what there is.")
    with rc_context(chosen.rc):
        return _draw(scans, tasks, chosen)


def _draw(scans: list[Scan], tasks: list[str], style: Style) -> Figure:
    series = series_of(scans)
    names = ordered(series)
    best = {task: _best([scan for scan in scans if scan.task == task]) for task in tasks}
    shares = np.full((len(names), len(tasks)), math.nan)
    for scan, name in zip(scans, series, strict=True):
        shares[names.index(name), tasks.index(scan.task)] = _share(scan, best[scan.task])
    centre = max((centre for centre in _CENTRES if centre + (1 - centre) / 8 <= np.nanmin(shares)), default=0.0)
    width = style.width(0 if style.widths else 5.5)
    figure = Figure(figsize=(width, width), layout="constrained")
    axes: Any = figure.add_subplot(projection="polar")
    angles = np.arange(len(tasks)) * 2 * np.pi / len(tasks)
    for place, row in enumerate(shares):
        closed = np.append(row, row[0])
        axes.plot(np.append(angles, 2 * np.pi), closed, **look(place), label=names[place], clip_on=False, zorder=3)
        if not np.isnan(row).any():
            axes.fill(angles, row, color=look(place)["color"], alpha=0.06)
    rings = np.linspace(centre, 1, 5)[1:].round(3)
    axes.set(ylim=(centre, 1), theta_offset=np.pi / 2, theta_direction=-1)
    axes.set_rgrids(rings, [f"{ring:g}" for ring in rings], angle=180 / len(tasks), fontsize=style.small, color="0.35")
    metrics = {scan.task: metric_of(scan).replace(" (", "\n(") for scan in scans}
    labels = [f"{printable(task)}\n{metrics[task]}\n{best[task]:.3f}" for task in tasks]
    axes.set_thetagrids(np.degrees(angles), labels, fontsize=style.small)
    for label, angle in zip(axes.get_xticklabels(), angles, strict=True):
        label.set_horizontalalignment("center" if abs(math.sin(angle)) < 0.1 else "left" if math.sin(angle) > 0 else "right")
    axes.tick_params(axis="x", pad=12 * style.scale)
    axes.grid(color="0.85", linewidth=0.8 * style.scale)
    axes.spines["polar"].set(color="0.6", linewidth=0.8 * style.scale)
    rule = f"rings: share of the best score, written at the axis; centre {centre:g}"
    put_title(figure, [about(scans), "layer chosen on validation", rule], style)
    put_legend(figure, names, style)
    return figure


def _best(scans: list[Scan]) -> float:
    values = [scan.selected.mean for scan in scans if scan.selected]
    return max(values) if scans[0].higher_is_better else min(values)


def _share(scan: Scan, best: float) -> float:
    """Return a score as a share of the best, in 0 to 1."""
    score = scan.selected.mean if scan.selected else math.nan
    top, bottom = (score, best) if scan.higher_is_better else (best, score)
    if bottom <= 0:  # nothing is a share of it
        return 1.0 if score == best else 0.0
    return max(top / bottom, 0.0)
