"""Weighted sums: the inputs of a probe that hears all layers, for all members of a bank at once.

Conventions
-----------
- The layers are ``Tensor[L, B, D]``; a sum of K members is ``Tensor[K, B, D]``. Layers below `first_layer` are left out.
- ``softmax`` and ``positive``: weights are the softmax or the exponentials of logits; they begin equal, with sum 1, or at a
  standard normal draw of the logits (of a softmax, or added to those of equal weights).
- ``free``: weights and one bias for all dimensions, as a convolution over layers; they begin equal, with sum 1 and bias 0, or
  uniform as `torch.nn.Linear` draws them.
- ``matrix``: a matrix [D, D] for each layer and a bias [D], one linear map of all layers side by side (the `MLPReduce` of
  MARBLE v2), uniform as `torch.nn.Linear` draws them.
- The arithmetic of the probe is that of matrices; other sums are in float32.
- Draws depend on (task, seed) and sizes alone. Weights are padded as those of heads are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from marble.probe.settings import Probe
from marble.probe.training.heads import padded, rounded, uniform_linear
from marble.random_streams import generator


class LayerSum:
    """The weighted sum of a protocol over some layers, ascending."""

    def __init__(self, settings: Probe, layers: Sequence[int], width: int):
        self.form, self.start, self.width = settings.layer_weights, settings.layer_start, width
        self.arithmetic = settings.arithmetic
        self.left_out = sum(layer < settings.first_layer for layer in layers)
        self.count = len(layers) - self.left_out

    def initial(self, task: str, seed: int) -> list[Tensor]:
        """Return the weights of one member, padded, in float64."""
        stream = generator(task, seed, "layers")
        if self.form == "matrix":
            return [padded(values) for values in uniform_linear(stream, self.count * self.width, self.width)]
        equal = {"softmax": 0.0, "positive": -math.log(self.count), "free": 1 / self.count}[self.form]
        weights = torch.full((1, self.count), equal, dtype=torch.float64)
        bias = torch.zeros(1, 1, dtype=torch.float64)
        if self.start == "random" and self.form == "free":
            drawn, bias = uniform_linear(stream, self.count, 1)
            weights = drawn.T
        elif self.start == "random":
            weights = weights + torch.randn(1, self.count, generator=stream, dtype=torch.float64)
        return [padded(weights), *([padded(bias)] if self.form == "free" else [])]

    def mix(self, weights: list[Tensor], layers: Tensor) -> Tensor:
        """Return the sums ``Tensor[K, B, D]`` of ``layers[L, B, D]`` for the weights of K members."""
        used = layers[self.left_out :]
        if self.form == "matrix":
            joined = used.transpose(0, 1).flatten(start_dim=1)
            joined, matrix, bias = (rounded(values, self.arithmetic) for values in (joined, *weights))
            return rounded(joined @ matrix + bias, self.arithmetic)[:, :, : self.width]
        mixed = (self._scalars(weights[0]) @ used.flatten(start_dim=1)).view(len(weights[0]), *layers.shape[1:])
        return mixed + weights[1][:, :, :1] if self.form == "free" else mixed

    def shares(self, weights: list[Tensor]) -> Tensor:
        """Return the weight of each layer, ``Tensor[K, L]``, 0 for those that are left out; ``Tensor[K, 0]`` of matrices."""
        if self.form == "matrix":
            return weights[0].new_empty(len(weights[0]), 0)
        scalars = self._scalars(weights[0])
        return torch.cat([scalars.new_zeros(len(scalars), self.left_out), scalars], dim=1)

    def bytes_per_member(self, batch: int) -> int:
        """Return five times the weights, and the sums with their gradient."""
        matrix = (self.count * self.width + 1) * self.width if self.form == "matrix" else 0
        return 4 * (5 * matrix + 2 * batch * self.width)

    def _scalars(self, values: Tensor) -> Tensor:
        logits = values[:, 0, : self.count]
        return logits.softmax(dim=1) if self.form == "softmax" else logits.exp() if self.form == "positive" else logits
