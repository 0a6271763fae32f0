"""Metrics of many probes at once: batched, weighted and exact.

Conventions
-----------
- ``scores`` is ``Tensor[..., N, C]``: the answers of any number of probes to N tracks. For classification they are logits
  (any monotone map of them gives the same value), for regression the predicted values, for ordinal tasks what `grades` reads.
- ``targets`` is what `marble.task.Task.encode` gives, shared by all probes: ``int64[N]`` (multiclass, ordinal), ``[N, C]`` of
  0 and 1 (multilabel), ``[N, C]`` values (regression).
- A metric of frames (`marble.probe.scoring.frame_metrics`) takes the statistics ``Tensor[..., N, S]`` of tracks as scores, and
  reads no targets.
- ``counts`` is ``Tensor[N]`` or ``Tensor[R, N]``, not negative: how often each track counts; 2 is two equal tracks, 0 is
  none. R resamples are evaluated for every probe, and each probe is sorted once. None counts every track once.
- A metric returns ``Tensor[...]``, or ``Tensor[R, ...]``, in float64 on the device of the scores. Working memory is bounded,
  however many probes and resamples there are. On a CPU a probe's value does not depend on the probes beside it, for
  whole-numbered counts to the last bit.
- A value that does not exist is NaN: no track counts, no label is defined, or the probe has a NaN among its scores.
- Macro means leave out what is undefined under the counts: a class without a track (`balanced_accuracy`), a label without
  a positive (`average_precision`) or without a positive or a negative (`roc_auc`), a dimension without variance (`r2`).
  `undefined_labels` counts them, so that nothing is left out silently.

Metrics
-------
- `accuracy`: share of tracks whose highest score is at the true class; of equal scores the lowest class counts.
- `window_accuracy`: the same of windows in place of tracks, as papers that call a window an example count.
- `balanced_accuracy`: mean over classes of the share of their tracks that is classified correctly.
- `roc_auc`: mean over labels of the probability that a positive scores above a negative, ties counting half.
- `average_precision`: mean over labels of the sum of precision times the gain in recall over all distinct thresholds,
  without interpolation.
- `r2`: mean over dimensions of 1 - (squared error) / (squared deviation from the mean of the targets).
- `r2_arousal`, `r2_valence`: the same of the first and of the second dimension alone, for targets (arousal, valence).
- `mse`: mean over dimensions of the mean squared error. Lower is better.
- `key_score`: mean of the weighted score of keys, classes 0 to 11 being C to B major and 12 to 23 C to B minor: 1 for the
  true key, .5 for the key a fifth *above* it in the same mode, .3 for its relative, .2 for its parallel key. This is the
  rule of MIREX's evaluation code and of `mir_eval.key.weighted_score`, with which it agrees on all 576 pairs.
- `key_score_both_fifths`: the same with .5 for the fifth below as well, as the text of MIREX can be read.
- `ordinal_mse`, `ordinal_balanced_accuracy`, `kendall_tau` of the grades that `grades` decodes: mean over grades of the mean
  squared error within each (lower is better), mean over grades of the share that is decoded correctly, and rank correlation
  (tau-b, undefined where either side is constant).

The others agree with the functions of `sklearn.metrics` (`accuracy_score`, `balanced_accuracy_score`, `roc_auc_score`,
`average_precision_score`, `r2_score`, `mean_squared_error`; macro or uniform averages, `sample_weight`) to 1e-12, and
`kendall_tau` with `scipy.stats.kendalltau`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from marble.kinds import grades
from marble.probe.scoring.frame_metrics import FRAME_METRICS, FrameMetric
from marble.probe.scoring.keys import key_scores

# Probes × tracks × resamples at once; a temporary tensor has up to three float64 for each, 100 MB.
_CHUNK = 2**22

# The rest of a metric once the scores of P probes are prepared: from counts[N, K] to values[P, K].
_Evaluate = Callable[[Tensor], Tensor]
_Prepare = Callable[[Tensor, Tensor], _Evaluate]


@dataclass(frozen=True)
class Metric:
    """A metric and its direction; call it like a function.

    Attributes:
        name: how tasks, results and tables call it.
        prepare: from ``scores[P, N, C]`` and targets to the function from ``counts[N, K]`` to values ``[P, K]``.
        higher_is_better: False for errors.
        scale: which values there are, as `marble.probe.scoring.intervals` tells them apart.
        description: one line for people, with the unit or range.
        kinds: of the tasks that it scores.
        of_windows: scores single windows, not tracks; such a metric chooses nothing.
        decoder: of a metric of frames, what makes their answers of logits; None for any other.
    """

    name: str
    prepare: _Prepare
    higher_is_better: bool
    scale: Literal["share", "macro share", "precision", "explained", "error", "correlation"]
    description: str
    kinds: tuple[str, ...]
    of_windows: bool = False
    decoder: str | None = None

    def __call__(self, scores: Tensor, targets: Tensor, counts: Tensor | None = None) -> Tensor:
        """Return the metric of every probe under every resample, ``Tensor[...]`` or ``Tensor[R, ...]`` in float64.

        Args:
            scores: ``Tensor[..., N, C]``.
            targets: ``Tensor[N]`` (multiclass) or ``Tensor[N, C]``.
            counts: ``Tensor[N]``, ``Tensor[R, N]``, or None.

        Raises:
            ValueError: the numbers of tracks or of labels differ.
        """
        *probes, tracks, width = scores.shape
        if tuple(targets.shape) not in ((tracks,), (tracks, width)) or (counts is not None and counts.shape[-1] != tracks):
            raise ValueError(
                f"{self.name} got scores {tuple(scores.shape)}, targets {tuple(targets.shape)} and counts "
                f"{None if counts is None else tuple(counts.shape)}, which do not fit each other."
            )
        resamples = torch.ones(tracks) if counts is None else counts
        columns = resamples.reshape(-1, tracks).T.to(scores.device, torch.float64)
        values = self._by_chunks(scores.reshape(-1, tracks, width), targets.to(scores.device), columns)
        return values.T.reshape([*resamples.shape[:-1], *probes])

    def _by_chunks(self, scores: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
        """Return values ``[P, K]`` of ``scores[P, N, C]`` under ``counts[N, K]`` in bounded memory."""
        tracks, resamples = counts.shape
        values = torch.empty(len(scores), resamples, dtype=torch.float64, device=scores.device)
        size = max(tracks, 1)
        probe_step = max(_CHUNK // (size * max(resamples * scores.shape[-1], 1)), 1)
        step = max(_CHUNK // (size * probe_step), 1)
        parts = [part.contiguous() for part in counts.split(step, dim=1)]
        for probe in range(0, len(scores), probe_step):
            chunk = scores[probe : probe + probe_step]
            evaluate = self.prepare(chunk, targets)
            answer = torch.cat([evaluate(part) for part in parts], dim=1)
            values[probe : probe + probe_step] = answer.masked_fill(chunk.isnan().flatten(1).any(1)[:, None], torch.nan)
        return values


def undefined_labels(targets: Tensor) -> int:
    """Return how many labels of multilabel ``targets[N, C]`` have no positive or no negative track, so no ROC AUC."""
    positive = targets.bool()
    return int((~positive.any(0) | positive.all(0)).sum())


def _total(values: Tensor) -> Tensor:
    """Return the sum over the last dimension but one, added from first to last; ``[..., N, K]`` gives ``[..., K]``.

    `Tensor.sum` splits a single row over threads, so that its rounding would depend on the number of probes.
    """
    return values.cumsum(-2)[..., -1, :] if values.shape[-2] else values.sum(-2)


def _mean(values: Tensor) -> Tensor:
    """Return the mean over the last dimension but one of what is not NaN, added like `_total`."""
    defined = ~values.isnan()
    return _total(values.where(defined, 0)) / defined.sum(-2)


def _accuracy(scores: Tensor, targets: Tensor) -> _Evaluate:
    correct = (scores.argmax(-1) == targets).double()
    return lambda counts: correct @ counts / counts.sum(0)


def _balanced_accuracy(scores: Tensor, targets: Tensor) -> _Evaluate:
    probes, tracks, classes = scores.shape
    member = functional.one_hot(targets, classes).double()
    correct = (scores.argmax(-1) == targets)[..., None] * member
    correct = correct.transpose(1, 2).reshape(probes * classes, tracks)

    return lambda counts: _mean((correct @ counts).unflatten(0, (probes, classes)) / (member.T @ counts))


def _macro(column: _Prepare) -> _Prepare:
    """Return the mean over labels, undefined ones left out, of `column`, a metric of ``scores[P, N]`` and ``target[N]``."""

    def prepare(scores: Tensor, targets: Tensor) -> _Evaluate:
        """Prepare every label."""
        columns = [
            column(part.contiguous(), target) for part, target in zip(scores.unbind(-1), targets.unbind(-1), strict=True)
        ]
        return lambda counts: _mean(torch.stack([evaluate(counts) for evaluate in columns], dim=1))

    return prepare


@dataclass(frozen=True)
class _Ranking:
    """The tracks of one label from the highest score down, cut into stretches whose inner order changes nothing.

    Each group of equal scores with a positive makes three: the negatives above it that are below the group before, its
    positives, its negatives. Few tracks have a given label, so all but the sums over stretches deals with few numbers. M is
    one more than the largest number of groups: after its last one a probe has stretches for the rest, and empty ones.

    Attributes:
        order: number of the track at each rank, ``[P, N]``.
        begins: first rank of each stretch, as flat indices ``[P * M * 3]``.
    """

    order: Tensor
    begins: Tensor

    @classmethod
    def of(cls, scores: Tensor, target: Tensor) -> _Ranking:
        """Return the ranking of ``scores[P, N]`` for ``target[N]``."""
        probes, tracks = scores.shape
        positives_first = target.argsort(descending=True, stable=True)
        values, indices = scores[:, positives_first].sort(dim=-1, descending=True, stable=True)
        order = positives_first[indices]
        positive = target.bool()[order]
        group = torch.ones_like(positive)
        group[:, 1:] = values[:, 1:] != values[:, :-1]
        leads = group & positive
        number = torch.arange(tracks, device=order.device)
        first = functional.pad(number.where(leads, tracks).sort(dim=-1).values, (0, 1), value=tracks)
        first = first[:, : int(leads.sum(-1).max()) + 1]
        following = functional.pad(_next(group)[:, 1:], (0, 1), value=tracks).gather(-1, first)
        negative = _next(~positive).gather(-1, first).minimum(following)
        begins = functional.pad(torch.stack([first, negative, following], dim=-1).flatten(1)[:, :-1], (1, 0))
        rows = torch.arange(probes, device=order.device)[:, None] * tracks
        return cls(order, (begins + rows).flatten())

    def sums(self, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``[P, M, K]`` sums of ``counts[N, K]``: a group's positives, its negatives, all negatives to its end."""
        stretches = functional.embedding_bag(self.order.flatten(), counts, self.begins, mode="sum")
        above, positive, tied = stretches.view(len(self.order), -1, 3, counts.shape[1]).unbind(2)
        return positive, tied, (above + tied).cumsum(1)


