"""Bootstrap intervals over the tracks of the test set.

Conventions
-----------
- A track is the unit of resampling: excerpts of one track are not independent.
- A resample draws as many tracks as there are, with replacement; it is held as the multiplicity of each track, so that the
  metrics evaluate all resamples in one call (see `marble.probe.metrics`).
- The interval is the percentile interval of Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), section 13.3.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from marble.probe.metrics import Metric


def bootstrap_interval(
    scores: Tensor,
    targets: Tensor,
    metric: Metric,
    *,
    track: Tensor | None = None,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the bootstrap interval over tracks of a metric that is averaged over seeds.

    Every seed is evaluated on the same resample, so the interval reflects the tracks and not the seeds.

    Args:
        scores: ``Tensor[S, N, C]``, the answers of S seeds to N tracks.
        targets: ``Tensor[N]`` or ``Tensor[N, C]`` as `marble.probe.metrics` takes them.
        metric: one of `marble.probe.metrics.METRICS`.
        track: ``int64[N]``, for answers to windows: the track of each, which is drawn with all its windows.
        resamples: number of resamples.
        seed: of the resampling; equal seeds and equal numbers of tracks give equal resamples.
        level: share of the resamples inside the interval.

    Returns:
        The lower and upper end. Resamples in which the metric does not exist are left out; both are NaN if it never does.
    """
    tracks = scores.shape[-2] if track is None else int(track.max()) + 1
    counts = np.random.default_rng(seed).multinomial(tracks, np.full(tracks, 1 / tracks), size=resamples)
    if track is not None:
        counts = counts[:, track.cpu().numpy()]
    values = metric(scores, targets, torch.from_numpy(counts)).mean(-1)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64, device=values.device)
    low, high = values.nanquantile(ends).tolist()
    return low, high
