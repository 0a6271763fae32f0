"""The plan: what is extrapolated from what is measured, and how near its memory is to that of the run."""

import math
import time

import numpy as np
import pytest
import soundfile
import torch

import marble
from marble.errors import MarbleError
from marble.jobs import plan
from marble.jobs.job import prepare
from marble.system.machine import memory_now, memory_peak, reset_memory_peak

QUICK = {"seeds": 2, "settings": ["probe.hidden=8"]}


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([(1.0, 0.5), (2.0, 0.7), (5.0, 1.3)], 40 * 0.3 + 90 * 0.2),  # a time for each window and for each second
        ([(3.0, 0.6), (3.0, 0.8)], 90 * 0.7 / 3),  # of equal ones nobody can tell, and seconds count
        ([(1.0, 0.1), (3.0, 0.9)], 90 * 1.0 / 4),  # a negative time for a window is none
        ([], 0.0),
    ],
)
def test_work_is_extrapolated_by_windows_and_seconds(samples, expected):
    assert plan._extrapolated(samples, 1, 40, 90.0) == pytest.approx(expected)


@pytest.mark.parametrize(("cores", "threads", "on_cpu", "expected"), [
    (1, 1, True, 30.0), (2, 1, True, 20.0), (2, 2, True, 25.0), (16, 16, True, 20.625), (16, 16, False, 20.0),
])  # fmt: skip
def test_decoding_shares_the_cores_with_encoding(monkeypatch, cores, threads, on_cpu, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert plan._together(10.0, 20.0, on_cpu) == pytest.approx(expected)


def test_probes_are_planned_in_the_stacks_that_are_trained(tones, monkeypatch):
    """Three layers of different widths are three stacks of two seeds; one of equal widths would be one."""
    measured = []

    def epoch(job, part, stack, layers, width):
        measured.append((len(part.data.train.rows), len(stack), layers, width))
        return 1.0

    monkeypatch.setattr(plan, "_epoch_seconds", epoch)
    monkeypatch.setattr(plan, "_BATCHES", 1)
    job = prepare("fbank-chroma", f"folder:{tones}", **QUICK | {"settings": ["probe.hidden=8", "probe.batch_size=4"]})
    minutes = plan.make_plan(job)["probe_minutes"]
    rows = sum(clip.split == "train" for clip in job.data.clips)
    step = math.ceil(rows / 4)
    assert measured == [(math.ceil(rows / step), 2, [layer], width) for layer, width in enumerate((80, 12, 92))]
    assert minutes * 60 == pytest.approx(3 * step * math.sqrt(21 * 100))


def test_the_plan_says_how_much_memory_the_run_takes(tmp_path):
    for number in range(12):
        noise = np.random.default_rng(number).uniform(-0.5, 0.5, (300 if not number else 1) * 16_000)
        path = tmp_path / "sounds" / "ab"[number % 2] / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise, 16_000)
    arguments = ("fbank-chroma", f"folder:{tmp_path / 'sounds'}")
    planned = plan.make_plan(prepare(*arguments, layers="0", **QUICK))["memory_gigabytes"]
    result = marble.run(*arguments, layers="0", results=tmp_path, **QUICK)
    assert planned == pytest.approx(result.cost.peak_memory_bytes / 1e9, rel=0.5)


def test_what_is_done_once_is_not_planned_again(tones, monkeypatch):
    """Clips that were rendered and files that were hashed before the plan stay so."""
    before = time.process_time()
    monkeypatch.setattr(time, "process_time", lambda: before + 1e6)
    planned = plan.make_plan(prepare("constant", f"folder:{tones}", **QUICK))
    work = planned["encode_minutes"] + planned["probe_minutes"]
    assert work < planned["total_minutes"] < work + 1e6 / 60


def test_the_peak_of_memory_begins_anew():
    reset_memory_peak()
    ballast = np.ones(2**25)
    now, high = memory_now(), memory_peak()
    assert high >= now >= ballast.nbytes
    del ballast
    reset_memory_peak()
    assert memory_peak() < high - 2**27


def test_a_plan_of_a_split_without_a_readable_clip_says_so(tones, monkeypatch):
    job = prepare("constant", f"folder:{tones}", **QUICK)
    for clip in job.data.clips:
        if clip.split == "valid":
            clip.path.unlink()
    with pytest.raises(MarbleError, match=r"No clip of the valid split .* could be used"):
        plan.make_plan(prepare("constant", f"table:{table_of(job, tones)}", **QUICK))


def table_of(job, folder):
    """Write a table of the clips of a job."""
    rows = [f"{clip.path},{clip.split},{clip.target}" for clip in job.data.clips]
    (folder / "table.csv").write_text("\n".join(["path,split,label", *rows]) + "\n")
    return folder / "table.csv"
