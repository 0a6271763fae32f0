"""One Branchformer block (Peng et al. 2022, arXiv 2207.02971): a branch that mixes all frames beside one for neighbours.

Conventions
-----------
- The residual stream is ``Tensor[B, T, D]`` in float32; both branches norm it by themselves.
- ``x + Linear([mixer(x); cgMLP(x)])``: the mixer is attention, which turns the projected queries and keys by the rotary
  angles, or SummaryMixing. There are no feed-forwards.
- The convolution of the cgMLP reflects its input at both ends, so a clip needs more than ``kernel // 2`` frames.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from marble.upstreams.nn.conformer import ConformerSizes, ConformerStyle, DepthwiseConv1d, mixer
from marble.upstreams.nn.precision import LayerNorm, Linear
from marble.upstreams.nn.summary_mixing import SummarySizes


class GatedMLP(nn.Module):
    """A perceptron whose units are half gated by the other half, convolved over time (cgMLP, arXiv 2207.02971)."""

    def __init__(self, width: int, units: int, kernel: int, linear_after_conv: bool, dropout: float):
        super().__init__()
        self.reach = kernel // 2
        self.dropout = dropout
        self.norm = LayerNorm(width)
        self.expand = Linear(width, units)
        self.gate_norm = LayerNorm(units // 2)
        self.depthwise = DepthwiseConv1d(units // 2, units // 2, kernel, groups=units // 2)
        self.linear = Linear(units // 2, units // 2) if linear_after_conv else None
        self.project = Linear(units // 2, width)
        # At first the gate lets everything through.
        for name, weight in (*self.depthwise.named_parameters(), *(self.linear.named_parameters() if self.linear else ())):
            if name == "bias":
                nn.init.ones_(weight)
            elif not weight.is_meta:  # there it would only import torch's compiler, for three seconds
                nn.init.normal_(weight, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``Tensor[B, T, D]`` to the same shape; the residual connection is the caller's."""
        x, gate = functional.gelu(self.expand(self.norm(x))).chunk(2, dim=-1)
        gate = self.gate_norm(gate)
        start, end = (gate.narrow(1, at, self.reach).flip(1) for at in (1, gate.shape[1] - 1 - self.reach))
        gate = self.depthwise(torch.cat((start, gate, end), dim=1).transpose(1, 2)).transpose(1, 2)
        if self.linear is not None:
            gate = self.linear(gate)
        return self.project(functional.dropout(x * gate, self.dropout, self.training))


class BranchformerBlock(nn.Module):
    """One block: ``Tensor[B, T, D]`` and a `rotary_table` of T frames to ``Tensor[B, T, D]``.

    Where `summary` gives its sizes, SummaryMixing takes the place of the attention, and its name. Of the sizes `hidden` is
    the number of units of the cgMLP.
    """

    def __init__(
        self, sizes: ConformerSizes, style: ConformerStyle, summary: SummarySizes | None = None, linear_after_conv: bool = True
    ):
        super().__init__()
        self.dropout = style.dropout
        self.attention = mixer(sizes, style, summary)
        self.gated_mlp = GatedMLP(sizes.width, sizes.hidden, sizes.kernel, linear_after_conv, style.dropout)
        self.merge = Linear(2 * sizes.width, sizes.width)

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """Map the stream ``Tensor[B, T, D]`` to the same shape; `table` is a `rotary_table` of T frames."""
        local = functional.dropout(self.gated_mlp(x), self.dropout, self.training)
        merged = self.merge(torch.cat((self.attention.branch(x, table), local), dim=-1))
        return x + functional.dropout(merged, self.dropout, self.training)