def _next(marked: Tensor) -> Tensor:
    """Return the first marked position from each position of ``[P, N]`` on, and N where there is none, ``[P, N + 1]``."""
    positions = torch.arange(marked.shape[-1] + 1, device=marked.device)
    first = positions.where(functional.pad(marked, (0, 1)), marked.shape[-1])
    return first.flip(-1).cummin(-1).values.flip(-1)


def _roc_auc(scores: Tensor, target: Tensor) -> _Evaluate:
    ranking = _Ranking.of(scores, target)

    def evaluate(counts: Tensor) -> Tensor:
        """Return won pairs over all pairs, ``[P, K]``."""
        positive, tied, reached = ranking.sums(counts)
        negatives = reached[:, -1]
        # A pair with a negative below counts once, one with a negative of the own group half.
        won = positive * (2 * (negatives[:, None] - reached) + tied)
        return _total(won) / (2 * negatives * _total(positive))

    return evaluate


def _average_precision(scores: Tensor, target: Tensor) -> _Evaluate:
    ranking = _Ranking.of(scores, target)

    def evaluate(counts: Tensor) -> Tensor:
        """Return the precision at each positive, averaged over positives, ``[P, K]``."""
        positive, _, reached = ranking.sums(counts)
        hits = positive.cumsum(1)
        taken = hits + reached
        # Nothing is taken only where all counts so far are zero, and there the positives are zero as well.
        precision = hits / taken.where(taken > 0, 1)
        return _total(positive * precision) / hits[:, -1]

    return evaluate


