"""Sums over a stream of paired rows, from which similarities of representations follow.

Conventions
-----------
- A *representation* is a matrix ``[n, D]``: its rows are frames or clips, its columns units. Rows of several representations
  come in chunks, and row i of each is of the same stretch of audio.
- Sums are kept in float64, relative to the mean of the first chunk, so that a large mean costs no digits. Memory holds D²
  numbers for each representation and D₁D₂ for each pair, twice with the null, however many rows there are.
- The *null pairing* is a permutation of the rows of the second representation of a pair: a shift along the stream by `lag`
  rows, its end going around to its beginning; by half of the rows where there are no more than `lag`. A caller feeds clips in
  a random order, and takes a lag that leads into other clips. The lagged rows and the first `lag` rows are kept.
- Beside covariances, the debiased CKA needs the sum over pairs of the product of the squared norms of the centred rows. It
  follows from the sums of |x|²|y|², |x|² y and |y|² x, so that one pass is enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

# Directions whose variance is below this share of the largest are rounding, or units that repeat others.
FLOOR = 1e-10
# Rows for each direction that is kept: with fewer, canonical correlations of unrelated rows come near 1.
ROWS_FOR_DIRECTION = 4
_CHUNK = 2048


class _Rows:
    """Some rows of a representation, float64[m, D], relative to the shift, and their squared norms."""

    def __init__(self, values: np.ndarray):
        self.values = values
        self.norms = np.einsum("ij,ij->i", values, values)


@dataclass
class Sums:
    """Sums over the rows of one representation, relative to `shift`.

    Attributes:
        name: of the representation, for sentences.
        shift: what was subtracted from each row, ``float64[D]``.
        count: number of rows n.
        total: sum of the rows, ``float64[D]``.
        products: sum of the outer products of rows, ``float64[D, D]``.
        by_norm: sum of rows times their squared norms, ``float64[D]``.
        squares: sum of the squares of the squared norms.
    """

    name: str
    shift: np.ndarray
    total: np.ndarray
    products: np.ndarray
    by_norm: np.ndarray
    count: int = 0
    squares: float = 0.0

    @classmethod
    def empty(cls, name: str, shift: np.ndarray) -> Sums:
        """Return the sums of no rows."""
        width = len(shift)
        return cls(name, shift, np.zeros(width), np.zeros((width, width)), np.zeros(width))

    def add(self, rows: _Rows) -> None:
        """Add rows."""
        self.count += len(rows.values)
        self.total += rows.values.sum(0)
        self.products += rows.values.T @ rows.values
        self.by_norm += rows.norms @ rows.values
        self.squares += float(rows.norms @ rows.norms)

    @cached_property
    def mean(self) -> np.ndarray:
        """The mean of the rows less the shift, ``float64[D]``."""
        return self.total / self.count

    @cached_property
    def covariance(self) -> np.ndarray:
        """The sum of outer products of centred rows over n - 1, ``float64[D, D]``."""
        return (self.products - self.count * np.outer(self.mean, self.mean)) / (self.count - 1)

    @property
    def norms(self) -> float:
        """The sum of the squared norms of centred rows."""
        return float(np.trace(self.covariance)) * (self.count - 1)

    @property
    def own(self) -> Cross:
        """The sums over pairs of each row with itself."""
        return Cross(self.products, self.by_norm, self.by_norm, self.squares)

    @cached_property
    def directions(self) -> tuple[np.ndarray, np.ndarray]:
        """Principal variances and directions that are kept, the largest first: ``float64[r]`` and ``float64[D, r]``.

        Left out are those below `FLOOR` of the largest, then all but the first ``(n - 1) // ROWS_FOR_DIRECTION``.
        """
        variances, vectors = np.linalg.eigh(self.covariance)
        variances, vectors = variances[::-1], vectors[:, ::-1]
        rank = int((variances > max(FLOOR * variances[0], 0)).sum())
        kept = min(rank, (self.count - 1) // ROWS_FOR_DIRECTION)
        return variances[:kept].copy(), np.ascontiguousarray(vectors[:, :kept])

    @cached_property
    def note(self) -> str:
        """A sentence about the directions that were left out; empty where none was."""
        variances, width = self.directions[0], len(self.shift)
        kept, total = len(variances), np.trace(self.covariance)
        if total <= 0:
            return f"{self.name} is constant over all {self.count} rows, so nothing is similar to it."
        if kept == width:
            return ""
        if kept == (self.count - 1) // ROWS_FOR_DIRECTION:
            return (
                f"{self.name} has {width} units but only {self.count} rows: CCA takes its first {kept} principal directions, "
                f"{variances.sum() / total:.0%} of the variance, {ROWS_FOR_DIRECTION} rows for each; more audio gives more."
            )
        return f"{self.name} has {width} units of rank {kept}: CCA leaves out those below {FLOOR:g} of the largest variance."


@dataclass
class Cross:
    """Sums over pairs of rows of two representations.

    Attributes:
        products: sum of x yᵀ, ``float64[D₁, D₂]``.
        first_by_norm, second_by_norm: sum of x |y|², ``float64[D₁]``, and of y |x|², ``float64[D₂]``.
        squares: sum of |x|²|y|².
    """

    products: np.ndarray
    first_by_norm: np.ndarray
    second_by_norm: np.ndarray
    squares: float = 0.0

    @classmethod
    def empty(cls, first: int, second: int) -> Cross:
        """Return the sums of no pairs."""
        return cls(np.zeros((first, second)), np.zeros(first), np.zeros(second))

    def add(self, first: _Rows, second: _Rows) -> None:
        """Add pairs of rows."""
        self.products += first.values.T @ second.values
        self.first_by_norm += second.norms @ first.values
        self.second_by_norm += first.norms @ second.values
        self.squares += float(first.norms @ second.norms)

    def covariance(self, first: Sums, second: Sums) -> np.ndarray:
        """Return the sum of outer products of centred pairs over n - 1, ``float64[D₁, D₂]``."""
        return (self.products - first.count * np.outer(first.mean, second.mean)) / (first.count - 1)

    def norm_products(self, first: Sums, second: Sums) -> float:
        """Return the sum over pairs of the product of the squared norms of the centred rows."""
        x, y, count = first.mean, second.mean, first.count
        x_norm, y_norm = x @ x, y @ y
        norms = [float(np.trace(sums.products)) for sums in (first, second)]
        return float(
            self.squares
            - 2 * (x @ self.first_by_norm + y @ self.second_by_norm)
            + 4 * x @ self.products @ y
            + x_norm * norms[1]
            + y_norm * norms[0]
            - 3 * count * x_norm * y_norm
        )


@dataclass
class Moments:
    """All sums over a stream of rows of several representations.

    Attributes:
        pairs: the names of the representations that are compared.
        lag: of the null pairing, in rows.
        sums: of each representation, by name.
        cross, null: of each pair of two as it is, and of each pair under the null pairing.
    """

    pairs: Sequence[tuple[str, str]]
    lag: int
    sums: dict[str, Sums] = field(default_factory=dict)
    cross: dict[tuple[str, str], Cross] = field(default_factory=dict)
    null: dict[tuple[str, str], Cross] = field(default_factory=dict)
    _waiting: list[dict[str, np.ndarray]] = field(default_factory=list)
    _head: dict[str, np.ndarray] = field(default_factory=dict)
    _tail: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of rows that are summed."""
        return next(iter(self.sums.values())).count if self.sums else 0

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """Take rows ``[m, D]`` of every representation, by name; they are summed in larger chunks.

        Raises:
            ValueError: their numbers differ.
        """
        lengths = {len(values) for values in rows.values()}
        if len(lengths) != 1:
            raise ValueError(f"The representations have {sorted(lengths)} rows, which cannot be paired.")
        (length,) = lengths
        for begin in range(0, length, _CHUNK):
            self._waiting.append({name: values[begin : begin + _CHUNK] for name, values in rows.items()})
            if sum(len(next(iter(part.values()))) for part in self._waiting) >= _CHUNK:
                self._sum()

    def finish(self) -> Moments:
        """Sum what waits, close the null pairing and return self; nothing can be added afterwards."""
        if self._waiting:
            self._sum()
        if self.sums:
            roll = self.count // 2 if self.count <= self.lag else 0
            head = {name: _Rows(values) for name, values in self._head.items()}
            tail = {name: _Rows(np.roll(values, roll, axis=0)) for name, values in self._tail.items()}
            for (first, second), cross in self.null.items():
                cross.add(head[first], tail[second])
        self._head, self._tail = {}, {}
        return self

    def pairing(self, first: str, second: str) -> Cross:
        """Return the sums over the pairs of rows of two representations, which may be the same."""
        return self.sums[first].own if first == second else self.cross[first, second]

    def _sum(self) -> None:
        """Add what waits to the sums."""
        chunk = {name: np.concatenate([part[name] for part in self._waiting]) for name in self._waiting[0]}
        self._waiting = []
        if not self.sums:
            self._begin(chunk)
        before = self.count
        rows = {name: _Rows(np.subtract(values, self.sums[name].shift, dtype=np.float64)) for name, values in chunk.items()}
        for name, part in rows.items():
            self.sums[name].add(part)
        for (first, second), cross in self.cross.items():
            cross.add(rows[first], rows[second])
        lagged = {name: self._lagged(name, rows[name].values) for name in self._tail}
        if before < self.lag:
            for name in self._head:
                own = rows[name].values
                self._head[name] = np.concatenate([self._head[name], own[: self.lag - before]])
                rows[name] = _Rows(own[self.lag - before :])
        for (first, second), cross in self.null.items():
            cross.add(rows[first], lagged[second])

    def _lagged(self, name: str, values: np.ndarray) -> _Rows:
        """Return the rows that came `lag` rows before these, as far as there are any, and keep the last `lag` ones."""
        both = np.concatenate([self._tail[name], values])
        complete = max(0, len(both) - self.lag)
        self._tail[name] = both[complete:].copy()
        return _Rows(both[:complete])

    def _begin(self, chunk: Mapping[str, np.ndarray]) -> None:
        self.sums = {name: Sums.empty(name, values.mean(0, dtype=np.float64)) for name, values in chunk.items()}
        for first, second in self.pairs:
            widths = chunk[first].shape[1], chunk[second].shape[1]
            self._head[first], self._tail[second] = np.empty((0, widths[0])), np.empty((0, widths[1]))
            self.null[first, second] = Cross.empty(*widths)
            if first != second:
                self.cross[first, second] = Cross.empty(*widths)
