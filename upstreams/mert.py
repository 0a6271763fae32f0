"""MERT-v1 (Li et al. 2023, arXiv 2306.00107): HuBERT for music, trained on EnCodec codes and a constant-Q spectrogram.

Conventions
-----------
- 75 frames a second at 24 kHz: frame k sees samples 320 k to 320 k + 399.
- MERT-95M norms after the branches: layer 0 is the normed input of the first block, layer L the output of the last.
- MERT-330M norms before them: layers 0 to L - 1 are the residual stream as it is, whose scale grows with depth, and layer L
  is the last block under the final layer norm, so its scale differs from that of layer L - 1.
- The waveform is normalised to zero mean and unit variance per clip, as the preprocessor of the published model does.
- Clips of a batch must be equally long: the first convolution is normed over the time of the clip.
- Both were trained on clips of 5 s (330M: 5.12 s), so they hear 5 s at once where a protocol states no length. MARBLE v1, which
  the published scores of MERT come from, gives it the windows of the task, as a rule 30 s; the protocols ``marble-v1`` and
  ``muq`` state them. OMAR-RQ lists 5 s as what MERT hears (its Table 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from marble.upstream import UpstreamInfo
from marble.upstreams.loading.hub import Published
from marble.upstreams.loading.weights import Checkpoint, Settings, fill, read_checkpoint, read_json
from marble.upstreams.network import NetworkUpstream, block_layers
from marble.upstreams.nn.hubert import ConvFeatures, HubertBlock, HubertSizes, PositionalConvolution
from marble.upstreams.nn.precision import LayerNorm, Linear

SAMPLE_RATE = 24_000
SIZES_95M = HubertSizes(width=768, depth=12, heads=12, hidden=3072, channels=512)
SIZES_330M = HubertSizes(width=1024, depth=24, heads=16, hidden=4096, channels=512)

NAMES = (
    ("feature_extractor.conv_layers.0.layer_norm.", "features.norm."),
    ("feature_extractor.conv_layers.", "features.convolutions."),
    ("feature_projection.layer_norm.", "projection.0."),
    ("feature_projection.projection.", "projection.1."),
    ("encoder.pos_conv_embed.conv.", "position.convolution."),
    (".conv.weight", ".weight"),
    ("encoder.layer_norm.", "norm."),
    ("encoder.layers.", "blocks."),
    (".attention.q_proj.", ".query."),
    (".attention.k_proj.", ".key."),
    (".attention.v_proj.", ".value."),
    (".attention.out_proj.", ".out."),
    (".final_layer_norm.", ".feed_forward_norm."),
    (".layer_norm.", ".attention_norm."),
    (".feed_forward.intermediate_dense.", ".up."),
    (".feed_forward.output_dense.", ".down."),
)

IGNORED = (r"masked_spec_embed$",)  # stands in for masked frames in training


class Mert(NetworkUpstream):
    """HuBERT for music; `pre_norm` says whether blocks norm before their branches."""

    info = UpstreamInfo(
        name="mert",
        sample_rate=SAMPLE_RATE,
        frame_rate=75.0,
        layers=(),
        max_seconds=30.0,
        trained_seconds=5.0,
        precisions=("fp32", "bf16"),
    )

    def __init__(self, sizes: HubertSizes, pre_norm: bool):
        super().__init__()
        self.layout = sizes
        self.features = ConvFeatures(sizes.channels, sizes.kernels, sizes.strides)
        self.projection = nn.Sequential(LayerNorm(sizes.channels), Linear(sizes.channels, sizes.width))
        self.position = PositionalConvolution(sizes.width, sizes.position_kernel, sizes.position_groups)
        self.norm = LayerNorm(sizes.width)
        self.blocks = nn.ModuleList(HubertBlock(sizes, pre_norm) for _ in range(sizes.depth))
        self.norms_input = not pre_norm
        field = sizes.receptive_field
        self.info = replace(self.info, first_frame=(field - 1) / 2 / SAMPLE_RATE, min_seconds=field / SAMPLE_RATE)
        self.count("projection", sizes.depth, sizes.width)

    def layers(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield projection and blocks of a waveform ``Tensor[B, N]`` at 24 kHz, each ``Tensor[B, T, D]`` in float32."""
        variance, mean = torch.var_mean(waveform.float(), dim=1, correction=0, keepdim=True)
        x = self.projection(self.features((waveform - mean) / (variance + 1e-7).sqrt())).float()
        x = x + self.position(x)
        if self.norms_input:
            x = self.norm(x)
        yield x
        for block in self.blocks[:-1]:
            x = block(x)
            yield x
        x = self.blocks[-1](x)
        yield x if self.norms_input else self.norm(x)


