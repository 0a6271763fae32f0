"""Recordings that are in more than one split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from marble.task import Clip


def crossing_recordings(clips: Sequence[Clip], contents: Mapping[Path, str | OSError]) -> dict[str, list[Clip]]:
    """Return the clips of each recording that is in more than one split, by the sha256 of its content.

    Args:
        clips: of a task.
        contents: sha256 of each clip's file, as `marble.files.file_hashes` returns them; files with an error are left out.
    """
    recordings: dict[str, list[Clip]] = {}
    for clip in clips:
        content = contents[clip.path]
        if isinstance(content, str):
            recordings.setdefault(content, []).append(clip)
    return {content: group for content, group in recordings.items() if len({clip.split for clip in group}) > 1}
