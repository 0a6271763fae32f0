"""The base of every upstream with weights: its description, and its preparation for inference."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Self

import torch

from marble.upstream import Layer, Upstream, UpstreamInfo
from marble.upstreams.nn.precision import Foldable, cast_matrices


class NetworkUpstream(Upstream):
    """Base of the upstreams with weights.

    Attributes:
        settings: texts or hashes of the configuration beside the weights, which changes numbers as well.
    """

    settings: tuple[str, ...] = ()

    def weights_hash(self) -> str:
        """Return the sha256 of the weights and of the settings beside them."""
        return hashlib.sha256("".join([super().weights_hash(), *self.settings]).encode()).hexdigest()

    def count(self, first: str, depth: int, width: int) -> None:
        """Set layers and parameters of `info` to those of this instance: `first` and `depth` blocks, all of one width."""
        parameters = sum(weight.numel() for weight in self.parameters())
        self.info = replace(self.info, layers=block_layers(first, depth, width), parameters=parameters)

    def attribute_to(self, info: UpstreamInfo) -> Self:
        """Copy name, version and origin from another `info`, keep the counted values, and return self."""
        facts = ("name", "version", "licence", "training_data", "trained_on", "paper", "source")
        self.info = replace(self.info, **{fact: getattr(info, fact) for fact in facts})
        return self

    def prepare(self, device: str | torch.device, precision: str = "fp32") -> Self:
        """Make ready for inference on a device: fold batch norms, cast the matrices where `precision` is ``bf16``.

        On a GPU, ``fp32`` switches off TF32, whose ten-bit products are not float32, for the whole process.

        Raises:
            MarbleError: the upstream does not offer this precision, or was prepared in another.
        """
        super().prepare(device, precision)
        for module in self.modules():
            if isinstance(module, Foldable):
                module.fold()
        if precision == "bf16":
            cast_matrices(self, torch.bfloat16)
        elif torch.device(device).type == "cuda":
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
        return self


def block_layers(first: str, depth: int, width: int) -> tuple[Layer, ...]:
    """Return the layers of an upstream whose hidden states are `first` and `depth` blocks, all of one width."""
    return (Layer(first, width), *(Layer(f"block {k}", width) for k in range(1, depth + 1)))
