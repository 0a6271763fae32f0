"""Excerpts that represent long clips: ``windows.until`` and ``windows.most`` of a protocol, or of a task.

Conventions
-----------
- A clip that lasts longer than `most` windows becomes that many excerpts of a window's length, evenly spaced from its beginning
  to its end, which are scored together; any other clip stays whole.
- A window has the length that the *task* states, so every upstream hears the same excerpts, and one that hears shorter windows
  cuts each of them.
- Before that, a clip that lasts longer than `until` ends there.
- The length of a clip is that of its times, of the tables of its data set, or of the header of its file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from marble.audio import decode as audio
from marble.audio.decode import BadAudioError
from marble.task import Clip

# Seconds before the end that are not used: tables have rounded lengths, of another encoding.
_MARGIN = 1.0


def represent(clips: Sequence[Clip], most: int | Literal["all"], seconds: float, until: float | None = None) -> list[Clip]:
    """Return the clips, each long one replaced by its excerpts.

    Args:
        clips: of a task.
        most: the number of windows that represent a longer clip.
        seconds: the length of a window.
        until: seconds of a clip that are heard, from its beginning; None is all.
    """
    if until:
        clips = [replace(clip, stop=clip.start + until) if _length(clip) > until else clip for clip in clips]
    if most == "all":
        return list(clips)
    return [excerpt for clip in clips for excerpt in _excerpts(clip, most, seconds)]


def _excerpts(clip: Clip, most: int, seconds: float) -> list[Clip]:
    length = _length(clip)
    if length <= most * seconds + _MARGIN:
        return [clip]
    step = (length - _MARGIN - seconds) / max(most - 1, 1)
    starts = [round(clip.start + number * step, 1) for number in range(most)]
    return [
        replace(clip, id=f"{clip.id}@{start:g}", start=start, stop=round(start + seconds, 1), group=clip.track)
        for start in starts
    ]


def _length(clip: Clip) -> float:
    """Return the length of a clip in seconds; 0 where its file does not state it, which a run reports."""
    if clip.stop is not None:
        return clip.stop - clip.start
    if clip.seconds is not None:
        return clip.seconds
    try:
        return audio.seconds(clip.path) - clip.start
    except BadAudioError:
        return 0.0
