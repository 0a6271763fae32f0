"""The curve of a score over the layers: a panel for each task, a line for each upstream.

- A point is the mean test score of a layer, the band its 95 % interval over tracks.
- A ring marks the layer that *validation* chose; a dashed line is the score of the weighted sum of all layers.
- Depth is relative on demand, 0 at the input of the first block and 1 at the last layer, so that upstreams of different depth
  stand over each other.
"""

from __future__ import annotations

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from marble.results.figures.scans import Scan, Source, ordered, scans_of
from marble.results.figures.style import about, look, metric_of, panels, put_words, series_of, style_of


def curve(source: Source, *, relative: bool = False, style: str = "screen") -> Figure:
    """Return the curves of some upstreams over their layers.

    Args:
        source: results, or a table of them (`marble.results.figures.scans`).
        relative: the depth in place of the index of a layer.
        style: "screen" or "paper".

    Raises:
        MarbleError: there are no results or no such style.
    """
    scans, chosen = scans_of(source), style_of(style)
    with rc_context(chosen.rc):
        series = series_of(scans)
        names = ordered(series)
        figure, axes_of = panels({scan.task: metric_of(scan) for scan in scans}, chosen)
        for scan, name in zip(scans, series, strict=True):
            _draw(axes_of[scan.task], scan, names.index(name), relative)
        for axes in axes_of.values():
            axes.set_xlabel("relative depth" if relative else "layer")
            axes.xaxis.set_major_locator(FixedLocator([0, 0.5, 1]) if relative else MaxNLocator(4, integer=True, min_n_ticks=2))
        marks = ["ring: layer chosen on validation; band: 95 % interval over tracks"]
        marks += ["dashed: weighted sum of all layers"] if any(scan.weighted for scan in scans) else []
        put_words(figure, [about(scans), "; ".join(marks)], names, chosen)
    return figure


def _draw(axes: Axes, scan: Scan, number: int, relative: bool) -> None:
    colours = look(number)
    at = [(score.depth if relative else score.layer, score) for score in scan.single]
    places = [float(place or 0) for place, _ in at]
    axes.plot(places, [score.mean for _, score in at], **colours, label=scan.upstream)
    axes.fill_between(
        places, [score.low for _, score in at], [score.high for _, score in at], color=colours["color"], alpha=0.15, linewidth=0
    )
    for place, (_, score) in zip(places, at, strict=True):
        if score.selected:
            size = 1.9 * axes.lines[-1].get_markersize()
            axes.plot(place, score.mean, "o", fillstyle="none", color="black", markersize=size, zorder=4, label="selected")
    if scan.weighted:
        axes.axhline(scan.weighted.mean, color=colours["color"], linestyle="--", label="weighted")
