"""MusicFM (Won et al. 2023, arXiv 2311.03318): a Conformer trained with random-projection quantisation (BEST-RQ).

Two sets of weights are published, trained on the Million Song Dataset and on the Free Music Archive.

Conventions
-----------
- Decibel mel spectrogram, convolution stem, Wav2Vec2-Conformer with rotary embedding: a `marble.upstreams.mel_encoder`.
- Layer 0 is the output of the stem, without a norm; layers 1 to L - 1 are block outputs, each of which ends with the layer
  norm of its block; layer L is the output of the last block under the final layer norm, so normed twice.
- N samples give ``ceil(floor(N / 240) / 4)`` frames.
- The loudness of the waveform matters: mean and std of the decibels are those of the training data, not of the clip.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from marble.errors import MarbleError
from marble.upstream import UpstreamInfo
from marble.upstreams.loading.hub import Published
from marble.upstreams.loading.weights import Checkpoint, fill, read_checkpoint, read_json
from marble.upstreams.mel_encoder import CONFIGS, PAPERS, InHouse, InHouseConfig
from marble.upstreams.network import block_layers

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


def from_checkpoint(info: UpstreamInfo, checkpoint: Checkpoint, mean: float, std: float) -> InHouse:
    """Return the network with the weights of an official file of MusicFM or MuQ, whose decibels have `mean` and `std`.

    All sizes are read from the tensors.

    Raises:
        MarbleError: a tensor is missing, left over or of another shape.
        ValueError: the sizes are impossible.
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
    config = InHouseConfig.model_validate(CONFIGS[info.name].model_dump() | sizes | {"mean": mean, "std": std})
    with torch.device("meta"):
        upstream = InHouse(info.name, config)
    fill(upstream, named, IGNORED)
    return upstream


def read_musicfm(info: UpstreamInfo, weights: Path, stats: Path) -> InHouse:
    """Return the network of a ``.pt`` file and its ``_stats.json``.

    Raises:
        MarbleError: the weights are those of the other MusicFM, or a file is damaged or does not fit.
    """
    other = MUSICFM_MSD if info.name == MUSICFM_FMA.info.name else MUSICFM_FMA
    if weights.name in other.files:
        raise MarbleError(f"{weights} holds the weights of {other.info.name}: write --upstream {other.info.name}:{weights}.")
    mean, std = read_json(stats).numbers("melspec_2048_mean", "melspec_2048_std")
    return from_checkpoint(info, read_checkpoint(weights), mean, std)


MUSICFM_MSD = Published(
    info=UpstreamInfo(
        name="musicfm-msd",
        version=2,
        sample_rate=24_000,
        frame_rate=25.0,
        layers=block_layers("stem", CONFIGS["musicfm-msd"].depth, CONFIGS["musicfm-msd"].width),
        parameters=316_343_296,
        licence="MIT by its model card (no licence text; training music not cleared)",
        training_data="the Million Song Dataset, 30 s clips",
        trained_on=("commercial releases",),
        paper=PAPERS["musicfm"],
        source="https://huggingface.co/minzwon/MusicFM",
        max_seconds=30.0,
        min_seconds=CONFIGS["musicfm-msd"].min_seconds,
        precisions=("fp32", "bf16"),
    ),
    repository="minzwon/MusicFM",
    revision="4513b38bc25ad1d227b1980819b9691ba97f4d87",
    files={
        "pretrained_msd.pt": "218b483a0256ddef736267425fabb166fd97008983696bb9270def464b47bded",
        "msd_stats.json": "c36c61ab10ca4d2e7fdfefc3fcc15205316bec276a06a47baa3641a62c546f22",
    },
    read=read_musicfm,
    draw=partial(InHouse, "musicfm-msd", CONFIGS["musicfm-msd"]),
)
MUSICFM_FMA = replace(
    MUSICFM_MSD,
    info=replace(
        MUSICFM_MSD.info,
        name="musicfm-fma",
        training_data="the Free Music Archive, 30 s clips",
        trained_on=("the Free Music Archive",),
    ),
    files={
        "pretrained_fma.pt": "68392eee13d34c2941b3761934abb6b1e67b2e9df498695bda2ea5c1087d4b96",
        "fma_stats.json": "5416e468018bae68c6231d4cbb2b11f0d11c04e6437881505ae427a3f8344904",
    },
    draw=partial(InHouse, "musicfm-fma", CONFIGS["musicfm-fma"]),
)
