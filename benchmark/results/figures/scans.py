"""Data of figures: the scores of one upstream on one task in each layer, from results or from a table of them.

A table is a DataFrame with the columns of `marble.results.load`, or a part of its rows. Of each result the main metric is drawn
where the table has it, else the first of its metrics; means and deviations are those of the seeds in the table.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from marble.errors import MarbleError
from marble.results.choose import task_titles
from marble.results.schema import WEIGHTED, Result, depth_of

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Score:
    """The test score of a layer.

    Attributes:
        layer: its index, or "weighted".
        name: of the layer.
        depth: 0 for layer 0, 1 for the last of the upstream; None for the weighted sum.
        mean, std: over seeds; NaN where there is none.
        low, high: ends of the 95 % interval over tracks; NaN where there is none.
        selected: validation chose it.
        weights: of the layers of the upstream in the weighted sum.
    """

    layer: int | str
    name: str
    depth: float | None
    mean: float
    std: float
    low: float
    high: float
    selected: bool
    weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class Scan:
    """The scores of one upstream on one task under one protocol.

    Attributes:
        train_tracks: number of tracks that the probes were trained on.
        limit: at most this many tracks of each split, where that left any out.
        cautions: in their short form.
    """

    upstream: str
    task: str
    protocol: str
    metric: str
    higher_is_better: bool
    seeds: int
    train_tracks: int
    limit: int | None
    scores: tuple[Score, ...]
    cautions: tuple[str, ...] = ()

    @property
    def single(self) -> list[Score]:
        """The scores of single layers, from the first."""
        return sorted((score for score in self.scores if score.layer != WEIGHTED), key=lambda score: int(score.layer))

    @property
    def weighted(self) -> Score | None:
        """The score of the weighted sum."""
        return next((score for score in self.scores if score.layer == WEIGHTED), None)

    @property
    def selected(self) -> Score | None:
        """The score of the layer that validation chose; None where the table left it out."""
        return next((score for score in self.scores if score.selected), None)

    @property
    def best(self) -> Score | None:
        """The best score on *test*: it tells where to look, and chooses nothing."""
        known = [score for score in self.scores if not math.isnan(score.mean)]
        return max(known, key=lambda score: self.sign * score.mean, default=None)

    @property
    def sign(self) -> int:
        """The factor of scores that makes higher ones better."""
        return 1 if self.higher_is_better else -1

    def relative(self, score: Score) -> float:
        """Return where a score stands between the worst layer (0) and the best (1); .5 where all are equal."""
        values = [self.sign * other.mean for other in self.scores if not math.isnan(other.mean)]
        if not values or min(values) == max(values):
            return 0.5
        return (self.sign * score.mean - min(values)) / (max(values) - min(values))


Source: TypeAlias = "Sequence[Result] | pandas.DataFrame"


def scans_of(source: Source) -> list[Scan]:
    """Return a scan for each result, in their order.

    Raises:
        MarbleError: there is none.
    """
    if isinstance(source, Sequence):
        scans = [_of_result(result, title) for result, title in zip(source, task_titles(source), strict=True)]
    else:
        scans = [_of_rows(rows.to_dict("records")) for _, rows in source.groupby("identity", sort=False)]
    if not scans:
        raise MarbleError("There are no results to draw: name others with --upstream, --task or --protocol.")
    return scans


def _of_result(result: Result, title: str) -> Scan:
    metric, last = result.task.main_metric, len(result.upstream.layers) - 1
    scores = []
    for layer in result.layers:
        test = layer.test[metric]
        ends = test.ci95 or (None, None)
        scores.append(
            Score(
                layer.layer,
                layer.name,
                depth_of(layer.layer, last),
                *(math.nan if value is None else value for value in (test.mean, test.std, *ends)),
                layer.layer == result.selected.layer,
                tuple(layer.weights or ()),
            )
        )
    return Scan(
        result.upstream.name, title, result.protocol.label, metric, result.higher_is_better(), len(result.layers[0].runs),
        result.task.tracks["train"], result.task.limit, tuple(scores), tuple(result.short_cautions),
    )  # fmt: skip


def _of_rows(rows: list[dict[str, Any]]) -> Scan:
    first = next((row for row in rows if row["main"]), rows[0])
    layers: dict[int | str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["metric"] == first["metric"]:
            layers.setdefault(row["layer"], []).append(row)
    scores = []
    for layer, runs in layers.items():
        row, values = runs[0], [run["test"] for run in runs]
        known = not any(_missing(value) for value in values)
        scores.append(
            Score(
                layer if layer == WEIGHTED else int(layer),
                row["layer_name"],
                None if layer == WEIGHTED else float(row["depth"]),
                statistics.fmean(values) if known else math.nan,
                statistics.stdev(values) if known and len(values) > 1 else math.nan,
                *(math.nan if _missing(row[end]) else float(row[end]) for end in ("test_low", "test_high")),
                bool(row["selected"]),
                () if _missing(row["weights"]) else tuple(row["weights"]),
            )
        )
    return Scan(
        first["upstream"], first["task"], first["protocol"], first["metric"], bool(first["higher_is_better"]),
        max(map(len, layers.values())), int(first["train_tracks"]), None if _missing(first["limit"]) else int(first["limit"]),
        tuple(scores), tuple(filter(None, first["note"].split("; "))),
    )  # fmt: skip


def ordered(names: Iterable[str]) -> list[str]:
    """Return names without repetition, in the order of their first use."""
    return list(dict.fromkeys(names))


def _missing(value: Any) -> bool:
    """Return whether a cell of a table is empty."""
    return value is None or (isinstance(value, float) and math.isnan(value))