def _mse(scores: Tensor, target: Tensor) -> _Evaluate:
    errors = (scores.double() - target.double()).square()[..., None]
    return lambda counts: _total((counts * errors).where(counts > 0, 0)) / counts.sum(0)


def _r2(scores: Tensor, target: Tensor) -> _Evaluate:
    error, values = _mse(scores, target), target.double()[:, None]

    def evaluate(counts: Tensor) -> Tensor:
        """Return one less the error over the variance, ``[P, K]``."""
        mean = _total(counts * values) / counts.sum(0)
        variance = _total(counts * (values - mean).square()) / counts.sum(0)
        # Rounding may leave a constant dimension a variance of 1e-32, so variation is tested on the values themselves.
        counted = counts > 0
        varies = values.where(counted, -torch.inf).amax(0) > values.where(counted, torch.inf).amin(0)
        return (1 - error(counts) / variance).where(varies, torch.nan)

    return evaluate


def _r2_of(dimension: int) -> _Prepare:
    return lambda scores, targets: _r2(scores[..., dimension].contiguous(), targets[:, dimension])


def _key_metric(*, both_fifths: bool = False) -> _Prepare:
    """Return the metric of keys; see `key_scores`."""
    table = torch.from_numpy(key_scores(both_fifths=both_fifths))

    def prepare(scores: Tensor, targets: Tensor) -> _Evaluate:
        """Look up the score of each answer."""
        values = table.to(scores.device)[targets, scores.argmax(-1)]
        return lambda counts: _total(counts * values[..., None]) / counts.sum(0)

    return prepare


