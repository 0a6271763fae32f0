"""Metrics of many probes at once: batched, weighted and exact.

Conventions
-----------
- ``scores`` is ``Tensor[..., N, C]``: the answers of any number of probes to N tracks. For classification they are logits
  (any monotone map of them gives the same value), for regression the predicted values, for ordinal tasks what `grades` reads.
- ``targets`` is what `marble.task.Task.encode` gives, shared by all probes: ``int64[N]`` (multiclass, ordinal), ``[N, C]`` of
  0 and 1 (multilabel), ``[N, C]`` values (regression).
- ``weights`` is ``Tensor[N]`` or ``Tensor[R, N]``, not negative: a track of weight 2 counts as two equal tracks, a track of
  weight 0 as none. R weightings (resamples) are evaluated for every probe, and each probe is sorted once. None counts every
  track once.
- A metric returns ``Tensor[...]``, or ``Tensor[R, ...]``, in float64 on the device of the scores. Working memory is bounded,
  however many probes and resamples there are. On a CPU a probe's value does not depend on the probes beside it.
- A value that does not exist is NaN: no track has weight, no label is defined, or the probe has a NaN among its scores.
- Macro means leave out what is undefined under the weights: a class without a track (`balanced_accuracy`), a label without
  a positive (`average_precision`) or without a positive or a negative (`roc_auc`), a dimension without variance (`r2`).
  `undefined_labels` counts them, so that nothing is left out silently.

Metrics
-------
- `accuracy`: share of tracks whose highest score is at the true class; of equal scores the lowest class counts.
- `window_accuracy`: the same of windows in place of tracks, as papers that call a window an example count.
- `balanced_accuracy`: mean over classes of the share of their tracks that is found.
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
  squared error within each (lower is better), mean over grades of the share that is found, and rank correlation (tau-b,
  undefined where either side is constant).

The others agree with the functions of `sklearn.metrics` (`accuracy_score`, `balanced_accuracy_score`, `roc_auc_score`,
`average_precision_score`, `r2_score`, `mean_squared_error`; macro or uniform averages, `sample_weight`) to 1e-12, and
`kendall_tau` with `scipy.stats.kendalltau`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Elements of the largest temporary tensor: 32 MB in float64.
_CHUNK = 2**22

# What is left to do for weights[K, N] once the scores of P probes are prepared: give values[K, P].
_Weigh = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Metric:
    """A metric and its direction; call it like a function.

    Attributes:
        name: how tasks, results and tables call it.
        prepare: from ``scores[P, N, C]`` and targets to the function from ``weights[K, N]`` to values ``[K, P]``.
        higher_is_better: False for errors.
        description: one line for people, with the unit or range.
        of_windows: asked of single windows, not of tracks; such a metric chooses nothing.
    """

    name: str
    prepare: Callable[[Tensor, Tensor], _Weigh]
    higher_is_better: bool
    description: str
    of_windows: bool = False

    def __call__(self, scores: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the metric of every probe under every weighting, ``Tensor[...]`` or ``Tensor[R, ...]`` in float64.

        Args:
            scores: ``Tensor[..., N, C]``.
            targets: ``Tensor[N]`` (multiclass) or ``Tensor[N, C]``.
            weights: ``Tensor[N]``, ``Tensor[R, N]``, or None.

        Raises:
            ValueError: the numbers of tracks or of labels differ.
        """
        *probes, tracks, width = scores.shape
        if tuple(targets.shape) not in ((tracks,), (tracks, width)) or (weights is not None and weights.shape[-1] != tracks):
            raise ValueError(
                f"{self.name} got scores {tuple(scores.shape)}, targets {tuple(targets.shape)} and weights "
                f"{None if weights is None else tuple(weights.shape)}, which do not fit each other."
            )
        held = torch.ones(tracks) if weights is None else weights
        rows = held.reshape(-1, tracks).to(scores.device, torch.float64)
        values = self._by_chunks(scores.reshape(-1, tracks, width), targets.to(scores.device), rows)
        return values.reshape([*held.shape[:-1], *probes])

    def _by_chunks(self, scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Return values ``[K, P]`` of ``scores[P, N, C]`` under ``weights[K, N]`` in bounded memory."""
        resamples, tracks = weights.shape
        values = torch.empty(resamples, len(scores), dtype=torch.float64, device=scores.device)
        size = max(tracks * scores.shape[-1], 1)
        probe_step = max(_CHUNK // (size * max(resamples, 1)), 1)
        for probe in range(0, len(scores), probe_step):
            some = scores[probe : probe + probe_step]
            weigh = self.prepare(some, targets)
            step = max(_CHUNK // (size * len(some)), 1)
            for first in range(0, resamples, step):
                values[first : first + step, probe : probe + probe_step] = weigh(weights[first : first + step])
            values[:, probe : probe + probe_step].masked_fill_(some.isnan().flatten(1).any(1), torch.nan)
        return values


def undefined_labels(targets: Tensor) -> int:
    """Return how many labels of multilabel ``targets[N, C]`` have no positive or no negative track, so no ROC AUC."""
    positive = targets.bool()
    return int((~positive.any(0) | positive.all(0)).sum())


def grades(scores: Tensor) -> Tensor:
    """Return the grades that ordinal outputs ``Tensor[..., C]`` stand for, ``int64[...]`` from -1 to C - 1.

    The grade is the number of outputs above one half before the first that is not, less one; -1 is below all grades
    (Cheng, Wang and Pollastri 2008, as decoded by Ramoneda et al. 2025).
    """
    return (scores > 0.5).cumprod(-1).sum(-1) - 1


def _total(values: Tensor) -> Tensor:
    """Return the sum over the last dimension, added from first to last.

    `Tensor.sum` splits a single row over threads, so that its rounding would depend on how many probes stand beside.
    """
    return values.cumsum(-1)[..., -1] if values.shape[-1] else values.sum(-1)


def _accuracy(scores: Tensor, targets: Tensor) -> _Weigh:
    correct = (scores.argmax(-1) == targets).double()
    return lambda weights: (weights @ correct.T) / weights.sum(-1, keepdim=True)


def _balanced_accuracy(scores: Tensor, targets: Tensor) -> _Weigh:
    probes, tracks, classes = scores.shape
    member = functional.one_hot(targets, classes).double()
    found = (scores.argmax(-1) == targets)[..., None] * member
    found = found.permute(1, 0, 2).reshape(tracks, probes * classes)

    def weigh(weights: Tensor) -> Tensor:
        recall = (weights @ found).unflatten(-1, (probes, classes)) / (weights @ member)[:, None]
        return recall.nanmean(-1)

    return weigh


@dataclass(frozen=True)
class _Ranking:
    """The positives of each label, ``[P, C, M]``, from the highest score down; tracks of equal scores make a group.

    Few tracks have a given label, so what weights change is summed over positives alone, but for one running sum over all.

    Attributes:
        order: number of the track at each place, ``[P, C, N]``.
        track: number of the track of each positive; where a label has fewer than M, the rest repeats some track.
        real: 1 for a positive, 0 for that rest.
        places: flat indices of the last place before the own group, and of its last place, into running sums that begin with
            a 0, ``[P, C, N + 1]``.
        found: the same into running sums over the positives, ``[P, C, M + 1]``.
    """

    order: Tensor
    track: Tensor
    real: Tensor
    places: tuple[Tensor, Tensor]
    found: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, scores: Tensor, targets: Tensor) -> _Ranking:
        """Return the ranking of ``scores[P, N, C]`` for ``targets[N, C]``."""
        values, order = scores.transpose(1, 2).sort(-1, descending=True)
        positive = targets.T.bool().expand(len(scores), -1, -1).gather(-1, order)
        most = max(int(targets.bool().sum(0).max()), 1) if len(targets) else 0
        place = positive.to(torch.uint8).sort(dim=-1, descending=True, stable=True).indices[..., :most]
        real = positive.gather(-1, place)
        changes = values[..., 1:] != values[..., :-1]
        edge = torch.ones_like(values[..., :1], dtype=torch.bool)
        position = torch.arange(values.shape[-1], device=order.device).expand(order.shape)
        start = position.where(torch.cat([edge, changes], -1), 0).cummax(-1).values.gather(-1, place)
        last = position.where(torch.cat([changes, edge], -1), order.shape[-1]).flip(-1).cummin(-1).values.flip(-1)
        count = functional.pad(positive.cumsum(-1), (1, 0))
        places = start, last.gather(-1, place) + 1
        found = count.gather(-1, places[0]), count.gather(-1, places[1])
        return cls(order, order.gather(-1, place), real.double(), _flat(places, values.shape[-1]), _flat(found, most))

    def sums(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return for ``weights[K, N]`` what the metrics are made of.

        Returns:
            The weight of each positive, ``[K, P, C, M]``; the weight of all tracks, and of all positives, before the group of
            each, and with it (four tensors of that shape, as two of ``[2, K, P, C, M]``); and the weight of all tracks and of
            all positives, ``[K, P, C]``.
        """
        positive = weights[:, self.track] * self.real
        total = functional.pad(weights[:, self.order].cumsum(-1), (1, 0))
        found = functional.pad(positive.cumsum(-1), (1, 0))
        return (
            positive,
            torch.stack([total.flatten(1)[:, index] for index in self.places]),
            torch.stack([found.flatten(1)[:, index] for index in self.found]),
            total[..., -1],
            found[..., -1],
        )


def _flat(indices: tuple[Tensor, Tensor], length: int) -> tuple[Tensor, Tensor]:
    """Return indices ``[P, C, M]`` into rows of `length` + 1 as indices into all rows, one after the other."""
    first, second = indices
    rows = torch.arange(first.shape[0] * first.shape[1], device=first.device).view(*first.shape[:2], 1) * (length + 1)
    return first + rows, second + rows


def _roc_auc(scores: Tensor, targets: Tensor) -> _Weigh:
    ranking = _Ranking.of(scores, targets)

    def weigh(weights: Tensor) -> Tensor:
        positive, total, found, every, positives = ranking.sums(weights)
        # Negatives of higher groups, and of higher groups and the own; what is below counts once, the own group half.
        above, reached = total - found
        negatives = every - positives
        won = _total(positive * (2 * negatives[..., None] - above - reached))
        return (won / (2 * positives * negatives)).nanmean(-1)

    return weigh


def _average_precision(scores: Tensor, targets: Tensor) -> _Weigh:
    ranking = _Ranking.of(scores, targets)

    def weigh(weights: Tensor) -> Tensor:
        positive, (_, taken), (_, found), _, positives = ranking.sums(weights)
        # Nothing is taken only where all weights so far are zero, and there the positives are zero as well.
        precision = found / taken.where(taken > 0, 1)
        return (_total(positive * precision) / positives).nanmean(-1)

    return weigh


def _squared_errors(scores: Tensor, targets: Tensor) -> Tensor:
    return (scores.double() - targets.double()).square().transpose(1, 2).contiguous()


def _mse(scores: Tensor, targets: Tensor) -> _Weigh:
    errors = _squared_errors(scores, targets)
    return lambda weights: (_total(weights[:, None, None] * errors) / weights.sum(-1)[:, None, None]).mean(-1)


def _r2(scores: Tensor, targets: Tensor) -> _Weigh:
    errors = _squared_errors(scores, targets)
    values = targets.T.double().contiguous()

    def weigh(weights: Tensor) -> Tensor:
        weights = weights[:, None]
        mean = _total(weights * values) / weights.sum(-1)
        spread = _total(weights * (values - mean[..., None]).square())
        # Rounding may leave a constant dimension a spread of 1e-32, so variance is asked of the values themselves.
        counted = weights > 0
        varies = values.where(counted, -torch.inf).amax(-1) > values.where(counted, torch.inf).amin(-1)
        r2 = 1 - _total(weights[:, :, None] * errors) / spread[:, None]
        return r2.where(varies[:, None], torch.nan).nanmean(-1)

    return weigh


def _r2_of(dimension: int) -> Callable[[Tensor, Tensor], _Weigh]:
    part = slice(dimension, dimension + 1)
    return lambda scores, targets: _r2(scores[..., part].contiguous(), targets[:, part].contiguous())


def _key_metric(*, both_fifths: bool = False) -> Callable[[Tensor, Tensor], _Weigh]:
    """Return a metric from the score of each pair of keys, ``float64[reference, estimated]``."""
    number = torch.arange(24, device="cpu")
    minor = number >= 12
    step = (number[None] - number[:, None]) % 12
    same_mode = minor[:, None] == minor
    fifth = (step == 7) | ((step == 5) & both_fifths)
    relative = step == torch.where(minor[:, None], 3, 9)
    table = torch.zeros(24, 24, dtype=torch.float64, device="cpu")
    table[same_mode & (step == 0)] = 1.0
    table[same_mode & fifth] = 0.5
    table[~same_mode & relative] = 0.3
    table[~same_mode & (step == 0)] = 0.2

    def prepare(scores: Tensor, targets: Tensor) -> _Weigh:
        values = table.to(scores.device)[targets, scores.argmax(-1)]
        return lambda weights: _total(weights[:, None] * values) / weights.sum(-1, keepdim=True)

    return prepare


def _ordinal(value: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], _Weigh]:
    """Return a metric from ``value``, a function of the counts ``[K, P, C, C + 1]`` of true grades and decoded ones from -1."""

    def prepare(scores: Tensor, targets: Tensor) -> _Weigh:
        probes, tracks, count = scores.shape
        member = functional.one_hot(targets, count).double()
        decoded = grades(scores)

        def counts(weights: Tensor, grade: int) -> Tensor:
            chosen = (decoded == grade)[..., None] * member
            return (weights @ chosen.permute(1, 0, 2).reshape(tracks, probes * count)).unflatten(-1, (probes, count))

        return lambda weights: value(torch.stack([counts(weights, grade) for grade in range(-1, count)], dim=-1))

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


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", _accuracy, True, "share of tracks whose class is found, 0 to 1"),
        Metric("window_accuracy", _accuracy, True, "share of windows whose class is found, 0 to 1", of_windows=True),
        Metric("balanced_accuracy", _balanced_accuracy, True, "mean recall over classes, 0 to 1"),
        Metric("roc_auc", _roc_auc, True, "area under the ROC curve, mean over labels, 0 to 1, chance 0.5"),
        Metric("average_precision", _average_precision, True, "area under precision over recall, mean over labels, 0 to 1"),
        Metric("r2", _r2, True, "explained share of the variance, mean over dimensions, at most 1"),
        Metric("r2_arousal", _r2_of(0), True, "explained share of the variance of arousal, at most 1"),
        Metric("r2_valence", _r2_of(1), True, "explained share of the variance of valence, at most 1"),
        Metric("mse", _mse, False, "mean squared error in squared units of the target"),
        Metric("key_score", _key_metric(), True, "weighted score of keys, the fifth above counts, 0 to 1"),
        Metric("key_score_both_fifths", _key_metric(both_fifths=True), True, "weighted score of keys, both fifths, 0 to 1"),
        Metric("ordinal_mse", _ordinal(_grade_errors), False, "squared error of grades, mean over grades"),
        Metric("ordinal_balanced_accuracy", _ordinal(_grade_recall), True, "mean recall over grades, 0 to 1"),
        Metric("kendall_tau", _ordinal(_kendall_tau), True, "rank correlation of grades, tau-b, -1 to 1"),
    )
}
