"""OMAR-RQ (Alonso-Jiménez et al. 2025, arXiv 2507.03482): five Conformers that predicted codes of masked audio.

Conventions
-----------
- Layer 0 is the linear embedding of the patches, layers 1 to 24 the block outputs (official block index i is layer i + 1).
- Two inputs: patches of 4 frames of a 96-band log-mel spectrogram at 16 kHz, flattened band by band; or patches of 1280 or 960
  samples at 24 kHz, normalised where the configuration says so. A trailing incomplete patch is dropped.
- Attention is *causal*: the first frames of a window know little. The depthwise convolution is not, and spans 31 frames
  although the configuration says 5. Feed-forwards count four times; only the attention has DeepNorm.
- Rotary positions are exact (float32), as in the official inference code; training ran under bfloat16, which rounds them.
- The models saw audio band-limited to 8 kHz, at 24 kHz too.
- Settings come from the ``config.gin`` of the checkpoint, sizes from its tensors; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from marble.errors import MarbleError
from marble.upstream import UpstreamInfo
from marble.upstreams.gin import read_gin
from marble.upstreams.nn.conformer import ConformerBlock, ConformerSizes, ConformerStyle
from marble.upstreams.nn.mel import LogMel
from marble.upstreams.nn.precision import Linear
from marble.upstreams.nn.rotary import rotary_table
from marble.upstreams.official import OfficialUpstream, block_layers
from marble.upstreams.weights import Checkpoint, HubFiles, Settings, fill, read_checkpoint

LICENCE = "CC-BY-NC-SA-4.0 (weights)"
SIZES = ConformerSizes(width=1024, depth=24, heads=8, hidden=4096)
STYLE = ConformerStyle(
    rotate_input=False,
    pairing="interleaved",
    causal=True,
    activation=functional.gelu,
    feed_forward_factor=4.0,
    deepnorm=(2 * SIZES.depth) ** 0.25,
    attention_bias=False,
    convolution_bias=True,
    branch_eps=6.1e-5,
)

NAMES = (
    ("embedding_layer.", "embedding."),
    ("net.layers.", "blocks."),
    (".ff1.module.0.", ".feed_forward1.norm."),
    (".ff1.module.1.", ".feed_forward1.up."),
    (".ff1.module.4.", ".feed_forward1.down."),
    (".ff2.module.0.", ".feed_forward2.norm."),
    (".ff2.module.1.", ".feed_forward2.up."),
    (".ff2.module.4.", ".feed_forward2.down."),
    (".attention.proj.", ".attention.out."),
    (".norm1.layer_norm.", ".attention.norm."),
    (".conv_block.layer_norm.", ".convolution.norm."),
    (".conv_block.module.0.", ".convolution.expand."),
    (".conv_block.module.2.", ".convolution.depthwise."),
    (".conv_block.module.3.", ".convolution.batch_norm."),
    (".conv_block.module.5.", ".convolution.project."),
    (".norm2.", ".norm."),
)

IGNORED = (r"blocks\.\d+\.attention\.rotary_emb\.freqs$",)  # rotary frequencies, recomputed


class MelPatches(nn.Module):
    """Patches of log-mel frames, ``Tensor[B, T, bands * frames]``, each flattened band by band."""

    def __init__(self, sample_rate: int, size: int, hop: int, bands: int, frames: int, mean: float, std: float):
        super().__init__()
        self.mel = LogMel(sample_rate, size, hop, bands, mean, std)
        self.frames = frames
        self.sample_rate = sample_rate
        self.hop = hop * frames
        # Patches of k frames need (k - 1) hops, and the reflected edges more than half a window.
        self.min_samples = max((frames - 1) * hop, size // 2 + 1)
        self.first_centre = (frames - 1) / 2 * hop
        self.width = bands * frames

    def forward(self, waveform: Tensor) -> Tensor:
        """Return ``Tensor[B, T, bands * frames]`` of a waveform ``Tensor[B, N]``."""
        patches = self.mel(waveform).unfold(2, self.frames, self.frames)
        return patches.transpose(1, 2).flatten(2)


class WaveformPatches(nn.Module):
    """Patches of samples, ``Tensor[B, T, samples]``, normalised as ``(x - mean) / std``."""

    def __init__(self, sample_rate: int, samples: int, mean: float = 0.0, std: float = 1.0):
        super().__init__()
        self.sample_rate = sample_rate
        self.hop = self.min_samples = self.width = samples
        self.first_centre = (samples - 1) / 2
        self.mean = mean
        self.std = std

    def forward(self, waveform: Tensor) -> Tensor:
        """Return ``Tensor[B, T, samples]`` of a waveform ``Tensor[B, N]``."""
        return ((waveform.float() - self.mean) / self.std).unfold(1, self.hop, self.hop)


class OmarRQ(OfficialUpstream):
    """Base of the five published models; a subclass gives the front end of its model as `published_patches`."""

    published_patches: ClassVar[Callable[[], MelPatches | WaveformPatches]]

    def __init__(self, patches: MelPatches | WaveformPatches, sizes: ConformerSizes, style: ConformerStyle):
        super().__init__()
        self.patches = patches
        self.embedding = Linear(patches.width, sizes.width)
        self.blocks = nn.ModuleList(ConformerBlock(sizes, style) for _ in range(sizes.depth))
        self.head = sizes.width // sizes.heads
        self.describe("embedding", sizes.depth, sizes.width)

    @classmethod
    def from_files(cls, *paths: Path) -> Self:
        """Return the upstream from ``model.ckpt`` and ``config.gin``."""
        weights, config = paths
        return cls.from_checkpoint(read_checkpoint(weights), read_gin(config))

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, settings: Settings) -> Self:
        """Return the upstream with official weights; sizes are read from the tensors, the rest from the settings."""
        named = _ours(checkpoint)
        hidden, width = named["blocks.0.feed_forward1.up.weight"].shape
        settings.demand(**{"Conformer.use_rope": True, "Conformer.use_deepnorm": True, "Conformer.embed_dim": width})
        alpha, factor = settings.numbers("Conformer.alpha_deepnorm", "Conformer.mlp_residual_factor")
        sizes = ConformerSizes(
            width=width,
            depth=named.depth("blocks."),
            heads=settings.heads("Conformer.num_heads", width),
            hidden=hidden,
            kernel=named["blocks.0.convolution.depthwise.weight"].shape[-1],
        )
        patches = _patches(settings, named["embedding.weight"].shape[1])
        rates = patches.sample_rate, patches.sample_rate / patches.hop
        if rates != (cls.info.sample_rate, cls.info.frame_rate):
            raise MarbleError(
                f"{settings.path} is not {cls.info.name}: it gives {rates[1]} frames a second at {rates[0]} Hz instead of "
                f"{cls.info.frame_rate} at {cls.info.sample_rate} Hz; use the upstream with the name of its repository."
            )
        with torch.device("meta"):
            upstream = cls(patches, sizes, replace(STYLE, feed_forward_factor=factor, deepnorm=alpha))
        fill(upstream, named, IGNORED)
        return upstream

    @classmethod
    def random(cls) -> Self:
        """Return the full-size architecture as torch initialises it, from torch's current random state."""
        return cls(cls.published_patches(), SIZES, STYLE)

    def layers(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield embedding and blocks of a waveform ``Tensor[B, N]``, each ``Tensor[B, T, D]`` in float32."""
        x = self.embedding(self.patches(waveform)).float()
        yield x
        table = rotary_table(x.shape[1], self.head, x.device)
        for block in self.blocks:
            x = block(x, table)
            yield x

    def frame_times(self, frames: int) -> Tensor:
        """Return the centres of the first `frames` patches in seconds, ``Tensor[frames]`` in float64."""
        centres = self.patches.first_centre + self.patches.hop * torch.arange(frames, dtype=torch.float64)
        return centres / self.patches.sample_rate


def _ours(checkpoint: Checkpoint) -> Checkpoint:
    """Return the tensors under our names, the joint query-key-value projection cut in three."""
    named = checkpoint.renamed(NAMES).with_pointwise_as_linear()
    for block in range(named.depth("blocks.")):
        joint = named[f"blocks.{block}.attention.qkv.weight"]
        for part, weight in zip(("query", "key", "value"), joint.chunk(3), strict=True):
            named[f"blocks.{block}.attention.{part}.weight"] = weight.contiguous()
        del named[f"blocks.{block}.attention.qkv.weight"]
    return named


def _patches(settings: Settings, width: int) -> MelPatches | WaveformPatches:
    """Return the front end that the settings name; `width` is that of a patch."""
    source = settings.get("MaskingModel.input_representation") or settings["build_module.representation"]
    kind = str(source).rpartition(".")[2]
    if kind == "MelSpectrogram":
        settings.demand(**{"MelSpectrogram.mel_scale": "slaney", "MelSpectrogram.norm": "slaney", "MelSpectrogram.power": 2})
        names = ("sr", "win_len", "hop_len", "n_mel", "norm_mean", "norm_std")
        rate, size, hop, bands, mean, std = settings.numbers(*(f"MelSpectrogram.{name}" for name in names))
        return MelPatches(int(rate), int(size), int(hop), int(bands), width // int(bands), mean, std)
    if kind == "Waveform":
        (rate,) = settings.numbers("Waveform.sr")
        if settings["Waveform.norm_mean"] is None or settings["Waveform.norm_std"] is None:
            return WaveformPatches(int(rate), width)
        return WaveformPatches(int(rate), width, *settings.numbers("Waveform.norm_mean", "Waveform.norm_std"))
    raise MarbleError(f"{settings.path} names the input {source}, but marble implements MelSpectrogram and Waveform only.")


def _mel_patches() -> MelPatches:
    """Return the front end of the two published models with mel input."""
    return MelPatches(16_000, size=512, hop=256, bands=96, frames=4, mean=2.06755686098554, std=1.268292820667291)


def _info(name: str, patches: MelPatches | WaveformPatches, parameters: int) -> UpstreamInfo:
    return UpstreamInfo(
        name=name,
        version=1,
        sample_rate=patches.sample_rate,
        frame_rate=patches.sample_rate / patches.hop,
        layers=block_layers("embedding", SIZES.depth, SIZES.width),
        parameters=parameters,
        licence=LICENCE,
        training_data="330 000 h of music (6.6 M YouTube tracks matched with Discogs), 30 s clips",
        paper="Alonso-Jiménez et al. 2025, OMAR-RQ: Open Music Audio Representation Model Trained with Multi-Feature "
        "Masked Token Prediction (arXiv 2507.03482)",
        source=f"https://huggingface.co/mtg-upf/{name}",
        max_seconds=30.0,
        min_seconds=patches.min_samples / patches.sample_rate,
        precisions=("fp32", "bf16"),
    )


def _hub(name: str) -> HubFiles:
    # No commit or checksum of these repositories is published anywhere: their current state is taken.
    return HubFiles(name, f"mtg-upf/{name}", "main", LICENCE, {"model.ckpt": None, "config.gin": None})


class OmarRQBase(OmarRQ):
    """Mel input, targets of one codebook: 25 layers of width 1024 at 15.625 Hz."""

    published_patches = staticmethod(_mel_patches)
    info = _info("omar-rq-base", _mel_patches(), 580_633_600)
    hub = _hub(info.name)


class OmarRQMulticodebook(OmarRQ):
    """Mel input, targets of four codebooks: 25 layers of width 1024 at 15.625 Hz."""

    published_patches = staticmethod(_mel_patches)
    info = _info("omar-rq-multicodebook", _mel_patches(), 580_633_600)
    hub = _hub(info.name)


class OmarRQMultifeature(OmarRQ):
    """Waveform input, targets of four features: 25 layers of width 1024 at 18.75 Hz."""

    published_patches = partial(WaveformPatches, 24_000, 1280)
    info = _info("omar-rq-multifeature", published_patches(), 581_551_104)
    hub = _hub(info.name)


class OmarRQMultifeature25Hz(OmarRQ):
    """Waveform input, targets of four features: 25 layers of width 1024 at 25 Hz."""

    published_patches = partial(WaveformPatches, 24_000, 960)
    info = _info("omar-rq-multifeature-25hz", published_patches(), 581_223_424)
    hub = _hub(info.name)


class OmarRQMultifeature25HzFSQ(OmarRQ):
    """Waveform input, targets of four features by finite scalar quantisation: 25 layers of width 1024 at 25 Hz."""

    published_patches = partial(WaveformPatches, 24_000, 960, mean=0.0, std=0.1908563740990311)
    info = _info("omar-rq-multifeature-25hz-fsq", published_patches(), 581_223_424)
    hub = _hub(info.name)
