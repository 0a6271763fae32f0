"""MusicFM (Won et al. 2023, arXiv 2311.03318): a Conformer trained with random-projection quantisation (BEST-RQ).

Two sets of weights are published, trained on the Million Song Dataset and on the Free Music Archive. Architecture and
layers: `marble.upstreams.mel_conformer`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Self

from marble.errors import MarbleError
from marble.upstream import UpstreamInfo
from marble.upstreams.loading.network import block_layers
from marble.upstreams.loading.weights import HubFiles, read_checkpoint, read_json
from marble.upstreams.mel_conformer import MelConformer
from marble.upstreams.mel_encoder import CONFIGS, PAPERS

_REVISION = "4513b38bc25ad1d227b1980819b9691ba97f4d87"
_LICENCE = "MIT by its model card (no licence text; training music not cleared)"


class MusicFMMSD(MelConformer):
    """MusicFM trained on the Million Song Dataset: 13 layers of width 1024 at 25 Hz."""

    info = UpstreamInfo(
        name="musicfm-msd",
        version=2,
        sample_rate=24_000,
        frame_rate=25.0,
        layers=block_layers("stem", CONFIGS["musicfm-msd"].depth, CONFIGS["musicfm-msd"].width),
        parameters=316_343_296,
        licence=_LICENCE,
        training_data="Million Song Dataset, 30 s clips",
        paper=PAPERS["musicfm"],
        source="https://huggingface.co/minzwon/MusicFM",
        max_seconds=30.0,
        min_seconds=CONFIGS["musicfm-msd"].min_seconds,
        precisions=("fp32", "bf16"),
    )
    hub = HubFiles(
        upstream="musicfm-msd",
        repository="minzwon/MusicFM",
        revision=_REVISION,
        licence=_LICENCE,
        files={
            "pretrained_msd.pt": "218b483a0256ddef736267425fabb166fd97008983696bb9270def464b47bded",
            "msd_stats.json": "c36c61ab10ca4d2e7fdfefc3fcc15205316bec276a06a47baa3641a62c546f22",
        },
    )

    @classmethod
    def from_files(cls, *paths: Path) -> Self:
        """Return the upstream from its ``.pt`` file and its ``_stats.json``.

        Raises:
            MarbleError: the weights are those of the other MusicFM, or a file does not fit.
        """
        weights, stats = paths
        other = MusicFMMSD if cls is MusicFMFMA else MusicFMFMA
        if weights.name in other.hub.files:
            raise MarbleError(
                f"{weights} holds the weights of {other.info.name}: write --upstream {other.info.name}:{weights}."
            )
        mean, std = read_json(stats).numbers("melspec_2048_mean", "melspec_2048_std")
        return cls.from_checkpoint(read_checkpoint(weights), mean, std)


class MusicFMFMA(MusicFMMSD):
    """MusicFM trained on the Free Music Archive: 13 layers of width 1024 at 25 Hz."""

    info = replace(MusicFMMSD.info, name="musicfm-fma", training_data="Free Music Archive, 30 s clips")
    hub = HubFiles(
        upstream="musicfm-fma",
        repository="minzwon/MusicFM",
        revision=_REVISION,
        licence=_LICENCE,
        files={
            "pretrained_fma.pt": "68392eee13d34c2941b3761934abb6b1e67b2e9df498695bda2ea5c1087d4b96",
            "fma_stats.json": "5416e468018bae68c6231d4cbb2b11f0d11c04e6437881505ae427a3f8344904",
        },
    )
