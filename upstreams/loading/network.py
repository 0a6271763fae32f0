"""What upstreams with weights share: describing themselves, making ready for inference, finding published files."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import torch

from marble.errors import MarbleError, one_line
from marble.files import file_hash
from marble.upstream import Layer, Upstream
from marble.upstreams.loading.weights import HubFiles
from marble.upstreams.nn.precision import Foldable, cast_matrices


class NetworkUpstream(Upstream):
    """Base of the upstreams with weights; `settings` are the hashes or texts of what is configured beside the weights."""

    settings: tuple[str, ...] = ()

    def weights_hash(self) -> str:
        """Return the sha256 of the weights and of the settings beside them, which move numbers as well."""
        return hashlib.sha256("".join([super().weights_hash(), *self.settings]).encode()).hexdigest()

    def describe(self, first: str, depth: int, width: int) -> None:
        """Let `info` state the layers and parameters of this instance: `first` and `depth` blocks, all of one width."""
        parameters = sum(weight.numel() for weight in self.parameters())
        self.info = replace(self.info, layers=block_layers(first, depth, width), parameters=parameters)

    def prepare(self, device: str | torch.device, precision: str = "fp32") -> Self:
        """Make ready for inference on a device: fold batch norms, cast the matrices where `precision` is ``bf16``.

        On a GPU, ``fp32`` switches off TF32 for the whole process, whose ten-bit products are not float32.

        Raises:
            MarbleError: the upstream does not offer this precision.
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


class OfficialUpstream(NetworkUpstream):
    """Base of the upstreams whose official weights are on the Hugging Face hub; a subclass gives `hub` and `from_files`."""

    hub: ClassVar[HubFiles]

    @classmethod
    def load(cls, argument: str | None = None, *, offline: bool = False) -> Self:
        """Return the upstream with its official weights, from a file or folder, or else from the hub or its cache.

        Nobody has compared a file given by hand with the published one, so `info.source` names it.

        Raises:
            MarbleError: a file is missing, damaged, carries code, or does not fit.
        """
        paths = cls.hub.locate(argument, offline)
        try:
            upstream = cls.from_files(*paths)
        except (ValueError, IndexError, ArithmeticError, RuntimeError, RecursionError) as error:
            raise MarbleError(
                f"{paths[0]} is not a checkpoint of {cls.info.name} ({one_line(error)}): download it again."
            ) from error
        upstream.settings = tuple(file_hash(path) for path in paths[1:])
        if argument is not None:
            upstream.info = replace(upstream.info, source=f"{paths[0].absolute()}, given for {upstream.info.source}")
        return upstream

    @classmethod
    def from_files(cls, *paths: Path) -> Self:
        """Return the upstream from the files of `hub`, in their order; sizes are read from them.

        Raises:
            NotImplementedError: the subclass does not define it.
        """
        raise NotImplementedError(f"{cls.__name__} must define from_files.")


def block_layers(first: str, depth: int, width: int) -> tuple[Layer, ...]:
    """Return the layers of an upstream whose hidden states are `first` and `depth` blocks, all of one width."""
    return (Layer(first, width), *(Layer(f"block {k}", width) for k in range(1, depth + 1)))
