"""Branchformer and Conformer with attention or SummaryMixing, as pretrained by marble itself (arXiv 2307.07421, 2207.02971).

Conventions
-----------
- 24 kHz, 128 mel bands in decibels at 100 Hz, the convolution stem of MusicFM, 25 frames a second: frame k is centred on
  sample 960 k. Mean and std of the decibels belong to the configuration.
- Layer 0 is the input of the first block, layers 1 to L - 1 are block outputs, layer L is the last one under a layer norm.
- Attention turns the *projected* queries and keys by the rotary angles; SummaryMixing has no positions of its own.
- MuQ and MusicFM are Conformers of this kind, but for attention that turns its input: `marble.upstreams.mel_conformer`.
- `CONFIGS` holds the sizes of the music-SummaryMixing paper as far as its six parameter counts fix them: 60, 187 and 164 M for
  the Branchformers (here 60.05, 187.47, 164.67 M), 95, 330 and 302 M for the Conformers (93.79, 324.73, 301.93 M). The paper
  does not print them. Its Conformers reach their counts only with the positional convolution of wav2vec 2.0 (8.4 M), which
  the usual implementation builds beside rotary positions and never calls. Here it is called, before the first block, since a
  weight that is counted should work; ``positional_convolution=False`` leaves it out.
- The sizes called ``tiny`` are marble's own, for a laptop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from marble.upstream import UpstreamInfo
from marble.upstreams.loading.network import block_layers
from marble.upstreams.loading.saved import SavedUpstream
from marble.upstreams.nn.branchformer import BranchformerBlock
from marble.upstreams.nn.conformer import WAV2VEC2_STYLE, ConformerBlock, ConformerSizes
from marble.upstreams.nn.hubert import PositionalConvolution
from marble.upstreams.nn.mel import DecibelMel
from marble.upstreams.nn.precision import LayerNorm
from marble.upstreams.nn.rotary import rotary_table
from marble.upstreams.nn.stem import Stem
from marble.upstreams.nn.summary_mixing import SummarySizes

BANDS = 128
MIN_SECONDS = 1025 / 24_000  # below this the reflected edges of the spectrogram do not exist
MSD_MEAN, MSD_STD = 6.768444971712967, 18.417922652295623  # dB, of the Million Song Dataset (MusicFM's msd_stats.json)
FMA_MEAN, FMA_STD = 3.0710578151459664, 20.999089814337626  # dB, of the Free Music Archive (MusicFM's fma_stats.json)
_POSITION_KERNEL, _POSITION_GROUPS = 128, 16  # as in wav2vec 2.0

Size = Annotated[int, Field(gt=0)]


class InHouseConfig(BaseModel):
    """Everything that shapes an in-house upstream.

    Attributes:
        family, mixer: the block, and what lets its frames see each other.
        width, depth: of the residual stream, and number of blocks.
        heads: of the attention.
        hidden: units of the cgMLP of a Branchformer, width of the feed-forwards of a Conformer.
        channels: of the convolution stem.
        kernel: taps of the depthwise convolutions.
        rotate_input: whether attention turns the *input* of the query and key projections by the rotary angles.
        linear_after_conv: whether the gate of the cgMLP has a linear after its convolution.
        positional_convolution: whether positions are added before the first block.
        summary_heads, local, summary: heads of SummaryMixing, and (hidden, output) widths of its two transformations.
        dropout: in training.
        mean, std: of the decibels of the training data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    family: Literal["branchformer", "conformer"]
    mixer: Literal["attention", "summarymixing", "summarymixing-lite"]
    width: Size
    depth: Size
    heads: Size
    hidden: Size
    channels: Size
    kernel: Size = 31
    rotate_input: bool = False
    linear_after_conv: bool = True
    positional_convolution: bool = False
    summary_heads: Size = 4
    local: tuple[Size, Size] = (512, 512)
    summary: tuple[Size, Size] = (1024, 1024)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    mean: float = MSD_MEAN
    std: Annotated[float, Field(gt=0)] = MSD_STD

    @model_validator(mode="after")
    def _divide(self) -> Self:
        _ = self.sizes  # which raises where they are impossible
        if self.hidden % 2:
            raise ValueError("hidden must be even")
        if self.positional_convolution and self.width % _POSITION_GROUPS:
            raise ValueError(f"width must be a multiple of {_POSITION_GROUPS} for a positional convolution")
        if self.mixer != "attention" and any(n % self.summary_heads for n in (self.width, *self.local, *self.summary)):
            raise ValueError("width, local and summary must be multiples of summary_heads")
        if self.mixer != "attention" and self.summary[1] != self.width:
            raise ValueError("the output of summary must be as wide as the stream")
        return self

    @property
    def sizes(self) -> ConformerSizes:
        """The sizes of a block."""
        return ConformerSizes(self.width, self.depth, self.heads, self.hidden, self.kernel)

    @property
    def min_seconds(self) -> float:
        """Shortest waveform that can be encoded: the convolution of a Branchformer reflects half of its kernel."""
        frames = self.kernel // 2 + 1 if self.family == "branchformer" else 1
        return max((4 * frames - 3) / 100, MIN_SECONDS)


