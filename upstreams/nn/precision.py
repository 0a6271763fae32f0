"""Layers that know their precision, and the steps from a trained module to one for inference.

Under ``bf16`` only the matrices (linear layers and convolutions) are bfloat16. They take their input in any type, so the
residual stream, norms, rotary angles and front ends around them stay float32; softmax is float32 inside torch's attention.

On a CPU two kinds of convolutions are computed in float32 all the same, because oneDNN 3.12 (in torch 2.13) fails at them:

- Depthwise ones of 15 taps or more, in channels-last order, on CPUs with bfloat16 instructions (AVX512-BF16): the generator of
  the kernel runs for ever where a thread gets 16 channels or fewer and about 30 frames or more. How wide layers are split
  depends on the batch, the frames and the number of threads, so that any width can meet this.
- Those whose groups have 2, 4, ... 14 input channels and where channels times taps is a multiple of 32, on CPUs with AMX: the
  values are unrelated to the right ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval


class Linear(nn.Linear):
    """A linear layer that casts its input to the type of its weight."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Map ``Tensor[..., I]`` of any type to ``Tensor[..., O]`` in the type of the weight."""
        return super().forward(input.to(self.weight.dtype))


class Conv1d(nn.Conv1d):
    """A convolution over time that casts its input to the type of its weight."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Map ``Tensor[B, I, T]`` of any type to ``Tensor[B, O, T']`` in the type of the weight."""
        channels = self.in_channels // self.groups
        # The second kind of convolutions that oneDNN fails at; see above.
        if channels < 16 and channels % 2 == 0 and channels * self.kernel_size[0] % 32 == 0 and half_on_cpu(self.weight):
            return in_float32(self._conv_forward, input, self.weight, self.bias)
        return super().forward(input.to(self.weight.dtype))


class Conv2d(nn.Conv2d):
    """A convolution over two axes that casts its input to the type of its weight."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Map ``Tensor[B, I, H, W]`` of any type to ``Tensor[B, O, H', W']`` in the type of the weight."""
        return super().forward(input.to(self.weight.dtype))


class LayerNorm(nn.LayerNorm):
    """A layer norm that computes and returns float32."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Norm ``Tensor[..., D]`` of any type over its last axis, in float32."""
        return super().forward(input.float())


class GroupNorm(nn.GroupNorm):
    """A group norm that computes and returns float32."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Norm ``Tensor[B, C, T]`` of any type over groups of channels and time, in float32."""
        return super().forward(input.float())


def half_on_cpu(weight: Tensor) -> bool:
    """Tell whether a convolution by `weight` is to run on a CPU in half precision, by the type of the weight or by autocast."""
    return weight.device.type == "cpu" and (weight.dtype.itemsize < 4 or torch.is_autocast_enabled("cpu"))


Convolve = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def in_float32(convolve: Convolve, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``convolve(x, weight, bias)`` computed in float32, under autocast as well, in the type of the weight."""
    with torch.autocast(weight.device.type, enabled=False):
        y = convolve(x.float(), weight.float(), None if bias is None else bias.float())
    return y.to(weight.dtype)


class Foldable(nn.Module):
    """A module with batch norms after convolutions; `folds` names the pairs (convolution, batch norm)."""

    folds: ClassVar[tuple[tuple[str, str], ...]]

    def fold(self) -> None:
        """Fold the running statistics of the batch norms into the convolutions, in place; a second call changes nothing."""
        for convolution, norm in self.folds:
            if not isinstance(getattr(self, norm), nn.Identity):
                setattr(self, convolution, fuse_conv_bn_eval(getattr(self, convolution), getattr(self, norm)))
                setattr(self, norm, nn.Identity())


def cast_matrices(module: nn.Module, dtype: torch.dtype) -> None:
    """Cast the weights of all linear layers and convolutions inside a module, in place."""
    for layer in module.modules():
        if isinstance(layer, Linear | Conv1d | Conv2d):
            layer.to(dtype)


def attend(query: Tensor, key: Tensor, value: Tensor, causal: bool = False, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention of ``Tensor[B, T, H, D]`` in the type of `value`; return ``Tensor[B, T, H * D]``.

    `dropout` is the share of the weights between frames that are dropped.
    """
    query, key, value = (x.to(value.dtype).transpose(1, 2) for x in (query, key, value))
    mixed = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=causal)
    return mixed.transpose(1, 2).flatten(2)
