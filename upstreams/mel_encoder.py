"""Branchformer and Conformer with attention or SummaryMixing, as pretrained by marble itself (arXiv 2307.07421, 2207.02971).

Conventions
-----------
- 24 kHz, 128 mel bands in decibels at 100 Hz, the convolution stem of MusicFM, 25 frames a second: frame k is centred on
  sample 960 k. Mean and std of the decibels belong to the configuration.
- Layer 0 is the input of the first block, layers 1 to L - 1 are block outputs, layer L is the last one under a layer norm,
  whose eps is that of speechbrain (1e-6) after Branchformer blocks and that of transformers (1e-5) after Conformer blocks.
- Attention turns the *projected* queries and keys by the rotary angles; SummaryMixing has no positions of its own.
- MuQ and MusicFM are Conformers of this kind, but for attention that turns its input (`marble.upstreams.musicfm`).
- `CONFIGS` holds the sizes of `marble.upstreams.sizes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from marble.upstream import UpstreamInfo
from marble.upstreams.loading.saved import SavedUpstream, Trained
from marble.upstreams.loading.weights import MOST_BLOCKS, MOST_UNITS
from marble.upstreams.nn.branchformer import BranchformerBlock
from marble.upstreams.nn.conformer import WAV2VEC2_STYLE, ConformerBlock, ConformerSizes
from marble.upstreams.nn.hubert import PositionalConvolution
from marble.upstreams.nn.mel import DecibelMel
from marble.upstreams.nn.precision import LayerNorm
from marble.upstreams.nn.rotary import rotary_table
from marble.upstreams.nn.stem import Stem
from marble.upstreams.nn.summary_mixing import SummarySizes
from marble.upstreams.sizes import IN_HOUSE, MSD_MEAN, MSD_STD, SIZES

BANDS = 128
MIN_SECONDS = 1025 / 24_000  # below this the reflected edges of the spectrogram do not exist
_POSITION_KERNEL, _POSITION_GROUPS = 128, 16  # as in wav2vec 2.0

Size = Annotated[int, Field(gt=0, le=MOST_UNITS)]
Depth = Annotated[int, Field(gt=0, le=MOST_BLOCKS)]


class InHouseConfig(BaseModel):
    """Everything that shapes an in-house upstream.

    Attributes:
        family, mixer: the block, and the part of it that mixes frames.
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
    depth: Depth
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
        _ = self.sizes  # raises a ValueError if they are impossible
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


CONFIGS = {name: InHouseConfig.model_validate(sizes) for name, sizes in SIZES.items()}

# The papers of the architectures, by the first word of their names.
PAPERS = dict.fromkeys(
    ("branchformer", "conformer"),
    "Vavaroutsos et al. 2025, Linear Complexity Self-Supervised Learning for Music Understanding with Random Quantizer",
) | {
    "muq": "Zhu et al. 2025, MuQ: Self-Supervised Music Representation Learning with Mel Residual Vector Quantization "
    "(arXiv 2501.01108)",
    "musicfm": "Won et al. 2023, A Foundation Model for Music Informatics (arXiv 2311.03318)",
}


class InHouse(SavedUpstream):
    """An upstream of a configuration, with weights as torch initialises them, to be trained or replaced."""

    architecture = "in-house"
    front_end: DecibelMel  # ty: ignore[incompatible-mutable-override]
    stem: Stem  # ty: ignore[incompatible-mutable-override]
    config: InHouseConfig  # ty: ignore[incompatible-mutable-override]
    info = UpstreamInfo(
        name="in-house",
        sample_rate=24_000,
        frame_rate=25.0,
        layers=(),
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
        eps, version = (1e-6, 2) if config.family == "branchformer" else (1e-5, 1)
        self.info = replace(self.info, name=name, version=version, min_seconds=config.min_seconds, paper=paper)
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
        self.norm = LayerNorm(config.width, eps=eps)
        self.head_width = config.width // config.heads
        self.count("stem", config.depth, config.width)

    @classmethod
    def from_config(cls, name: str, config: Mapping[str, Any]) -> Self:
        """Return the architecture of a configuration, weights as torch draws them; a `ValidationError` if it is invalid."""
        return cls(name, InHouseConfig.model_validate(config))

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
        self.stem.arrange(torch.device(device))
        return self


TRAINED = {name: Trained(name, partial(InHouse, name, CONFIGS[name])) for name in IN_HOUSE}
