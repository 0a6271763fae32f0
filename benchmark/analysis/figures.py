"""Figures of similarities and of comparisons, as wide as a column of a paper (3.4 inches) or its page (7 inches).

Conventions
-----------
- `similarity_curves`: one line for each upstream over its layers, its similarity to the input, in the colours of Okabe and
  Ito, each with its own marker; the null of each is the dashed line of the same colour.
- `similarity_matrix`: layers of one upstream (rows, layer 0 at the bottom) and of another or the same (columns). Colour runs
  from 0 to 1 ("cividis"); the median of the null is marked in the bar. Values stand in the cells while those are few.
- `difference_intervals`: tasks in rows, a point and a 95 % interval for each pair; filled where the adjusted p is below .05.
  The grey band is the minimal detectable difference on either side of 0. Right of 0 the first of a pair is better.
- A title says what was measured, on how much and how. Names are drawn as `marble.errors.printable` writes them.
"""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from marble.errors import MarbleError, printable

if TYPE_CHECKING:
    import pandas

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "osD^vPX"
COLUMN, PAGE = 3.4, 7.0
_LETTERS = 17  # of 8 points, in an inch
_STYLE: Any = {
    "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "lines.linewidth": 1.2,
    "lines.markersize": 3.5, "legend.frameon": False, "svg.fonttype": "none", "svg.hashsalt": "marble", "pdf.fonttype": 42,
    "text.parse_math": False,
}  # fmt: skip


@rc_context(_STYLE)
def similarity_curves(table: pandas.DataFrame, measure: str = "pwcca_morcos_first") -> Figure:
    """Return the curves of similarity to the input.

    Args:
        table: of `marble.cca` against the input, of one upstream or of several, one below the other.
        measure: the one that is drawn.

    Raises:
        MarbleError: the table does not hold it.
    """
    chosen = _of_measure(table, measure)
    figure = Figure(figsize=(COLUMN, 2.6), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, rows) in enumerate(chosen.groupby("first", sort=False)):
        colour = COLOURS[number % len(COLOURS)]
        style: dict[str, Any] = {"color": colour, "marker": MARKERS[number % len(MARKERS)]}
        axes.plot(rows["first_layer"], rows["value"], label=printable(str(name)), clip_on=False, **style)
        axes.plot(rows["first_layer"], rows["null"], color=colour, linestyle=(0, (4, 2)), linewidth=0.9)
    axes.plot([], [], color="0.3", linestyle=(0, (4, 2)), linewidth=0.9, label="null")
    axes.set(xlabel="layer", ylabel=_axis(measure), ylim=(min(0.0, chosen["null"].min()), 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    figure.legend(loc="outside lower center", ncols=2)
    figure.suptitle(_title(chosen, "similarity to the input", COLUMN), fontsize=8)
    return figure


@rc_context(_STYLE)
def similarity_matrix(table: pandas.DataFrame, measure: str = "linear_cka") -> Figure:
    """Return the matrix of similarities of the layers of one upstream (rows) and of another or the same (columns).

    Args:
        table: of `marble.cca` against layers or another upstream.
        measure: the one that is drawn.

    Raises:
        MarbleError: the table does not hold it.
    """
    chosen = _of_measure(table, measure)
    rows, columns = (sorted(set(chosen[side])) for side in ("first_layer", "second_layer"))
    same = (chosen["first"] == chosen["second"]).all() and rows == columns
    values = np.full((len(rows), len(columns)), np.nan)
    for first, second, value in zip(chosen["first_layer"], chosen["second_layer"], chosen["value"], strict=True):
        row, column = rows.index(first), columns.index(second)
        values[row, column] = value
        if same and np.isnan(values[column, row]):
            values[column, row] = value
    small = max(len(rows), len(columns)) <= 8
    figure = Figure(figsize=(COLUMN, 0.8 + 2.6 * max(0.35, min(1.2, len(rows) / len(columns)))), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap=colormaps["cividis"], vmin=0, vmax=1, origin="lower", aspect="auto")
    for (row, column), value in np.ndenumerate(values) if small else ():
        colour = "black" if value > 0.55 else "white"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=7)
    for side, layers, spine in ((axes.yaxis, rows, "first"), (axes.xaxis, columns, "second")):
        step = 1 if len(layers) <= 13 else 2
        side.set_ticks(range(0, len(layers), step), [str(layer) for layer in layers[::step]])
        side.set_label_text(f"layer of {printable(chosen[spine].iloc[0])}")
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02, label=_axis(measure))
    null = float(chosen["null"].median())
    bar.ax.axhline(null, color="#d55e00", linewidth=1.5)
    bar.ax.text(-0.3, null, "null", ha="right", va="center", color="#d55e00", fontsize=7)
    figure.suptitle(_title(chosen, "similarity of layers", COLUMN), fontsize=8)
    return figure


