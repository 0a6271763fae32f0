"""Heads: the map of a probe from the rows of its layer to outputs, for all members of a bank at once.

Conventions
-----------
- A head is the shape of a probe: its weights, how they begin, and the way from inputs ``Tensor[K, B, D]`` of K members to
  outputs ``Tensor[K, B, C]``. The loop that trains it (`marble.probe.training.bank`) knows nothing else of it.
- ``mlp``: Linear(D, H) - ReLU - Dropout - Linear(H, C), or more hidden layers like the first, each with batch normalisation
  before its ReLU if the probe says so. ``linear``: Linear(D, C), without a hidden layer.
- The first weight is a matrix ``[D, .]`` of every member; its gradient is written to a tensor that the bank makes once
  (`first_layer`). Later weights are left to autograd.
- Initial weights depend on (task, seed) and sizes alone, uniform as `torch.nn.Linear` draws them, in float64.
- Weights are padded with zeros to multiples of 16. Such units learn nothing. They put every member on a boundary of the vector
  registers, so that the last bits of its arithmetic do not depend on the number of members before it.
- In an `arithmetic` of 16 bits linear maps round numbers to 11 (``float16``) or 8 (``bfloat16``) significant bits.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from marble.probe.settings import Probe
from marble.random_streams import generator

_NORM_EPS = 1e-5
_NORM_MOMENTUM = 0.1
_BITS = {"float16": 11, "bfloat16": 8}


class Head(Protocol):
    """The shape of a probe.

    Attributes:
        hidden: units of each hidden layer, which dropout may silence.
    """

    hidden: list[int]

    def initial(self, task: str, seed: int, width: int) -> list[Tensor]:
        """Return the weights of one member for inputs of some width, padded, in float64."""
        ...

    def statistics(self) -> list[Tensor]:
        """Return what one member learns without a gradient, at its beginning: running means and variances."""
        ...

    def outputs(
        self, weights: list[Tensor], statistics: list[Tensor], inputs: Tensor, masks: list[Tensor], gradient: Tensor,
        *, learning: bool,
    ) -> Tensor:  # fmt: skip
        """Return ``Tensor[K, B, C]`` of inputs ``Tensor[K, B, D]``.

        Args:
            weights: of K members, as `initial` gives them for one.
            statistics: of K members; those of the batch are used, and change these, while the head is `learning`.
            inputs: the rows of each member.
            masks: factors of the units of each hidden layer, ``Tensor[K, B, H]``; none without dropout.
            gradient: receives the gradient of the first weight.
            learning: whether this is a step of training.
        """
        ...

    def bytes_per_member(self, width: int, batch: int) -> int:
        """Return the memory that one member needs while it learns from batches, in bytes."""
        ...


class MLP:
    """Hidden layers of one size."""

    def __init__(self, settings: Probe, outputs: int):
        self.settings, self.classes = settings, outputs
        self.hidden = [settings.hidden] * settings.hidden_layers
        self.normed = settings.norm == "batch"

    def initial(self, task: str, seed: int, width: int) -> list[Tensor]:
        """Return weights [D, H], bias [1, H], the scale and shift [1, H] of a norm, and so on; weights [H, C], bias [1, C]."""
        stream, weights, gain = generator(task, seed, "weights"), [], 1.0
        for level, (fan_in, units) in enumerate(zip([width, *self.hidden], [*self.hidden, self.classes], strict=True)):
            weight, bias = _linear(stream, fan_in, units, self.settings.initial, gain)
            weights += [padded(weight, rows=level > 0), padded(bias)]
            if self.normed and level < len(self.hidden):
                weights += [
                    padded(torch.ones(1, units, dtype=torch.float64)),
                    padded(torch.zeros(1, units, dtype=torch.float64)),
                ]
            gain = 2**0.5 if self.settings.activation else 1.0
        return weights

    def statistics(self) -> list[Tensor]:
        """Return the running mean and variance [1, H] of each norm."""
        return [padded(start(1, units)) for units in self.hidden for start in (torch.zeros, torch.ones) if self.normed]

    def outputs(
        self, weights: list[Tensor], statistics: list[Tensor], inputs: Tensor, masks: list[Tensor], gradient: Tensor,
        *, learning: bool,
    ) -> Tensor:  # fmt: skip
        """Return the outputs of the last layer."""
        first, bias, *rest = weights
        hidden = linear(inputs, first, bias, self.settings.arithmetic, gradient)
        for level in range(len(self.hidden)):
            if self.normed:
                scale, shift, *rest = rest
                hidden = batch_norm(hidden, *statistics[2 * level : 2 * level + 2], learning=learning) * scale + shift
            if self.settings.activation:
                hidden = hidden.relu()
            if masks:
                hidden = hidden * masks[level]
            weight, bias, *rest = rest
            hidden = linear(hidden, weight, bias, self.settings.arithmetic)
        return hidden[:, :, : self.classes]

    def bytes_per_member(self, width: int, batch: int) -> int:
        """Return five times the weights, and the activations."""
        sizes = [width, *self.hidden, self.classes]
        weights = sum((before + 1) * after for before, after in pairwise(sizes))
        return 4 * (5 * weights + batch * (2 * width + 6 * sum(self.hidden)))


class Linear:
    """No hidden layer."""

    def __init__(self, settings: Probe, outputs: int):
        self.settings, self.classes = settings, outputs
        self.hidden: list[int] = []

    def initial(self, task: str, seed: int, width: int) -> list[Tensor]:
        """Return weights [D, C] and bias [1, C]."""
        stream = generator(task, seed, "weights")
        return [padded(values) for values in _linear(stream, width, self.classes, self.settings.initial)]

    def statistics(self) -> list[Tensor]:
        """Return nothing."""
        return []

    def outputs(
        self, weights: list[Tensor], statistics: list[Tensor], inputs: Tensor, masks: list[Tensor], gradient: Tensor,
        *, learning: bool,
    ) -> Tensor:  # fmt: skip
        """Return the outputs of the one layer."""
        weight, bias = weights
        return linear(inputs, weight, bias, self.settings.arithmetic, gradient)[:, :, : self.classes]

    def bytes_per_member(self, width: int, batch: int) -> int:
        """Return five times the weights, and the activations."""
        return 4 * (5 * (width + 1) * self.classes + batch * (2 * width + 2 * self.classes))


HEADS: dict[str, type[MLP | Linear]] = {"mlp": MLP, "linear": Linear}


def make_head(settings: Probe, outputs: int) -> Head:
    """Return the head of a protocol for a number of outputs."""
    return HEADS[settings.kind](settings, outputs)


def padded(values: Tensor, *, rows: bool = False) -> Tensor:
    """Return ``Tensor[..., R, C]`` with zero columns (and rows) up to a multiple of 16."""
    height, width = values.shape[-2:]
    return functional.pad(values, (0, -width % 16, 0, -height % 16 if rows else 0))


def linear(inputs: Tensor, weight: Tensor, bias: Tensor, arithmetic: str, gradient: Tensor | None = None) -> Tensor:
    """Return ``inputs @ weight + bias``, ``Tensor[K, B, H]``.

    Args:
        inputs: ``Tensor[K, B, D]``.
        weight: ``Tensor[K, D, H]``.
        bias: ``Tensor[K, 1, H]``.
        arithmetic: of the probe.
        gradient: that of the weight is written to it. It is nearly all the memory that a step touches in the first layer; fresh
            pages for it would cost as much as the product itself. None leaves it to autograd.
    """
    inputs, weight, bias = (rounded(values, arithmetic) for values in (inputs, weight, bias))
    if gradient is None:
        return rounded(torch.baddbmm(bias, inputs, weight), arithmetic)
    return rounded(_FirstLayer.apply(inputs, weight, bias, gradient, arithmetic), arithmetic)


def rounded(values: Tensor, arithmetic: str) -> Tensor:
    """Return values with the significant bits of an arithmetic; their gradient gets as many."""
    return values if arithmetic == "float32" else _Rounded.apply(values, _BITS[arithmetic])


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, bits: int) -> Tensor:
        """Round the mantissas, half to even."""
        ctx.bits = bits
        mantissa, exponent = values.frexp()
        return torch.ldexp((mantissa * 2**bits).round() / 2**bits, exponent)

    @staticmethod
    def backward(ctx: Any, *upper: Tensor) -> tuple[Tensor, None]:
        """Round the gradient likewise."""
        return _Rounded.apply(upper[0], ctx.bits), None


class _FirstLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, gradient: Tensor, arithmetic: str) -> Tensor:
        """Return ``Tensor[K, B, H]`` from [K, B, D], [K, D, H] and [K, 1, H]."""
        ctx.save_for_backward(inputs, weight)
        ctx.gradient, ctx.arithmetic = gradient, arithmetic
        return torch.baddbmm(bias, inputs, weight)

    @staticmethod
    def backward(ctx: Any, *upper: Tensor) -> tuple[Tensor | None, None, Tensor, None, None]:
        """Write the weight's gradient; return those of the inputs (where a weighted sum learns from them) and the bias."""
        inputs, weight = ctx.saved_tensors
        torch.bmm(inputs.transpose(1, 2), upper[0], out=ctx.gradient)
        if ctx.arithmetic != "float32":
            ctx.gradient.copy_(rounded(ctx.gradient, ctx.arithmetic))
        lower = torch.bmm(upper[0], weight.transpose(1, 2)) if ctx.needs_input_grad[0] else None
        return lower, None, upper[0].sum(dim=1, keepdim=True), None, None


