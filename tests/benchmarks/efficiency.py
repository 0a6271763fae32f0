"""Time and memory against the length of the audio, for SummaryMixing and attention.

    python tests/benchmarks/efficiency.py [--models small,large,tiny] [--mixers summarymixing,attention]
                                          [--seconds 30,60,120,300,600,1200] [--device cpu] [--precision fp32]
                                          [--threads 1] [--repeats 3]

``small`` and ``large`` are one Branchformer block of the published width (768 and 1024) on tokens at 25 Hz: the blocks of a
stack are alike, and a stem costs the same per second for either mixer. ``tiny`` is a whole upstream, waveform to last layer.
Weights are random. Every measurement runs in a process of its own, so that peak memory is its own; of the repeats, which stop
after a minute, the fastest counts; on a CPU in processor time, which other processes of the machine do not lengthen. Prints one
JSON line: per model, mixer and length the milliseconds per second of audio and the peak memory in MB (above that of the loaded
model); and ``growth``, the former at the longest length over the shortest.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

RATE = 25
# The C library returns large tensors to the system, which clears their pages again: up to a third of the time at 20 min.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000000"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", default="small,large,tiny")
    parser.add_argument("--mixers", default="summarymixing,attention")
    parser.add_argument("--seconds", default="30,60,120,300,600,1200")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        model, mixer, seconds = options.measure
        print(json.dumps(measure(model, mixer, int(seconds), options)))
        return
    lengths = options.seconds.split(",")
    found: dict[str, Any] = {}
    for model in options.models.split(","):
        for mixer in options.mixers.split(","):
            rows = {}
            for length in lengths:
                ask = [sys.executable, __file__, *sys.argv[1:], "--measure", model, mixer, length]
                done = subprocess.run(ask, env=os.environ | KEEP_MEMORY, stdout=subprocess.PIPE, text=True, check=True)
                rows[length] = json.loads(done.stdout)
            first, last = (rows[length]["milliseconds_per_second"] for length in (lengths[0], lengths[-1]))
            found[f"{model} {mixer}"] = rows | {"growth": round(last / first, 2)}
    about = {key: value for key, value in vars(options).items() if key != "measure"}
    print(json.dumps({"benchmark": "efficiency"} | about | {"torch": torch.__version__, "found": found}))


def measure(model: str, mixer: str, seconds: int, options: argparse.Namespace) -> dict[str, float]:
    """Return milliseconds per second of audio, and the peak of the memory above that of the model, in megabytes."""
    torch.set_num_threads(options.threads)
    run = build(model, mixer, seconds, options)
    on_gpu = options.device.startswith("cuda")
    clock = time.perf_counter if on_gpu else time.process_time
    times = []
    with torch.inference_mode():
        before = memory(on_gpu)
        for _ in range(options.repeats):
            began = clock()
            run()
            if on_gpu:
                torch.cuda.synchronize()
            times.append(clock() - began)
            if sum(times) > 60:
                break
    return {
        "milliseconds_per_second": round(1000 * min(times) / seconds, 4),
        "megabytes": round((memory(on_gpu) - before) / 1e6, 1),
    }


def build(model: str, mixer: str, seconds: int, options: argparse.Namespace) -> Callable[[], object]:
    """Return a pass over random audio, or tokens, of a length."""
    from marble.registry import find_upstream
    from marble.upstreams.mel_encoder import CONFIGS, InHouse
    from marble.upstreams.nn.rotary import rotary_table

    torch.manual_seed(0)
    if model == "tiny":
        upstream = find_upstream(f"branchformer-{mixer}-tiny").random().prepare(options.device, options.precision)
        waveform = 0.1 * torch.randn(1, seconds * 24_000, device=options.device)
        return lambda: list(upstream.layers(waveform))[-1]
    config = CONFIGS["branchformer-attention-small" if model == "small" else "branchformer-attention-large"]
    wide = {"mixer": mixer, "depth": 1, "channels": 8, "summary": (config.width, config.width)}
    upstream = InHouse("one block", config.model_copy(update=wide)).prepare(options.device, options.precision)
    tokens = torch.randn(1, seconds * RATE, config.width, device=options.device)
    table = rotary_table(seconds * RATE, config.width // config.heads, tokens.device)
    return lambda: upstream.blocks[0](tokens, table)


def memory(on_gpu: bool) -> int:
    """Return the peak memory so far in bytes, of torch on a GPU or of the process."""
    return torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
