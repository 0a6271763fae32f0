"""Standard errors of scores, from what a result states of them.

The standard error of a mean test score joins two parts: over tracks, that of a normal error with its 95 % interval, and over
seeds, their standard deviation over the root of their number. Two scores are within noise of each other if they differ by no
more than 1.96 standard errors of an *unpaired* difference. Scores on the same tracks err together, so this calls too many pairs
equal rather than too few.
"""

from __future__ import annotations

import math

NORMAL = 1.96  # standard errors on each side of a 95 % interval


def standard_error(std: float | None, low: float | None, high: float | None, seeds: int) -> float:
    """Return the standard error of a mean over seeds; a part that is not known (None or NaN) counts nothing.

    Args:
        std: standard deviation over seeds.
        low, high: ends of the 95 % interval over tracks.
        seeds: their number.
    """
    half = _known(high) - _known(low) if None not in (low, high) else 0.0
    return math.hypot(half / 2 / NORMAL, _known(std) / math.sqrt(seeds))


def within_noise(difference: float, *errors: float) -> bool:
    """Return whether a difference of scores is within noise, from the standard errors of both."""
    return abs(difference) <= NORMAL * math.hypot(*errors)


def _known(value: float | None) -> float:
    return 0.0 if value is None or math.isnan(value) else value
