"""The windows of a clip, and the description of a cache space: all that features depend on.

A built-in upstream is identified by name, version and weights; the path of its code does not matter. A class from outside
marble is identified by its path and its source as well, since versions are rarely raised in experiments.
"""

from __future__ import annotations

import inspect
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field

from marble.audio import decode as audio
from marble.errors import MarbleError
from marble.features import cache
from marble.features.frames import ROUNDING, FrameReduction, Window, frames_within
from marble.features.reduction import Reduction
from marble.settings import STRICT, Positive
from marble.system.files import file_hash

if TYPE_CHECKING:
    from marble.upstream import Upstream, UpstreamInfo


# Seconds of a window where neither protocol, task nor upstream state any: the length of most clips of music benchmarks, and
# the longest input of the built-in upstreams that have one. It bounds the memory that a long file needs.
DEFAULT_SECONDS = 30.0
# Windows of frames: their starts are multiples of a step in seconds, and their hop as many as fit into a share of a window.
_STEP, _HOP = 1.6, 0.8


def _count_or_all(value: object) -> object:
    if value not in (None, "all") and not (str(value).isascii() and str(value).isdigit() and int(str(value))):
        raise ValueError("write all, or a whole number above 0")
    return value


class Windows(BaseModel):
    """The windows of a clip.

    Attributes:
        seconds: the length of a window; None leaves it to the task and the upstream, see `resolve_windows`.
        hop: from the start of a window to that of the next, in seconds; None is the length.
        tail: the shortest rest of a clip, in seconds, that is a window of its own.
        most: how many windows of the task's length represent a longer clip (see `marble.data.excerpts`), or "all"; None leaves
            it to the task. It decides which excerpts are clips, not what becomes of a clip, so it is no part of a cache key.
    """

    model_config = STRICT
    seconds: Positive | None = None
    hop: Positive | None = None
    tail: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    most: Annotated[int | Literal["all"] | None, BeforeValidator(_count_or_all)] = None


def resolve_windows(windows: Windows, task_seconds: float | None, upstream: Upstream) -> Windows:
    """Return the windows of a protocol, completed by the lengths of the task and the upstream, in seconds.

    A protocol that states no length leaves it to the task, but no upstream then hears more at once than it was trained on
    (`trained_seconds`); where neither states one, it is the longest that the upstream takes, else `DEFAULT_SECONDS`. A clip
    that is shorter than a window is one window.

    Raises:
        MarbleError: the windows are shorter than the upstream can encode, or their hop is less than a sample.
    """
    longest = upstream.info.max_seconds
    sample = 1 / upstream.info.sample_rate
    shortest = max(upstream.info.min_seconds, sample)
    stated = [length for length in (task_seconds, upstream.info.trained_seconds) if length]
    seconds = windows.seconds or min(stated, default=None) or longest or max(DEFAULT_SECONDS, shortest)
    seconds = min(seconds, longest) if longest else seconds
    if seconds < shortest:
        raise MarbleError(
            f"Windows of {seconds:g} s are too short for {upstream.info.name}, which needs {shortest:g} s: "
            "use --set windows.seconds with a larger number."
        )
    if windows.hop and windows.hop < sample:
        raise MarbleError(f"A hop of {windows.hop:g} s is less than a sample: use --set windows.hop with a larger number.")
    return windows.model_copy(update={"seconds": seconds, "hop": windows.hop or seconds})


def cut_windows(samples: int, windows: Windows, info: UpstreamInfo) -> list[slice]:
    """Return the windows of a waveform at the upstream's rate, as slices of its samples.

    Args:
        samples: length of the waveform.
        windows: resolved; see `resolve_windows`.
        info: of the upstream; a rest that is shorter than its shortest input is no window.
    """
    rate = info.sample_rate
    length = round(windows.seconds * rate) if windows.seconds else None
    tail = max(round(windows.tail * rate), shortest_input(info))
    return audio.window_slices(samples, length, round((windows.hop or 1) * rate), tail)