def batch_norm(values: Tensor, mean: Tensor, variance: Tensor, *, learning: bool) -> Tensor:
    """Return ``values[K, B, H]`` shifted and scaled to mean 0 and variance 1 over B while learning, else by running statistics.

    Learning moves the running ``mean[K, 1, H]`` and ``variance[K, 1, H]`` a tenth of the way to those of the batch, the latter
    unbiased, in place; a batch of one row leaves the variance as it is.
    """
    if not learning:
        return (values - mean) / (variance + _NORM_EPS).sqrt()
    average, spread = values.mean(dim=1, keepdim=True), values.var(dim=1, correction=0, keepdim=True)
    count = values.shape[1]
    with torch.no_grad():
        mean.lerp_(average, _NORM_MOMENTUM)
        if count > 1:
            variance.lerp_(spread * (count / (count - 1)), _NORM_MOMENTUM)
    return (values - average) / (spread + _NORM_EPS).sqrt()


def uniform_linear(stream: torch.Generator, width: int, outputs: int) -> tuple[Tensor, Tensor]:
    """Return weights [D, C] and bias [1, C], uniform from -1 to 1 over the root of the number of inputs."""
    weight = 2 * torch.rand(width, outputs, generator=stream, dtype=torch.float64) - 1
    bias = 2 * torch.rand(1, outputs, generator=stream, dtype=torch.float64) - 1
    return weight / width**0.5, bias / width**0.5


def _linear(stream: torch.Generator, width: int, outputs: int, initial: str, gain: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return weights [D, C], uniform or with the variance of Glorot and Bengio, and bias [1, C], uniform."""
    weight, bias = uniform_linear(stream, width, outputs)
    deviation = gain * (2 / (width + outputs)) ** 0.5
    if initial == "xavier-uniform":
        weight = weight * (width**0.5 * 3**0.5 * deviation)
    elif initial == "xavier-normal":
        weight = torch.randn(width, outputs, generator=stream, dtype=torch.float64) * deviation
    return weight, bias
