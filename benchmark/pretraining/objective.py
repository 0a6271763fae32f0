"""The objectives: prediction of tokens, and of the features themselves, at masked positions.

Conventions
-----------
- The encoder reads masked audio (`marble.pretraining.masking`); targets are computed from the clean waveform without
  gradients, in float32.
- Cross-entropy is the mean over masked tokens and codebooks; the regression of the Branchformer recipe (Section 3.3 of its
  paper) is the mean squared error over masked tokens and the dimensions of the feature (four stacked mel frames: 512), with
  weight 1, averaged over the features where there are several.
- Where `Recipe.unmasked` is not 0, unmasked tokens count as well, with that weight beside 1 for a masked one (Hsu
  et al. 2021, HuBERT, arXiv 2106.07447, Section II-B). Then every mean is a weighted one.
- `forward` returns weighted sums over the tokens of a batch, so that the mean over several batches or processes is exact.
- Only tokens that count reach the heads: logits are ``Tensor[M, codebooks, codes]`` with M of them.
- A frozen stem is as `marble.pretraining.calibration` leaves it: its batch norms do not learn either.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from marble.errors import MarbleError
from marble.pretraining.recipes import Recipe
from marble.pretraining.targets.mel_rvq import MelRVQ
from marble.pretraining.targets.target import QUANTISER_FILE, Target, check_length, make_feature, make_target
from marble.random_streams import stream_seed
from marble.upstreams.loading.saved import WEIGHTS, SavedUpstream


class Losses(NamedTuple):
    """Weighted sums over the tokens that count: the loss with its graph, the logged values without.

    Attributes:
        loss: a scalar, to be minimised.
        parts: name -> scalar; ``cross_entropy``, and ``regression`` where there is one.
        correct: weight of the tokens that were predicted, ``Tensor[codebooks]``, over all targets in order.
        counts: how often each code of each codebook was the target, ``Tensor[codes]`` for each codebook in order.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    correct: Tensor
    counts: list[Tensor]


