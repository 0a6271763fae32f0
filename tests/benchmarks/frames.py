"""Frames: their extraction beside that of pooled features, and probing with three times as much as the memory that is allowed.

One JSON line each. ``extraction``: seconds of the encoder and of the whole for the same audio, pooled and as frames, the ratio,
and the ratio that the overlap of windows explains; at most 1.3 times that is wanted. ``probing``: seconds and the growth of the
process's own memory, with all features in memory and with a budget of a third of them; at most 1.5 times the seconds, and no
more memory than is allowed, are wanted. Both ways give the same numbers.

``python tests/benchmarks/frames.py [extraction|probing]``
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from marble.features.cache import FeatureCache, Space, clip_key
from marble.features.encode import Excerpt, extract
from marble.features.frames import FrameReduction
from marble.features.reduction import REDUCTIONS
from marble.features.space import Windows, describe_space, overlapping, resolve_windows
from marble.frames import Grid, Spans
from marble.probe.answers import Group
from marble.probe.frames.inputs import FrameInputs
from marble.probe.settings import Probe
from marble.probe.training.train import BankMaker
from marble.registry import load_upstream
from marble.system.files import file_hash
from marble.system.progress import Reporter
from marble.task import Clip, Frames, Task

SECONDS, TRACKS = 216.0, 4
WIDTH, RATE, LENGTH, COUNT = 768, 25.0, 1500, 156
REPEATS = 3


def extraction(root: Path, name: str) -> dict[str, object]:
    """Encode some tracks as clips of 30 s that are pooled and as frames, in turn."""
    upstream = load_upstream(name).prepare("cpu")
    excerpts = []
    for number in range(TRACKS):
        path = root / f"{number}.wav"
        noise = np.random.default_rng(number).uniform(-0.5, 0.5, round(SECONDS * 24_000))
        soundfile.write(path, noise, 24_000)
        excerpts.append(Excerpt(clip_key(file_hash(path), 0.0, None), path, 0.0, None))
    layers = list(range(len(upstream.info.layers)))
    windows = resolve_windows(Windows(), None, upstream)
    ways = {
        "pooled": (windows, REDUCTIONS["mean"]),
        "native": (overlapping(windows, None), FrameReduction.of(upstream.info.grid, upstream.info.grid)),
        "5 Hz": (overlapping(windows, None), FrameReduction.of(upstream.info.grid, Grid(5.0, 0.1))),
    }
    best: dict[str, tuple[float, float]] = {}
    for repeat in range(REPEATS):
        for way, (cut, reduction) in ways.items():
            space = FeatureCache(root / f"{repeat}").space(describe_space(upstream, cut, reduction))
            begin = time.perf_counter()
            done = extract(upstream, space, excerpts, layers, cut, reduction, workers=1)
            spent = (done.encoder_seconds, time.perf_counter() - begin)
            best[way] = min(best.get(way, spent), spent)
    heard = [30.0] * 8 + [SECONDS - 192 + 4.8]  # 24 s apart; the last starts at 187.2 s
    row: dict[str, object] = {"measurement": "extraction", "upstream": name, "overlap": round(sum(heard) / SECONDS, 3)}
    for way, (encoder, all_of_it) in best.items():
        ratio = encoder / best["pooled"][0]
        row[way] = {"encoder_s": round(encoder, 2), "total_s": round(all_of_it, 2), "encoder_ratio": round(ratio, 3)}
    return row


def memory_of_the_process() -> int:
    """Bytes that are this process's own: pages of mapped files are the system's."""
    return int(Path("/proc/self/status").read_text().partition("RssAnon:")[2].split()[0]) * 1024


class Watch:
    """The growth of the process's own memory while a block runs."""

    def __enter__(self):
        self.start = self.peak = memory_of_the_process()
        self.running = True
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self):
        while self.running:
            self.peak = max(self.peak, memory_of_the_process())
            time.sleep(0.005)

    def __exit__(self, *_):
        self.running = False
        self.thread.join()


def probing(root: Path, memory: float) -> dict[str, object]:
    """Train the probes of a layer on 360 MB of random frames within a budget."""
    random = np.random.default_rng(0)
    space = Space(root / "space")
    keys = [f"{number:064x}" for number in range(COUNT)]
    for begin in range(0, COUNT, 8):
        own = keys[begin : begin + 8]
        if not space.shard_path(own, [0]).exists():
            space.write(own, [LENGTH] * len(own), {0: random.normal(size=(len(own) * LENGTH, WIDTH)).astype(np.float16)})
    space.refresh()
    (space.folder / "space.json").write_text("{}")
    space_of_run = type("Described", (Space,), {"description": {"of": "a benchmark"}})(space.folder)
    space_of_run.refresh()
    splits = ["train"] * 110 + ["valid"] * 23 + ["test"] * 23
    spans = Spans(tuple((float(second), second + 1.0, "ab"[second % 2]) for second in range(int(LENGTH / RATE))))
    clips = [Clip(f"{n}", Path("none"), split, spans) for n, split in enumerate(splits)]
    task = Task(
        name="random", version=1, description="", kind="frame_classes", labels=("a", "b"), metrics=("frame_accuracy",),
        clips=lambda _: clips, citation="", licence="", source="",
        frames=Frames(encode=lambda target, labels, grid, frames: target.classes(labels, grid, frames)),
    )  # fmt: skip
    probe = Probe(hidden=256, batch_size=8, chunk=10.0, learning_rates=(1e-4, 1e-3), epochs=4)
    device, grid = torch.device("cpu"), Grid(RATE)
    inputs = FrameInputs(
        task, clips, keys, space_of_run, {0: WIDTH}, device, probe, FrameReduction(grid, grid), round(memory * 1e9)
    )
    groups = [Group(0, 0)]
    with tempfile.TemporaryDirectory() as answers, Watch() as watch:
        begin = time.perf_counter()
        made = BankMaker(probe, Path(answers), "")(inputs, groups, Reporter())
        spent = time.perf_counter() - begin
    return {
        "measurement": "probing", "memory_gb": memory, "features_gb": COUNT * LENGTH * WIDTH * 2 / 1e9,
        "seconds": round(spent, 1), "grown_gb": round((watch.peak - watch.start) / 1e9, 3),
        "hits": made[groups[0]].validation.sum(0)[0].item(),
    }  # fmt: skip


def main() -> None:
    """Measure in this process, but each way of probing in one of its own."""
    torch.set_num_threads(1)
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if len(sys.argv) > 2:
        print(json.dumps(probing(Path(sys.argv[2]), float(sys.argv[3]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        if what != "probing":
            print(json.dumps(extraction(Path(folder), "branchformer-summarymixing-tiny")), flush=True)
        if what != "extraction":
            for memory in ("1.2", "0.12", "1.2", "0.12"):
                subprocess.run([sys.executable, __file__, "probing", folder, memory], check=True)


if __name__ == "__main__":
    main()
