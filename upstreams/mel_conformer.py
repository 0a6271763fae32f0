"""What MuQ and MusicFM share: they are Conformers of `marble.upstreams.mel_encoder` whose official weights are published.

Conventions
-----------
- Decibel mel spectrogram, convolution stem, Wav2Vec2-Conformer with rotary embedding.
- Layer 0 is the output of the stem, without a norm; layers 1 to L - 1 are block outputs, each of which ends with the layer
  norm of its block; layer L is the output of the last block under the final layer norm, so normed twice.
- N samples give ``ceil(floor(N / 240) / 4)`` frames.
- The loudness of the waveform matters: mean and std of the decibels are those of the training data, not of the clip.
"""

from __future__ import annotations

from typing import Self

import torch

from marble.upstreams.loading.network import OfficialUpstream
from marble.upstreams.loading.weights import Checkpoint, fill
from marble.upstreams.mel_encoder import CONFIGS, InHouse, InHouseConfig

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


class MelConformer(OfficialUpstream, InHouse):
    """Base of MuQ and MusicFM; a subclass gives the `info` of one of `CONFIGS`."""

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, mean: float, std: float) -> Self:
        """Return the upstream with the weights of an official file, whose decibels have `mean` and `std`.

        All sizes are read from the tensors.
        """
        named = checkpoint.renamed((("model.", ""), *NAMES)).with_pointwise_as_linear()
        hidden, width = named["blocks.0.feed_forward1.up.weight"].shape
        sizes = {
            "width": width,
            "depth": named.depth("blocks."),
            "heads": width // (2 * named["conformer.embed_positions.inv_freq"].numel()),
            "hidden": hidden,
            "kernel": named["blocks.0.convolution.depthwise.weight"].shape[-1],
            "channels": len(named["stem.first.conv1.weight"]),
        }
        name = cls.info.name
        config = InHouseConfig.model_validate(CONFIGS[name].model_dump() | sizes | {"mean": mean, "std": std})
        with torch.device("meta"):
            upstream = cls(name, config)
        fill(upstream, named, IGNORED)
        return upstream