def overlapping(windows: Windows, hop: float | None) -> Windows:
    """Return resolved windows for frames: they overlap by a fifth or a little more, or as a protocol's `hop` says."""
    seconds = windows.seconds or DEFAULT_SECONDS
    step = _step(seconds)
    whole = step * math.floor(_HOP * seconds / step + ROUNDING)
    return windows.model_copy(update={"hop": min(hop or whole or _HOP * seconds, seconds)})


def _step(seconds: float) -> float:
    """Return what the starts of windows of this length are multiples of, in seconds."""
    return _STEP if seconds >= 3 * _STEP else _STEP / 4


def windows_of(samples: int, windows: Windows, info: UpstreamInfo, reduction: Reduction | FrameReduction) -> list[Window]:
    """Return the windows of a waveform of some samples at the upstream's rate; for frames, `overlapping` ones."""
    if isinstance(reduction, Reduction):
        return [Window(cut, cut.start / info.sample_rate, range(1)) for cut in cut_windows(samples, windows, info)]
    rate, length = info.sample_rate, windows.seconds or DEFAULT_SECONDS
    seconds, hop, step = samples / rate, windows.hop or length, _step(length)
    last = min(step * math.ceil((seconds - length) / step - ROUNDING), seconds - info.min_seconds)
    begins = [hop * number for number in range(math.ceil(last / hop - ROUNDING))] + [last] if last > 0 else [0.0]
    ends = [min(begin + length, seconds) for begin in begins]
    parts = [(begin + end) / 2 for begin, end in zip(begins[1:], ends[:-1], strict=True)]
    limits = [0, *(frames_within(reduction.stored, part) for part in parts), frames_within(reduction.stored, seconds)]
    return [
        Window(slice(round(begin * rate), min(round(end * rate), samples)), begin, range(*limits[number : number + 2]))
        for number, (begin, end) in enumerate(zip(begins, ends, strict=True))
    ]


def shortest_input(info: UpstreamInfo) -> int:
    """Return the shortest waveform that an upstream encodes, in samples."""
    return math.ceil(info.min_seconds * info.sample_rate)


def describe_space(
    upstream: Upstream, windows: Windows, reduction: Reduction | FrameReduction, channels: audio.Channels = "mean"
) -> dict[str, object]:
    """Return everything that turns audio into the features of a prepared upstream; the description of a cache space.

    The mean of the channels, which is the default, is not written into it.

    Raises:
        MarbleError: the class of an upstream from outside marble has no source file.
    """
    owner = type(upstream)
    description: dict[str, object] = {
        "format": cache.FORMAT,
        "upstream": upstream.info.name,
        "version": upstream.info.version,
        "weights": upstream.weights_sha256,
        "sample_rate": upstream.info.sample_rate,
        "min_seconds": upstream.info.min_seconds,
        "audio": audio.VERSION,
        "windows": windows.model_dump(exclude={"most"}),
        "reduction": reduction.name,
        "precision": upstream.precision,
    }
    if channels != "mean":
        description["channels"] = channels
    if not owner.__module__.startswith("marble."):
        description["class"] = f"{owner.__module__}:{owner.__qualname__}"
        try:
            description["source"] = [file_hash(path) for path in _sources(sys.modules[owner.__module__])]
        except (TypeError, OSError) as error:
            raise MarbleError(
                f"The class {owner.__qualname__} has no source file, so that a change would go unnoticed: put it into a module."
            ) from error
    return description


def _sources(module: ModuleType) -> list[Path]:
    """Return the file of a module, and the files beside or below it of the modules that it uses, directly or through others.

    A module uses the content of its namespace. Installed packages and marble itself are left out.
    """
    home = Path(inspect.getfile(module)).parent
    files = {module.__name__: Path(inspect.getfile(module))}
    unread = [module]
    while unread:
        for value in vars(unread.pop()).values():
            name = value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", None))
            path = Path(getattr(sys.modules.get(name), "__file__", None) or "")
            own = path.is_relative_to(home) and "site-packages" not in (home.name, *path.relative_to(home).parts)
            if own and name not in files and name.partition(".")[0] != "marble":
                files[name] = path
                unread.append(sys.modules[name])
    return [files[name] for name in sorted(files)]
