"""Extraction throughput in seconds of audio per second: decoding, encoding, and both together as a run does it.

Prints one JSON line. ``python tests/benchmarks/extraction.py [--upstream fbank-chroma] [--clips 64] [--format mp3]``
"""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from marble.audio.workers import Request, WorkerPool
from marble.features.cache import FeatureCache, clip_key
from marble.features.encode import Excerpt, extract, reduced_layers
from marble.features.reduction import REDUCTIONS
from marble.features.space import Windows, describe_space, resolve_windows
from marble.registry import load_upstream
from marble.system.files import file_hash
from marble.system.machine import choose_device

MEAN = REDUCTIONS["mean"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream", default="fbank-chroma")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--format", default="mp3", choices=["mp3", "wav", "flac", "ogg"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32")
    options = parser.parse_args()
    upstream = load_upstream(options.upstream).prepare(choose_device(options.device), options.precision)
    layers = list(range(len(upstream.info.layers)))
    audio_seconds = options.clips * options.seconds
    with tempfile.TemporaryDirectory() as folder:
        paths = write_clips(Path(folder), options)
        with WorkerPool() as pool:
            list(pool.map([Request(paths[0], upstream.info.sample_rate, 0.0, None)]))
            begin = time.perf_counter()
            waveforms = list(pool.map([Request(path, upstream.info.sample_rate, 0.0, None) for path in paths]))
            decode = time.perf_counter() - begin
            workers = pool.workers
        reduced_layers(upstream, torch.from_numpy(waveforms[0].copy())[None], layers, MEAN, [Path()])
        begin = time.perf_counter()
        for waveform in waveforms:
            reduced_layers(upstream, torch.from_numpy(waveform.copy())[None], layers, MEAN, [Path()])
        encode = time.perf_counter() - begin
        windows = resolve_windows(Windows(), None, upstream)
        space = FeatureCache(Path(folder) / "cache").space(describe_space(upstream, windows, MEAN))
        excerpts = [Excerpt(clip_key(file_hash(path), 0.0, None), path, 0.0, None) for path in paths]
        begin = time.perf_counter()
        done = extract(upstream, space, excerpts, layers, windows, MEAN)
        together = time.perf_counter() - begin
    print(
        json.dumps(
            {
                "benchmark": "extraction",
                **vars(options),
                "decode_audio_seconds_per_second": round(audio_seconds / decode, 1),
                "encode_audio_seconds_per_second": round(audio_seconds / encode, 1),
                "together_audio_seconds_per_second": round(done.audio_seconds / together, 1),
                "workers": workers,
                "machine": f"{platform.machine()}, {os.cpu_count()} cores, {upstream.device}, torch {torch.__version__}",
            }
        )
    )


def write_clips(folder: Path, options: argparse.Namespace) -> list[Path]:
    """Noise bursts in stereo at 44.1 kHz, every clip another."""
    paths = []
    for number in range(options.clips):
        noise = np.random.default_rng(number).standard_normal((round(44_100 * options.seconds), 2)).astype(np.float32)
        paths.append(folder / f"{number}.{options.format}")
        soundfile.write(paths[-1], 0.05 * noise, 44_100)
    return paths


if __name__ == "__main__":
    main()
