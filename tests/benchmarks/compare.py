"""How often the paired tests reject and the paired intervals cover, over draws of tracks and answers.

Two systems of equal quality give the rate of false rejections at 5 % (permutation, and McNemar for accuracy); of different
quality, the coverage of the 95 % interval, whose truth is the difference on very many tracks. Then Holm's method over eight
tasks: the rate of any false rejection where no task has a difference, and where half of them have one.

Prints a table, or with ``--json`` one JSON line: rates in percent, with the deviation that the number of draws leaves.

``python tests/benchmarks/compare.py [--draws 2000] [--json] [--only accuracy]``
"""

import argparse
import json
import math
import platform
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from marble.analysis.metrics import METRICS
from marble.analysis.paired import Answers, holm, paired


@dataclass(frozen=True)
class Cell:
    """A task: draws of its targets, and of the answers of a system of some quality, given the difficulty of each track."""

    name: str
    metric: str
    tracks: int
    seeds: int
    targets: Callable[[np.random.Generator, int], np.ndarray]
    scores: Callable[[np.random.Generator, np.ndarray, np.ndarray, float], np.ndarray]
    qualities: tuple[float, float]

    def draw(self, random: np.random.Generator, qualities: tuple[float, float], tracks: int | None = None) -> list[Answers]:
        """Return the answers of both systems to the same tracks; seeds of a system share most of their errors."""
        count = tracks or self.tracks
        targets = self.targets(random, count)
        hard = random.normal(size=count)
        systems = []
        for quality in qualities:
            own = hard + random.normal(size=count)
            answers = [self.scores(random, targets, own + 0.5 * random.normal(size=count), quality) for _ in range(self.seeds)]
            systems.append(Answers(METRICS[self.metric], np.stack(answers), targets))
        return systems

    def truth(self, tracks: int) -> float:
        """Return the difference of two systems of the two qualities on very many tracks."""
        first, second = self.draw(np.random.default_rng(99), self.qualities, tracks)
        return float(first.values.mean() - second.values.mean())


