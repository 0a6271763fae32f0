"""How often intervals over tracks cover, at the sizes of real tasks and on populations whose metric is known.

A cell is a metric, a population and a number of test tracks. Tracks and answers are drawn again and again; each time the
interval contains the metric of the population, which is computed without drawing, or not. Nominal are 95 %. With 500 draws a
coverage of 95 % has a standard error of 1 %. The accuracy of one probe is not drawn: each number of wrong answers counts with
its binomial probability, and the coverage is exact ("exact" in place of the number of draws).

Prints a row for each cell and method, and one JSON line: coverage, share of intervals above the truth, share with their own
mean, mean width; seconds of a core. ``python tests/benchmarks/intervals.py [--cells accuracy,roc_auc] [--draws 500]
[--others]`` takes half an hour.

Measured on 57 to 604 tracks, lowest and highest coverage: accuracy .938 and .988, balanced accuracy .948 and .990, key score
.952 and .974, window accuracy .938 and .980, average precision .944 and .996, ROC AUC .963 and .985, R2 .942 and .976, MSE .934
and .958, the ordinal metrics .926 and .968. On 4,231 and 5,329 tracks the accuracy of one probe, from .985 to .999, is covered
with .949 to .975 exactly. Outside of .92 to .98 are:

- Accuracy .997 of one probe on 57 tracks, .987: none is wrong with probability .843, at most one with .987, and no interval
  covers with a probability between them.
- Other cells near the ceiling: five seeds that differ, .988; balanced accuracy .95 of ten classes on 57 tracks, .990; average
  precision .96 and ROC AUC .98 of five labels on 57 tracks, .996 and .985. No interval lies above the truth, since that of
  perfect answers reaches below it, so half of the 5 % cannot occur. An estimate that is too low has too large an error besides.
- R2 with errors of Student's t with 3 degrees of freedom, .838 to .896: squared errors have no variance, so there is no
  standard error to estimate. Errors of ratings are bounded.

``--others`` adds the jackknife and the bootstrap (percentile, basic, BCa, studentised by influences), and for single answers
Wilson's and Clopper and Pearson's (exact) intervals.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
import torch
from scipy import integrate, stats

from marble.probe.scoring.intervals import Estimate, estimate, interval, interval_of_choice, selection_shares
from marble.probe.scoring.metrics import METRICS, Metric

Draw = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
Ends = tuple[float, float]
Sample = tuple[float, float, dict[str, Ends]]
SIZES = (57, 125, 290, 604, 4231, 5329)
NORMAL = NormalDist()


@dataclass(frozen=True)
class Cell:
    """A population and a number of tracks.

    Attributes:
        name: metric, level and number of tracks.
        metric: the name of the metric.
        truth: the metric of the population.
        draw: answers, targets and tracks of windows (None: one each) from a generator.
        outcomes: in place of draws, each possible one and its probability.
    """

    name: str
    metric: str
    truth: float
    draw: Callable[[np.random.Generator], Draw] | None = None
    outcomes: tuple[tuple[float, Draw], ...] = ()

    def samples(self, draws: int, others: bool) -> Iterator[Sample]:
        """Yield the value and the intervals of draws of equal weight, or of each outcome."""
        for weight, (scores, targets, track) in self.outcomes or self._drawn(draws):
            metric = METRICS[self.metric]
            own = estimate(scores, targets, metric, track)
            methods = {"marble": interval(own, own.value)}
            if others:
                methods |= classical(scores, targets, metric, track)
            yield weight, own.value, methods

    def _drawn(self, draws: int) -> Iterator[tuple[float, Draw]]:
        assert self.draw
        return ((1 / draws, self.draw(generator(self.name, number))) for number in range(draws))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", default="", help="parts of names, separated by commas; all by default")
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--others", action="store_true")
    options = parser.parse_args()
    parts, rows = options.cells.split(","), []
    for cell in (*cells(), *choices()):
        if any(part in cell.name for part in parts):
            rows += measure(cell, options.draws, options.others)
    print(json.dumps({"benchmark": "intervals", **vars(options), "rows": rows, "machine": platform.machine()}))


def measure(cell: Cell | Choice, draws: int, others: bool) -> list[dict]:
    """Print and return a row for each method: coverage, misses above the truth, intervals with their mean, mean width."""
    begin = time.process_time()
    weights, values, intervals = zip(*cell.samples(draws, others), strict=True)
    shares, means, seconds = np.array(weights) / sum(weights), np.array(values), time.process_time() - begin
    rows = []
    for method in intervals[0]:
        low, high = np.array([methods[method] for methods in intervals]).T
        row = {
            "cell": cell.name,
            "method": method,
            "draws": "exact" if isinstance(cell, Cell) and cell.outcomes else draws,
            "coverage": float(((low <= cell.truth) & (cell.truth <= high)) @ shares),
            "above": float((low > cell.truth) @ shares),
            "with_mean": float(((low <= means) & (means <= high)) @ shares),
            "width": float((high - low) @ shares),
        }
        print(
            f"{cell.name:82} {method:10} {row['draws']!s:>5} {row['coverage']:.3f} {row['above']:.3f} {row['with_mean']:.2f} "
            f"{row['width']:.4f}  truth {cell.truth:.4f} mean {means @ shares:.4f}  {seconds:.1f} s",
            flush=True,
        )
        rows.append(row)
    return rows


def generator(name: str, number: int) -> np.random.Generator:
    """Return the random numbers of a draw of a cell."""
    return np.random.default_rng([zlib.crc32(name.encode()), number])


def cells() -> Iterator[Cell]:
    """Yield every cell."""
    for tracks in SIZES:
        for level in (0.5, 0.8, 0.95, 0.98, 0.997):
            yield single(tracks, level)
        for level in (0.8, 0.95, 0.98, 0.997) if tracks < 1000 else (0.95,):
            yield accuracy(tracks, level, 0.8)
        for level in (0.99, 0.997) if tracks < 1000 else (0.997,):
            yield accuracy(tracks, level, 0.99)
        for level in (0.6, 0.95) if tracks < 1000 else (0.95,):
            yield balanced(tracks, level)
            yield keys(tracks, level)
            yield windows(tracks, level)
    for tracks in (57, 125, 290, 604):
        for level in (0.0, 0.08, 0.3, 0.8):
            yield explained("r2", tracks, level)
        for level in (0.08, 0.5):
            yield explained("r2", tracks, level, freedom=5)
        yield explained("r2", tracks, 0.5, freedom=3)
        yield explained("r2", tracks, 0.3, seeds=5, dimensions=2)
        yield explained("mse", tracks, 0.3)
        yield explained("mse", tracks, 0.5, freedom=5)
        for metric in ("ordinal_mse", "ordinal_balanced_accuracy", "kendall_tau"):
            yield ordinal(metric, tracks)
    few, tens, many = np.linspace(1, 10, 50), np.full(25, 20.0), np.geomspace(112, 1000, 10)
    for metric in ("average_precision", "roc_auc"):
        for distance in (1.8, 2.4):
            yield tagged(metric, 604, few, distance)
        yield tagged(metric, 604, few, 2.0, seeds=2)
        yield tagged(metric, 57, np.full(5, 15.0), 3.0)
        yield tagged(metric, 125, np.full(10, 8.0), 1.0)
        yield tagged(metric, 290, np.full(10, 30.0), 1.0)
        yield tagged(metric, 4231, tens, 2.0)
        yield tagged(metric, 5329, few[::2], 2.2)
        yield tagged(metric, 5329, many, 1.0)
    yield tagged("average_precision", 5329, many, 2.0, common=0.3)


@dataclass(frozen=True)
class Choice:
    """Layers of these accuracies, of which validation chooses one; the truth is the mean accuracy of the layer that it chooses.

    Attributes:
        name: number of layers and of tracks.
        levels: accuracy of each layer; layers agree as normal variables of correlation .5 do.
        valid: number of validation tracks.
        test: number of test tracks.
    """

    name: str
    levels: tuple[float, ...]
    valid: int
    test: int

    @cached_property
    def truth(self) -> float:
        """The mean over 20,000 validation splits."""
        random = np.random.default_rng(0)
        return float(np.mean([self.levels[self.right(random, self.valid).mean(1).argmax()] for _ in range(20_000)]))

    def right(self, random: np.random.Generator, tracks: int) -> np.ndarray:
        """Draw which answers of each layer are right, ``[layers, tracks]``."""
        limits = np.array([NORMAL.inv_cdf(level) for level in self.levels])
        return correlated(random, (len(self.levels), tracks), 0.5) < limits[:, None]

    def samples(self, draws: int, others: bool) -> Iterator[Sample]:
        """Yield the accuracy of the chosen layer, and its intervals with and without the choice."""
        for number in range(draws):
            random = generator(self.name, number)
            valid, test = (self.estimates(self.right(random, tracks)) for tracks in (self.valid, self.test))
            chosen = test[int(np.argmax([part.value for part in valid]))]
            of_choice = interval_of_choice(test, selection_shares(valid), chosen.value)
            yield 1 / draws, chosen.value, {"of choice": of_choice, "of layer": interval(chosen, chosen.value)}

    @staticmethod
    def estimates(right: np.ndarray) -> list[Estimate]:
        """Return the estimate of each layer."""
        targets = torch.zeros(right.shape[1], dtype=torch.int64)
        return [estimate(one_hot(np.where(row, 0, 1)[None], 2), targets, METRICS["accuracy"]) for row in right]


def choices() -> Iterator[Choice]:
    """Yield the cells of a choice among layers."""
    for name, levels in (
        ("alike", (0.7, 0.74, 0.76, 0.77, 0.75, 0.72)),
        ("apart", (0.5, 0.6, 0.8, 0.65)),
        ("two", (0.7, 0.75)),
    ):
        for valid, test in ((57, 57), (197, 290), (1000, 604)):
            yield Choice(f"choice among layers, {name}, {valid} and {test} tracks", levels, valid, test)


def single(tracks: int, level: float) -> Cell:
    """Answers of one probe that are right with this probability: every number of wrong ones that is likelier than 1e-7."""
    targets, chances = torch.zeros(tracks, dtype=torch.int64), stats.binom.pmf(np.arange(tracks + 1), tracks, 1 - level)
    outcomes = [
        (float(chances[wrong]), (one_hot((np.arange(tracks) < wrong)[None].astype(int), 2), targets, None))
        for wrong in np.flatnonzero(chances > 1e-7)
    ]
    return Cell(f"accuracy {level}, {tracks} tracks", "accuracy", level, outcomes=tuple(outcomes))


def accuracy(tracks: int, level: float, agreement: float) -> Cell:
    """Answers of five probes that are right with this probability; they agree as normal variables of a correlation do."""

    def draw(random: np.random.Generator) -> Draw:
        right = correlated(random, (5, tracks), agreement) < NORMAL.inv_cdf(level)
        return one_hot(np.where(right, 0, 1), 2), torch.zeros(tracks, dtype=torch.int64), None

    return Cell(f"accuracy {level}, {tracks} tracks, 5 seeds, correlated {agreement}", "accuracy", level, draw)


def windows(tracks: int, level: float) -> Cell:
    """Windows, one to five a track, that are right together as normal variables of correlation .6 are."""

    def draw(random: np.random.Generator) -> Draw:
        track = np.repeat(np.arange(tracks), random.integers(1, 6, tracks))
        latent = math.sqrt(0.6) * random.normal(size=tracks)[track] + math.sqrt(0.4) * random.normal(size=len(track))
        right = latent[None] < NORMAL.inv_cdf(level)
        return one_hot(np.where(right, 0, 1), 2), torch.zeros(len(track), dtype=torch.int64), torch.from_numpy(track)

    return Cell(f"window_accuracy {level}, {tracks} tracks", "window_accuracy", level, draw)


def balanced(tracks: int, level: float) -> Cell:
    """Ten classes, the rarest a quarter as frequent as the first, their recalls spread around the level."""
    frequency = np.geomspace(1, 0.25, 10)
    recall = level + (1 - level) * np.linspace(-0.8, 0.8, 10)

    def draw(random: np.random.Generator) -> Draw:
        targets = random.choice(10, size=tracks, p=frequency / frequency.sum())
        right = random.random(tracks) < recall[targets]
        return one_hot(np.where(right, targets, (targets + 1) % 10)[None], 10), torch.from_numpy(targets), None

    return Cell(f"balanced_accuracy {level}, {tracks} tracks", "balanced_accuracy", level, draw)


def keys(tracks: int, level: float) -> Cell:
    """Major keys that are answered by themselves, their fifth, relative, parallel or by a wrong key, to this weighted score."""
    scores, others = np.array([1, 0.5, 0.3, 0.2, 0]), np.array([0, 0.4, 0.2, 0.1, 0.3])
    right = (level - others @ scores) / (1 - others @ scores)
    chances = (1 - right) * others + right * np.array([1, 0, 0, 0, 0])

    def draw(random: np.random.Generator) -> Draw:
        targets = random.integers(0, 12, tracks)
        answers = np.stack([targets, (targets + 7) % 12, 12 + (targets + 9) % 12, 12 + targets, (targets + 1) % 12])
        chosen = answers[random.choice(5, size=tracks, p=chances), np.arange(tracks)]
        return one_hot(chosen[None], 24), torch.from_numpy(targets), None

    return Cell(f"key_score {level}, {tracks} tracks", "key_score", level, draw)


def explained(metric: str, tracks: int, level: float, *, freedom: int = 0, seeds: int = 1, dimensions: int = 1) -> Cell:
    """Normal targets; answers that explain this share, with normal errors or those of Student's t."""
    slope = max(level, 0.1)
    spread = math.sqrt(1 - level - (1 - slope) ** 2)

    def draw(random: np.random.Generator) -> Draw:
        targets = random.normal(size=(tracks, dimensions))
        errors = correlated(random, (seeds, tracks, dimensions), 0.8)
        if freedom:
            errors = errors / np.sqrt(random.chisquare(freedom, size=(tracks, dimensions)) / (freedom - 2))
        return torch.from_numpy(slope * targets + spread * errors), torch.from_numpy(targets), None

    tails = f"t({freedom}) errors" if freedom else "normal errors"
    truth = level if metric == "r2" else 1 - level
    return Cell(f"{metric} {truth:.2f}, {tracks} tracks, {seeds} seeds, {tails}", metric, truth, draw)


