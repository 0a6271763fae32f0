"""The learned weights of the weighted sum of all layers: a panel for each task, a line for each upstream.

A weight is that of the softmax over layers, averaged over seeds, so those of a line sum to 1; a dotted line is what each
layer would have if all weighed the same. A weight says what the probe took, of layers whose scales were made equal or not as
the protocol says; it is no score of the layer.
"""

from __future__ import annotations

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from marble.errors import MarbleError
from marble.results.figures.scans import Source, ordered, scans_of
from marble.results.figures.style import about, look, panels, put_words, series_of, style_of


def weights(source: Source, *, style: str = "screen") -> Figure:
    """Return the learned layer weights of some upstreams.

    Args:
        source: results, or a table of them (`marble.results.figures.scans`); those without a weighted sum are passed over.
        style: "screen" or "paper".

    Raises:
        MarbleError: no result has weights, or there is no such style.
    """
    scans, chosen = scans_of(source), style_of(style)
    scans = [scan for scan in scans if scan.weighted and scan.weighted.weights]
    if not scans:
        raise MarbleError("No result has learned layer weights: marble run --layers weighted makes them.")
    with rc_context(chosen.rc):
        series = series_of(scans)
        names = ordered(series)
        figure, axes_of = panels(dict.fromkeys((scan.task for scan in scans), "weight (sum 1)"), chosen)
        highest = dict.fromkeys(axes_of, 0.0)
        for scan, name in zip(scans, series, strict=True):
            learned = scan.weighted.weights if scan.weighted else ()
            line = look(names.index(name))
            axes_of[scan.task].plot(range(len(learned)), learned, **line, label=name)
            axes_of[scan.task].axhline(1 / len(learned), color=line["color"], linestyle=":", linewidth=1, zorder=1)
            highest[scan.task] = max(highest[scan.task], *learned)
        for task, axes in axes_of.items():
            axes.set(xlabel="layer", ylim=(0, 1.1 * highest[task]))
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=2))
        lines = [about(scans).replace("test score", "weight"), "dotted: all layers weigh the same"]
        put_words(figure, lines, names, chosen)
    return figure
