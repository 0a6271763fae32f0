"""SummaryMixing (Parcollet et al. 2023, arXiv 2307.07421): every frame is joined with one summary of all, in linear time.

Conventions
-----------
- ``out_t = φ(C [f(x_t); mean_u s(x_u)])``. f and s are two linears each, φ is GELU after every linear, the last ones included.
- With several heads the linears of f and s are as many parallel linears on slices of the features; C sees all features.
- ``lite``: the summary alone, the same for every frame; there is neither f nor C.
- The mean over time is float32 in any precision. It spans the whole window, masked frames included; clips are equally long.
- Dropout precedes C. The product of C with the summary is computed once a clip, so a dropped feature of the summary is
  dropped for all frames. Parallel linears are initialised by the inputs of *their* slice, as one linear per slice would be.
- Nothing but the mean sees other frames, so permuted frames give permuted outputs: it knows no order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from marble.upstreams.nn.precision import LayerNorm, Linear


@dataclass(frozen=True)
class SummarySizes:
    """Heads, hidden and output width of the local transformation f, and of the summary s; whether it is the lite variant."""

    heads: int
    local_hidden: int
    local: int
    summary_hidden: int
    summary: int
    lite: bool = False


class ParallelLinear(Linear):
    """As many linears as `heads`, each from one slice of the features to another: ``Tensor[..., I]`` to ``Tensor[..., O]``."""

    def __init__(self, inputs: int, outputs: int, heads: int):
        super().__init__(inputs // heads, outputs)
        self.heads = heads

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Map ``Tensor[..., I]`` of any type to ``Tensor[..., O]`` in the type of the weight."""
        if self.heads == 1:
            return super().forward(input)
        x = input.to(self.weight.dtype).reshape(-1, self.heads, self.in_features).transpose(0, 1)
        weight = self.weight.unflatten(0, (self.heads, -1)).transpose(1, 2)
        y = torch.baddbmm(self.bias.view(self.heads, 1, -1), x, weight)
        return y.transpose(0, 1).reshape(*input.shape[:-1], self.out_features)


class SummaryMixing(nn.Module):
    """Mix the frames of ``Tensor[B, T, D]`` into ``Tensor[B, T, sizes.summary]``."""

    def __init__(self, width: int, sizes: SummarySizes, dropout: float = 0.0):
        super().__init__()
        self.dropout = dropout
        self.summary1 = ParallelLinear(width, sizes.summary_hidden, sizes.heads)
        self.summary2 = ParallelLinear(sizes.summary_hidden, sizes.summary, sizes.heads)
        self.lite = sizes.lite
        if not sizes.lite:
            self.local1 = ParallelLinear(width, sizes.local_hidden, sizes.heads)
            self.local2 = ParallelLinear(sizes.local_hidden, sizes.local, sizes.heads)
            self.combine = Linear(sizes.local + sizes.summary, sizes.summary)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed frames ``Tensor[B, T, sizes.summary]`` of ``Tensor[B, T, D]``."""
        gelu = functional.gelu
        summary = gelu(self.summary2(gelu(self.summary1(x)))).mean(dim=1, keepdim=True, dtype=torch.float32)
        if self.lite:
            return summary.expand(-1, x.shape[1], -1)
        local = gelu(self.local2(gelu(self.local1(x))))
        local, summary = (functional.dropout(y, self.dropout, self.training) for y in (local, summary))
        for_local, for_summary = self.combine.weight.split((local.shape[-1], summary.shape[-1]), dim=1)
        shared = functional.linear(summary.to(for_summary.dtype), for_summary, self.combine.bias)
        return gelu(functional.linear(local, for_local) + shared)


class SummaryMixingBranch(nn.Module):
    """Layer norm, SummaryMixing and dropout, where another block has attention."""

    def __init__(self, width: int, sizes: SummarySizes, dropout: float = 0.0):
        super().__init__()
        self.dropout = dropout
        self.norm = LayerNorm(width, eps=1e-5)
        self.mixing = SummaryMixing(width, sizes, dropout)

    def branch(self, x: Tensor, table: Tensor) -> Tensor:
        """Map ``Tensor[B, T, D]`` to ``Tensor[B, T, sizes.summary]``; `table`, the positions, is ignored."""
        return functional.dropout(self.mixing(self.norm(x)), self.dropout, self.training)

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """Return the stream ``Tensor[B, T, D]`` with the mixture added."""
        return x + self.branch(x, table)