@rc_context(_STYLE)
def difference_intervals(table: pandas.DataFrame) -> Figure:
    """Return the differences of pairs of systems with their intervals, tasks in rows, one panel for each scale.

    Args:
        table: `marble.analysis.compare.Comparison.differences`.
    """
    scale = np.where(table["higher_is_better"], "difference of the score", "reduction of " + table["metric"])
    scales = list(dict.fromkeys(scale))
    pairs = list(dict.fromkeys(zip(table["first"], table["second"], strict=True)))
    heights = [int((scale == name).sum()) + 1 for name in scales]
    legend = len(pairs) if len(pairs) > 1 else 0
    figure = Figure(figsize=(COLUMN, 0.8 + 0.2 * sum(heights) + 0.35 * len(scales) + 0.16 * legend), layout="constrained")
    panels = figure.subplots(len(scales), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, name in zip(panels, scales, strict=True):
        shown = table[scale == name].reset_index(drop=True)
        sign = 1 if shown["higher_is_better"].iloc[0] else -1
        for row in shown.itertuples():
            colour = COLOURS[pairs.index((row.first, row.second)) % len(COLOURS)]
            ends, point = sorted((sign * row.low, sign * row.high)), sign * row.difference
            axes.barh(row.Index, 2 * row.minimal_detectable, 0.7, -row.minimal_detectable, color="0.9", zorder=0)
            axes.plot(ends, [row.Index] * 2, color=colour, zorder=2)
            face = colour if row.significant else "white"
            axes.plot(point, row.Index, marker="o", color=colour, markerfacecolor=face, markersize=4.5, zorder=3)
        axes.axvline(0, color="0.4", linewidth=0.8, zorder=1)
        tasks = [task if task != before else "" for task, before in zip(shown["task"], [None, *shown["task"]], strict=False)]
        metrics = [f"{printable(task)}\n{metric}" if task else "" for task, metric in zip(tasks, shown["metric"], strict=True)]
        axes.set_yticks(range(len(shown)), metrics, fontsize=7)
        axes.set(ylim=(len(shown) - 0.5, -0.5), xlabel=name)
        axes.tick_params(axis="y", length=0)
    if legend:
        for number, pair in enumerate(pairs):
            label = printable(f"{pair[0]} less {pair[1]}")
            panels[0].plot([], [], color=COLOURS[number % len(COLOURS)], marker="o", label=label)
        figure.legend(loc="outside lower center", ncols=1)
        about = "difference of systems"
    else:
        about = f"{pairs[0][0]} less {pairs[0][1]}"
    protocols, seeds = (" or ".join(sorted({str(value) for value in table[name]})) for name in ("protocol", "seeds"))
    about += (
        f", protocol {protocols}, seeds: {seeds}; 95 % interval over tracks; filled: adjusted p < .05; grey: not detectable"
    )
    figure.suptitle("\n".join(wrap(printable(about), round(COLUMN * _LETTERS))), fontsize=8)
    return figure


def _of_measure(table: pandas.DataFrame, measure: str) -> pandas.DataFrame:
    chosen = table[table["measure"] == measure]
    if chosen.empty:
        raise MarbleError(f"There is no '{measure}' in the table: it has {', '.join(dict.fromkeys(table['measure']))}.")
    return chosen


def _axis(measure: str) -> str:
    names = {
        "pwcca_google": "PWCCA (google/svcca)", "pwcca_morcos_first": "PWCCA (Morcos et al.)",
        "pwcca_morcos_second": "PWCCA (Morcos et al., second)", "mean_cca": "mean CCA", "svcca": "SVCCA",
        "linear_cka": "linear CKA", "debiased_cka": "debiased CKA", "procrustes": "Procrustes similarity",
    }  # fmt: skip
    return names[measure]


def _title(table: pandas.DataFrame, about: str, width: float) -> str:
    counts = sorted({f"{count:,}" for count in table["count"]})
    parts = f"{about}, {' or '.join(counts)} {table['rows'].iloc[0]} of {', '.join(dict.fromkeys(table['task']))}"
    return "\n".join(wrap(printable(parts), round(width * _LETTERS)))
