"""Peak resident memory of extraction for 200 and for 2,000 clips, each in a process of its own.

Prints one JSON line. ``python tests/benchmarks/memory.py [--few 200] [--many 2000] [--seconds 5]``
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--few", type=int, default=200)
    parser.add_argument("--many", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(measure(Path(options.measure)))
        return
    peaks = {}
    for count in (options.few, options.many):
        with tempfile.TemporaryDirectory() as folder:
            for number in range(count):
                noise = np.random.default_rng(number).standard_normal(round(24_000 * options.seconds)).astype(np.float32)
                soundfile.write(Path(folder) / f"{number:05}.wav", 0.05 * noise, 24_000)
            ask = [sys.executable, __file__, "--measure", folder]
            peaks[count] = int(subprocess.run(ask, capture_output=True, text=True, check=True).stdout)
    print(
        json.dumps(
            {
                "benchmark": "memory",
                "seconds_per_clip": options.seconds,
                "peak_megabytes": {count: round(peak / 1e6, 1) for count, peak in peaks.items()},
                "ratio": round(peaks[options.many] / peaks[options.few], 4),
                "machine": platform.platform(),
            }
        )
    )


def measure(folder: Path) -> int:
    """Extract all clips of a folder and return this process's peak resident memory in bytes."""
    from marble.features.cache import FeatureCache, clip_key
    from marble.features.encode import Excerpt, extract
    from marble.features.reduction import REDUCTIONS
    from marble.features.space import Windows, describe_space, resolve_windows
    from marble.files import file_hash
    from marble.registry import load_upstream

    upstream = load_upstream("fbank-chroma").prepare("cpu")
    windows = resolve_windows(Windows(), None, upstream)
    space = FeatureCache(folder / "cache").space(describe_space(upstream, windows, REDUCTIONS["mean"]))
    excerpts = [Excerpt(clip_key(file_hash(path), 0.0, None), path, 0.0, None) for path in sorted(folder.glob("*.wav"))]
    done = extract(upstream, space, excerpts, [0, 1, 2], windows, REDUCTIONS["mean"])
    assert done.clips == len(excerpts)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
