"""Metrics of frame tasks: the sums that a track adds to a ratio, so that tracks can be resampled.

Conventions
-----------
- A track gives `statistics`, ``float64[S]``, from its decoded frames; a metric is `value` of the sums over tracks. So micro
  accuracy is (hits, frames) and their ratio, and intervals and paired tests count tracks as those of clips do. A track without
  anything to score gives zeros.
- Seconds are shared out by the edges of frames (`Grid.edges`): a frame answers for its cell. Where no frame is, before the
  first and after the last, the answer is "no chord", as in mir_eval, and no key. An annotation counts up to the end of the
  audio; in a gap between two intervals the label before it goes on, again as in mir_eval. Other labels than the task's do not
  count.
- Decoded frames are ``int64[T]`` (one class a frame) or ``bool[T, C]`` (a set of tags a frame), on the grid of the labels.

Metrics
-------
- `frame_accuracy`: share of scored frames with the true class.
- `wcsr`: weighted chord symbol recall: seconds of the true class over seconds that have one, over all tracks. For one track
  it is the ``majmin`` of `mir_eval.chord.evaluate`; over tracks, tracks weigh by these seconds and not by their length.
  `wcsr_mode` and `wcsr_viterbi` are the same of frames that a mode filter or the Viterbi algorithm has decoded.
- `chord_root`: the same of the root alone, of all chords but X: ``root`` of mir_eval, with which a class is compared.
- `chord_seg`: the lesser of over- and undersegmentation of a track, one less the directional Hamming distance (Harte 2010):
  ``seg`` of mir_eval, but that equal chords with a gap between them stay two; the mean over tracks is weighted by the annotated
  length.
- `local_key_score`: seconds weighted by `marble.probe.scoring.keys.key_scores` over seconds that have a major or minor key.
- `frame_f1`: F-measure of all pairs of a frame and a tag, as of multipitch estimation, without a tolerance in time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from marble.chords import root_of
from marble.frames import Grid, Spans
from marble.probe.scoring.keys import key_scores

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
        decoder: of `marble.probe.scoring.frame_decoding.DECODERS`, what makes frames of logits.
        higher_is_better: False for errors.
        scale: which values there are, as `marble.probe.scoring.intervals` tells them apart.
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


def _pieces(frames: int, grid: Grid, target: Spans, seconds: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut the annotated time of a track at every edge of an interval and of a frame.

    Returns:
        For each piece the number of its interval, the number of its frame (-1 for none), and its seconds.
    """
    times = np.array([row[:2] for row in target.rows]).reshape(-1, 2).clip(max=seconds)
    edges = grid.edges(frames)
    cuts = np.unique(np.concatenate([edges, times.ravel()]))
    middle = (cuts[:-1] + cuts[1:]) / 2
    interval = np.searchsorted(times[:, 0], middle, side="right") - 1
    frame = np.searchsorted(edges, middle, side="right") - 1
    frame[frame >= frames] = -1
    annotated = (interval >= 0) & (middle < times[:, 1].max(initial=0.0))
    return interval[annotated], frame[annotated], np.diff(cuts)[annotated]


def _numbers(target: Spans, labels: tuple[str, ...]) -> np.ndarray:
    """Return the number of the label of each interval, -1 for any other label."""
    number = {label: index for index, label in enumerate(labels)}
    return np.array([number.get(row[2], -1) for row in target.rows], dtype=np.int64)


def _answers(decoded: np.ndarray, frame: np.ndarray, outside: int) -> np.ndarray:
    """Return the class that was answered for each piece."""
    return np.append(decoded, outside)[frame]


def _correct_seconds(decoded: np.ndarray, grid: Grid, target: Spans, labels: tuple[str, ...], seconds: float) -> np.ndarray:
    interval, frame, lengths = _pieces(len(decoded), grid, target, seconds)
    truth, answers = _numbers(target, labels)[interval], _answers(decoded, frame, labels.index("N"))
    return np.array([lengths[(truth >= 0) & (truth == answers)].sum(), lengths[truth >= 0].sum()])


