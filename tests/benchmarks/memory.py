"""Peak resident memory of extraction for 200 and for 2,000 clips, or for a long file and a minute, each in its own process.

Prints one JSON line, or one for each upstream and format of the long file: the peaks of the run and of its largest worker, and
what the long file may cost: 1.5 times the minute and its waveform, float32 at the upstream's rate.

``python tests/benchmarks/memory.py [--few 200] [--many 2000] [--seconds 5]`` or ``... --minutes 60``
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import soundfile

UPSTREAMS = {"fbank-chroma": 24_000, "branchformer-summarymixing-tiny": 24_000}  # rate in Hz


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--few", type=int, default=200)
    parser.add_argument("--many", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--minutes", type=float, help="length of one file, measured against one of a minute")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(Path(options.measure[0]), options.measure[1])))
        return
    if options.minutes:
        measure_long(options.minutes)
        return
    peaks = {}
    for count in (options.few, options.many):
        with tempfile.TemporaryDirectory() as folder:
            for number in range(count):
                noise = np.random.default_rng(number).standard_normal(round(24_000 * options.seconds)).astype(np.float32)
                soundfile.write(Path(folder) / f"{number:05}.wav", 0.05 * noise, 24_000)
            peaks[count] = measured(folder, "fbank-chroma")["run"]
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


def measure_long(minutes: float) -> None:
    """Print the peaks for a file of a minute and one of `minutes`, 44.1 kHz stereo, in each upstream and format."""
    for container in ("wav", "mp3"):
        peaks = {}
        for length in (1.0, minutes):
            with tempfile.TemporaryDirectory() as folder:
                generator = np.random.default_rng(0)
                with soundfile.SoundFile(Path(folder) / f"a.{container}", "w", 44_100, 2) as file:
                    for _ in range(round(60 * length)):
                        file.write(generator.uniform(-0.1, 0.1, (44_100, 2)).astype(np.float32))
                for name in UPSTREAMS:
                    peaks[name, length] = measured(folder, name)
        for name, rate in UPSTREAMS.items():
            short, long = peaks[name, 1.0], peaks[name, minutes]
            line = {"benchmark": "memory of a long file", "upstream": name, "format": container, "minutes": minutes}
            line |= {f"{part}_megabytes": [round(peak[part] / 1e6) for peak in (short, long)] for part in ("run", "worker")}
            line["allowed_megabytes"] = round((1.5 * short["run"] + 4 * rate * 60 * minutes) / 1e6)
            print(json.dumps(line | {"machine": platform.platform()}), flush=True)


def measured(folder: str, upstream: str) -> dict[str, int]:
    """Return `measure` of a fresh process."""
    ask = [sys.executable, __file__, "--measure", folder, upstream]
    return json.loads(subprocess.run(ask, stdout=subprocess.PIPE, text=True, check=True).stdout)


def measure(folder: Path, name: str) -> dict[str, int]:
    """Extract all clips of a folder and return the peak resident memory of this process and of its largest worker, in bytes."""
    from marble.features.cache import FeatureCache, clip_key
    from marble.features.encode import Excerpt, extract
    from marble.features.reduction import REDUCTIONS
    from marble.features.space import Windows, describe_space, resolve_windows
    from marble.registry import load_upstream
    from marble.system.files import file_hash

    upstream = load_upstream(name).prepare("cpu")
    windows = resolve_windows(Windows(), None, upstream)
    space = FeatureCache(folder / "cache" / name).space(describe_space(upstream, windows, REDUCTIONS["mean"]))
    excerpts = [Excerpt(clip_key(file_hash(path), 0.0, None), path, 0.0, None) for path in sorted(folder.glob("*.*"))]
    largest_worker, over = 0, threading.Event()

    def watch() -> None:
        nonlocal largest_worker
        while not over.wait(0.02):
            largest_worker = max(largest_worker, *map(peak_of, children()), 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    done = extract(upstream, space, excerpts, list(range(len(upstream.info.layers))), windows, REDUCTIONS["mean"])
    over.set()
    watcher.join()
    assert done.clips == len(excerpts), done.bad
    return {"run": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "worker": largest_worker}


def children() -> list[int]:
    """Return the workers of this process; before it runs its own program, a new process counts the memory of its parent."""
    numbers = [int(number) for task in Path("/proc/self/task").glob("*/children") for number in task.read_text().split()]
    return [number for number in numbers if b"serve(" in Path(f"/proc/{number}/cmdline").read_bytes()]


def peak_of(process: int) -> int:
    """Return the peak resident memory of a process in bytes, 0 where it has ended; that of `getrusage` counts its parent's."""
    try:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError):
        return 0


if __name__ == "__main__":
    main()
