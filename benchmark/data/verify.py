"""Check the files of a task: checksums, how tables are read, sizes of splits, artists in training and elsewhere, unreadable
clips, leakage.

Everything is read: each file with a checksum, each clip (decoded), and the bytes of each recording.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from marble.audio.workers import Request, WorkerPool
from marble.data.leakage import contradicting_clips, crossing_recordings
from marble.data.prepare import state
from marble.errors import MarbleError, named_once
from marble.system.files import file_hashes, readable
from marble.system.progress import Reporter
from marble.task import SPLITS, Clip, Task

_RATE = 16_000


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: whether it passed, its counts in words, and each fault."""

    check: str
    good: bool
    found: str
    wrong: tuple[str, ...] = ()


def verify(task: Task, root: Path, *, workers: int | None = None, reporter: Reporter | None = None) -> Iterator[Finding]:
    """Check the files of a task and yield the outcome of each check.

    Args:
        task: the task whose files are checked.
        root: the data root.
        workers: decoding processes; None chooses.
        reporter: shows the progress; silent by default.

    Raises:
        MarbleError: a clip ended two workers, as a rule for lack of memory.
    """
    reporter = reporter or Reporter()
    if task.resources:
        states = {resource.path: state(resource, root, thorough=True) for resource in task.resources}
        wrong = tuple(f"{root / path}: {fault}" for path, fault in states.items() if fault != "there")
        yield Finding("files", not wrong, f"{len(states) - len(wrong)} of {len(states)} are there", wrong)
    try:
        clips = task.read(root)
    except MarbleError as error:
        yield Finding("splits", False, str(error))
        return
    if task.notes:
        yield Finding("reading", True, "; ".join(task.notes))
    tracks = {split: len({clip.track for clip in clips if clip.split == split}) for split in SPLITS}
    as_declared = "as declared" if task.split_sizes else "the task declares none"
    yield Finding("splits", True, ", ".join(f"{count:,} {split}" for split, count in tracks.items()) + f" ({as_declared})")
    if any(clip.artist for clip in clips):
        yield _artists(clips)
    yield _audio(clips, workers, reporter)
    yield from _copies(clips, reporter)


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
                bad.append((readable(request.path), str(answer)))
            advance(1)
    return Finding(
        "audio", not bad, f"{len(requests) - len(bad):,} of {len(requests):,} clips can be decoded", tuple(named_once(bad))
    )


def _copies(clips: Sequence[Clip], reporter: Reporter) -> Iterator[Finding]:
    paths = dict.fromkeys(clip.path for clip in clips)
    with reporter.stage("hash", len(paths), "files") as advance:
        contents = file_hashes(paths, lambda: advance(1))
    crossing = crossing_recordings(clips, contents)
    copied = sum(files > 1 for content, files in Counter(contents.values()).items() if content not in crossing)
    wrong = (dict.fromkeys(f"{readable(clip.path)} ({clip.split})" for clip in group) for group in crossing.values())
    counts = f"{len(crossing)} recordings stand in two splits, {copied} twice in one"
    yield Finding("leakage", not crossing, counts, tuple(map(", ".join, wrong)))
    read = [clip for clip in clips if isinstance(contents[clip.path], str)]
    doubtful = contradicting_clips(read, [(contents[clip.path], clip.start, clip.stop) for clip in read])
    named = tuple(f"{readable(clip.path)} ({clip.target})" for clip in doubtful)
    yield Finding("labels", not doubtful, f"{len(doubtful)} clips have the audio of another and other labels than it", named)
