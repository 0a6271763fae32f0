"""Targets of pretraining: a feature of the clean waveform and its quantiser, together the tokens to predict."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from marble.errors import MarbleError
from marble.pretraining.recipes import TargetSpec
from marble.pretraining.targets.features import CQTPatches, EncodecPatches, StackedMel
from marble.pretraining.targets.mel_rvq import MelRVQ
from marble.pretraining.targets.quantisers import FSQ, RandomProjection
from marble.registry import load_upstream
from marble.system.files import user_path
from marble.upstream import Upstream
from marble.upstreams.loading.saved import SavedUpstream
from marble.upstreams.loading.weights import fill, read_checkpoint
from marble.upstreams.nn.patches import OMAR_MEL, MelPatches, WaveformInput, WaveformPatches

QUANTISER_FILE = "quantiser.safetensors"


class Target(nn.Module):
    """A feature of `width` values and its tokens, each below `codes`, in float32 and without gradients.

    The feature is shifted and scaled by the buffers `mean` and `std`, ``Tensor[F]``: 0 and 1 unless the recipe measures them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, feature: Feature, quantiser: RandomProjection | FSQ | MelRVQ):
        super().__init__()
        self.feature = feature
        self.width = feature.width
        self.register_buffer("mean", torch.zeros(feature.width))
        self.register_buffer("std", torch.ones(feature.width))
        self.quantiser = quantiser.requires_grad_(False)
        self.codes, self.codebooks = quantiser.codes, quantiser.codebooks

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Return features ``Tensor[B, T, F]`` and tokens ``LongTensor[B, T, codebooks]`` of a waveform ``Tensor[B, N]``."""
        with torch.autocast(waveform.device.type, enabled=False):
            features = (self.feature(waveform) - self.mean) / self.std
            tokens = self.quantiser.tokens(features) if isinstance(self.quantiser, MelRVQ) else self.quantiser(features)
        return features, tokens


class Latents(nn.Module):
    """One layer ``Tensor[B, T, D]`` of a frozen upstream, which MuQ's iteration quantises."""

    def __init__(self, upstream: Upstream, layer: int):
        super().__init__()
        # In a list, so that its weights stay out of the checkpoints of its pupil.
        self._teacher = [upstream.eval().requires_grad_(False)]
        self.layer = layer
        self.sample_rate, self.hop = upstream.info.sample_rate, round(upstream.info.sample_rate / upstream.info.frame_rate)
        self.width = upstream.info.layers[layer].width

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Return ``Tensor[B, T, D]`` of a waveform ``Tensor[B, N]`` at the rate of the teacher."""
        (teacher,) = self._teacher
        with torch.autocast(waveform.device.type, enabled=False):
            layers = teacher.to(waveform.device).layers(waveform)
            return next(hidden for layer, hidden in enumerate(layers) if layer == self.layer).float()


Feature = StackedMel | MelPatches | CQTPatches | EncodecPatches | WaveformPatches | Latents


def make_target(spec: TargetSpec, upstream: SavedUpstream, seconds: float) -> Target:
    """Return the target of a recipe for an upstream, whose front end and rates the features share, and segments of `seconds`.

    Raises:
        MarbleError: a trained quantiser or a teacher is needed and not named, or does not fit.
    """
    feature = make_feature(spec, upstream, seconds)
    if spec.quantiser == "fsq":
        return Target(feature, FSQ(feature.width, spec.levels, spec.dimensions, spec.formula, spec.seed))
    if spec.quantiser == "random-projection":
        return Target(feature, RandomProjection(feature.width, spec.codes, spec.dimensions, spec.codebooks, spec.seed))
    if spec.weights is None:
        raise MarbleError(
            "This recipe predicts the tokens of a trained quantiser: train it (marble pretrain mel-rvq, or muq-iter-rvq for an "
            "iteration), and name the folder of its checkpoint with --set targets.0.weights=PATH."
        )
    quantiser = MelRVQ(feature.width, spec.codebooks, spec.codes, spec.dimensions)
    return Target(feature, load_quantiser(quantiser, spec.weights))


def load_quantiser(quantiser: MelRVQ, path: str) -> MelRVQ:
    """Fill a Mel-RVQ from a checkpoint of `marble pretrain mel-rvq`, or from the published ``RVQ_4000.pth``; return it.

    Raises:
        MarbleError: the file is missing, damaged, carries code, or does not fit.
    """
    file = user_path(path)
    file = file / QUANTISER_FILE if file.is_dir() else file
    if not file.is_file():
        raise MarbleError(f"There is no quantiser at {path}: name the folder of a checkpoint, or a file.")
    fill(quantiser, read_checkpoint(file), ())
    return quantiser.eval()


def make_feature(spec: TargetSpec, upstream: SavedUpstream, seconds: float) -> Feature:
    """Return the feature of a target at the rates of an upstream, of segments of `seconds`.

    Raises:
        MarbleError: there is no such feature at these rates, or no teacher is named, or it needs longer segments.
    """
    rate, hop = upstream.info.sample_rate, round(upstream.info.sample_rate / upstream.info.frame_rate)
    feature = _feature(spec, upstream, seconds, rate, hop)
    if (feature.sample_rate, feature.hop) != (rate, hop):
        raise MarbleError(
            f"The target {spec.feature} has a token for {feature.hop} samples at {feature.sample_rate} Hz, and "
            f"{upstream.info.name} a frame for {hop} at {rate} Hz: choose another targets.0.feature."
        )
    return feature


def check_length(seconds: float, upstream: Upstream) -> None:
    """Check that an upstream can encode segments of a length.

    Raises:
        MarbleError: they are too short.
    """
    if seconds < upstream.info.min_seconds:
        raise MarbleError(
            f"{upstream.info.name} encodes no less than {upstream.info.min_seconds:.3g} s, and a segment of the recipe has "
            f"{seconds:g} s: write a longer --set seconds."
        )


def _feature(spec: TargetSpec, upstream: SavedUpstream, seconds: float, rate: int, hop: int) -> Feature:
    statistics = spec.model_dump(include={"mean", "std"}, exclude_none=True)
    if statistics and spec.feature not in ("mel", "cqt", "waveform"):
        raise MarbleError(f"The target {spec.feature} has a mean and a std of its own: leave out those of the recipe.")
    if spec.feature == "stacked-mel":
        if upstream.front_end is None:
            raise MarbleError(f"{upstream.info.name} has no stacked mel of its own: choose another targets.0.feature.")
        return StackedMel(upstream.front_end.mean, upstream.front_end.std)
    if spec.feature == "latents":
        if spec.upstream is None:
            raise MarbleError("The teacher of an iteration is not named: write --set targets.0.upstream=PATH.")
        teacher = load_upstream(spec.upstream)
        check_length(seconds, teacher)
        return Latents(teacher, spec.layer)
    if spec.feature == "waveform":
        return WaveformPatches(WaveformInput(sample_rate=rate, samples=hop, **statistics))
    frame = 256 if rate == 16_000 else 320
    frames = max(1, hop // frame)
    if spec.feature == "mel":
        return MelPatches(OMAR_MEL.model_copy(update={"sample_rate": rate, "hop": frame, "frames": frames} | statistics))
    return CQTPatches(frames, **statistics) if spec.feature == "cqt" else EncodecPatches(frames)
