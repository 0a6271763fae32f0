"""What `check_frames.py` of the shared fixtures asks for, answered by marble."""

import numpy as np

from marble import chords
from marble.frames import Grid, Spans
from marble.probe.scoring.frame_metrics import FRAME_METRICS


def frame_classes(intervals, classes, rate, first, frames):
    spans = Spans(tuple((start, stop, str(number)) for (start, stop), number in zip(intervals.tolist(), classes, strict=True)))
    return spans.classes([str(number) for number in range(max([*classes, 0]) + 1)], Grid(rate, first), frames)


def chord_class(label):
    return chords.class_of(label)


def chord_scores(reference, reference_labels, classes, rate, first):
    rows = [(start, stop, label) for (start, stop), label in zip(reference.tolist(), reference_labels, strict=True)]
    target, grid = chords.target(rows), Grid(rate, first)
    scores = {
        name: FRAME_METRICS[metric].statistics(np.asarray(classes), grid, target, chords.LABELS, float(reference.max()))
        for name, metric in (("majmin", "wcsr"), ("root", "chord_root"), ("seg", "chord_seg"))
    }
    correct, valid = scores["majmin"].tolist()
    values = {name: right / total if total else 0.0 for name, (right, total) in scores.items()}
    return values | {"correct_seconds": correct, "valid_seconds": valid}