def _root_seconds(decoded: np.ndarray, grid: Grid, target: Spans, labels: tuple[str, ...], seconds: float) -> np.ndarray:
    interval, frame, lengths = _pieces(len(decoded), grid, target, seconds)
    roots = [root_of(row[2]) for row in target.rows]
    truth = np.array([-2 if root is None else root for root in roots], dtype=np.int64)[interval]
    root_of_class = np.array([root_of(label) for label in labels])
    answers = root_of_class[_answers(decoded, frame, labels.index("N"))]
    return np.array([lengths[truth == answers].sum(), lengths[truth > -2].sum()])


def _segmentation(decoded: np.ndarray, grid: Grid, target: Spans, labels: tuple[str, ...], seconds: float) -> np.ndarray:
    reference = np.array([row[:2] for row in target.rows if row[0] < seconds]).reshape(-1, 2).clip(max=seconds)
    if not len(reference):
        return np.zeros(2)
    start, stop = reference[0, 0], reference[-1, 1]
    filled = np.pad(decoded, 1, constant_values=labels.index("N"))
    changes = grid.edges(len(decoded))[filled[1:] != filled[:-1]]
    bounds = np.concatenate([[start], changes[(changes > start) & (changes < stop)], [stop]])
    estimate = np.stack([bounds[:-1], bounds[1:]], axis=1)
    apart = max(_hamming(reference, estimate), _hamming(estimate, reference))
    return np.array([stop - start - apart, stop - start])


def _hamming(intervals: np.ndarray, others: np.ndarray) -> float:
    """Return the seconds of each interval beyond the longest piece that the edges of the others leave of it, summed."""
    cuts = np.unique(np.concatenate([intervals.ravel(), others.ravel()]))
    owner = np.searchsorted(intervals[:, 0], cuts[:-1], side="right") - 1
    inside = (owner >= 0) & (cuts[:-1] < intervals[owner, 1])
    longest = np.zeros(len(intervals))
    np.maximum.at(longest, owner[inside], np.diff(cuts)[inside])
    return float((np.diff(intervals, axis=1)[:, 0] - longest).sum())


def _key_seconds(decoded: np.ndarray, grid: Grid, target: Spans, labels: tuple[str, ...], seconds: float) -> np.ndarray:
    interval, frame, lengths = _pieces(len(decoded), grid, target, seconds)
    truth = _numbers(target, labels)[interval]
    answers, valid = _answers(decoded, frame, -1), truth >= 0
    scores = np.where(answers >= 0, key_scores()[truth, answers], 0.0)
    return np.array([(lengths * scores)[valid].sum(), lengths[valid].sum()])


def _pairs(decoded: np.ndarray, grid: Grid, target: Spans, labels: tuple[str, ...], seconds: float) -> np.ndarray:
    truth = target.tags(labels, grid, len(decoded)) > 0
    return np.array([2 * (decoded & truth).sum(), decoded.sum() + truth.sum()], dtype=np.float64)


_CLASSES, _TAGS = ("frame_classes",), ("frame_tags",)
FRAME_METRICS: dict[str, FrameMetric] = {
    metric.name: metric
    for metric in (
        FrameMetric("frame_accuracy", _hits, ratio, _CLASSES, "share of scored frames with the true class, 0 to 1"),
        FrameMetric("wcsr", _correct_seconds, ratio, _CLASSES, "share of scored seconds with the true class of chord, 0 to 1"),
        FrameMetric("wcsr_mode", _correct_seconds, ratio, _CLASSES, "wcsr after a mode filter, 0 to 1", decoder="mode"),
        FrameMetric("wcsr_viterbi", _correct_seconds, ratio, _CLASSES, "wcsr of the Viterbi path, 0 to 1", decoder="viterbi"),
        FrameMetric("chord_root", _root_seconds, ratio, _CLASSES, "share of seconds with the true root of the chord, 0 to 1"),
        FrameMetric("chord_seg", _segmentation, ratio, _CLASSES, "segmentation of chords, 0 to 1"),
        FrameMetric("local_key_score", _key_seconds, ratio, _CLASSES, "weighted score of the key at each second, 0 to 1"),
        FrameMetric("frame_f1", _pairs, ratio, _TAGS, "F-measure of tags at frames, 0 to 1"),
    )
}
