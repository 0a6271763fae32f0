"""Near-duplicates across splits: validation and test tracks that lie nearer to a train track than chance explains.

Two takes of one drum, two crops of one recording or two encodings of one file are not byte-identical, and yet a probe that has
seen one of them remembers the other. They show in the features that a run has encoded.

Method
------
- A track is the mean of its rows in the lowest layer that is cached. Features are standardised and whitened over train, by its
  first principal components: at most 64, and at most one for four tracks.
- The M nearest train tracks of a track count as points of a Poisson process whose number within a distance r grows as r^D. D is
  estimated from the distances of ranks 2 to M (Levina and Bickel 2005, "Maximum likelihood estimation of intrinsic dimension",
  Section 3, with the logarithms of ranks for their expectation). Of the nearest, the expected number within its own distance is
  then ``q (d_1 / d_q)^D`` with q = M / 4; M is 40, or one in 50 of the train tracks.
- A track is *near* a train track where fewer than `LIMIT` tracks are expected within its distance: so is one in a thousand by
  chance, if neighbours are as dense as assumed. Groups of more than M / 4 takes in train hide themselves.
- At most `MOST_TRACKS` train tracks are looked at, taken evenly: of a larger set the share is a lower bound.
"""

from __future__ import annotations

import torch
from torch import Tensor

from marble.probe.inputs import Examples, Inputs
from marble.results.schema import NearDuplicates, NearPair

LIMIT = 1e-3
MOST_TRACKS = 20_000
_FEWEST_TRACKS = 60
_COMPONENTS = 64
_PAIRS = 20
_CHUNK = 2**24


def audit(inputs: Inputs) -> NearDuplicates | None:
    """Return the share of validation and test tracks that are near a train track; None where fewer than 60 are trained on.

    Raises:
        MarbleError: the features are no longer in the cache, or damaged.
    """
    data = inputs.data
    if len(data.train.targets) < _FEWEST_TRACKS:
        return None
    layer = inputs.layers[0]
    rows = inputs.features([layer])[0]
    step = -(-len(data.train.targets) // MOST_TRACKS)
    train = _tracks(rows, data.train)[::step]
    shares, pairs = {}, []
    for split, examples in (("valid", data.valid), ("test", data.test)):
        expected, nearest = expected_neighbours(_tracks(rows, examples), train)
        near = expected < LIMIT
        shares[split] = float(near.double().mean())
        pairs += [
            (float(expected[number]), inputs.tracks[split][number], inputs.tracks["train"][step * int(nearest[number])], split)
            for number in near.nonzero()[:, 0].tolist()
        ]
    return NearDuplicates(
        layer=layer,
        valid=shares["valid"],
        test=shares["test"],
        train_tracks=len(train),
        pairs=[NearPair(track=track, split=split, near=near) for _, track, near, split in sorted(pairs)[:_PAIRS]],
    )


def expected_neighbours(tracks: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each track how many train tracks chance puts as near as the nearest is, and the number of that.

    Args:
        tracks: ``float64[N, D]``, the features of the tracks.
        train: ``float64[M, D]``, those of the train tracks.

    Returns:
        ``float64[N]`` and ``int64[N]``. It is infinite where a quarter of the neighbours lie at no distance.
    """
    train, tracks = _whitened(train, tracks)
    count = min(len(train), max(40, len(train) // 50))
    ranks = torch.arange(1, count + 1, dtype=torch.float64, device=train.device)
    middle = count // 4
    expected, nearest = [], []
    for part in tracks.split(max(1, _CHUNK // len(train))):
        distances, neighbours = torch.cdist(part, train, compute_mode="donot_use_mm_for_euclid_dist").topk(
            count, largest=False, dim=1
        )
        logs = distances.log()
        growth = (ranks[-1] / ranks[1:-1]).log().mean() / (logs[:, -1:] - logs[:, 1:-1]).mean(dim=1)
        value = middle * (growth * (logs[:, 0] - logs[:, middle - 1])).exp()
        expected.append(value.where(distances[:, middle - 1] > 0, torch.inf).nan_to_num(nan=0.0, posinf=torch.inf))
        nearest.append(neighbours[:, 0])
    return torch.cat(expected), torch.cat(nearest)


def _tracks(rows: Tensor, examples: Examples) -> Tensor:
    """Return the mean of the rows of each track, ``float64[N, D]``."""
    return examples.by_track(rows[examples.rows].double())


def _whitened(train: Tensor, tracks: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in the principal components of train, each of deviation 1 there."""
    mean, deviation = train.mean(dim=0), train.std(dim=0, correction=0)
    deviation = deviation.where(deviation > 1e-6 * train.abs().amax(dim=0), torch.inf)
    train, tracks = ((values - mean) / deviation for values in (train, tracks))
    variances, axes = torch.linalg.eigh(train.T @ train / len(train))
    kept = min(_COMPONENTS, len(train) // 4, int((variances > 1e-6 * variances[-1]).sum()))
    axes = axes[:, -kept:] / variances[-kept:].sqrt() if kept else axes[:, :0]
    return train @ axes, tracks @ axes
