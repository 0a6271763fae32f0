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
- ``--set split.near=group`` compares all tracks with each other, joins two where fewer than `JOIN` are expected, directly or by
  others between them, and deals the joined to splits as wholes; what is then near a train track is joined, too, and all is
  dealt again, until nothing is or `ROUNDS` times. It joins few that do not belong together, and not all that do:
  it is no substitute for ``--group`` by a column or by folders.
- At most `MOST_TRACKS` train tracks are looked at, taken evenly: of a larger set the share is a lower bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from marble.errors import MarbleError
from marble.probe.inputs import Examples, Inputs
from marble.results.schema import NearDuplicates, NearPair
from marble.task import SPLITS

LIMIT = 1e-3
JOIN = 0.05
ROUNDS = 10
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
    if len(inputs.tracks["train"]) < _FEWEST_TRACKS:
        return None
    pairs = near_pairs(inputs)
    shares = {split: sum(pair.split == split for pair in pairs) / len(inputs.tracks[split]) for split in ("valid", "test")}
    return NearDuplicates(
        layer=inputs.layers[0],
        valid=shares["valid"],
        test=shares["test"],
        train_tracks=len(inputs.tracks["train"][:: _step(inputs)]),
        pairs=pairs[:_PAIRS],
    )


def near_pairs(inputs: Inputs) -> list[NearPair]:
    """Return each validation and test track that is near a train track, with the nearest of these, the nearest pair first."""
    data, step = inputs.data, _step(inputs)
    rows = inputs.features([inputs.layers[0]])[0]
    train = _tracks(rows, data.train)[::step]
    pairs = []
    for split, examples in (("valid", data.valid), ("test", data.test)):
        expected, nearest = expected_neighbours(_tracks(rows, examples), train)
        for number in (expected[:, 0] < LIMIT).nonzero()[:, 0].tolist():
            near = inputs.tracks["train"][step * int(nearest[number, 0])]
            pair = NearPair(track=inputs.tracks[split][number], split=split, near=near)
            pairs.append((float(expected[number, 0]), pair.track, pair))
    return [pair for *_, pair in sorted(pairs, key=lambda entry: entry[:2])]


def _step(inputs: Inputs) -> int:
    return -(-len(inputs.tracks["train"]) // MOST_TRACKS)


def joined_tracks(inputs: Inputs, units: Sequence[Mapping[str, str]], pairs: Sequence[NearPair]) -> dict[str, str]:
    """Return for each track the first one that it is joined with: all that are near each other, and all of one unit.

    Args:
        inputs: the features of the tracks.
        units: what must not be parted for other reasons: the unit of each track, as far as it has one.
        pairs: tracks that must not be parted, either.

    Raises:
        MarbleError: there are too many tracks to compare each with each.
    """
    names = [name for split in SPLITS for name in inputs.tracks[split]]
    if len(names) > MOST_TRACKS:
        raise MarbleError(
            f"split.near=group compares each of {len(names)} tracks with each, and up to {MOST_TRACKS} are: leave it out."
        )
    rows = inputs.features([inputs.layers[0]])[0]
    tracks = torch.cat([_tracks(rows, examples) for examples in (inputs.data.train, inputs.data.valid, inputs.data.test)])
    expected, neighbours = expected_neighbours(tracks, tracks)
    first = list(range(len(names)))

    def root(number: int) -> int:
        """Return the first track that a track is joined with so far."""
        while first[number] != number:
            number = first[number]
        return number

    def join(number: int, other: int) -> None:
        """Join two tracks with all that they are joined with."""
        low, high = sorted((root(number), root(other)))
        first[high] = low

    for number, rank in (expected < JOIN).nonzero().tolist():
        join(number, int(neighbours[number, rank]))
    number_of = {name: number for number, name in enumerate(names)}
    for pair in pairs:
        join(number_of[pair.track], number_of[pair.near])
    for unit_of in units:
        of_unit: dict[str, int] = {}
        for number, name in enumerate(names):
            if name in unit_of:
                join(number, of_unit.setdefault(unit_of[name], number))
    return {name: names[root(number)] for number, name in enumerate(names)}


def expected_neighbours(tracks: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each track how many train tracks chance puts as near as each of its neighbours, and their numbers.

    Args:
        tracks: ``float64[N, D]``, the features of the tracks.
        train: ``float64[M, D]``, those of the train tracks.

    Returns:
        ``float64[N, K]`` and ``int64[N, K]``, of the K nearest, the nearest first; infinite where a quarter of them lie at no
        distance.
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
        value = middle * (growth[:, None] * (logs - logs[:, [middle - 1]])).exp()
        expected.append(value.where(distances[:, [middle - 1]] > 0, torch.inf).nan_to_num(nan=0.0, posinf=torch.inf))
        nearest.append(neighbours)
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