def ordinal(metric: str, tracks: int) -> Cell:
    """Nine grades, the rarest a quarter as frequent as the middle ones, answered with a normal error of one grade."""
    frequency = np.exp(-(((np.arange(9) - 4) / 3.4) ** 2))
    edges = np.concatenate([[-np.inf], np.arange(8) + 0.5, [np.inf]])
    chance = np.diff(stats.norm.cdf(edges - np.arange(9)[:, None]), axis=1)  # [true grade, answer]
    joint = chance * (frequency / frequency.sum())[:, None]

    def staircase(grade: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((np.arange(9) <= grade[:, None]).astype(np.float64))[None]

    def draw(random: np.random.Generator) -> Draw:
        pairs = random.choice(81, size=tracks, p=joint.flatten())
        return staircase(pairs % 9), torch.from_numpy(pairs // 9), None

    every = np.arange(81)
    truth = METRICS[metric](staircase(every % 9), torch.from_numpy(every // 9), torch.from_numpy(joint.flatten()))
    return Cell(f"{metric}, {tracks} tracks", metric, truth.item(), draw)


def tagged(metric: str, tracks: int, positives: np.ndarray, distance: float, *, seeds: int = 1, common: float = 0.0) -> Cell:
    """Labels with so many positives on average, whose scores are normal with a mean this far above that of negatives.

    `common` is the correlation of the scores of a track for different labels.
    """
    rates = positives / tracks

    def draw(random: np.random.Generator) -> Draw:
        targets = random.random((tracks, len(rates))) < rates
        scores = correlated(random, (seeds, tracks, len(rates)), 0.8)
        scores = math.sqrt(1 - common) * scores + math.sqrt(common) * random.normal(size=(tracks, 1))
        return torch.from_numpy(scores + distance * targets), torch.from_numpy(targets.astype(np.float32)), None

    x = np.linspace(-8, distance + 8, 8001)
    true, false = stats.norm.sf(x - distance) * rates[:, None], stats.norm.sf(x) * (1 - rates[:, None])
    precision = integrate.trapezoid(stats.norm.pdf(x - distance) * true / (true + false), x, axis=1).mean()
    truth = float(precision) if metric == "average_precision" else NORMAL.cdf(distance / math.sqrt(2))
    name = f"{metric} {truth:.2f}, {tracks} tracks, {len(rates)} labels of {positives.mean():.0f}, {seeds} seeds"
    return Cell(name + (f", labels correlated {common}" if common else ""), metric, truth, draw)


def correlated(random: np.random.Generator, shape: tuple[int, ...], correlation: float) -> np.ndarray:
    """Standard normal variables that have this correlation along the first dimension."""
    return math.sqrt(correlation) * random.normal(size=shape[1:]) + math.sqrt(1 - correlation) * random.normal(size=shape)


def one_hot(answers: np.ndarray, classes: int) -> torch.Tensor:
    """Scores that answer these classes."""
    return torch.nn.functional.one_hot(torch.from_numpy(answers), classes).float()


def classical(scores: torch.Tensor, targets: torch.Tensor, metric: Metric, track: torch.Tensor | None) -> dict[str, Ends]:
    """Return the intervals of other methods."""
    own = estimate(scores, targets, metric, track)
    count = scores.shape[1] if track is None else int(track.max()) + 1
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=1000)
    resampled = metric(scores, targets, torch.from_numpy(drawn if track is None else drawn[:, track])).mean(-1).numpy()
    resampled = resampled[~np.isnan(resampled)]
    low, high = np.quantile(resampled, [0.025, 0.975])
    methods = {"percentile": (low, high), "basic": (2 * own.value - high, 2 * own.value - low)}
    influences = -(len(own.influences) - 1) * own.influences
    skewness = (influences**3).sum() / (influences**2).sum() ** 1.5 / 6 if influences.any() else 0.0
    median = stats.norm.ppf(((resampled < own.value).mean() + (resampled <= own.value).mean()) / 2)
    if np.isfinite(median):
        shifted = median + stats.norm.ppf([0.025, 0.975])
        methods["bca"] = tuple(np.quantile(resampled, stats.norm.cdf(median + shifted / (1 - skewness * shifted))))
    else:
        methods["bca"] = (own.value, own.value)
    deviation = influences.std() / math.sqrt(len(influences))
    methods["jackknife"] = (own.value - 1.96 * deviation, own.value + 1.96 * deviation)
    groups = np.random.default_rng(1).multinomial(len(influences), np.full(len(influences), 1 / len(influences)), size=1000)
    mean = groups @ influences / len(influences)
    error = np.sqrt(np.maximum(groups @ influences**2 / len(influences) - mean**2, 1e-300) / len(influences))
    low, high = np.quantile(mean / error, [0.025, 0.975])
    methods["studentised"] = (own.value - high * deviation, own.value - low * deviation)
    if metric.name == "accuracy" and len(scores) == 1:
        right = round(own.value * count)
        for method in ("wilson", "exact"):
            ends = stats.binomtest(right, count).proportion_ci(method=method)
            methods[method] = (ends.low, ends.high)
    return methods


if __name__ == "__main__":
    main()
