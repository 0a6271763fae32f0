"""The kinds of tasks: what a target is, and how it is encoded, learned, answered and named.

This module holds all that depends on a task's kind; a new kind is one class and one entry of `KINDS`.

====================  ==========================  =============================  ======================================
kind                  target of a clip            encoded                        an output is
====================  ==========================  =============================  ======================================
``multiclass``        one label                   ``int64[N]``                   a logit of a class
``ordinal``           one label, lowest first     ``int64[N]``                   above one half for each grade reached
``multilabel``        a tuple of labels           ``float32[N, C]``, 0 or 1      a logit of a tag
``regression``        a tuple of numbers          ``float32[N, C]``              a value
``frame_classes``     `marble.frames.Spans`       ``float32[N, C]``, seconds     a logit of a class, for each frame
``frame_tags``        `marble.frames.Spans`       ``float32[N, C]``, seconds     a logit of a tag, for each frame
====================  ==========================  =============================  ======================================

The clip of a frame task is a whole track. The seconds of each label say what it holds; what its frames are to learn,
`marble.task.Frames` encodes.

Torch is imported when a probe learns, not when tasks are listed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from marble.errors import MarbleError
from marble.frames import Spans

if TYPE_CHECKING:
    from torch import Tensor

Target = str | tuple[str, ...] | tuple[float, ...] | Spans


class Kind(ABC):
    """One kind of task.

    Attributes:
        name: how tasks call it.
        metrics: names of the metrics of a task that states none, the main one first.
        needs: what a target is, in words.
        numeric: whether targets are numbers, not labels.
        of_frames: whether a target has times, and every frame an answer.
    """

    name: ClassVar[str]
    needs: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    numeric: ClassVar[bool] = False
    of_frames: ClassVar[bool] = False

    @abstractmethod
    def encode(self, targets: Sequence[Target], labels: tuple[str, ...]) -> np.ndarray:
        """Return targets as ``int64[N]`` or ``float32[N, C]``.

        Raises:
            ValueError: a target is not of this kind; the text names the target and completes "The clip has …".
        """

    @abstractmethod
    def parse(self, values: Sequence[object], labels: tuple[str, ...]) -> Target | None:
        """Return the target in the values of a file; None where they hold none."""

    @abstractmethod
    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the errors, ``Tensor[K, B, E]``, of outputs ``Tensor[K, B, C]`` for targets [K, B] or [K, B, C]."""

    def loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss of each probe, ``Tensor[K]``: the mean error, rows having weights ``Tensor[K, B]`` where given."""
        errors = self.errors(outputs, targets)
        return errors.mean(dim=(1, 2)) if weights is None else (errors.mean(dim=2) * weights).sum(dim=1) / weights.sum(dim=1)

    def scale(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and scale that standardise training targets and restore answers; 0 and 1 by default."""
        return targets.new_zeros(1), targets.new_ones(1)

    def decode(self, answers: Tensor, labels: tuple[str, ...]) -> list[str | None]:
        """Return the label of each answer of ``Tensor[N, C]``; None for an answer without a single label."""
        return [None] * len(answers)

    def untrained(self, targets: Sequence[Target], labels: tuple[str, ...]) -> list[str]:
        """Return the labels that no training target has; none for numbers."""
        return []


class Multiclass(Kind):
    """One label of several; cross-entropy."""

    name = "multiclass"
    needs = "one of its labels"
    metrics = ("accuracy", "balanced_accuracy")

    def encode(self, targets: Sequence[Target], labels: tuple[str, ...]) -> np.ndarray:
        """Return the number of each label, ``int64[N]``."""
        number = _numbers(labels)
        return np.array([_number(number, target) for target in targets], dtype=np.int64)

    def parse(self, values: Sequence[object], labels: tuple[str, ...]) -> Target | None:
        """Return the one label."""
        names = _known(values, labels)
        return names[0] if names is not None and len(names) == 1 else None

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy, ``Tensor[K, B, 1]``."""
        return -outputs.log_softmax(dim=2).gather(2, targets[:, :, None])

    def decode(self, answers: Tensor, labels: tuple[str, ...]) -> list[str | None]:
        """Return the label of the highest logit."""
        return [labels[number] for number in answers.argmax(dim=1).tolist()]

    def untrained(self, targets: Sequence[Target], labels: tuple[str, ...]) -> list[str]:
        """Return the labels without a training target."""
        trained = set(targets)
        return [label for label in labels if label not in trained]


class Ordinal(Multiclass):
    """One grade of several with an order; squared error against ones up to the grade (Ramoneda et al. 2025)."""

    name = "ordinal"
    metrics = ("ordinal_mse", "ordinal_balanced_accuracy", "kendall_tau")

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the squared errors against ones up to the true grade and zeros beyond, ``Tensor[K, B, C]``."""
        import torch

        steps = (torch.arange(outputs.shape[2], device=outputs.device) <= targets[:, :, None]).to(outputs)
        return (outputs - steps).square()

    def decode(self, answers: Tensor, labels: tuple[str, ...]) -> list[str | None]:
        """Return the label of each grade; None below the lowest."""
        return [labels[grade] if grade >= 0 else None for grade in grades(answers).tolist()]


