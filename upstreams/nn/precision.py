"""Layers that know their precision, and what turns a trained module into one for inference.

Under ``bf16`` only the matrices (linear layers and convolutions) are bfloat16. They take their input in any type, so the
residual stream, norms, rotary angles and front ends around them stay float32; softmax is float32 inside torch's attention.
"""

from __future__ import annotations

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
