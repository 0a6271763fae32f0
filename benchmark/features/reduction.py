"""Reductions: from the hidden states of a window to its rows.

A reduction turns hidden states ``Tensor[B, T, D]`` in float32 into rows of each window. Its name is part of the cache key;
that of frames is in `marble.features.frames`. The pooling ones return one row ``Tensor[B, 1, E]``:

- ``mean``: the mean over time (the default).
- ``mean+std``: the mean and the standard deviation (divided by T), side by side, so E = 2 D.
- ``max``: the largest value of each dimension.
- ``first``, ``last``: the first or the last frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Reduction:
    """A named reduction; call it like a function.

    Attributes:
        name: as in ``--set pooling=NAME``.
        reduce: function from hidden states to rows.
        widening: E / D, how much wider a row is than a hidden state.
    """

    name: str
    reduce: Callable[[Tensor], Tensor]
    widening: int = 1

    def __call__(self, hidden: Tensor, windows: Sequence[object] = ()) -> Tensor:
        """Return rows ``Tensor[B, R, E]`` of ``hidden[B, T, D]``, wherever the windows lie."""
        return self.reduce(hidden)


def _mean_and_deviation(hidden: Tensor) -> Tensor:
    import torch

    return torch.cat([hidden.mean(dim=1, keepdim=True), hidden.std(dim=1, correction=0, keepdim=True)], dim=2)


REDUCTIONS: dict[str, Reduction] = {
    reduction.name: reduction
    for reduction in (
        Reduction("mean", lambda hidden: hidden.mean(dim=1, keepdim=True)),
        Reduction("mean+std", _mean_and_deviation, widening=2),
        Reduction("max", lambda hidden: hidden.amax(dim=1, keepdim=True)),
        Reduction("first", lambda hidden: hidden[:, :1]),
        Reduction("last", lambda hidden: hidden[:, -1:]),
    )
}