_ATTENTION, _SUMMARY = {"mixer": "attention"}, {"mixer": "summarymixing"}
_BRANCHFORMER = {"family": "branchformer", "heads": 8, "hidden": 3072, "channels": 512}
_CONFORMER = {"family": "conformer", "heads": 16, "hidden": 4096, "channels": 512, "positional_convolution": True}
_OFFICIAL = {"family": "conformer", "mixer": "attention", "heads": 16, "hidden": 4096, "channels": 512, "rotate_input": True}
_SMALL = {"width": 768, "depth": 4}
_LARGE = {"width": 1024, "depth": 12}
_TINY = {
    "width": 160,
    "depth": 6,
    "heads": 4,
    "channels": 16,
    "hidden": 480,
    "linear_after_conv": False,
    "local": (160, 160),
    "summary": (160, 160),
    "dropout": 0.0,
}
_SIZES = {
    "branchformer-attention-tiny": _BRANCHFORMER | _ATTENTION | _TINY,
    "branchformer-attention-small": _BRANCHFORMER | _ATTENTION | _SMALL,
    "branchformer-attention-large": _BRANCHFORMER | _ATTENTION | _LARGE,
    "branchformer-summarymixing-tiny": _BRANCHFORMER | _SUMMARY | _TINY,
    "branchformer-summarymixing-large": _BRANCHFORMER | _SUMMARY | _LARGE,
    "conformer-attention-tiny": _CONFORMER | _ATTENTION | _TINY,
    "conformer-attention-small": _CONFORMER | _ATTENTION | _SMALL,
    "conformer-attention-large": _CONFORMER | _ATTENTION | _LARGE,
    "conformer-summarymixing-tiny": _CONFORMER | _SUMMARY | _TINY,
    "conformer-summarymixing-large": _CONFORMER | _SUMMARY | _LARGE,
    "muq": _OFFICIAL | _LARGE,
    "muq-tiny": _OFFICIAL | _TINY,
    "musicfm-msd": _OFFICIAL | _LARGE,
    "musicfm-fma": _OFFICIAL | _LARGE | {"mean": FMA_MEAN, "std": FMA_STD},
    "musicfm-tiny": _OFFICIAL | _TINY,
}
CONFIGS = {name: InHouseConfig.model_validate(sizes) for name, sizes in _SIZES.items()}

# Where the architectures are described, by the first word of their names.
PAPERS = dict.fromkeys(
    ("branchformer", "conformer"),
    "Vavaroutsos et al. 2025, Linear Complexity Self-Supervised Learning for Music Understanding with Random Quantizer",
) | {
    "muq": "Zhu et al. 2025, MuQ: Self-Supervised Music Representation Learning with Mel Residual Vector Quantization "
    "(arXiv 2501.01108)",
    "musicfm": "Won et al. 2023, A Foundation Model for Music Informatics (arXiv 2311.03318)",
}