def _ordinal(value: Callable[[Tensor], Tensor]) -> _Prepare:
    """Return a metric from ``value``, a function of the counts ``[P, K, C, C + 1]`` of true grades and decoded ones from -1."""

    def prepare(scores: Tensor, targets: Tensor) -> _Evaluate:
        """Decode the grades."""
        probes, tracks, count = scores.shape
        member = functional.one_hot(targets, count).double()
        decoded = grades(scores)

        def decoded_as(grade: int, counts: Tensor) -> Tensor:
            """Return the number of tracks of each true grade that are decoded as `grade`, ``[P, K, C]``."""
            chosen = (decoded == grade)[..., None] * member
            counted = chosen.transpose(1, 2).reshape(probes * count, tracks) @ counts
            return counted.unflatten(0, (probes, count)).transpose(1, 2)

        return lambda counts: value(torch.stack([decoded_as(grade, counts) for grade in range(-1, count)], dim=-1))

    return prepare


def _grade_errors(counts: Tensor) -> Tensor:
    number = torch.arange(counts.shape[-1], device=counts.device)
    squares = (number - 1 - number[:-1, None]).square()
    return ((counts * squares).sum(-1) / counts.sum(-1)).nanmean(-1)


def _grade_recall(counts: Tensor) -> Tensor:
    return (counts[..., 1:].diagonal(dim1=-2, dim2=-1) / counts.sum(-1)).nanmean(-1)


