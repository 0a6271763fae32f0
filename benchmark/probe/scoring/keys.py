"""Scores of pairs of keys, by the rule of MIREX and of `mir_eval.key.weighted_score`."""

from __future__ import annotations

import numpy as np


def key_scores(*, both_fifths: bool = False) -> np.ndarray:
    """Return the score of each pair of keys, ``float64[reference, estimated]``, C to B major and C to B minor.

    Args:
        both_fifths: count the fifth below the reference like that above.
    """
    number = np.arange(24)
    minor = number >= 12
    step = (number[None] - number[:, None]) % 12
    same_mode = minor[:, None] == minor
    scores = np.zeros((24, 24))
    scores[same_mode & (step == 0)] = 1.0
    scores[same_mode & ((step == 7) | ((step == 5) & both_fifths))] = 0.5
    scores[~same_mode & (step == np.where(minor[:, None], 3, 9))] = 0.3
    scores[~same_mode & (step == 0)] = 0.2
    return scores
