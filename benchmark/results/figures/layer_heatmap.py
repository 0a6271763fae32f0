"""The layer-wise heatmap: layers in rows, tasks in columns, a panel for each upstream.

- A cell holds the mean test score of the task's main metric.
- Colour is relative within a column (its worst layer to its best), since metrics of different tasks share no scale. The map
  ("cividis") reads the same to colour-blind eyes and in grey.
- A frame marks the layer that *validation* chose; it need not be the darkest or brightest cell. Cautions about it stand
  above, in their short form, with the tasks that they concern.
- On demand, a layer within noise of the best one is grey (`marble.results.ranking.noise` has the rule).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from marble.errors import printable
from marble.results.figures.scans import Scan, Score, Source, ordered, scans_of
from marble.results.figures.style import RED, Style, about, put_title, series_of, style_of
from marble.results.ranking.noise import standard_error, within_noise
from marble.results.schema import WEIGHTED

_MAP = colormaps["cividis"]
_CELL, _MARGIN = 0.29, 0.55  # on paper, in inches: a cell that holds three decimals, and what is left of the cells
_GREY = (0.87, 0.87, 0.87, 1.0)


def heatmap(source: Source, *, noise: bool = False, style: str = "screen") -> Figure:
    """Return the heatmap of some upstreams, side by side.

    Args:
        source: results, or a table of them (`marble.results.figures.scans`); tasks stand in this order.
        noise: draw in grey what is within noise of the best layer of its task.
        style: "screen" or "paper".

    Raises:
        MarbleError: there are no results or no such style.
    """
    scans, look = scans_of(source), style_of(style)
    with rc_context(look.rc):
        return _draw(scans, noise, look)


def _draw(scans: list[Scan], noise: bool, style: Style) -> Figure:
    series = series_of(scans)
    panels = {name: [scan for scan, of in zip(scans, series, strict=True) if of == name] for name in ordered(series)}
    rows = _row_names(scans, short=len(panels) > 1 or bool(style.widths))
    longest = max(len(printable(part)) for scan in scans for part in (scan.task, scan.metric)) + 2
    if style.widths:
        figure = Figure(figsize=(style.width(_MARGIN + len(scans) * _CELL), 1), layout="constrained")
        column = (figure.get_figwidth() - _MARGIN) / len(scans)
        height, below = 0.18, longest / style.letters + 0.75
    else:
        column = max(1.25, longest / style.letters)
        figure = Figure(figsize=(max(2.4 + len(scans) * column, 5.0), 1), layout="constrained")
        height, below = 0.3, 1.5
    lines = put_title(figure, _title(scans, panels, noise), style)
    ratios = [len(panel) for panel in panels.values()]
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False, width_ratios=ratios)[0]
    for axes, (name, panel) in zip(every, panels.items(), strict=True):
        _draw_panel(axes, panel, list(rows), noise, style, wide=column >= _CELL)
        if len(panels) > 1:
            names = wrap(printable(name), max(8, int(len(panel) * column * style.letters * 0.8)))
            axes.set_title("\n".join(names))
            lines = max(lines, lines + len(names) - 1)
    figure.set_figheight(below + 0.5 * height * (lines + 2 * len(rows)))
    every[0].set_ylabel("layer")
    every[0].set_yticks(range(len(rows)), list(rows.values()))
    _draw_bar(figure, list(every), style)
    return figure


def _draw_panel(axes: Axes, scans: Sequence[Scan], rows: list[str], noise: bool, style: Style, wide: bool) -> None:
    for column, scan in enumerate(scans):
        for score in scan.scores:
            row, unknown = rows.index(str(score.layer)), math.isnan(score.mean)
            grey = noise and in_noise(scan, score)
            relative = scan.relative(score)
            colour = (1.0, 1.0, 1.0, 1.0) if unknown else _GREY if grey else _MAP(relative)
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour))
            text = "–" if unknown else f"{score.mean:.3f}" if wide else re.sub(r"^(-?)0\.", r"\1.", f"{score.mean:.2f}")
            letters = "black" if unknown or grey or relative > 0.55 else "white"
            axes.text(column, row, text, ha="center", va="center", color=letters, fontsize=style.small)
            if score.selected:
                frame = Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, fill=False, edgecolor=RED, zorder=3)
                frame.set_linewidth(2.2 * style.scale)
                axes.add_patch(frame)
    axes.set(xlim=(-0.5, len(scans) - 0.5), ylim=(-0.5, len(rows) - 0.5))
    labels = [f"{printable(scan.task)}\n{printable(scan.metric)}" for scan in scans]
    turned: dict[str, Any] = {"rotation": 90, "multialignment": "right"} if style.widths else {}
    axes.set_xticks(range(len(scans)), labels, **turned)
    axes.tick_params(length=0)


def _draw_bar(figure: Figure, axes: list[Axes], style: Style) -> None:
    bar = ScalarMappable(Normalize(0, 1), _MAP)
    if style.widths:
        drawn = figure.colorbar(bar, ax=axes, ticks=[0, 1], location="bottom", fraction=0.03, pad=0.02, aspect=40)
        drawn.ax.tick_params(length=0)
        drawn.ax.set_xticklabels(["worst layer of the task", "best layer of the task"])
        for label, side in zip(drawn.ax.get_xticklabels(), ("left", "right"), strict=True):
            label.set_horizontalalignment(side)
    else:
        drawn = figure.colorbar(bar, ax=axes, ticks=[0, 1], fraction=0.05, pad=0.02)
        drawn.ax.set_yticklabels(["worst layer\nof the task", "best layer\nof the task"])


def in_noise(scan: Scan, score: Score) -> bool:
    """Return whether a layer is within noise of the best one on test, which is not in noise of itself."""
    best = scan.best
    if best is None or score is best or math.isnan(score.mean):
        return False
    errors = (standard_error(part.std, part.low, part.high, scan.seeds) for part in (best, score))
    return within_noise(best.mean - score.mean, *errors)


def _title(scans: Sequence[Scan], panels: dict[str, list[Scan]], noise: bool) -> list[str]:
    """Return the lines above a heatmap."""
    concerned: dict[str, list[str]] = {}
    for scan in scans:
        for caution in scan.cautions:
            concerned.setdefault(caution, []).append(scan.task if len(panels) == 1 else f"{scan.upstream} on {scan.task}")
    cautions = (f"{caution}: {', '.join(names)}" for caution, names in concerned.items())
    first = about(scans) if len(panels) > 1 else f"{scans[0].upstream}: {about(scans)}"
    greys = ["grey: within 1.96 standard errors, over tracks and seeds, of the best layer"] if noise else []
    return [first, "red frame: layer chosen on validation", *greys, *cautions]


def _row_names(scans: Sequence[Scan], short: bool) -> dict[str, str]:
    """Return the label of each row, layer 0 at the bottom and the weighted sum on top."""
    rows: dict[str, str] = {}
    for score in (score for scan in scans for score in scan.scores):
        name = printable(score.name)
        rows[str(score.layer)] = name if score.layer == WEIGHTED else str(score.layer) if short else f"{score.layer}  {name}"
    return dict(sorted(rows.items(), key=lambda item: (item[0] == WEIGHTED, int(item[0]) if item[0] != WEIGHTED else 0)))
