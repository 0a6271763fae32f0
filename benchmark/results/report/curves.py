"""Curves of scores over layers, as coordinates of an SVG.

Conventions
-----------
- The horizontal axis is the index of the layer; the vertical one the mean test score, with the interval over tracks as a
  whisker. The weighted sum of layers has no index, and stands in the tables only.
- Upstreams differ in colour, marker and dashes, so that no difference rests on colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from marble.results.schema import Result

WIDTH, HEIGHT = 500, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 492, 10, 232
COLOURS, DASHES = 7, ("none", "6 3", "2 3", "9 3 2 3")
MARKERS = (
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z", "M-3.6,-3.6h7.2v7.2h-7.2z", "M0,-4.8L4.6,3.4H-4.6z", "M0,-5L5,0L0,5L-5,0z",
    "M0,4.8L4.6,-3.4H-4.6z",
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A layer: its place, the ends of its whisker (None where there is no interval), and what it stands for."""

    x: float
    y: float
    whisker: tuple[float, float] | None
    text: str
    selected: bool


@dataclass(frozen=True)
class Series:
    """The curve of an upstream; `style` is the number of the upstream."""

    name: str
    style: int
    points: list[Point]

    @property
    def line(self) -> str:
        """The points of its line."""
        return " ".join(f"{point.x:.1f},{point.y:.1f}" for point in self.points)

    @property
    def marker(self) -> str:
        """The path of its marker."""
        return MARKERS[self.style % len(MARKERS)]

    @property
    def dashes(self) -> str:
        """The dashes of its line."""
        return DASHES[self.style // COLOURS % len(DASHES)]

    @property
    def colour(self) -> int:
        """The number of its colour."""
        return self.style % COLOURS


@dataclass(frozen=True)
class Curves:
    """The curves of a task, and the ticks of both axes: place and text."""

    series: list[Series]
    horizontal: list[tuple[float, str]]
    vertical: list[tuple[float, str]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = _RIGHT
    bottom: int = _BOTTOM


def draw_curves(results: Mapping[str, Result], styles: Mapping[str, int]) -> Curves | None:
    """Return the curves of results on one task; None where no result has two layers.

    Args:
        results: by the name of the upstream.
        styles: the number of each upstream, which decides colour, marker and dashes.
    """
    layers = {
        name: [
            (layer.layer, test.mean, _interval(test.ci95), layer)
            for layer in result.layers
            if isinstance(layer.layer, int) and (test := layer.test[result.task.main_metric]).mean is not None
        ]
        for name, result in results.items()
    }
    if all(len(rows) < 2 for rows in layers.values()):
        return None
    deepest = max(index for rows in layers.values() for index, *_ in rows)
    ends = [end for rows in layers.values() for _, mean, interval, _ in rows for end in (mean, *(interval or ()))]
    ticks = nice_ticks(min(ends), max(ends))
    low, high = min(ticks[0], *ends), max(ticks[-1], *ends)
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0])))

    def across(index: float) -> float:
        return _LEFT + 16 + (_RIGHT - _LEFT - 32) * index / max(deepest, 1)

    def up(value: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (value - low) / (high - low)

    series = []
    for place, (name, rows) in enumerate(layers.items()):
        selected, points = results[name].selected.layer, []
        shift = 3 * ((place + 1) // 2) * (-1) ** place if len(layers) < 9 else 0  # keeps whiskers apart
        for index, mean, interval, layer in rows:
            text = f"{name}, layer {index} ({layer.name}): {mean:.3f}"
            text += f", 95 % interval {interval[0]:.3f} to {interval[1]:.3f}" if interval else ""
            text += "; chosen on validation" if index == selected else ""
            whisker = (up(interval[0]), up(interval[1])) if interval else None
            points.append(Point(across(index) + shift, up(mean), whisker, text, index == selected))
        series.append(Series(name, styles[name], points))
    step = math.ceil((deepest + 1) / 25)
    horizontal = [(across(index), str(index)) for index in range(0, deepest + 1, step)]
    return Curves(series, horizontal, [(up(tick), f"{tick:.{decimals}f}") for tick in ticks])


def nice_ticks(low: float, high: float) -> list[float]:
    """Return at least two round numbers, at most six apart by one step, that reach from below `low` to above `high`."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 5))
    step = next(step * power for step in (1, 2, 5, 10) if step * power * 5 >= span)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _interval(ends: tuple[float | None, float | None] | None) -> tuple[float, float] | None:
    if ends is None or ends[0] is None or ends[1] is None:
        return None
    return ends[0], ends[1]
