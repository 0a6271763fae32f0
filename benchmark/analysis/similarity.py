"""Similarities of two representations of the same rows, between 0 and 1, from the sums of `marble.analysis.moments`.

With X ``[n, D₁]`` and Y ``[n, D₂]``, centred over rows, and ρ their canonical correlations:

- `pwcca_google`: the weighted mean of ρ that ``compute_pwcca`` of google/svcca gives. Its weights are those of the
  representation with fewer units, of the first where they are equal, along an orthonormal basis of X U + m. There U are the
  left singular vectors of Σxx^(-1/2) Σxy Σyy^(-1/2) without the factor Σxx^(-1/2), column i is shifted by the mean of *unit*
  i, and the weights are taken against the representation as it is, not centred. So where units have means, it depends on
  their order, and on the signs of singular vectors, which are those that LAPACK gives.
- `pwcca_morcos_first`, `pwcca_morcos_second`: the weighted mean of ρ of Morcos, Raghu and Bengio 2018, equation 2: the weight
  of a canonical variate h is Σ |<h, x>| over the units x of the first or of the second representation.
- `mean_cca`: the mean of ρ (Raghu et al. 2017).
- `svcca`: the mean of ρ between the leading principal directions of each that hold 99 % of its variance (Raghu et al. 2017).
- `linear_cka`: |XᵀY|² / (|XᵀX| |YᵀY|), Frobenius norms (Kornblith et al. 2019).
- `debiased_cka`: the same with the unbiased estimator HSIC₁ of Song et al. 2012 in each place (Nguyen, Raghu and Kornblith
  2021); near 0, and perhaps below, where few rows of many units are unrelated.
- `procrustes`: the nuclear norm of XᵀY over |X| |Y|, the correlation after the best orthogonal map: one less half of the
  squared Procrustes distance of representations of norm 1 (Ding, Denain and Steinhardt 2021).

None of them depends on a constant factor. Orthogonal maps of the units leave all but the three PWCCA, whose weights sum over
units. Any invertible map of the units leaves `mean_cca`, and one of X leaves `pwcca_morcos_second`. The order of the units
leaves all but `pwcca_google` of units with means.

Fewer rows than units, and units that repeat others, would give a correlation of 1 between any representations. So the five
measures of CCA see the principal directions that `Sums.directions` keeps, and `Similarity.notes` say how many. With n rows
and r₁, r₂ directions, unrelated rows have ρ up to about √(r₁/n) + √(r₂/n): the null stands beside each value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from marble.analysis.moments import Cross, Moments, Sums
from marble.errors import MarbleError

MEASURES = (
    "pwcca_google", "pwcca_morcos_first", "pwcca_morcos_second", "mean_cca", "svcca",
    "linear_cka", "debiased_cka", "procrustes",
)  # fmt: skip
BY_CCA = frozenset(MEASURES[:5])
_SVCCA_SHARE = 0.99
# With fewer rows not even one direction is kept.
LEAST_ROWS = 5


@dataclass(frozen=True)
class Similarity:
    """Similarities of two representations.

    Attributes:
        values: by measure.
        null: the same under the null pairing of the rows, by measure.
        correlations: the canonical correlations, the largest first.
        rows: how many there were.
        directions: how many of each representation CCA sees.
        notes: what CCA left out of either, in sentences.
    """

    values: dict[str, float]
    null: dict[str, float]
    correlations: np.ndarray
    rows: int
    directions: tuple[int, int]
    notes: list[str]


def similarity(first: np.ndarray, second: np.ndarray, measures: Sequence[str] = MEASURES, *, seed: int = 0) -> Similarity:
    """Return the similarities of two representations in memory.

    Args:
        first: ``[n, D₁]``, frames or clips in rows.
        second: ``[n, D₂]``, of the same frames or clips.
        measures: some of `MEASURES`.
        seed: of the null pairing, a permutation of the rows.

    Raises:
        MarbleError: there are fewer than `LEAST_ROWS` rows, a value is not finite, or there is no such measure.
        ValueError: the numbers of rows differ.
    """
    if len(first) != len(second):
        raise ValueError(f"The representations have {len(first)} and {len(second)} rows, which cannot be paired.")
    order = np.random.default_rng(seed).permutation(len(first))
    moments = Moments([("first", "second")], lag=1)
    moments.add({"first": np.asarray(first)[order], "second": np.asarray(second)[order]})
    return similarity_of(moments.finish(), "first", "second", measures)


def similarity_of(moments: Moments, first: str, second: str, measures: Sequence[str] = MEASURES) -> Similarity:
    """Return the similarities of a pair of representations whose stream has ended; arguments and errors as for `similarity`."""
    refuse_unknown(measures)
    if moments.count < LEAST_ROWS:
        raise MarbleError(f"Similarity needs {LEAST_ROWS} rows, and there are {moments.count}: give more audio.")
    sums = moments.sums[first], moments.sums[second]
    for part in sums:
        if not math.isfinite(part.squares):
            raise MarbleError(f"{part.name} has values that are not finite: marble check --upstream tells where.")
    values, correlations = _values(*sums, moments.pairing(first, second), measures)
    null, _ = _values(*sums, moments.null[first, second], measures)
    kept = len(sums[0].directions[0]), len(sums[1].directions[0])
    notes = list(dict.fromkeys(part.note for part in sums if part.note and BY_CCA & set(measures)))
    return Similarity(values, null, correlations, moments.count, kept, notes)


def refuse_unknown(measures: Sequence[str]) -> None:
    """Raise a `MarbleError` where a measure does not exist."""
    unknown = [name for name in measures if name not in MEASURES]
    if unknown or not measures:
        raise MarbleError(f"There is no measure '{', '.join(unknown)}': write {', '.join(MEASURES)}.")


def _values(first: Sums, second: Sums, cross: Cross, measures: Sequence[str]) -> tuple[dict[str, float], np.ndarray]:
    covariance = cross.covariance(first, second)
    both = {
        "linear_cka": lambda: _linear_cka(first, second, covariance),
        "debiased_cka": lambda: _debiased_cka(first, second, cross),
        "procrustes": lambda: _ratio(
            np.linalg.svd(covariance, compute_uv=False).sum(), math.sqrt(first.norms * second.norms) / (first.count - 1)
        ),
    }
    correlations = np.empty(0)
    if BY_CCA & set(measures):
        canonical = _Canonical(first, second, covariance)
        correlations = canonical.correlations
        both |= {
            "pwcca_google": canonical.google,
            "pwcca_morcos_first": lambda: canonical.morcos(first, canonical.left),
            "pwcca_morcos_second": lambda: canonical.morcos(second, canonical.right),
            "mean_cca": lambda: _mean(correlations),
            "svcca": canonical.svcca,
        }
    return {name: both[name]() for name in measures}, correlations


class _Canonical:
    """The canonical correlations of two representations, in the coordinates of their principal directions.

    Attributes:
        left, right: singular vectors, ``[r₁, k]`` and ``[r₂, k]``, k the smaller of r₁ and r₂.
        correlations: ``[k]``, the largest first.
    """

    def __init__(self, first: Sums, second: Sums, covariance: np.ndarray):
        self.first, self.second = first, second
        (variances, vectors), (others, other_vectors) = first.directions, second.directions
        whitened = (vectors / np.sqrt(variances)).T @ covariance @ (other_vectors / np.sqrt(others))
        self.whitened = whitened
        self.left, values, right = np.linalg.svd(whitened, full_matrices=False)
        self.right = right.T
        self.correlations = values.clip(0, 1)

    def google(self) -> float:
        """Return PWCCA as google/svcca computes it."""
        if not len(self.correlations):
            return math.nan
        # With symmetric roots of the covariances, not principal coordinates: the signs of singular vectors count.
        square = self.first.directions[1] @ self.whitened @ self.second.directions[1].T
        left, _, right = np.linalg.svd(square, full_matrices=False)
        fewer = len(self.first.shift) <= len(self.second.shift)
        sums, basis = (self.first, left) if fewer else (self.second, right.T)
        basis, mean, count = basis[:, : len(self.correlations)], sums.mean + sums.shift, sums.count
        # The products of X U + m with itself and with X, neither of which is centred.
        shifts = mean[: basis.shape[1]]
        with_units = (count - 1) * basis.T @ sums.covariance
        products = with_units @ basis + count * np.outer(shifts, shifts)
        # The orthonormal basis of a QR decomposition, whose R is the Cholesky factor of the products.
        return self._weighted(np.linalg.solve(np.linalg.cholesky(products), with_units + count * np.outer(shifts, mean)))

    def morcos(self, sums: Sums, rotation: np.ndarray) -> float:
        """Return PWCCA of Morcos et al. by the weights of one representation, whose canonical variates are `rotation`."""
        variances, vectors = sums.directions
        return self._weighted((rotation.T * np.sqrt(variances)) @ vectors.T)

    def svcca(self) -> float:
        """Return the mean correlation of the directions that hold most of the variance."""
        kept = []
        for sums in (self.first, self.second):
            shares = np.cumsum(sums.directions[0]) / np.trace(sums.covariance)
            kept.append(int(np.searchsorted(shares, _SVCCA_SHARE)) + 1)
        return _mean(np.linalg.svd(self.whitened[: kept[0], : kept[1]], compute_uv=False))

    def _weighted(self, loadings: np.ndarray) -> float:
        """Return the mean of the correlations, weighted by the sum over units of absolute loadings ``[k, D]``."""
        weights = np.abs(loadings).sum(1)
        return _ratio(weights @ self.correlations, weights.sum())


def _linear_cka(first: Sums, second: Sums, covariance: np.ndarray) -> float:
    own = np.linalg.norm(first.covariance) * np.linalg.norm(second.covariance)
    return _ratio(float((covariance**2).sum()), float(own))


def _debiased_cka(first: Sums, second: Sums, cross: Cross) -> float:
    own = _hsic(first, first, first.own) * _hsic(second, second, second.own)
    return _ratio(_hsic(first, second, cross), math.sqrt(own)) if own > 0 else math.nan


def _hsic(first: Sums, second: Sums, cross: Cross) -> float:
    """Return n (n - 3) times the unbiased HSIC₁ of linear kernels of two representations."""
    count = first.count
    products = float((cross.covariance(first, second) ** 2).sum()) * (count - 1) ** 2
    rows = count / (count - 2) * cross.norm_products(first, second)
    return products - rows + first.norms * second.norms / ((count - 1) * (count - 2))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator > 0 else math.nan
