"""Metrics of frame tasks: the sums that a track adds to a ratio, so that tracks can be resampled.

Conventions
-----------
- A track gives `statistics`, ``float64[S]``, from its decoded frames; a metric is `value` of the sums over tracks. So micro
  accuracy is (hits, frames) and their ratio, and intervals and paired tests count tracks as those of clips do. A track without
  anything to score gives zeros.
- Decoded frames are ``int64[T]`` (one class a frame) or ``bool[T, C]`` (a set of tags a frame), on the grid of the labels.

Metrics
-------
- `frame_accuracy`: share of scored frames with the true class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from marble.frames import Grid, Spans

# From decoded frames, their grid, the target, the labels and the length of the track in seconds to ``float64[S]``.
Statistics = Callable[[np.ndarray, Grid, Spans, tuple[str, ...], float], np.ndarray]


@dataclass(frozen=True)
class FrameMetric:
    """A metric of frames.

    Attributes:
        name: how tasks, results and tables call it.
        statistics: of a track; see `Statistics`.
        value: from sums of statistics ``float64[..., S]`` to ``float64[...]``, NaN where it does not exist.
        kinds: of the tasks that it scores.
        description: one line for people, with the unit or range.
        decoder: of `marble.probe.frame_decoding.DECODERS`, what makes frames of logits.
        higher_is_better: False for errors.
        scale: which values there are, as `marble.probe.intervals` tells them apart.
    """

    name: str
    statistics: Statistics
    value: Callable[[np.ndarray], np.ndarray]
    kinds: tuple[str, ...]
    description: str
    decoder: str = "raw"
    higher_is_better: bool = True
    scale: Literal["share", "macro share", "precision", "explained", "error", "correlation"] = "share"


def ratio(sums: np.ndarray) -> np.ndarray:
    """Return the first sum over the second."""
    return sums[..., 0] / sums[..., 1]


def _hits(decoded: np.ndarray, grid: Grid, target: Spans, labels: tuple[str, ...], seconds: float) -> np.ndarray:
    truth = target.classes(labels, grid, len(decoded))
    return np.array([((decoded == truth) & (truth >= 0)).sum(), (truth >= 0).sum()], dtype=np.float64)


FRAME_METRICS: dict[str, FrameMetric] = {
    metric.name: metric
    for metric in (
        FrameMetric("frame_accuracy", _hits, ratio, ("frame_classes",), "share of scored frames with the true class, 0 to 1"),
    )
}
