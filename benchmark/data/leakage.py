"""Leakage: recordings in more than one split or under two labels, and music that an upstream may have heard in training."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

from marble.frames import Spans
from marble.task import Clip, Task
from marble.upstream import UpstreamInfo

# Training data of which nobody has published the list of recordings.
UNLISTED = "unlisted recordings"
# The names in `UpstreamInfo.trained_on` and `Task.audio_from`. The Million Song Dataset is of commercial releases, and so are
# GTZAN (Sturm 2013, arXiv 1306.1461) and the previews of GiantSteps.
COLLECTIONS = (
    "commercial releases", "the Free Music Archive", "Jamendo", "Magnatune", "YouTube", "marble's synthesiser", UNLISTED,
)  # fmt: skip


def contamination(info: UpstreamInfo, task: Task) -> str | None:
    """Return a sentence where the upstream may have been trained on the audio of the task, by the collections of both."""
    about = f"The upstream may have heard this music: {info.name} was trained on {info.training_data}"
    shared = [name for name in task.audio_from if name in info.trained_on]
    if shared:
        return f"{about}; this and {task.name} both draw on {' and '.join(shared)}."
    if UNLISTED in info.trained_on and task.audio_from and not task.synthetic:
        return f"{about}, and nobody has published which recordings these are."
    return None


def crossing_recordings(clips: Sequence[Clip], contents: Mapping[Path, str | OSError]) -> dict[str, list[Clip]]:
    """Return the clips of each recording that is in more than one split, by the sha256 of its content.

    Args:
        clips: of a task.
        contents: sha256 of each clip's file, from `marble.system.files.file_hashes`; files with an error are left out.
    """
    recordings: dict[str, list[Clip]] = {}
    for clip in clips:
        content = contents[clip.path]
        if isinstance(content, str):
            recordings.setdefault(content, []).append(clip)
    return {content: group for content, group in recordings.items() if len({clip.split for clip in group}) > 1}


def contradicting_clips(clips: Sequence[Clip], keys: Sequence[Hashable]) -> list[Clip]:
    """Return the clips whose class or tags are other ones than those of the first clip with the same audio.

    Args:
        clips: of a task.
        keys: of their audio: equal for equal excerpts.
    """
    first: dict[Hashable, Clip] = {}
    pairs = ((first.setdefault(key, clip), clip) for clip, key in zip(clips, keys, strict=True))
    return [clip for other, clip in pairs if clip.target != other.target and not _of_numbers(clip)]


def _of_numbers(clip: Clip) -> bool:
    return not isinstance(clip.target, Spans) and any(not isinstance(part, str) for part in clip.target)
