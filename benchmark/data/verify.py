"""Check the files of a task: checksums, sizes of splits, artists in training and elsewhere, unreadable clips, leakage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from marble.audio.workers import Request, WorkerPool
from marble.data.prepare import state
from marble.errors import MarbleError
from marble.files import file_hashes, readable
from marble.progress import Reporter
from marble.task import SPLITS, Clip, Task

_RATE = 16_000


@dataclass(frozen=True)
class Finding:
    """One thing that was checked: whether it is as it should be, what was found, and what is wrong, one by one."""

    check: str
    good: bool
    found: str
    wrong: tuple[str, ...] = ()


def verify(task: Task, root: Path, *, workers: int | None = None, reporter: Reporter | None = None) -> Iterator[Finding]:
    """Check the files of a task, and yield what was found; arguments as in `prepare`."""
    reporter = reporter or Reporter()
    if task.resources:
        states = {resource.path: state(resource, root, thorough=True) for resource in task.resources}
        wrong = tuple(f"{root / path}: {found}" for path, found in states.items() if found != "there")
        yield Finding("files", not wrong, f"{len(states) - len(wrong)} of {len(states)} are there", wrong)
    try:
        clips = task.read(root)
    except MarbleError as error:
        yield Finding("splits", False, str(error))
        return
    tracks = {split: len({clip.track for clip in clips if clip.split == split}) for split in SPLITS}
    as_declared = "as declared" if task.split_sizes else "the task declares none"
    yield Finding("splits", True, ", ".join(f"{count:,} {split}" for split, count in tracks.items()) + f" ({as_declared})")
    if any(clip.artist for clip in clips):
        yield _artists(clips)
    yield _audio(clips, workers, reporter)
    yield _doubles(clips, reporter)


def _artists(clips: Sequence[Clip]) -> Finding:
    trained, others = ({clip.artist for clip in clips if (clip.split == "train") == fit} for fit in (True, False))
    shared = tuple(sorted(artist for artist in trained & others if artist))
    return Finding("artists", not shared, f"{len(shared)} of {len(trained | others):,} stand in training and elsewhere", shared)


def _audio(clips: Sequence[Clip], workers: int | None, reporter: Reporter) -> Finding:
    requests = list(dict.fromkeys(Request(clip.path, _RATE, clip.start, clip.stop) for clip in clips))
    bad = []
    with WorkerPool(workers) as pool, reporter.stage("decode", len(requests), "clips") as advance:
        for request, answer in zip(requests, pool.map(requests), strict=True):
            if isinstance(answer, Exception):
                bad.append(f"{readable(request.path)} {answer}")
            advance(1)
    return Finding("audio", not bad, f"{len(requests) - len(bad):,} of {len(requests):,} clips can be decoded", tuple(bad))


def _doubles(clips: Sequence[Clip], reporter: Reporter) -> Finding:
    splits = {clip.path: clip.split for clip in clips}
    with reporter.stage("hash", len(splits), "files") as advance:
        hashes = file_hashes(splits, lambda: advance(1))
    held: dict[str, list[Path]] = {}
    for path, content in hashes.items():
        if isinstance(content, str):
            held.setdefault(content, []).append(path)
    doubles = [paths for paths in held.values() if len(paths) > 1]
    crossing = [paths for paths in doubles if len({splits[path] for path in paths}) > 1]
    wrong = tuple(", ".join(f"{readable(path)} ({splits[path]})" for path in paths) for paths in crossing)
    found = f"{len(crossing)} recordings stand in two splits, {len(doubles) - len(crossing)} twice in one"
    return Finding("leakage", not crossing, found, wrong)