class Multilabel(Kind):
    """Any number of tags; binary cross-entropy."""

    name = "multilabel"
    needs = "some of its labels"
    metrics = ("roc_auc", "average_precision")

    def encode(self, targets: Sequence[Target], labels: tuple[str, ...]) -> np.ndarray:
        """Return 1 for each tag of a target, ``float32[N, C]``."""
        number = _numbers(labels)
        encoded = np.zeros((len(targets), len(labels)), dtype=np.float32)
        for row, target in zip(encoded, targets, strict=True):
            if not isinstance(target, tuple | list):
                raise ValueError(f"the target {target!r}, which is no tuple of labels")
            row[[_number(number, label) for label in target]] = 1.0
        return encoded

    def parse(self, values: Sequence[object], labels: tuple[str, ...]) -> Target | None:
        """Return the tags."""
        return _known(values, labels)

    def untrained(self, targets: Sequence[Target], labels: tuple[str, ...]) -> list[str]:
        """Return the tags that no training target has."""
        trained = {tag for target in targets if isinstance(target, tuple) for tag in target}
        return [label for label in labels if label not in trained]

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the binary cross-entropy of each tag, ``Tensor[K, B, C]``."""
        import torch

        both = torch.stack([torch.zeros_like(outputs), outputs], dim=3).log_softmax(dim=3)
        return -torch.lerp(both[..., 0], both[..., 1], targets)


class Regression(Kind):
    """One number or several; squared error on targets that are standardised over the training split."""

    name = "regression"
    needs = "a finite number for each of its labels"
    numeric = True
    metrics = ("r2", "mse")

    def encode(self, targets: Sequence[Target], labels: tuple[str, ...]) -> np.ndarray:
        """Return the numbers, ``float32[N, C]``."""
        encoded = np.zeros((len(targets), len(labels)), dtype=np.float32)
        for row, target in zip(encoded, targets, strict=True):
            numbers = isinstance(target, tuple | list) and all(isinstance(value, int | float) for value in target)
            if not numbers or len(target) != len(row) or not np.isfinite(np.asarray(target, dtype=np.float32)).all():
                raise ValueError(f"{target} where {len(row)} finite values are needed")
            row[:] = target
        return encoded

    def parse(self, values: Sequence[object], labels: tuple[str, ...]) -> Target | None:
        """Return one number for each label."""
        try:
            numbers = tuple(float(str(value)) for value in values)
        except ValueError:
            return None
        return numbers if len(numbers) == len(labels) and all(map(math.isfinite, numbers)) else None

    def errors(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the squared errors, ``Tensor[K, B, C]``."""
        return (outputs - targets).square()

    def scale(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the deviation of each dimension; the deviation of a constant one is 1."""
        mean, deviation = targets.mean(dim=0), targets.std(dim=0, correction=0)
        deviation[deviation == 0] = 1.0
        return mean, deviation


class OfFrames(Kind):
    """A target with times: every frame has an answer, and its errors are those of the other base class, with frames as rows."""

    needs = "intervals with its labels"
    metrics = ()
    of_frames = True

    def encode(self, targets: Sequence[Target], labels: tuple[str, ...]) -> np.ndarray:
        """Return how long each label lasts, ``float32[N, C]`` in seconds; intervals of other labels are not scored."""
        number = _numbers(labels)
        seconds = np.zeros((len(targets), len(labels)), dtype=np.float32)
        for row, target in zip(seconds, targets, strict=True):
            if not isinstance(target, Spans):
                raise ValueError(f"the target {target!r:.60}, which is no Spans")
            if not all(0 <= start < stop < math.inf for start, stop, _ in target.rows):
                raise ValueError("an interval that begins before 0, or ends before it begins")
            for start, stop, label in target.rows:
                if label in number:
                    row[number[label]] += stop - start
        return seconds

    def parse(self, values: Sequence[object], labels: tuple[str, ...]) -> None:
        """Return None: a value in a file has no times."""

    def untrained(self, targets: Sequence[Target], labels: tuple[str, ...]) -> list[str]:
        """Return the labels that last no time in training."""
        return [labels[number] for number in np.flatnonzero(self.encode(targets, labels).sum(axis=0) == 0)]


class FrameClasses(OfFrames, Multiclass):
    """One label of several at any time; cross-entropy of each frame."""

    name = "frame_classes"


class FrameTags(OfFrames, Multilabel):
    """Any number of tags at any time; binary cross-entropy of each frame."""

    name = "frame_tags"


KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (Multiclass(), Ordinal(), Multilabel(), Regression(), FrameClasses(), FrameTags())
}


def kind_of(name: str) -> Kind:
    """Return the kind of this name.

    Raises:
        MarbleError: there is none.
    """
    if name not in KINDS:
        raise MarbleError(f"There is no kind of task called '{name}': write {', '.join(KINDS)}.")
    return KINDS[name]


def grades(answers: Any) -> Any:
    """Return the grades that ordinal outputs ``[..., C]``, of torch or NumPy, stand for, ``int64[...]`` from -1 to C - 1.

    The grade is the number of outputs above one half before the first that is not, less one; -1 is below all grades
    (Cheng, Wang and Pollastri 2008, as decoded by Ramoneda et al. 2025).
    """
    return (answers > 0.5).cumprod(-1).sum(-1) - 1


def _numbers(labels: tuple[str, ...]) -> dict[str, int]:
    return {label: number for number, label in enumerate(labels)}


def _number(numbers: dict[str, int], label: object) -> int:
    if not isinstance(label, str) or label not in numbers:
        raise ValueError(f"the label '{label}', which is not one of its labels")
    return numbers[label]


def _known(values: Sequence[object], labels: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return values as labels, a prefix such as "genre---" left out; None if any is not a label."""
    names = tuple(name if name in labels else name.rpartition("---")[2] for name in map(str, values))
    return names if set(names) <= set(labels) else None
