"""A scan of all layers on features as large as those of MagnaTagATune with MuQ: peak memory and time, without the encoder.

25,860 clips × 13 layers × 1024 random numbers (1.4 GB) are written into a cache; then the run that the command line would do
reads them, trains the probes with the protocol ``marble`` and writes the result, for 50 labels and the split of MARBLE. The
features are made in the same process, 64 clips at a time; nothing is encoded.

Prints one JSON line. ``python tests/benchmarks/scan.py [--epochs 100] [--seeds 5] [--layers all] [--clips 25860]``
With fewer epochs the memory is that of a full scan, and ``probe_hours_of_100_epochs`` is extrapolated: the longest that a
full scan may take, as probes stop earlier where validation does not improve.
"""

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch

import marble
from marble.audio.decode import SILENCE
from marble.jobs.job import prepare
from marble.task import Clip
from marble.tasks.magnatagatune import MTT
from marble.upstream import Layer, Upstream, UpstreamInfo

LAYERS, WIDTH, SHARD = 13, 1024, 64


class Wide(Upstream):
    """An upstream of MuQ's size that is never asked for a layer."""

    info = UpstreamInfo(
        name="wide",
        version=1,
        sample_rate=24_000,
        frame_rate=25.0,
        layers=tuple(Layer(f"layer {number}", WIDTH) for number in range(LAYERS)),
        parameters=0,
        licence="none",
        training_data="none",
        paper="none",
        source="none",
    )


def clips(root: Path, count: int) -> list[Clip]:
    """Excerpts of one file, each with random tags, split as MagnaTagATune is."""
    sizes = [MTT.split_sizes[split] * count // 25_860 for split in ("valid", "test")]
    splits = ["valid"] * sizes[0] + ["test"] * sizes[1]
    splits += ["train"] * (count - len(splits))
    tagged = np.random.default_rng(1).random((count, len(MTT.labels))) < 0.05
    return [
        Clip(str(number), root / "one.wav", split, tuple(np.array(MTT.labels)[tags].tolist()), start=float(number))
        for number, (split, tags) in enumerate(zip(splits, tagged, strict=True))
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--layers", default="all")
    parser.add_argument("--clips", type=int, default=25_860)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    task = replace(MTT, clips=lambda root: clips(root, options.clips), split_sizes=None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        soundfile.write(folder / "one.wav", np.full(24_000, 2 * SILENCE), 24_000, subtype="FLOAT")
        asked = {
            "layers": options.layers, "seeds": options.seeds, "settings": [f"probe.epochs={options.epochs}"],
            "data_root": folder, "cache_dir": folder / "cache", "device": options.device,
        }  # fmt: skip
        job = prepare(Wide(), task, **asked)
        random = np.random.default_rng(0)
        for begin in range(0, len(job.data.keys), SHARD):
            keys = job.data.keys[begin : begin + SHARD]
            drawn = {layer: random.standard_normal((len(keys), WIDTH), np.float32) for layer in range(LAYERS)}
            job.space.write(keys, [1] * len(keys), drawn)
        begin, busy = time.perf_counter(), time.process_time()
        result = marble.run(Wide(), task, results=folder / "results", **asked)
        together = time.perf_counter() - begin
    print(
        json.dumps(
            {
                "benchmark": "scan",
                **vars(options),
                "protocol": result.protocol.label,
                "probes": sum(len(run.grid) for layer in result.layers for run in layer.runs),
                "peak_resident_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
                "minutes": round(together / 60, 1),
                "cpu_minutes": round((time.process_time() - busy) / 60, 1),
                "probe_minutes": round(result.cost.probe_seconds / 60, 1),
                "probe_hours_of_100_epochs": round(result.cost.probe_seconds / 36 / options.epochs, 2),
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, {options.device}, torch {torch.__version__}",
            }
        )
    )


if __name__ == "__main__":
    main()