def _kendall_tau(counts: Tensor) -> Tensor:
    """Return tau-b: concordant less discordant pairs over the geometric mean of the pairs not tied on either side."""
    lower = counts.cumsum(-2)[..., :-1, :]  # tracks of all lower true grades, for each decoded grade
    decoded_lower = lower.cumsum(-1) - lower
    decoded_higher = lower.sum(-1, keepdim=True) - lower.cumsum(-1)
    difference = (counts[..., 1:, :] * (decoded_lower - decoded_higher)).sum((-2, -1))
    pairs = counts.sum((-2, -1)).square()
    untied = [(pairs - counts.sum(dim).square().sum(-1)) / 2 for dim in (-1, -2)]
    product = untied[0] * untied[1]
    return (difference / product.sqrt()).where(product > 0, torch.nan)


def _of_frames(metric: FrameMetric) -> Metric:
    """Return a metric of frames as one of tracks, whose scores are the statistics ``Tensor[..., N, S]`` of that metric."""

    def prepare(statistics: Tensor, targets: Tensor) -> _Evaluate:
        """Sum the statistics of the tracks that count."""
        columns = statistics.double().transpose(1, 2)

        def evaluate(counts: Tensor) -> Tensor:
            """Return the value of the sums, ``[P, K]``."""
            sums = (columns @ counts).transpose(1, 2)
            with np.errstate(divide="ignore", invalid="ignore"):
                return torch.as_tensor(metric.value(sums.numpy(force=True))).to(sums)

        return evaluate

    return Metric(
        metric.name, prepare, metric.higher_is_better, metric.scale, metric.description, metric.kinds, decoder=metric.decoder
    )


_CLASSES, _TAGS, _NUMBERS, _GRADES = ("multiclass",), ("multilabel",), ("regression",), ("ordinal",)
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", _accuracy, True, "share", "share of tracks classified correctly, 0 to 1", _CLASSES),
        Metric(
            "window_accuracy",
            _accuracy,
            True,
            "share",
            "share of windows classified correctly, 0 to 1",
            _CLASSES,
            of_windows=True,
        ),
        Metric("balanced_accuracy", _balanced_accuracy, True, "macro share", "mean recall over classes, 0 to 1", _CLASSES),
        Metric(
            "roc_auc",
            _macro(_roc_auc),
            True,
            "macro share",
            "area under the ROC curve, mean over labels, 0 to 1, chance 0.5",
            _TAGS,
        ),
        Metric(
            "average_precision",
            _macro(_average_precision),
            True,
            "precision",
            "area under precision over recall, mean over labels",
            _TAGS,
        ),
        Metric(
            "r2", _macro(_r2), True, "explained", "explained share of the variance, mean over dimensions, at most 1", _NUMBERS
        ),
        Metric("r2_arousal", _r2_of(0), True, "explained", "explained share of the variance of arousal, at most 1", _NUMBERS),
        Metric("r2_valence", _r2_of(1), True, "explained", "explained share of the variance of valence, at most 1", _NUMBERS),
        Metric("mse", _macro(_mse), False, "error", "mean squared error in squared units of the target", _NUMBERS),
        Metric("key_score", _key_metric(), True, "share", "weighted score of keys, the fifth above counts, 0 to 1", _CLASSES),
        Metric(
            "key_score_both_fifths",
            _key_metric(both_fifths=True),
            True,
            "share",
            "weighted score of keys, both fifths, 0 to 1",
            _CLASSES,
        ),
        Metric("ordinal_mse", _ordinal(_grade_errors), False, "error", "squared error of grades, mean over grades", _GRADES),
        Metric(
            "ordinal_balanced_accuracy",
            _ordinal(_grade_recall),
            True,
            "macro share",
            "mean recall over grades, 0 to 1",
            _GRADES,
        ),
        Metric(
            "kendall_tau", _ordinal(_kendall_tau), True, "correlation", "rank correlation of grades, tau-b, -1 to 1", _GRADES
        ),
        *map(_of_frames, FRAME_METRICS.values()),
    )
}
