"""MuQ (Zhu et al. 2025, arXiv 2501.01108): a Conformer trained to predict the codes of a residually quantised mel spectrogram.

The published weights are MuQ-large-msd-iter: the second training iteration, on the Million Song Dataset only. Architecture
and layers: `marble.upstreams.musicfm`, whose code and tensor names it shares.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from marble.upstream import UpstreamInfo
from marble.upstreams.loading.hub import Published
from marble.upstreams.loading.weights import read_checkpoint, read_json
from marble.upstreams.mel_encoder import CONFIGS, PAPERS, InHouse
from marble.upstreams.musicfm import from_checkpoint
from marble.upstreams.network import block_layers


def read_muq(info: UpstreamInfo, weights: Path, config: Path) -> InHouse:
    """Return the network of ``model.safetensors`` and ``config.json``.

    Raises:
        MarbleError: a file is damaged, or does not fit the other or this architecture.
    """
    settings = read_json(config)
    settings.demand(label_rate=25, hop_length=240, n_mels=128, features=["melspec_2048"], is_flash=False)
    inner = settings.inner("w2v2_config")
    inner.demand(hidden_act="swish", layer_norm_eps=1e-5, position_embeddings_type="rotary", rotary_embedding_base=10_000)
    mean, std = settings.inner("stat").numbers("melspec_2048_mean", "melspec_2048_std")
    upstream = from_checkpoint(info, read_checkpoint(weights), mean, std)
    sizes = upstream.config
    settings.demand(encoder_depth=sizes.depth, encoder_dim=sizes.width, conv_dim=sizes.channels)
    inner.demand(num_attention_heads=sizes.heads, conv_depthwise_kernel_size=sizes.kernel)
    return upstream


MUQ = Published(
    info=UpstreamInfo(
        name="muq",
        version=3,
        sample_rate=24_000,
        frame_rate=25.0,
        layers=block_layers("stem", CONFIGS["muq"].depth, CONFIGS["muq"].width),
        parameters=316_343_296,
        licence="CC-BY-NC-4.0 (weights)",
        training_data="the Million Song Dataset, 30 s clips",
        trained_on=("commercial releases",),
        paper=PAPERS["muq"],
        source="https://huggingface.co/OpenMuQ/MuQ-large-msd-iter",
        max_seconds=30.0,
        min_seconds=CONFIGS["muq"].min_seconds,
        precisions=("fp32", "bf16"),
    ),
    repository="OpenMuQ/MuQ-large-msd-iter",
    revision="0562a57814f6f8bbd9fdea0a25921a2fce1a841a",
    files={
        "model.safetensors": "273febab2be02872c37d2c37e48a9d6c52c1c9392f3eeeabd498efa281ccb7a6",
        "config.json": "237335ee27d8fb951ce778701a12a79e06c51ae636dd786f97e45f51ce532543",
    },
    read=read_muq,
    draw=partial(InHouse, "muq", CONFIGS["muq"]),
)