class MaskedPrediction(nn.Module):
    """An upstream in training, its targets and its heads.

    A checkpoint saves the tensors below `prefix` to `file`. A segment has `samples` samples and `tokens` tokens.

    Raises:
        MarbleError: the recipe does not fit the upstream.
    """

    prefix, file = "upstream.", WEIGHTS

    def __init__(self, recipe: Recipe, upstream: SavedUpstream):
        super().__init__()
        assert recipe.mask is not None
        check_length(recipe.seconds, upstream)
        self.mask = recipe.mask.rule()
        self.on_patches = recipe.mask.domain == "patches"
        if self.on_patches and upstream.patches is None:
            raise MarbleError(f"{upstream.info.name} has no patches to mask: write --set mask.domain=waveform.")
        self.seed, self.unmasked, self.frozen_stem = recipe.seed, recipe.unmasked, recipe.frozen_stem
        if self.frozen_stem and upstream.stem is None:
            raise MarbleError(f"{upstream.info.name} has no stem to freeze: write --set frozen_stem=false.")
        self.upstream = upstream
        self.targets = nn.ModuleList(make_target(target, upstream, recipe.seconds) for target in recipe.targets)
        self.samples = round(recipe.seconds * upstream.info.sample_rate)
        silence = torch.zeros(1, self.samples, device="cpu")
        inputs = [] if upstream.patches is None else [upstream.patches]
        self.tokens = min(feature(silence).shape[1] for feature in inputs + [target.feature for target in self._targets()])
        width = upstream.info.layers[-1].width
        self.heads = nn.ModuleList(nn.Linear(width, target.codebooks * target.codes) for target in self._targets())
        self.regressions = nn.ModuleList(nn.Linear(width, target.width) for target in self._targets() if recipe.regression)
        if upstream.stem is not None:
            upstream.stem.requires_grad_(not self.frozen_stem)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all but a frozen stem, whose batch norms keep their statistics."""
        super().train(mode)
        if self.frozen_stem and self.upstream.stem is not None:
            self.upstream.stem.eval()
        return self

    def _targets(self) -> Iterator[Target]:
        return (target for target in self.targets if isinstance(target, Target))

    def draw_masks(self, numbers: list[int]) -> Tensor:
        """Return the masks ``BoolTensor[B, T]`` of segments by their numbers: the same in any batch and process."""
        return torch.cat([self.mask.draw(1, self.tokens, self._generator("mask", number)) for number in numbers])

    def token_weights(self, mask: Tensor) -> Tensor:
        """Return the weight of each token of masks ``BoolTensor[B, T]`` in the loss, ``float64[B, T]``."""
        return torch.where(mask, 1.0, torch.tensor(self.unmasked, dtype=torch.float64, device="cpu"))

    def _generator(self, purpose: str, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(stream_seed(purpose, self.seed, number))

    def forward(self, waveform: Tensor, mask: Tensor, numbers: list[int]) -> Losses:
        """Return the losses of waveforms ``Tensor[B, N]`` under masks ``BoolTensor[B, T]`` on the CPU."""
        weights = self.token_weights(mask).flatten()
        positions = weights.nonzero()[:, 0].to(waveform.device)
        weights = weights.to(waveform.device, torch.float32)[positions]

        def counted(x: Tensor) -> Tensor:
            """Return the rows of ``Tensor[B, T, …]`` whose tokens count."""
            return x[:, : mask.shape[1]].flatten(0, 1).index_select(0, positions)

        def total(x: Tensor) -> Tensor:
            """Return the weighted sum over rows."""
            # Not a matrix product, which autocast would compute, and round, in bfloat16.
            return (weights * x).sum(-1)

        hidden = counted(self._last_layer(waveform, mask, numbers)).float()
        correct, counts, entropies, features = [], [], [], []
        for target, head in zip(self._targets(), self.heads, strict=True):
            feature, tokens = map(counted, target(waveform))
            logits = head(hidden).float().unflatten(1, (target.codebooks, target.codes))
            entropy = functional.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none")
            entropies.append(total(entropy.view(tokens.shape).sum(1)))
            correct.append(total((logits.detach().argmax(2) == tokens).T))
            counts += _counts(tokens, target.codes)
            features.append(feature)
        parts = {"cross_entropy": torch.stack(entropies).sum() / len(counts)}
        errors = [
            total((regression(hidden).float() - feature).square().mean(1))
            for regression, feature in zip(self.regressions, features, strict=False)
        ]
        if errors:
            parts["regression"] = torch.stack(errors).mean()
        loss = torch.stack(list(parts.values())).sum()
        return Losses(loss, {name: part.detach() for name, part in parts.items()}, torch.cat(correct), counts)

    def _last_layer(self, waveform: Tensor, mask: Tensor, numbers: list[int]) -> Tensor:
        """Return the last layer ``Tensor[B, T, D]`` of the masked audio."""
        fills = [self._generator("fill", number) for number in numbers]
        if self.on_patches and self.upstream.patches is not None:
            patches = self.upstream.patches(waveform)
            rows = functional.pad(mask, (0, patches.shape[1] - mask.shape[1]))
            clips = map(self.mask.apply_patches, patches.split(1), rows.split(1), fills)
            *_, last = self.upstream.encode(torch.cat(list(clips)))
        else:
            samples = round(self.upstream.info.sample_rate / self.upstream.info.frame_rate)
            rows = zip(waveform.split(1), mask.split(1), fills, strict=True)
            clips = (self.mask.apply_waveform(clip, row, samples, fill) for clip, row, fill in rows)
            *_, last = self.upstream.layers(torch.cat(list(clips)))
        return last


class QuantiserTraining(nn.Module):
    """A Mel-RVQ in training on the feature of its recipe; every token counts. Otherwise as `MaskedPrediction`."""

    prefix, file = "quantiser.", QUANTISER_FILE

    def __init__(self, recipe: Recipe, upstream: SavedUpstream):
        super().__init__()
        (spec,) = recipe.targets
        self.feature = make_feature(spec, upstream, recipe.seconds)
        self.quantiser = MelRVQ(self.feature.width, spec.codebooks, spec.codes, spec.dimensions)
        self.samples = round(recipe.seconds * upstream.info.sample_rate)
        self.tokens = self.feature(torch.zeros(1, self.samples, device="cpu")).shape[1]

    def draw_masks(self, numbers: list[int]) -> Tensor:
        """Return ``BoolTensor[B, T]`` of ones."""
        return torch.ones(len(numbers), self.tokens, dtype=torch.bool)

    def token_weights(self, mask: Tensor) -> Tensor:
        """Return the weight of each token of masks ``BoolTensor[B, T]``, ``float64[B, T]``: 1."""
        return mask.double()

    def forward(self, waveform: Tensor, mask: Tensor, numbers: list[int]) -> Losses:
        """Return the losses of waveforms ``Tensor[B, N]``, each a mean times the number of tokens."""
        quantised = self.quantiser(self.feature(waveform))
        tokens = mask.sum().to(waveform.device)
        parts = {name: part.detach() * tokens for name, part in quantised.parts.items()}
        counts = _counts(quantised.codes.flatten(0, 1), self.quantiser.codes)
        return Losses(quantised.loss * tokens, parts, torch.zeros(0, device=waveform.device), counts)


Objective = MaskedPrediction | QuantiserTraining


def make_objective(recipe: Recipe, upstream: SavedUpstream) -> Objective:
    """Return the objective of a recipe.

    Raises:
        MarbleError: the recipe does not fit the upstream, or names no quantiser or teacher where one is needed.
    """
    return MaskedPrediction(recipe, upstream) if recipe.mask else QuantiserTraining(recipe, upstream)


def _counts(tokens: Tensor, codes: int) -> list[Tensor]:
    """Return how often each code occurs in tokens ``LongTensor[M, K]``, ``Tensor[codes]`` for each of the K codebooks."""
    # Unlike bincount, this does not wait for a GPU.
    zeros = torch.zeros(codes, dtype=torch.long, device=tokens.device)
    return [zeros.scatter_add(0, book, torch.ones_like(book)) for book in tokens.unbind(1)]