def classes(count: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    """Classes of which the last is a third as frequent as the first."""
    frequency = np.geomspace(1, 1 / 3, count)
    return lambda random, tracks: random.choice(count, size=tracks, p=frequency / frequency.sum())


def class_scores(count: int) -> Callable[..., np.ndarray]:
    """Scores whose highest is at the true class where the quality beats the difficulty, else at a random class."""

    def scores(random: np.random.Generator, targets: np.ndarray, hard: np.ndarray, quality: float) -> np.ndarray:
        wrong = (targets + random.integers(1, count, len(targets))) % count
        return np.eye(count)[np.where(hard < quality, targets, wrong)]

    return scores


def tags(random: np.random.Generator, tracks: int) -> np.ndarray:
    return (random.random((tracks, 4)) < [0.4, 0.25, 0.15, 0.1]).astype(np.float32)


def tag_scores(random: np.random.Generator, targets: np.ndarray, hard: np.ndarray, quality: float) -> np.ndarray:
    own = random.normal(size=targets.shape)
    return quality * targets + own + 0.4 * hard[:, None]


def values(random: np.random.Generator, tracks: int) -> np.ndarray:
    return random.normal(size=(tracks, 2)).astype(np.float32)


def value_scores(random: np.random.Generator, targets: np.ndarray, hard: np.ndarray, quality: float) -> np.ndarray:
    errors = random.normal(size=targets.shape) + hard[:, None]
    return targets + errors / (3 * quality)


def grade_scores(random: np.random.Generator, targets: np.ndarray, hard: np.ndarray, quality: float) -> np.ndarray:
    decoded = np.clip(np.round(targets + hard / quality), 0, 5).astype(int)
    return (np.arange(6) <= decoded[:, None]).astype(np.float64)


CELLS = [
    Cell("accuracy", "accuracy", 200, 1, classes(10), class_scores(10), (1.0, 0.7)),
    Cell("accuracy, 5 seeds", "accuracy", 200, 5, classes(10), class_scores(10), (1.0, 0.7)),
    Cell("accuracy, few tracks", "accuracy", 60, 1, classes(4), class_scores(4), (1.0, 0.5)),
    Cell("balanced_accuracy", "balanced_accuracy", 300, 1, classes(10), class_scores(10), (1.0, 0.7)),
    Cell("key_score", "key_score", 200, 1, classes(24), class_scores(24), (1.0, 0.7)),
    Cell("r2", "r2", 200, 1, values, value_scores, (1.0, 0.9)),
    Cell("mse", "mse", 150, 3, values, value_scores, (1.0, 0.9)),
    Cell("roc_auc", "roc_auc", 400, 1, tags, tag_scores, (1.5, 1.3)),
    Cell("average_precision", "average_precision", 400, 1, tags, tag_scores, (1.5, 1.3)),
    Cell("ordinal_balanced_accuracy", "ordinal_balanced_accuracy", 200, 1, classes(6), grade_scores, (1.5, 1.2)),
    Cell("kendall_tau", "kendall_tau", 200, 1, classes(6), grade_scores, (1.5, 1.2)),
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", default="", help="cells whose name begins so")
    options = parser.parse_args()
    cells = [cell for cell in CELLS if cell.name.startswith(options.only)]
    rows, families = [], []
    if not options.json:
        print(
            f"{'cell':27}{'tracks':>7}{'permutation':>13}{'McNemar':>9}{'coverage':>10}{'difference':>12}{'power':>7} (percent)"
        )
    for cell in cells:
        rows.append(row := measure(cell, options.draws))
        if not options.json:
            mcnemar = f"{row['mcnemar']:.1f}" if row["mcnemar"] else ""
            print(
                f"{cell.name:27}{cell.tracks:7}{row['permutation']:13.1f}{mcnemar:>9}{row['coverage']:10.1f}"
                f"{row['difference']:12.4f}{row['power']:7.1f}",
                flush=True,
            )
    for shifted in (0, 4) if not options.only else ():
        families.append(row := family(options.draws, shifted))
        if not options.json:
            print(f"Holm, 8 tasks, {shifted} with a difference: any false rejection in {row['any_false']:.1f} %", flush=True)
    if options.json:
        line = {"benchmark": "compare", "draws": options.draws, "cells": rows, "holm": families}
        print(json.dumps(line | {"machine": platform.platform()}))


def measure(
    cell: Cell, draws: int, *, resamples: int = 500, exchanges: int = 1000, truth_tracks: int = 200_000
) -> dict[str, object]:
    """Return the rates of a cell."""
    random, truth = np.random.default_rng(0), cell.truth(truth_tracks)
    quality = cell.qualities[0]
    alike = [paired(*cell.draw(random, (quality, quality)), resamples=2, exchanges=exchanges, seed=n) for n in range(draws)]
    apart = [paired(*cell.draw(random, cell.qualities), resamples=resamples, exchanges=exchanges, seed=n) for n in range(draws)]
    mcnemar = np.mean([seen.p_mcnemar < 0.05 for seen in alike]) if cell.metric == "accuracy" else None
    return {
        "cell": cell.name,
        "tracks": cell.tracks,
        "permutation": percent(np.mean([seen.p_permutation < 0.05 for seen in alike])),
        "mcnemar": None if mcnemar is None else percent(mcnemar),
        "coverage": percent(np.mean([seen.low <= truth <= seen.high for seen in apart])),
        "difference": round(truth, 4),
        "power": percent(np.mean([seen.p_permutation < 0.05 for seen in apart])),
        "deviation": percent(math.sqrt(0.05 * 0.95 / draws)),
    }


def family(draws: int, shifted: int, *, exchanges: int = 1000) -> dict[str, object]:
    """Return how often Holm's method over eight tasks rejects any of those without a difference."""
    random = np.random.default_rng(1)
    cells = [cell for cell in CELLS if cell.name in ("accuracy", "balanced_accuracy", "key_score", "r2")] * 2
    wrong = 0
    for number in range(draws):
        p_values = [
            paired(
                *cell.draw(random, cell.qualities if task < shifted else (1.0, 1.0)),
                resamples=2,
                exchanges=exchanges,
                seed=number,
            ).p_permutation
            for task, cell in enumerate(cells)
        ]
        wrong += min(holm(p_values)[shifted:]) < 0.05
    return {
        "with_difference": shifted,
        "any_false": percent(wrong / draws),
        "deviation": percent(math.sqrt(0.05 * 0.95 / draws)),
    }


def percent(share: float) -> float:
    return round(100 * float(share), 2)


if __name__ == "__main__":
    main()
