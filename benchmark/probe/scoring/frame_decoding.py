"""Decoding of frames: from the logits of a track to its answer, with a constant that validation chooses.

- ``raw``: the class of the highest logit, or the tags whose logit is above 0.
- ``mode``: the commonest raw class of 2h + 1 frames around each, h being the frames of the constant (seconds), rounded half up;
  fewer at the ends of a track. Of equally common ones the lowest class.
- ``viterbi``: the likeliest path where to stay in a class is likelier than to move to one other by the constant
  (log p_stay - log p_move, the same for all classes). At 0 it is ``raw``. Of equal scores: stay, then the lowest class.

Leading dimensions are tracks or probes of equally many frames, decoded side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from marble.frames import Grid


@dataclass(frozen=True)
class Decoder:
    """A way from logits to answers.

    Attributes:
        constants: to choose from on validation, the first of equally good ones.
        decode: function from logits ``float[..., T, C]``, their grid and a constant to ``int64[..., T]``,
            or ``bool[..., T, C]``.
    """

    constants: tuple[float, ...]
    decode: Callable[[np.ndarray, Grid, float], np.ndarray]


def _highest(logits: np.ndarray, grid: Grid, constant: float) -> np.ndarray:
    return logits.argmax(axis=-1)


def _commonest(logits: np.ndarray, grid: Grid, constant: float) -> np.ndarray:
    frames, half = logits.shape[-2], int(constant * grid.rate + 0.5)
    raw = logits.argmax(axis=-1)
    counts = np.zeros((*raw.shape[:-1], frames + 1, logits.shape[-1]), dtype=np.int32)
    np.cumsum(raw[..., None] == np.arange(logits.shape[-1]), axis=-2, out=counts[..., 1:, :])
    frame = np.arange(frames)
    above, below = np.minimum(frame + half + 1, frames), np.maximum(frame - half, 0)
    return (counts[..., above, :] - counts[..., below, :]).argmax(axis=-1)


def _likeliest(logits: np.ndarray, grid: Grid, constant: float) -> np.ndarray:
    if constant == 0 or not logits.shape[-2]:
        return logits.argmax(axis=-1)
    scores = np.moveaxis(logits, -2, 0).astype(np.float64)
    before = np.empty(scores.shape, dtype=np.int16)
    classes = np.arange(scores.shape[-1], dtype=np.int16)
    path = scores[0]
    for frame in range(1, len(scores)):
        best = path.argmax(axis=-1)[..., None]
        move, stay = np.take_along_axis(path, best, axis=-1), path + constant
        before[frame] = np.where(stay >= move, classes, best)
        path = np.maximum(stay, move) + scores[frame]
    answer = np.empty(scores.shape[:-1], dtype=np.int64)
    answer[-1] = path.argmax(axis=-1)
    for frame in range(len(scores) - 1, 0, -1):
        answer[frame - 1] = np.take_along_axis(before[frame], answer[frame][..., None], axis=-1)[..., 0]
    return np.moveaxis(answer, 0, -1)


# By kind of task, then by name; every kind has a ``raw`` one.
DECODERS: dict[str, dict[str, Decoder]] = {
    "frame_classes": {
        "raw": Decoder((0.0,), _highest),
        "mode": Decoder((0.2,), _commonest),
        "viterbi": Decoder((0.0, 2.0, 5.0, 10.0), _likeliest),
    },
    "frame_tags": {"raw": Decoder((0.0,), lambda logits, grid, constant: logits > constant)},
}
