"""Manifests: other people's lists of the clips of a task, ``--task gtzan --manifest SOURCE``.

A manifest replaces clips, splits and targets; kind, labels, metrics and window stay, and every window of a clip is heard. The
task is then called ``gtzan@NAME``. A warning is given if its splits do not have the official sizes.

Source
    A JSONL file, a folder, or ``hf:NAME``; see `marble.tasks.own.manifest_rows`.
Fields of a row
    ``audio_path``, ``audio``, ``path`` or ``file`` (the first present): a path, or the bytes of a file.
    ``label``, ``labels`` or ``target``: the target. A tag may carry its category (``genre---rock``).
    ``ori_uid`` or ``group``: the track of a clip; optional.
    ``split``: where the source does not state it. Other fields are ignored.
Audio
    A path is looked for in the manifest's folder, the folder above, the current folder and the data root, first whole, then
    without its first folder, its first two, and so on. So ``data/GTZAN/genres/…`` is found whichever part of it exists. The
    rule that finds one file holds for all. Bytes are written once to ``$MARBLE_HOME/audio``, named after their sha256.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from marble.errors import MarbleError
from marble.kinds import KINDS, Target
from marble.system.files import readable, user_path
from marble.task import SPLITS, Clip, Task
from marble.tasks.own.manifest_rows import Row, open_rows
from marble.tasks.own.paths import stored
from marble.tasks.splits import ALIASES

_AUDIO, _TARGET, _TRACK = ("audio_path", "audio", "path", "file"), ("label", "labels", "target"), ("ori_uid", "group")


def with_manifest(task: Task, source: str, *, offline: bool = False) -> Task:
    """Return the same task on the clips of a manifest.

    Args:
        task: any task.
        source: FILE, FOLDER or hf:NAME.
        offline: take a dataset of the hub from the hub's cache alone.

    Raises:
        MarbleError: there is no manifest, or several fit; when the clips are read: a row is wrong, or there is no audio.
    """
    manifest = open_rows(task.name, source, offline=offline)

    def clips(root: Path) -> list[Clip]:
        """Return the clips of the manifest, their files looked for beside it and below the data root."""
        folder = manifest.folder.absolute()
        listed = _located([_clip(task, row) for row in manifest.read()], [folder, folder.parent, Path.cwd(), root])
        sizes = Counter({clip.track: clip.split for clip in listed}.values())
        if task.split_sizes and sizes != task.split_sizes:
            present, official = (" / ".join(str(size[split]) for split in SPLITS) for size in (sizes, task.split_sizes))
            warnings.warn(
                f"{manifest.name} has {present} tracks in train / valid / test, the official split of {task.name} has "
                f"{official}: its numbers are not those of the official split",
                stacklevel=2,
            )
        return listed

    place = source if source.startswith("hf:") else readable(user_path(source).absolute())
    return replace(task, name=f"{task.name}@{manifest.name}", clips=clips, source=place, split_sizes=None, most_windows=None)


def _clip(task: Task, row: Row) -> Clip:
    """Return the clip of a row; its path is still that of the manifest."""
    split = str(row.fields.get("split") or row.split)
    if split.lower() not in ALIASES:
        raise MarbleError(f"{row.name} is of no known split ('{split}'): write train, validation or test in a field 'split'.")
    audio, track = _first(row, _AUDIO), _first(row, _TRACK)
    path, content = (audio.get("path"), audio.get("bytes")) if isinstance(audio, dict) else (audio, None)
    if not content and not (path and isinstance(path, str)):
        raise MarbleError(f"{row.name} names no audio: give it a path in one of the fields {', '.join(_AUDIO)}.")
    return Clip(
        id=row.name if content else path,
        path=stored(content) if content else Path(path),
        split=ALIASES[split.lower()],
        target=_target(task, row.name, _first(row, _TARGET)),
        group=None if track is None else str(track),
    )


def _first(row: Row, names: tuple[str, ...]) -> Any:
    return next((row.fields[name] for name in names if row.fields.get(name) is not None), None)


def _located(clips: list[Clip], folders: list[Path]) -> list[Clip]:
    """Return the clips with paths that exist, by the first rule that finds the file of one of 64 clips."""
    sample = [clip.path.parts for clip in clips[:: max(1, len(clips) // 64)]]
    for left_out in range(max(map(len, sample), default=0)):
        for parts in sample:
            for folder in folders:
                if folder.joinpath(*parts[left_out:]).is_file():
                    return [replace(clip, path=folder.joinpath(*clip.path.parts[left_out:])) for clip in clips]
    if clips:
        raise MarbleError(
            f"The audio of the manifest is not there, '{clips[0].path}' for one: put it below {folders[0]}, or name the folder "
            "that it lies in with --data-root."
        )
    return clips


def _target(task: Task, where: str, value: object) -> Target:
    if value is None:
        raise MarbleError(
            f"{where} has no target: write it into a field {', '.join(_TARGET)}; for labels of your own, --task table:FILE."
        )
    kind = KINDS[task.kind]
    target = kind.parse(value if isinstance(value, list) else [value], task.labels)
    if target is None:
        raise MarbleError(
            f"{where} has the target {value!r} where {task.name} needs {kind.needs}: marble info task {task.name} lists them."
        )
    return target
