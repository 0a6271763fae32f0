"""The answers of a task of frames beside its result: intervals of each track, from the selected layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow

from marble.frames import Grid, Spans
from marble.probe.answers import Answers, Group
from marble.probe.frames.answers import unpacked
from marble.probe.frames.inputs import FrameInputs

_SPANS = pyarrow.list_(pyarrow.struct({"start": pyarrow.float64(), "stop": pyarrow.float64(), "label": pyarrow.string()}))
SCHEMA = pyarrow.schema({
    "layer": pyarrow.string(), "seed": pyarrow.int32(), "split": pyarrow.string(), "track": pyarrow.string(),
    "target": _SPANS, "prediction": _SPANS, "statistics": pyarrow.list_(pyarrow.float64()),
    "probability": pyarrow.list_(pyarrow.float32()),
})  # fmt: skip


def frame_predictions(
    inputs: FrameInputs, answers: Mapping[Group, Answers], layer: int | str
) -> Iterator[dict[str, list[Any]]]:
    """Yield the columns of one table for each seed of a layer.

    ``statistics`` are those of all metrics, side by side; ``probability`` is that of the answer in each frame, or of its
    likeliest tag.
    """
    for group, answer in answers.items():
        if group.layer != layer:
            continue
        rows = list(unpacked(answer, inputs))
        statistics = [*answer.validation.tolist(), *answer.test.tolist()]
        yield {
            "layer": [str(group.layer)] * len(rows),
            "seed": [group.seed] * len(rows),
            "split": [split for split, *_ in rows],
            "track": [inputs.clips[track].track for _, track, *_ in rows],
            "target": [_rows(inputs.spans[track]) for _, track, *_ in rows],
            "prediction": [_rows(spans_of(decoded, inputs.task.labels, inputs.grid)) for *_, decoded, _ in rows],
            "statistics": statistics,
            "probability": [probability for *_, probability in rows],
        }


def spans_of(decoded: np.ndarray, labels: tuple[str, ...], grid: Grid) -> Spans:
    """Return the intervals of decoded frames ``int[T]``, or of each tag in ``bool[T, C]``, by their start."""
    if decoded.ndim == 1:
        return Spans.of(decoded.astype(np.int64), labels, grid)
    tags = [Spans.of(np.where(tag, 0, -1), (label,), grid).rows for tag, label in zip(decoded.T, labels, strict=True)]
    return Spans(tuple(sorted(row for rows in tags for row in rows)))


def _rows(spans: Spans) -> list[dict[str, Any]]:
    return [{"start": start, "stop": stop, "label": label} for start, stop, label in spans.rows]
