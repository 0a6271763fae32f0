"""Ties, ranks and their intervals.

- An `Estimate` is a mean test score with what its error is known from: the influence of each track where the answers are stored
  (`marble.results.ranking.influence`), else the interval that the result states.
- *Tie*: two scores whose difference is within 1.96 standard errors, over the tracks that both have answered and over the seeds
  of each. Without answers to the same tracks the errors count as independent, which calls too many pairs tied rather than too
  few (`marble.results.ranking.noise`). A tie group holds those that are tied with its best; the next one leads the next group.
- *Interval of a rank*: of 1000 resamples, the 2.5 % at either end left out. A resample draws, with replacement, the tasks,
  within each the tracks, the same for all upstreams, and the seeds of each upstream; of a single task, tracks and seeds. An
  estimate without answers is drawn as a normal error on its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marble.errors import MarbleError
from marble.results.ranking.influence import influence_of, is_known
from marble.results.ranking.noise import standard_error, within_noise
from marble.results.schema import Result

RESAMPLES = 1000
_AGREES = 1e-6  # the answers stored give the score stated


@dataclass(frozen=True)
class Estimate:
    """A mean test score and its error.

    Attributes:
        value: mean over seeds; NaN where it does not exist.
        of_seeds: the score of each seed.
        error: standard error over tracks and seeds, from what the result states.
        tracks: names of the N tracks; empty without answers.
        influences: ``float64[N]``, of the mean over seeds.
        higher_is_better: the direction.
    """

    value: float
    of_seeds: np.ndarray
    error: float
    tracks: tuple[str, ...]
    influences: np.ndarray
    higher_is_better: bool

    @property
    def seed_variance(self) -> float:
        """The variance of the mean over seeds; 0 for a single seed."""
        return float(self.of_seeds.var(ddof=1)) / len(self.of_seeds) if len(self.of_seeds) > 1 else 0.0


def estimate(result: Result, metric: str, root: Path | None = None) -> Estimate:
    """Return the estimate of a metric of the selected layer.

    Args:
        result: a result.
        metric: its name.
        root: the folder of all results, for the answers; None looks at what the result states alone.
    """
    test = result.selected.test[metric]
    low, high = test.ci95 or (None, None)
    layer = next(layer for layer in result.layers if layer.layer == result.selected.layer)
    of_seeds = np.array(
        [math.nan if run.test.get(metric) is None else run.test[metric] for run in layer.runs], dtype=np.float64
    )
    value = math.nan if test.mean is None else test.mean
    tracks, influences = _influences(result, metric, root, dict(zip([run.seed for run in layer.runs], of_seeds, strict=True)))
    error = standard_error(test.std, low, high, len(of_seeds))
    return Estimate(value, of_seeds, error, tracks, influences, result.higher_is_better(metric))


def _influences(
    result: Result, metric: str, root: Path | None, stated: Mapping[int, float]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the tracks and their mean influences; none where there are no answers that give the stated scores."""
    none: tuple[tuple[str, ...], np.ndarray] = ((), np.zeros(0))
    try:
        if root is None or not is_known(result, metric):
            return none
        answers = result.predictions(root, layer=result.selected.layer, split="test")
    except MarbleError:
        return none
    if set(answers.seed) != set(stated):
        return none
    slopes = []
    for seed, rows in answers.sort_values(["seed", "track"]).groupby("seed"):
        value, influences = influence_of(result, metric, list(rows.target), list(rows.logits))
        if not abs(value - stated[seed]) < _AGREES:  # ty: ignore[invalid-argument-type]
            return none
        slopes.append(influences)
    return tuple(sorted(set(answers.track))), np.mean(slopes, axis=0)


def tied(first: Estimate, second: Estimate) -> bool:
    """Return whether two scores are within noise of each other."""
    if not first.tracks or first.tracks != second.tracks:
        return within_noise(first.value - second.value, first.error, second.error)
    over_tracks = math.sqrt(((first.influences - second.influences) ** 2).sum())
    over_seeds = math.sqrt(first.seed_variance + second.seed_variance)
    return within_noise(first.value - second.value, over_tracks, over_seeds)


def tie_groups(scores: Sequence[float], alike: Callable[[int, int], bool], higher: bool) -> list[int]:
    """Return the group of each score, the best being 1: a group holds those that are not shown to differ from its best.

    Args:
        scores: none of them NaN.
        alike: whether two scores, by number, are not shown to differ.
        higher: whether higher scores are better.
    """
    order = sorted(range(len(scores)), key=lambda number: -scores[number] if higher else scores[number])
    groups, leader, group = [0] * len(scores), 0, 0
    for number in order:
        if not group or not alike(leader, number):
            leader, group = number, group + 1
        groups[number] = group
    return groups


def rank_intervals(columns: Mapping[str, Sequence[Sequence[Estimate]]], seed: int = 0) -> list[tuple[int, int, int]]:
    """Return rank, and lower and upper end of its 95 % interval, of each upstream, by the mean over columns.

    Args:
        columns: by task, the columns of its metrics, each an estimate for each upstream.
        seed: of the resamples.
    """
    random = np.random.default_rng(seed)
    means = np.array([[part.value for part in column] for task in columns.values() for column in task])
    counts = np.array([len(task) for task in columns.values()])
    drawn = np.stack([_drawn(task, random) for task in columns.values()])  # [tasks, resamples, upstreams], sums over columns
    chosen = random.multinomial(len(columns), np.full(len(columns), 1 / len(columns)), size=RESAMPLES)
    averages = np.einsum("rt,tru->ru", chosen, drawn) / (chosen @ counts)[:, None]
    sign = np.array([[1 if part.higher_is_better else -1 for part in next(iter(columns.values()))[0]]])
    ranks = _ranks(averages * sign)
    low, high = np.quantile(ranks, [0.025, 0.975], axis=0, method="closest_observation").astype(int)
    whole = _ranks(means.mean(0)[None] * sign)[0]
    return [
        (int(rank), int(min(rank, first)), int(max(rank, last))) for rank, first, last in zip(whole, low, high, strict=True)
    ]


def _drawn(task: Sequence[Sequence[Estimate]], random: np.random.Generator) -> np.ndarray:
    """Return the sums over the columns of a task in each resample of its tracks and seeds, ``[resamples, upstreams]``."""
    tracks = sorted({track for column in task for part in column for track in part.tracks})
    place = {track: number for number, track in enumerate(tracks)}
    more = random.multinomial(len(tracks), np.full(len(tracks), 1 / len(tracks)), size=RESAMPLES) - 1.0 if tracks else None
    sums = []
    for parts in zip(*task, strict=True):
        seeds = random.integers(len(parts[0].of_seeds), size=(RESAMPLES, len(parts[0].of_seeds)))
        total = np.zeros(RESAMPLES)
        for part in parts:
            if more is None or not part.tracks:
                total += part.value + part.error * random.standard_normal(RESAMPLES)
            else:
                total += part.of_seeds[seeds].mean(1) + more[:, [place[track] for track in part.tracks]] @ part.influences
        sums.append(total)
    return np.stack(sums, axis=1)


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Return the rank of each score in each row: 1 and the number of better ones."""
    return 1 + (scores[:, None, :] > scores[:, :, None]).sum(2)
