"""The figure of a track: what it holds, what was answered, and how sure the answer was, over time.

Conventions
-----------
- The track is one of the validation or test tracks of a task of frames; the answers are those of the selected layer.
- With one class a frame, the truth and the answer of each seed are lanes, and a label has one colour in all of them. With tags,
  each label that occurs has a row: the truth fills it, the answer of the first seed frames it.
- Below stands the probability of the answer of each seed in each frame; of tags, that of the likeliest.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from marble.errors import MarbleError, printable
from marble.results.figures import STYLE
from marble.results.schema import FrameRecord, Result

_INCHES, _LETTER = 11.0, 0.09
_MOST_LABELS = 30
_Row = Mapping[str, Any]


def track_rows(result: Result, path: Path, track: str) -> list[_Row]:
    """Return the answers to a track, one for each seed, from the Parquet file beside a result.

    Raises:
        MarbleError: the result is not of a task of frames, has no such track, or its answers are missing or damaged.
    """
    from pyarrow import parquet

    if result.task.frames is None:
        raise MarbleError(f"{result.task.name} has one answer a track, so that there is nothing to plot over time.")
    file = path.with_suffix(".parquet")
    result.check_predictions(file)
    with file.open("rb") as content:
        rows = parquet.read_table(content, filters=[("track", "=", track)]).to_pylist()
    if not rows:
        raise MarbleError(f"{path} has no answer to the track '{track}': name one of its validation or test tracks.")
    return rows


@rc_context(STYLE)
def track_figure(result: Result, rows: Sequence[_Row]) -> Figure:
    """Return the figure of the answers to one track, as `track_rows` gives them."""
    frames = result.task.frames
    assert frames
    occurring = {span["label"] for row in rows for name in ("target", "prediction") for span in row[name]}
    labels = [label for label in result.task.labels if label in occurring]
    tags = result.task.kind == "frame_tags"
    lanes = len(labels) if tags else 1 + len(rows)
    figure = Figure(figsize=(_INCHES, 1.9 + (0.16 if tags else 0.42) * lanes), layout="constrained")
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=[(0.16 if tags else 0.42) * lanes, 0.8])
    if tags:
        _draw_tags(top, rows[0], labels)
    else:
        _draw_lanes(top, rows, result.task.labels, labels)
    _draw_probability(below, rows, frames)
    layer, split = rows[0]["layer"], rows[0]["split"]
    title = f"{result.upstream.name}, layer {layer}: {rows[0]['track']} ({split}) of {result.task.name}"
    top.set_title(printable(title), loc="left")
    return figure


def _draw_lanes(axes: Axes, rows: Sequence[_Row], every: Sequence[str], labels: Sequence[str]) -> None:
    # Steps of the golden ratio keep the hues of neighbours, and of few labels, apart.
    colour = {label: colorsys.hls_to_rgb(0.618 * n % 1, 0.62 + 0.1 * (n % 2), 0.55) for n, label in enumerate(every)}
    lanes = [("truth", rows[0]["target"]), *((f"seed {row['seed']}", row["prediction"]) for row in rows)]
    style: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.4}
    end = max(span["stop"] for _, spans in lanes for span in spans)
    for height, (_, spans) in enumerate(reversed(lanes)):
        for span in spans:
            start, width = span["start"], span["stop"] - span["start"]
            known = span["label"] in colour
            axes.broken_barh([(start, width)], (height - 0.42, 0.84), facecolor=colour.get(span["label"], "white"), **style)
            text = printable(span["label"])
            if known and width / end * _INCHES > _LETTER * len(text):
                axes.text(start + width / 2, height, text, ha="center", va="center", fontsize=8, clip_on=True)
    axes.set_yticks(range(len(lanes)), [name for name, _ in reversed(lanes)])
    axes.set_ylim(-0.5, len(lanes) - 0.5)
    axes.set_facecolor("0.94")
    if len(labels) <= _MOST_LABELS:
        patches = [Patch(color=colour[label], label=printable(label)) for label in labels]
        axes.legend(handles=patches, loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=1 + len(labels) // 9, frameon=False)


def _draw_tags(axes: Axes, row: _Row, labels: Sequence[str]) -> None:
    height = {label: number for number, label in enumerate(labels)}
    styles: dict[str, dict[str, Any]] = {
        "target": {"facecolor": "#9ecae1", "linewidth": 0},
        "prediction": {"facecolor": "none", "edgecolor": "#d62728", "linewidth": 0.8},
    }
    for name, style in styles.items():
        for span in row[name]:
            if span["label"] in height:
                bar = (height[span["label"]] - 0.42, 0.84)
                axes.broken_barh([(span["start"], span["stop"] - span["start"])], bar, **style)
    step = -(-len(labels) // _MOST_LABELS)
    axes.set_yticks(range(0, len(labels), step), [printable(label) for label in labels[::step]])
    axes.set_ylim(-0.5, len(labels) - 0.5)
    handles = [Patch(color="#9ecae1", label="truth"), Patch(fill=False, edgecolor="#d62728", label=f"seed {row['seed']}")]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _draw_probability(axes: Axes, rows: Sequence[_Row], frames: FrameRecord) -> None:
    for row in rows:
        values = np.asarray(row["probability"])
        times = frames.first + np.arange(len(values)) / frames.rate
        axes.plot(times, values, linewidth=0.8, label=f"seed {row['seed']}")
    axes.set(ylim=(0, 1.02), xlim=(0, frames.first + len(rows[0]["probability"]) / frames.rate), xlabel="seconds")
    axes.set_ylabel("probability")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
