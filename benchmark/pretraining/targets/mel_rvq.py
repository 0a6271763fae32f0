"""Mel-RVQ: the trained tokeniser of MuQ (Zhu et al. 2025, arXiv 2501.01108), a stack of small quantisers of features.

Algorithm
---------
Each quantiser projects the residual of its predecessors (512 values) to 16, takes the code whose direction is nearest, and
projects the code back; the sum of all is the reconstruction. The encoder is a projection because music tokens need no more.

Conventions
-----------
- Both sides are scaled to unit length for the lookup alone; the vectors that are projected back, and that the losses compare,
  keep their lengths. The paper writes them normalised; the published weights were trained as in this module.
- ``loss = .25 commitment + codebook + reconstruction``; the first two are mean squares, summed over the quantisers, the last is
  the mean absolute error (the paper writes squares). Gradients pass the lookup straight through.
- A code that no token of `STALE_AFTER` successive training batches has chosen is replaced by the direction of a random token.
- Names and shapes of the tensors are those of the official files, which load into this module as they are.
- Recipe: batches of 32 five-second clips, Adam at 1e-4 without schedule; the published tokeniser is that of step 4000.
- MuQ's iteration trains the same module on latents of its first model instead: `width` is then theirs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

STALE_AFTER = 100
COMMITMENT = 0.25


class Quantised(NamedTuple):
    """Codes ``LongTensor[B, T, K]``, the reconstruction ``Tensor[B, T, F]``, the loss and its three parts by name."""

    codes: Tensor
    reconstruction: Tensor
    loss: Tensor
    parts: dict[str, Tensor]


class Projection(nn.Module):
    """A weight-normed 1 x 1 convolution as a linear map, in float32: ``x (g v / ‖v‖)ᵀ + bias``."""

    def __init__(self, width_in: int, width: int):
        super().__init__()
        linear = nn.Linear(width_in, width)
        self.bias = nn.Parameter(linear.bias.detach())
        self.weight_v = nn.Parameter(linear.weight.detach()[..., None])
        self.weight_g = nn.Parameter(self.weight_v.detach().norm(dim=1, keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``Tensor[..., width]`` of ``Tensor[..., width_in]``."""
        return functional.linear(x, (self.weight_g * functional.normalize(self.weight_v, dim=1))[..., 0], self.bias)


class Quantiser(nn.Module):
    """One stage: features to codes and back. `stale_counter` counts the batches since each code was last chosen."""

    stale_counter: Tensor

    def __init__(self, width: int, codes: int, dimensions: int):
        super().__init__()
        self.in_proj = Projection(width, dimensions)
        self.out_proj = Projection(dimensions, width)
        self.codebook = nn.Embedding(codes, dimensions)
        self.register_buffer("stale_counter", torch.zeros(codes))

    def forward(self, residual: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return codes ``LongTensor[B, T]``, their reconstruction ``Tensor[B, T, F]``, commitment and codebook loss."""
        encoded = self.in_proj(residual)
        directions = functional.normalize(encoded.detach(), dim=-1)
        codes = (directions @ functional.normalize(self.codebook.weight.detach(), dim=-1).t()).argmax(-1)
        chosen = self.codebook(codes)
        if self.training and torch.is_grad_enabled():  # without gradients it is no training batch
            self._replace_stale(codes, directions)
        explained = self.out_proj(encoded + (chosen - encoded).detach())
        return codes, explained, functional.mse_loss(encoded, chosen.detach()), functional.mse_loss(chosen, encoded.detach())

    @torch.no_grad()
    def _replace_stale(self, codes: Tensor, directions: Tensor) -> None:
        together = distributed.is_available() and distributed.is_initialized()
        used = torch.zeros_like(self.stale_counter)
        used[codes.flatten()] = 1
        if together:
            distributed.all_reduce(used, distributed.ReduceOp.MAX)
        self.stale_counter.add_(1).masked_fill_(used.bool(), 0)
        stale = self.stale_counter >= STALE_AFTER
        tokens = directions.flatten(0, -2)
        # Drawn for every code and on the CPU, so that the random stream is the same on any device, whatever is stale.
        order = torch.randperm(len(tokens), device="cpu").repeat(1 + len(used) // len(tokens))[: len(used)]
        fresh = tokens[order.to(tokens.device)]
        if together:
            distributed.broadcast(fresh, 0)
        self.codebook.weight.copy_(torch.where(stale[:, None], fresh, self.codebook.weight))
        self.stale_counter.masked_fill_(stale, 0)


class MelRVQ(nn.Module):
    """Residual vector quantiser of features of `width` values by `codebooks` books of `codes` codes each."""

    def __init__(self, width: int = 512, codebooks: int = 8, codes: int = 1024, dimensions: int = 16):
        super().__init__()
        self.codebooks = codebooks
        self.codes = codes
        self.quantizers = nn.ModuleList(Quantiser(width, codes, dimensions) for _ in range(codebooks))

    def forward(self, features: Tensor) -> Quantised:
        """Return codes, reconstruction and loss of features ``Tensor[B, T, F]``; in training, replace stale codes."""
        with torch.autocast(features.device.type, enabled=False):
            features = residual = features.float()
            codes, commitments, codebooks = [], [], []
            for quantiser in self.quantizers:
                code, explained, commitment, codebook = quantiser(residual)
                residual = residual - explained
                codes.append(code)
                commitments.append(commitment)
                codebooks.append(codebook)
            parts = {
                "commitment": torch.stack(commitments).sum(),
                "codebook": torch.stack(codebooks).sum(),
                "reconstruction": residual.abs().mean(),
            }
            loss = COMMITMENT * parts["commitment"] + parts["codebook"] + parts["reconstruction"]
        return Quantised(torch.stack(codes, dim=-1), features - residual, loss, parts)

    @torch.no_grad()
    def tokens(self, features: Tensor) -> Tensor:
        """Return the codes ``LongTensor[B, T, K]`` of features ``Tensor[B, T, F]`` and change nothing."""
        return self(features).codes
