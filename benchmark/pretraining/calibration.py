"""Calibration on the data before the first step: statistics of the targets, and a stem that is not trained.

Conventions
-----------
- Clips are clean audio; statistics are over all their frames, in float64.
- `Recipe.standardise`: mean and std of every dimension of each feature. BEST-RQ asks for it, so that the random projection does
  not see the same few loud dimensions in every frame (Chiu et al. 2022, arXiv 2202.01855, Section 3.1).
- `Recipe.frozen_stem`: the convolutions stay as they were drawn, with batch norms that know the data; the linear after them
  becomes their leading principal components. So a few thousand steps cannot spoil the random convolutions (Chen et al.
  2021, arXiv 2104.02057, Section 4.2, freeze a random patch projection, against instability).
- The standard deviations of the components become their square roots, times one number: as they are, loudness drowns the rest;
  made equal, the blocks learn nothing for hundreds of steps. The root mean square over all dimensions is `STEM_STD`.
- A checkpoint holds all of it, so a resumed training measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from marble.pretraining.objective import MaskedPrediction
from marble.pretraining.targets.target import Target
from marble.upstreams.nn.stem import Stem

CLIPS = 64
STEM_STD = 2.0  # the output of the blocks soon covers a stream that begins much smaller


@torch.no_grad()
def calibrate(objective: MaskedPrediction, batches: Sequence[Tensor], *, standardise: bool) -> None:
    """Set the statistics of an objective from batches of clips, each ``Tensor[B, N]``."""
    for target in objective.targets if standardise else ():
        assert isinstance(target, Target)
        mean, covariance = _moments(target.feature(waveform) for waveform in batches)
        target.mean.copy_(mean)
        target.std.copy_(covariance.diagonal().sqrt().clamp_min(1e-3))
    stem, front_end = objective.upstream.stem, objective.upstream.front_end
    if objective.frozen_stem and stem is not None and front_end is not None:
        _calibrate_stem(stem, [front_end(waveform) for waveform in batches])


def _calibrate_stem(stem: Stem, mels: list[Tensor]) -> None:
    norms = [module for module in stem.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch then takes the mean over all batches
    stem.train()
    for mel in mels:
        stem(mel)
    stem.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    mean, covariance = _moments(_inputs(stem, mels))
    variances, directions = (part.flip(-1)[..., : stem.linear.out_features] for part in torch.linalg.eigh(covariance))
    roots = variances.clamp_min(1e-6).sqrt()
    weight = (directions * (STEM_STD * (roots * roots.mean()).rsqrt())).T
    stem.linear.weight.copy_(weight)
    assert stem.linear.bias is not None
    stem.linear.bias.copy_(-weight @ mean)


def _inputs(stem: Stem, mels: list[Tensor]) -> Iterable[Tensor]:
    """Yield the input of the linear of a stem for each spectrogram, ``Tensor[B, T, F]``."""
    inputs: list[Tensor] = []
    hook = stem.linear.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    try:
        for mel in mels:
            stem(mel)
            yield torch.cat([inputs.pop() for _ in range(len(inputs))])
    finally:
        hook.remove()


def _moments(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the mean ``float64[F]`` and the covariance ``float64[F, F]`` over all frames of features ``Tensor[B, T, F]``."""
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        x = batch.flatten(0, 1).double()
        count, total, products = count + len(x), total + x.sum(0), products + x.T @ x
    mean = total / count
    return mean, products / count - mean.outer(mean)