class InHouse(SavedUpstream):
    """An upstream of a configuration, weights as torch initialises them, ready to be trained or to be given weights.

    A subclass gives the `info` of one of `CONFIGS`.
    """

    architecture = "in-house"
    config: InHouseConfig  # ty: ignore[incompatible-mutable-override]
    info = UpstreamInfo(
        name="in-house",
        version=1,
        sample_rate=24_000,
        frame_rate=25.0,
        layers=(),
        parameters=0,
        licence="that of the weights",
        training_data="that of the weights",
        paper="that of the recipe",
        source="marble pretrain",
        max_seconds=30.0,
        precisions=("fp32", "bf16"),
    )

    def __init__(self, name: str, config: InHouseConfig):
        super().__init__()
        self.config = config
        self.settings = (config.model_dump_json(),)
        paper = PAPERS.get(name.partition("-")[0], self.info.paper)
        self.info = replace(self.info, name=name, min_seconds=config.min_seconds, paper=paper)
        sizes = config.sizes
        style = replace(WAV2VEC2_STYLE, rotate_input=config.rotate_input, dropout=config.dropout)
        summary = None
        if config.mixer != "attention":
            lite = config.mixer == "summarymixing-lite"
            summary = SummarySizes(config.summary_heads, *config.local, *config.summary, lite)

        def block() -> BranchformerBlock | ConformerBlock:
            """Return a block of the family."""
            if config.family == "conformer":
                return ConformerBlock(sizes, style, summary)
            return BranchformerBlock(sizes, style, summary, config.linear_after_conv)

        self.front_end = DecibelMel(config.mean, config.std)
        self.stem = Stem(BANDS, config.channels, config.width)
        self.positions = (
            PositionalConvolution(config.width, _POSITION_KERNEL, _POSITION_GROUPS) if config.positional_convolution else None
        )
        self.blocks = nn.ModuleList(block() for _ in range(config.depth))
        self.norm = LayerNorm(config.width)
        self.head_width = config.width // config.heads
        self.describe("stem", config.depth, config.width)

    @classmethod
    def from_config(cls, name: str, config: Mapping[str, Any]) -> Self:
        """Return the architecture of a configuration, weights as torch draws them; pydantic's error where it is invalid."""
        return cls(name, InHouseConfig.model_validate(config))

    @classmethod
    def load(cls, argument: str | None = None, *, offline: bool = False) -> Self:
        """Return the upstream saved in a folder, or the one that marble ships.

        Raises:
            MarbleError: there are no weights, or they are damaged or those of another upstream.
        """
        return cls.trained(argument)

    @classmethod
    def random(cls) -> Self:
        """Return the upstream as torch initialises it, from torch's current random state."""
        return cls(cls.info.name, CONFIGS[cls.info.name])

    def layers(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield the input and the outputs of the blocks for a waveform ``Tensor[B, N]``, each ``Tensor[B, T, D]``."""
        x = self.stem(self.front_end(waveform))
        if self.positions is not None:
            x = x + self.positions(x)
        yield x
        table = rotary_table(x.shape[1], self.head_width, x.device)
        for block in self.blocks[:-1]:
            x = block(x, table)
            yield x
        yield self.norm(self.blocks[-1](x, table))

    def prepare(self, device: str | torch.device, precision: str = "fp32") -> Self:
        """Make ready for inference, the stem in the order that suits the device."""
        super().prepare(device, precision)
        self.stem.prepare(torch.device(device))
        return self


def _info(name: str, parameters: int) -> UpstreamInfo:
    """Return what is known about one of `CONFIGS`."""
    config = CONFIGS[name]
    layers = block_layers("stem", config.depth, config.width)
    about = {"name": name, "layers": layers, "parameters": parameters, "paper": PAPERS[name.partition("-")[0]]}
    return replace(InHouse.info, min_seconds=config.min_seconds, **about)


class BranchformerAttentionTiny(InHouse):
    """Branchformer with attention, 7 layers of width 160."""

    info = _info("branchformer-attention-tiny", 1_766_432)


class BranchformerAttentionSmall(InHouse):
    """Branchformer with attention, 5 layers of width 768."""

    info = _info("branchformer-attention-small", 60_047_616)


class BranchformerAttentionLarge(InHouse):
    """Branchformer with attention, 13 layers of width 1024."""

    info = _info("branchformer-attention-large", 187_472_896)


class BranchformerSummaryMixingTiny(InHouse):
    """Branchformer with SummaryMixing, 7 layers of width 160; marble ships it trained (``results/pretraining``)."""

    info = replace(
        _info("branchformer-summarymixing-tiny", 1_613_792),
        licence="MIT",
        training_data="music that marble composes and renders (synth)",
        source="shipped with marble",
    )


class BranchformerSummaryMixingLarge(InHouse):
    """Branchformer with SummaryMixing, 13 layers of width 1024."""

    info = _info("branchformer-summarymixing-large", 164_666_368)


class ConformerAttentionTiny(InHouse):
    """Conformer with attention, 7 layers of width 160."""

    info = _info("conformer-attention-tiny", 3_268_352)


class ConformerAttentionSmall(InHouse):
    """Conformer with attention, 5 layers of width 768."""

    info = _info("conformer-attention-small", 93_790_208)


class ConformerAttentionLarge(InHouse):
    """Conformer with attention, 13 layers of width 1024."""

    info = _info("conformer-attention-large", 324_732_928)


class ConformerSummaryMixingTiny(InHouse):
    """Conformer with SummaryMixing, 7 layers of width 160."""

    info = _info("conformer-summarymixing-tiny", 3_115_712)


class ConformerSummaryMixingLarge(InHouse):
    """Conformer with SummaryMixing, 13 layers of width 1024."""

    info = _info("conformer-summarymixing-large", 301_926_400)


class MuQTiny(InHouse):
    """The architecture of MuQ, 7 layers of width 160."""

    info = _info("muq-tiny", 3_063_392)


class MusicFMTiny(InHouse):
    """The architecture of MusicFM, 7 layers of width 160."""

    info = _info("musicfm-tiny", 3_063_392)
