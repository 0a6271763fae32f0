"""Decoding of frames: from the logits of a track to its answer, with a constant that validation chooses.

- ``raw``: the class of the highest logit, or the tags whose logit is above 0.
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
        decode: function from logits ``float[T, C]``, their grid and a constant to ``int64[T]`` or ``bool[T, C]``.
    """

    constants: tuple[float, ...]
    decode: Callable[[np.ndarray, Grid, float], np.ndarray]


# By kind of task, then by name; every kind has a ``raw`` one.
DECODERS: dict[str, dict[str, Decoder]] = {
    "frame_classes": {"raw": Decoder((0.0,), lambda logits, grid, constant: logits.argmax(axis=1))},
    "frame_tags": {"raw": Decoder((0.0,), lambda logits, grid, constant: logits > constant)},
}
