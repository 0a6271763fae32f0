"""Heads: the map of a probe from the rows of its layer to outputs, for all members of a bank at once.

Conventions
-----------
- A head is the shape of a probe: its weights, how they begin, and the way from inputs ``Tensor[K, B, D]`` of K members to
  outputs ``Tensor[K, B, C]``. The loop that trains it (`marble.probe.bank`) knows nothing else of it.
- ``mlp``: Linear(D, H) - ReLU - Dropout - Linear(H, C). ``linear``: Linear(D, C), without dropout.
- The first weight is a matrix ``[D, .]`` of every member; its gradient is written to a tensor that the bank makes once
  (`first_layer`). Later weights are left to autograd.
- Initial weights depend on (task, seed) and sizes alone, uniform as `torch.nn.Linear` draws them, in float64.
- Weights are padded with zeros to multiples of 16. Such units learn nothing. They put every member on a boundary of the vector
  registers, so that the last bits of its arithmetic do not depend on the number of members before it.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from marble.probe.protocol import Probe
from marble.random_streams import stream_seed


class Head(Protocol):
    """The shape of a probe.

    Attributes:
        hidden: units that dropout may silence; 0 where there are none.
    """

    hidden: int

    def initial(self, task: str, seed: int, width: int) -> list[Tensor]:
        """Return the weights of one member for inputs of some width, padded, in float64."""
        ...

    def outputs(self, weights: list[Tensor], inputs: Tensor, masks: Tensor | None, gradient: Tensor) -> Tensor:
        """Return ``Tensor[K, B, C]`` of inputs ``Tensor[K, B, D]``.

        Args:
            weights: of K members, as `initial` gives them for one.
            inputs: the rows of each member.
            masks: factors of the hidden units, ``Tensor[K, B, H]``; None without dropout.
            gradient: receives the gradient of the first weight.
        """
        ...

    def bytes_per_member(self, width: int, batch: int) -> int:
        """Return the memory that one member needs while it learns from batches, in bytes."""
        ...


class MLP:
    """One hidden layer."""

    def __init__(self, settings: Probe, outputs: int):
        self.hidden, self.classes = settings.hidden, outputs

    def initial(self, task: str, seed: int, width: int) -> list[Tensor]:
        """Return weights [D, H], bias [1, H], weights [H, C], bias [1, C]."""
        generator = torch.Generator().manual_seed(stream_seed(task, seed, "weights"))
        first, first_bias = _linear(generator, width, self.hidden)
        second, second_bias = _linear(generator, self.hidden, self.classes)
        return [padded(first), padded(first_bias), padded(second, rows=True), padded(second_bias)]

    def outputs(self, weights: list[Tensor], inputs: Tensor, masks: Tensor | None, gradient: Tensor) -> Tensor:
        """Return the outputs of the second layer."""
        first, first_bias, second, second_bias = weights
        hidden = first_layer(inputs, first, first_bias, gradient).relu()
        if masks is not None:
            hidden = hidden * masks
        return torch.baddbmm(second_bias, hidden, second)[:, :, : self.classes]

    def bytes_per_member(self, width: int, batch: int) -> int:
        """Return five times the weights, and the activations."""
        weights = width * self.hidden + self.hidden * (self.classes + 1) + self.classes
        return 4 * (5 * weights + batch * (2 * width + 6 * self.hidden))


class Linear:
    """No hidden layer."""

    hidden = 0

    def __init__(self, settings: Probe, outputs: int):
        self.classes = outputs

    def initial(self, task: str, seed: int, width: int) -> list[Tensor]:
        """Return weights [D, C] and bias [1, C]."""
        generator = torch.Generator().manual_seed(stream_seed(task, seed, "weights"))
        return [padded(values) for values in _linear(generator, width, self.classes)]

    def outputs(self, weights: list[Tensor], inputs: Tensor, masks: Tensor | None, gradient: Tensor) -> Tensor:
        """Return the outputs of the one layer."""
        return first_layer(inputs, *weights, gradient)[:, :, : self.classes]

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


def first_layer(inputs: Tensor, weight: Tensor, bias: Tensor, gradient: Tensor) -> Tensor:
    """Return ``inputs @ weight + bias``, ``Tensor[K, B, H]``; the weight's gradient is written to `gradient`.

    This gradient is nearly all the memory that a step touches; fresh pages for it would cost as much as the product itself.
    """
    return _FirstLayer.apply(inputs, weight, bias, gradient)


class _FirstLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, gradient: Tensor) -> Tensor:
        """Return ``Tensor[K, B, H]`` from [K, B, D], [K, D, H] and [K, 1, H]."""
        ctx.save_for_backward(inputs, weight)
        ctx.gradient = gradient
        return torch.baddbmm(bias, inputs, weight)

    @staticmethod
    def backward(ctx: Any, *upper: Tensor) -> tuple[Tensor | None, None, Tensor, None]:
        """Write the weight's gradient; return those of the inputs (where a weighted sum learns from them) and the bias."""
        inputs, weight = ctx.saved_tensors
        torch.bmm(inputs.transpose(1, 2), upper[0], out=ctx.gradient)
        lower = torch.bmm(upper[0], weight.transpose(1, 2)) if ctx.needs_input_grad[0] else None
        return lower, None, upper[0].sum(dim=1, keepdim=True), None


def _linear(generator: torch.Generator, width: int, outputs: int) -> tuple[Tensor, Tensor]:
    """Return weights [D, C] and bias [1, C], uniform from -1 to 1 over the root of the number of inputs."""
    weight = 2 * torch.rand(width, outputs, generator=generator, dtype=torch.float64) - 1
    bias = 2 * torch.rand(1, outputs, generator=generator, dtype=torch.float64) - 1
    return weight / width**0.5, bias / width**0.5
