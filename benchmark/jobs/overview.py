"""Overview of the clips of a task: their labels, reasons to trust scores less, and splits that are of no use."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from marble.data.leakage import contradicting_clips, crossing_recordings
from marble.errors import MarbleError
from marble.kinds import kind_of
from marble.results.schema import BadClip
from marble.system.files import readable
from marble.task import SPLITS, Clip, Task

_SHOWN = 12


def counts(task: Task, clips: Sequence[Clip]) -> str:
    """Return the number of tracks of each label in each split, in words; many labels are summed up."""
    tracks = {clip.track: clip for clip in clips}.values()
    sizes = Counter(clip.split for clip in tracks)
    text = f"{_three([sizes[split] for split in SPLITS])} tracks in train / valid / test"
    if kind_of(task.kind).numeric:
        values = task.encode(list(tracks))
        ranges = zip(task.labels, values.min(0), values.max(0), strict=True)
        return f"{text}: {', '.join(f'{name} from {low:g} to {high:g}' for name, low, high in ranges)}"
    if kind_of(task.kind).of_frames:
        hours = task.encode(list(tracks)).sum(axis=0) / 3600
        shares = hours / hours.sum()
        shown = ", ".join(f"{label} {share:.0%}" for label, share in zip(task.labels, shares, strict=True))
        spread = shown if len(shares) <= _SHOWN else f"{shares.min():.1%} to {shares.max():.1%} of the time each"
        trained = task.encode([clip for clip in tracks if clip.split == "train"]).sum(axis=0)
        commonest = f"'{task.labels[trained.argmax()]}' most in training, {trained.max() / trained.sum():.1%}"
        return f"{text}, {hours.sum():.1f} h of {len(hours)} labels: {spread}; {commonest}"
    table = Counter((label, clip.split) for clip in tracks for label in _labels(clip))
    rows = [[table[label, split] for split in SPLITS] for label in task.labels]
    if len(rows) <= _SHOWN:
        shown = ", ".join(f"{label} {_three(row)}" for label, row in zip(task.labels, rows, strict=True))
        return f"{text}, {len(rows)} labels: {shown}"
    ends = [f"{min(column)} to {max(column)}" for column in zip(*rows, strict=True)]
    return f"{text}, {len(rows)} labels of {_three(ends)} each"


def crossing_caution(clips: Sequence[Clip], contents: dict[Path, str | OSError]) -> list[str]:
    """Return a sentence about recordings that stand in two splits, if there are any."""
    crossing = [clip.path for group in crossing_recordings(clips, contents).values() for clip in group]
    return [
        f"{len(crossing)} clips are of recordings that stand in another split as well: their scores tell what was remembered "
        f"(first {readable(path)})."
        for path in crossing[:1]
    ]


def contradictions(clips: Sequence[Clip], keys: Sequence[str]) -> list[str]:
    """Return a sentence about clips whose audio has other labels in another clip, if there are any.

    Args:
        clips: of a task.
        keys: of their audio.
    """
    several = contradicting_clips(clips, keys)
    return [
        f"{len(several)} clips have the audio of another clip and other labels than it: one of the two is wrong "
        f"(first {readable(clip.path)}, {_listed(_labels(clip))})."
        for clip in several[:1]
    ]


def label_cautions(task: Task, clips: Sequence[Clip]) -> list[str]:
    """Return a sentence about labels without a clip to train on, and one about metrics whose mean leaves out labels."""
    unknown = kind_of(task.kind).untrained([clip.target for clip in clips if clip.split == "train"], task.labels)
    untrained = f"{len(unknown)} labels have no clip to train on, so nothing can find them: {_listed(unknown)}."
    return [untrained] * bool(unknown) + _partial_means(task, clips)


def limited(task: Task, clips: list[Clip], limit: int | None) -> list[Clip]:
    """Return the clips of at most `limit` tracks of each split: one of each label in turn, each drawn by a hash of the track.

    Raises:
        MarbleError: the limit leaves nothing to learn: no track, or training tracks of one class.
    """
    if limit is None:
        return clips
    kept: set[str] = set()
    for split in SPLITS:
        stratum_of = {
            clip.track: "" if kind_of(task.kind).numeric or task.frames else str(clip.target)
            for clip in clips
            if clip.split == split
        }
        turns: Counter[str] = Counter()
        order = []
        for track in sorted(stratum_of, key=_rank):
            order.append((turns[stratum_of[track]], _rank(stratum_of[track]), track))
            turns[stratum_of[track]] += 1
        kept |= {track for _, _, track in sorted(order)[:limit]}
    few = [clip for clip in clips if clip.track in kept]
    if limit < 1 or (_classes(clips) > 1 >= _classes(few)):
        raise MarbleError(f"--limit {limit} leaves one class to train on, or none: allow more tracks.")
    return few


def refuse_useless_splits(task: Task, clips: Sequence[Clip], bad: Sequence[BadClip], cause: str) -> None:
    """Raise a `MarbleError` where a split has no clip left or training one class, with an example of the bad clips.

    Args:
        task: of the clips.
        clips: that can be used.
        bad: those that cannot.
        cause: where to look for it, in words.
    """
    for split in SPLITS:
        example = next((f" ({clip.path} {clip.reason})" for clip in bad if clip.split == split), "")
        if not any(clip.split == split for clip in clips):
            raise MarbleError(f"No clip of the {split} split of {task.name} could be used{example}: check {cause}.")
        if split == "train" and _classes(clips) == 1:
            (label,) = {clip.target for clip in clips if clip.split == split}
            raise MarbleError(f"{task.name} has clips of one class to train on, '{label}'{example}: check {cause}.")


def _partial_means(task: Task, clips: Sequence[Clip]) -> list[str]:
    """Return a sentence for metrics of the test split whose mean leaves out labels."""
    tested = list({clip.track: clip for clip in clips if clip.split == "test"}.values())
    targets = task.encode(tested)
    covered: dict[str, np.ndarray]
    if targets.ndim == 1:
        present = np.bincount(targets, minlength=len(task.labels)) > 0
        covered = {"balanced_accuracy": present, "ordinal_balanced_accuracy": present, "ordinal_mse": present}
    else:
        varying = targets.min(0) < targets.max(0)
        covered = {"roc_auc": varying, "average_precision": targets.max(0) > 0, "r2": varying}
    metrics_without: dict[tuple[str, ...], list[str]] = {}
    for metric in task.metrics:
        without = tuple(label for label, known in zip(task.labels, covered.get(metric, np.empty(0)), strict=False) if not known)
        metrics_without.setdefault(without, []).append(metric)
    return [
        f"{' and '.join(metrics)} of test: the mean over {len(task.labels) - len(without)} of {len(task.labels)} labels, since "
        f"its tracks do not tell about {_listed(without)}."
        for without, metrics in metrics_without.items()
        if without
    ]


def _labels(clip: Clip) -> tuple:
    return clip.target if isinstance(clip.target, tuple) else (clip.target,)


def _classes(clips: Sequence[Clip]) -> int:
    """Return the number of classes that are trained; those of tags or numbers are not counted."""
    return len({clip.target for clip in clips if clip.split == "train" and isinstance(clip.target, str)})


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(map(repr, labels[:_SHOWN])) + (f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else "")


def _rank(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _three(values: Sequence[object]) -> str:
    return " / ".join(map(str, values))
