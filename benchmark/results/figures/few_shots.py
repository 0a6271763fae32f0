"""The curve of a score over the number of training tracks: a panel for each task, a line for each upstream.

A point is the test score of the layer that validation chose, with its 95 % interval over tracks, of one result; the results
of a line differ in ``--limit`` alone. A limit holds for all splits: with fewer training tracks there are fewer validation and
test tracks, too, and the interval is wider.
"""

from __future__ import annotations

import math
from typing import TypeAlias

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from marble.errors import MarbleError
from marble.results.figures.scans import Scan, Score, Source, ordered, scans_of
from marble.results.figures.style import about, look, metric_of, panels, put_words, series_of, style_of

_Lines: TypeAlias = dict[str, list[tuple[Scan, Score]]]  # the points of each upstream


def shots(source: Source, *, style: str = "screen") -> Figure:
    """Return the few-shot curves of some upstreams.

    Args:
        source: results, or a table of them (`marble.results.figures.scans`); a task with a single number of training tracks is
            passed over.
        style: "screen" or "paper".

    Raises:
        MarbleError: no task has results of several limits, or there is no such style.
    """
    scans, chosen = scans_of(source), style_of(style)
    lines: dict[str, _Lines] = {}
    for scan, name in zip(scans, series_of(scans), strict=True):
        if scan.selected:
            lines.setdefault(scan.task, {}).setdefault(name, []).append((scan, scan.selected))
    lines = {task: of for task, of in lines.items() if len(_tracks(of)) > 1}
    if not lines:
        raise MarbleError("No task has results of several numbers of training tracks: marble run --limit N makes them.")
    with rc_context(chosen.rc):
        names = ordered(name for of in lines.values() for name in of)
        figure, axes_of = panels({scan.task: metric_of(scan) for scan in scans if scan.task in lines}, chosen)
        for task, of in lines.items():
            axes, ticks = axes_of[task], _tracks(of)
            for name, points in of.items():
                points.sort(key=lambda point: point[0].train_tracks)
                _draw(axes, points, names.index(name), len(names), chosen.scale)
            axes.set_xscale("log")
            axes.set_xticks(ticks, list(map(str, ticks)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel("training tracks")
        drawn = [scan for of in lines.values() for points in of.values() for scan, _ in points]
        bar = "layer chosen on validation; bars: 95 % interval over tracks; a limit holds for all splits"
        put_words(figure, [about(drawn).partition(", at most")[0], bar], names, chosen)
    return figure


def _tracks(lines: _Lines) -> list[int]:
    """Return the numbers of training tracks that occur."""
    return sorted({scan.train_tracks for points in lines.values() for scan, _ in points})


def _draw(axes: Axes, points: list[tuple[Scan, Score]], number: int, of: int, scale: float) -> None:
    """Draw a line; lines stand side by side by 2 %, so that their bars do not cover each other."""
    aside = 1.02 ** (number - (of - 1) / 2)
    bars = [[max(score.mean - score.low, 0), max(score.high - score.mean, 0)] for _, score in points]
    bars = [[0.0 if math.isnan(part) else part for part in bar] for bar in bars]
    axes.errorbar(
        [scan.train_tracks * aside for scan, _ in points],
        [score.mean for _, score in points],
        yerr=list(zip(*bars, strict=True)),
        capsize=2 * scale,
        elinewidth=scale,
        **look(number),
    )
