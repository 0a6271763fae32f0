"""What MuQ and MusicFM share: decibel mel spectrogram, convolution stem, Wav2Vec2-Conformer with rotary embedding.

Conventions
-----------
- Layer 0 is the output of the stem, without a norm; layers 1 to L - 1 are block outputs, each of which ends with the layer
  norm of its block; layer L is the output of the last block under the final layer norm, so normed twice.
- 25 frames a second; frame k is centred on sample 960 k, and N samples give ``ceil(floor(N / 240) / 4)`` frames.
- The loudness of the waveform matters: mean and std of the decibels are those of the training data, not of the clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor, nn

from marble.upstreams.nn.conformer import WAV2VEC2_STYLE, ConformerBlock, ConformerSizes
from marble.upstreams.nn.mel import DecibelMel
from marble.upstreams.nn.precision import LayerNorm
from marble.upstreams.nn.rotary import rotary_table
from marble.upstreams.nn.stem import Stem
from marble.upstreams.official import OfficialUpstream
from marble.upstreams.weights import Checkpoint, fill

SIZES = ConformerSizes(width=1024, depth=12, heads=16, hidden=4096)
CHANNELS = 512
BANDS = 128
MIN_SECONDS = 1025 / 24_000  # below this the reflected edges of the spectrogram do not exist

NAMES = (
    ("conv.conv.0.", "stem.first."),
    ("conv.conv.1.", "stem.second."),
    ("conv.linear.", "stem.linear."),
    ("conformer.layers.", "blocks."),
    ("conformer.layer_norm.", "norm."),
    (".ffn1_layer_norm.", ".feed_forward1.norm."),
    (".ffn1.intermediate_dense.", ".feed_forward1.up."),
    (".ffn1.output_dense.", ".feed_forward1.down."),
    (".ffn2_layer_norm.", ".feed_forward2.norm."),
    (".ffn2.intermediate_dense.", ".feed_forward2.up."),
    (".ffn2.output_dense.", ".feed_forward2.down."),
    (".self_attn_layer_norm.", ".attention.norm."),
    (".self_attn.linear_q.", ".attention.query."),
    (".self_attn.linear_k.", ".attention.key."),
    (".self_attn.linear_v.", ".attention.value."),
    (".self_attn.linear_out.", ".attention.out."),
    (".conv_module.layer_norm.", ".convolution.norm."),
    (".conv_module.pointwise_conv1.", ".convolution.expand."),
    (".conv_module.depthwise_conv.", ".convolution.depthwise."),
    (".conv_module.batch_norm.", ".convolution.batch_norm."),
    (".conv_module.pointwise_conv2.", ".convolution.project."),
    (".final_layer_norm.", ".norm."),
)

IGNORED = (
    r"cls_token$",  # never used
    r"linear\.(weight|bias)$",  # head that predicts the training targets
    r"rvq\.",  # tokenizer of the training targets of MuQ; untrained in the published file
    r"quantizer_melspec_2048_0\.",  # tokenizer of the training targets of MusicFM
    r"preprocessor_melspec_2048\.",  # window and mel filters, recomputed
    r"conformer\.embed_positions\.inv_freq$",  # rotary frequencies, recomputed; their number gives the width of a head
    r"conformer\.pos_conv_embed\.",  # a positional convolution that the official forward pass never calls
)


class MelConformer(OfficialUpstream):
    """Base of MuQ and MusicFM; `mean` and `std` are those of the decibels of the training data."""

    def __init__(self, sizes: ConformerSizes, channels: int, mean: float, std: float):
        super().__init__()
        self.front_end = DecibelMel(mean, std)
        self.stem = Stem(BANDS, channels, sizes.width)
        self.blocks = nn.ModuleList(ConformerBlock(sizes, WAV2VEC2_STYLE) for _ in range(sizes.depth))
        self.norm = LayerNorm(sizes.width)
        self.head = sizes.width // sizes.heads
        self.describe("stem", sizes.depth, sizes.width)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, mean: float, std: float) -> Self:
        """Return the upstream with the weights of an official file; all sizes are read from the tensors."""
        named = checkpoint.renamed((("model.", ""), *NAMES)).with_pointwise_as_linear()
        hidden, width = named["blocks.0.feed_forward1.up.weight"].shape
        sizes = ConformerSizes(
            width=width,
            depth=named.depth("blocks."),
            heads=width // (2 * named["conformer.embed_positions.inv_freq"].numel()),
            hidden=hidden,
            kernel=named["blocks.0.convolution.depthwise.weight"].shape[-1],
        )
        with torch.device("meta"):
            upstream = cls(sizes, len(named["stem.first.conv1.weight"]), mean, std)
        fill(upstream, named, IGNORED)
        return upstream

    def layers(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield stem and blocks of a waveform ``Tensor[B, N]`` at 24 kHz, each ``Tensor[B, T, D]`` in float32."""
        x = self.stem(self.front_end(waveform))
        yield x
        table = rotary_table(x.shape[1], self.head, x.device)
        for block in self.blocks[:-1]:
            x = block(x, table)
            yield x
        yield self.norm(self.blocks[-1](x, table))

    def prepare(self, device: str | torch.device, precision: str = "fp32") -> Self:
        """Make ready for inference, the stem in the order that suits the device."""
        super().prepare(device, precision)
        self.stem.prepare(torch.device(device))
        return self