def read_mert(info: UpstreamInfo, weights: Path, config: Path, preprocessor: Path, *, pre_norm: bool) -> Mert:
    """Return the network of ``pytorch_model.bin``, ``config.json`` and ``preprocessor_config.json``.

    Raises:
        MarbleError: a file is damaged, or does not fit the others or this architecture.
    """
    read_json(preprocessor).demand(do_normalize=True, sampling_rate=SAMPLE_RATE)
    settings = read_json(config)
    upstream = from_checkpoint(read_checkpoint(weights), settings, pre_norm)
    settings.demand(num_hidden_layers=len(upstream.blocks))
    return upstream


def from_checkpoint(checkpoint: Checkpoint, settings: Settings, pre_norm: bool) -> Mert:
    """Return the network with official weights; sizes are read from the tensors, the rest from the settings.

    Raises:
        MarbleError: a tensor or a setting is missing, left over, or that of another model.
    """
    settings.demand(
        feat_extract_norm="group", feat_proj_layer_norm=True, feature_extractor_cqt=False, deepnorm=False, conv_bias=False
    )
    settings.demand(conv_stride=list(SIZES_95M.strides), hidden_act="gelu", feat_extract_activation="gelu", layer_norm_eps=1e-5)
    settings.demand(do_stable_layer_norm=pre_norm)
    named = checkpoint.with_weight_norm_merged("encoder.pos_conv_embed.conv").renamed(NAMES)
    hidden, width = named["blocks.0.up.weight"].shape
    kernels = [named[f"features.convolutions.{i}.weight"] for i in range(named.depth("features.convolutions."))]
    position = named["position.convolution.weight"]
    sizes = HubertSizes(
        width=width,
        depth=named.depth("blocks."),
        heads=settings.heads("num_attention_heads", width),
        hidden=hidden,
        channels=len(kernels[0]),
        kernels=tuple(kernel.shape[-1] for kernel in kernels),
        position_kernel=position.shape[-1],
        position_groups=width // position.shape[1],
    )
    with torch.device("meta"):
        upstream = Mert(sizes, pre_norm)
    fill(upstream, named, IGNORED)
    return upstream


MERT_95M = Published(
    info=replace(
        Mert.info,
        name="mert-95m",
        layers=block_layers("projection", SIZES_95M.depth, SIZES_95M.width),
        parameters=94_370_816,
        licence="CC-BY-NC-4.0 (weights)",
        training_data="20 000 h of music, 5 s clips",
        trained_on=("unlisted recordings",),
        paper="Li et al. 2023, MERT: Acoustic Music Understanding Model with Large-Scale Self-supervised Training "
        "(arXiv 2306.00107)",
        source="https://huggingface.co/m-a-p/MERT-v1-95M",
        first_frame=(SIZES_95M.receptive_field - 1) / 2 / SAMPLE_RATE,
        min_seconds=SIZES_95M.receptive_field / SAMPLE_RATE,
    ),
    repository="m-a-p/MERT-v1-95M",
    revision="12af15fef9d0ac838c3f475bfbbf26d2060dd4f5",
    files={
        "pytorch_model.bin": "a2b8b747f72c06e0595aeae41ae5473f4364938c6b39b2c58be38c48e6bd3fcd",
        "config.json": "ea2627c4c7825cd66f3c944b6b966331604c35928174e0100cd4a82829424e32",
        "preprocessor_config.json": None,
    },
    read=partial(read_mert, pre_norm=False),
    draw=partial(Mert, SIZES_95M, pre_norm=False),
)
MERT_330M = Published(
    info=replace(
        MERT_95M.info,
        name="mert-330m",
        layers=block_layers("projection", SIZES_330M.depth, SIZES_330M.width),
        parameters=315_427_840,
        training_data="160 000 h of music, 5 s clips",
        source="https://huggingface.co/m-a-p/MERT-v1-330M",
    ),
    repository="m-a-p/MERT-v1-330M",
    revision="5240c2708a5acaee1007f43fb9735c7dcd0b78c9",
    files={"pytorch_model.bin": None, "config.json": None, "preprocessor_config.json": None},
    read=partial(read_mert, pre_norm=True),
    draw=partial(Mert, SIZES_330M, pre_norm=True),
)
