"""The HuBERT stack (Hsu et al. 2021, arXiv 2106.07447) that MERT-v1 is made of, with norms after or before the branches.

Conventions
-----------
- Waveform ``Tensor[B, N]`` to frames ``Tensor[B, T, D]``: unpadded convolutions, so N must reach `receptive_field` samples.
- The first convolution is normed per channel *over time*: the length of the clip and any padding change every frame. Clips
  of a batch must be equally long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from marble.upstreams.nn.precision import Conv1d, GroupNorm, LayerNorm, Linear, attend


@dataclass(frozen=True)
class HubertSizes:
    """Width D, blocks, heads and feed-forward width; of the features the channels; kernels, strides and groups."""

    width: int
    depth: int
    heads: int
    hidden: int
    channels: int
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    position_kernel: int = 128
    position_groups: int = 16

    @property
    def hop(self) -> int:
        """Samples between two frames."""
        return math.prod(self.strides)

    @property
    def receptive_field(self) -> int:
        """Samples that one frame sees."""
        samples = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples


class ConvFeatures(nn.Module):
    """Strided convolutions with GELU, the first with a group norm over time: ``Tensor[B, N]`` to ``Tensor[B, T, channels]``."""

    def __init__(self, channels: int, kernels: Sequence[int], strides: Sequence[int]):
        super().__init__()
        widths = (1, *(channels,) * len(kernels))
        self.convolutions = nn.ModuleList(
            Conv1d(widths[i], widths[i + 1], kernel, stride, bias=False)
            for i, (kernel, stride) in enumerate(zip(kernels, strides, strict=True))
        )
        self.norm = GroupNorm(channels, channels)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return the features ``Tensor[B, T, C]`` of a waveform ``Tensor[B, N]``."""
        first, *others = self.convolutions
        x = functional.gelu(self.norm(first(waveform[:, None])))
        for convolution in others:
            x = functional.gelu(convolution(x))
        return x.transpose(1, 2)


class PositionalConvolution(nn.Module):
    """A wide grouped convolution over time with GELU, whose even kernel drops the last frame."""

    def __init__(self, width: int, kernel: int, groups: int):
        super().__init__()
        self.convolution = Conv1d(width, width, kernel, padding=kernel // 2, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Return the positions to add to ``Tensor[B, T, D]``, in the same shape."""
        return functional.gelu(self.convolution(x.transpose(1, 2))[..., : x.shape[1]]).transpose(1, 2)


class HubertBlock(nn.Module):
    """Self-attention and feed-forward with residual connections: ``Tensor[B, T, D]`` to ``Tensor[B, T, D]``.

    `pre_norm` norms the input of both branches (MERT-330M), otherwise the sums are normed (MERT-95M).
    """

    def __init__(self, sizes: HubertSizes, pre_norm: bool):
        super().__init__()
        self.pre_norm = pre_norm
        self.head_width = sizes.width // sizes.heads
        self.query = Linear(sizes.width, sizes.width)
        self.key = Linear(sizes.width, sizes.width)
        self.value = Linear(sizes.width, sizes.width)
        self.out = Linear(sizes.width, sizes.width)
        self.attention_norm = LayerNorm(sizes.width)
        self.up = Linear(sizes.width, sizes.hidden)
        self.down = Linear(sizes.hidden, sizes.width)
        self.feed_forward_norm = LayerNorm(sizes.width)

    def _attention(self, x: Tensor) -> Tensor:
        query, key, value = (project(x).unflatten(-1, (-1, self.head_width)) for project in (self.query, self.key, self.value))
        return self.out(attend(query, key, value))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.down(functional.gelu(self.up(x)))

    def forward(self, x: Tensor) -> Tensor:
        """Map the stream ``Tensor[B, T, D]`` to the same shape."""
        if self.pre_norm:
            x = x + self._attention(self.attention_norm(x))
            return x + self._feed_forward(self.feed_forward_norm(x))
        x = self.attention_norm(x + self._attention(x))
        return self.feed_forward_norm(x + self._feed_forward(x))
