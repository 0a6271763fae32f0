"""From clips to features in the cache: decode, cut into windows, encode, reduce, write shards.

Conventions
-----------
- Clips are encoded in shards of `SHARD_CLIPS`, in their order; a killed run loses at most the shard it was in.
- A process claims each clip before it encodes it: processes that share a cache encode no clip twice, whatever their tasks.
- Only the clips and layers that the cache lacks are encoded; blocks after the last wanted layer never run.
- On a CPU no batch holds windows of two clips, so the features of a clip depend on that clip alone, byte for byte, whatever
  the cache already held. On a GPU windows of equal length are batched across clips.
- A layer is reduced to rows in float32 the moment it appears (`marble.features.reduction`); windows are never padded. A clip
  shorter than the upstream's shortest input is extended with zeros to just that.
- Frames (`marble.features.frames`) fill more memory and disk: a shard has fewer tracks, and a file for each layer.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from marble.audio.decode import BadAudioError, Channels
from marble.audio.workers import Request, WorkerPool
from marble.errors import MarbleError, is_out_of_memory
from marble.features.cache import Space
from marble.features.frames import SHARD_TRACKS, FrameReduction, Window
from marble.features.reduction import Reduction
from marble.features.space import Windows, shortest_input, windows_of
from marble.system.files import locked, readable
from marble.upstream import Upstream

SHARD_CLIPS = 64
BATCH = {"cpu": 8, "cuda": 64}
# On a CPU a clip that lasts longer than this is encoded in batches of fewer seconds, since its waveform fills memory as well.
# Batches change the last bit of features, so clips of usual length keep theirs.
LONG_SECONDS = 600.0
LONG_BATCH_SECONDS = 60.0


@dataclass(frozen=True)
class Excerpt:
    """A clip without its task, to be encoded. Times in seconds."""

    key: str
    path: Path
    start: float
    stop: float | None
    channels: Channels = "mean"


@dataclass
class Extraction:
    """The outcome of an extraction: reasons of bad clips by key, good clips encoded, seconds of audio, seconds of encoding.

    `wide` are the layers of frames with values that are too large or too small for float16.
    """

    bad: dict[str, str] = field(default_factory=dict)
    wide: set[int] = field(default_factory=set)
    clips: int = 0
    audio_seconds: float = 0.0
    encoder_seconds: float = 0.0


def extract(
    upstream: Upstream,
    space: Space,
    excerpts: Sequence[Excerpt],
    layers: Sequence[int],
    windows: Windows,
    reduction: Reduction | FrameReduction,
    *,
    workers: int | None = None,
    on_clip: Callable[[str], object] = lambda key: None,
) -> Extraction:
    """Bring the features of all excerpts into the cache.

    Args:
        upstream: prepared for inference.
        space: the cache space of its features.
        excerpts: the clips to encode.
        layers: the wanted layers, ascending.
        windows: resolved; see `marble.features.space.resolve_windows`, and for frames `overlapping`.
        reduction: from the hidden states of a window to its rows.
        workers: decoding processes; None chooses.
        on_clip: called with the key of each excerpt that is encoded, found in the cache, or bad.

    Returns:
        The outcome; bad audio is listed in it and left out of the cache.

    Raises:
        MarbleError: the cache cannot be read or written, or the upstream does not yield the layers of its info.
    """
    done = Extraction()
    unique = list({excerpt.key: excerpt for excerpt in excerpts}.values())
    size = SHARD_CLIPS if isinstance(reduction, Reduction) else SHARD_TRACKS
    waiting = deque(unique[begin : begin + size] for begin in range(0, len(unique), size))
    space.refresh()
    with WorkerPool(workers) as pool:
        encoder = _Encoder(upstream, layers, windows, reduction, pool, done, on_clip)
        busy = 0
        while waiting:
            shard = waiting.popleft()
            absent = _absent(space, shard, layers, on_clip)
            # Where other processes encode all that is left, wait for one of them.
            with ExitStack() as claims:
                mine = [
                    excerpt
                    for number, excerpt in enumerate(absent)
                    if claims.enter_context(locked(space.clip_path(excerpt.key), wait=busy > len(waiting) and not number))
                ]
                if mine:
                    space.refresh()
                    if new := _absent(space, mine, layers, on_clip):
                        encoder.fill(space, new)
            busy = 0 if mine or not absent else busy + 1
            claimed = {excerpt.key for excerpt in mine}
            if others := [excerpt for excerpt in absent if excerpt.key not in claimed]:
                waiting.append(others)
    return done


def _absent(
    space: Space, excerpts: Sequence[Excerpt], layers: Sequence[int], on_clip: Callable[[str], object]
) -> list[Excerpt]:
    """Return the excerpts that lack a layer, and report the others."""
    missing = set(space.missing([excerpt.key for excerpt in excerpts], layers))
    for excerpt in excerpts:
        if excerpt.key not in missing:
            on_clip(excerpt.key)
    return [excerpt for excerpt in excerpts if excerpt.key in missing]


class _Piece(NamedTuple):
    """A window of a clip, its number in it, its samples float32[N], and how many of its like are encoded together."""

    clip: int
    number: int
    window: Window
    samples: np.ndarray
    batch: int


@dataclass
class _Encoder:
    """Encodes the clips of one shard after another."""

    upstream: Upstream
    layers: Sequence[int]
    windows: Windows
    reduction: Reduction | FrameReduction
    pool: WorkerPool
    done: Extraction
    on_clip: Callable[[str], object]

    def fill(self, space: Space, shard: Sequence[Excerpt]) -> None:
        """Encode a shard and write it."""
        layers = [layer for layer in self.layers if space.missing([excerpt.key for excerpt in shard], [layer])]
        counts: dict[int, int] = {}
        reduced: dict[tuple[int, int], dict[int, np.ndarray]] = {}
        for batch in self._batches(self._pieces(shard, counts)):
            waveform = torch.from_numpy(np.stack([piece.samples for piece in batch]))
            begin = time.perf_counter()
            paths, windows = [shard[piece.clip].path for piece in batch], [piece.window for piece in batch]
            rows = reduced_layers(self.upstream, waveform, layers, self.reduction, paths, windows)
            self.done.encoder_seconds += time.perf_counter() - begin
            for number, piece in enumerate(batch):
                # Copies: what a batch leaves above its own large tensors keeps their memory from being used again.
                reduced[piece.clip, piece.number] = {layer: values[number].copy() for layer, values in rows.items()}
            del rows
        for (clip, _), rows in sorted(reduced.items()):
            broken = [layer for layer, values in rows.items() if not np.isfinite(values).all()]
            if broken and counts.pop(clip, None):
                self.done.bad[shard[clip].key] = (
                    f"gives {self.upstream.info.name} values that are not finite in layer {broken[0]}"
                )
        good = {clip: [reduced[clip, window] for window in range(counts[clip])] for clip in sorted(counts)}
        self.done.clips += len(good)
        if not good:
            return
        keys, rows_of = (
            [shard[clip].key for clip in good],
            [sum(len(rows[layers[0]]) for rows in clip) for clip in good.values()],
        )
        # Frames have a file for each layer, so that a layer is read, and held in memory once more, alone.
        for group in [layers] if isinstance(self.reduction, Reduction) else [[layer] for layer in layers]:
            features = {layer: np.concatenate([rows[layer] for clip in good.values() for rows in clip]) for layer in group}
            space.write(keys, rows_of, features)
            if not isinstance(self.reduction, Reduction):
                self.done.wide |= {layer for layer, values in features.items() if values.dtype == np.float32}

    def _pieces(self, shard: Sequence[Excerpt], counts: dict[int, int]) -> Iterator[_Piece]:
        """Yield the windows and note the number of windows of each good clip."""
        rate, shortest = self.upstream.info.sample_rate, shortest_input(self.upstream.info)
        requests = [Request(excerpt.path, rate, excerpt.start, excerpt.stop, excerpt.channels) for excerpt in shard]
        for clip, waveform in enumerate(self.pool.map(requests)):
            self.on_clip(shard[clip].key)
            if isinstance(waveform, BadAudioError):
                self.done.bad[shard[clip].key] = str(waveform)
                continue
            if len(waveform) < shortest:
                waveform = np.pad(waveform, (0, shortest - len(waveform)))
            windows = windows_of(len(waveform), self.windows, self.upstream.info, self.reduction)
            counts[clip] = len(windows)
            batch = batch_size(self.upstream.device, len(waveform) / rate, windows[0].samples.stop / rate)
            for number, window in enumerate(windows):
                yield _Piece(clip, number, window, waveform[window.samples], batch)
            self.done.audio_seconds += len(waveform) / rate

    def _batches(self, pieces: Iterator[_Piece]) -> Iterator[list[_Piece]]:
        """Group pieces of equal length; on a CPU only pieces of one clip."""
        on_cpu = self.upstream.device.type == "cpu"
        pending: dict[int, list[_Piece]] = {}
        current = -1
        for piece in pieces:
            if on_cpu and piece.clip != current:
                yield from pending.values()
                pending.clear()
                current = piece.clip
            length = len(piece.samples)
            group = pending.setdefault(length, [])
            # Elsewhere a piece may wait for those of other clips; a slice would hold its whole clip.
            group.append(piece if on_cpu else piece._replace(samples=piece.samples.copy()))
            if len(group) == piece.batch:
                yield pending.pop(length)
        yield from pending.values()


def batch_size(device: torch.device, clip_seconds: float, window_seconds: float) -> int:
    """Return how many windows of a clip are encoded together."""
    size = BATCH[device.type]
    if device.type == "cpu" and clip_seconds > LONG_SECONDS:
        return max(1, min(size, int(LONG_BATCH_SECONDS / window_seconds)))
    return size


@torch.inference_mode()
def reduced_layers(
    upstream: Upstream,
    waveform: Tensor,
    layers: Sequence[int],
    reduction: Reduction | FrameReduction,
    paths: Sequence[Path],
    windows: Sequence[Window] = (),
) -> dict[int, list[np.ndarray]]:
    """Encode a batch and reduce each wanted layer.

    Args:
        upstream: prepared for inference.
        waveform: ``Tensor[B, N]`` at the upstream's rate, on the CPU.
        layers: the wanted layers, ascending; blocks after the last one do not run.
        reduction: from the hidden states of a window to its rows.
        paths: the B files of the windows.
        windows: the B windows; a pooling reads none.

    Returns:
        For each layer the rows of each window, B times float32[R, E], or float16. Where the memory does not hold the batch, it
        is encoded in halves.

    Raises:
        MarbleError: the upstream does not yield the layers of its `info`, or the memory does not hold one window.
    """
    try:
        return _rows(upstream, waveform, layers, reduction, windows)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(waveform) == 1:
            length = waveform.shape[1] / upstream.info.sample_rate
            raise MarbleError(
                f"{upstream.info.name} needs more memory than there is for one window of {length:g} s of {readable(paths[0])}: "
                "lower windows.seconds with --set windows.seconds=N, or use --precision bf16 where the upstream has it."
            ) from error
    if upstream.device.type == "cuda":
        torch.cuda.empty_cache()
    middle = (len(waveform) + 1) // 2
    halves = [
        reduced_layers(upstream, waveform[half], layers, reduction, paths[half], windows[half])
        for half in (slice(middle), slice(middle, None))
    ]
    return {layer: [rows for half in halves for rows in half[layer]] for layer in layers}


def _rows(
    upstream: Upstream,
    waveform: Tensor,
    layers: Sequence[int],
    reduction: Reduction | FrameReduction,
    windows: Sequence[Window],
) -> dict[int, list[np.ndarray]]:
    rows: dict[int, Tensor | list[Tensor]] = {}
    for layer, hidden in enumerate(upstream.layers(waveform.to(upstream.device))):
        if layer in layers:
            _refuse_shape(upstream, layer, hidden, len(waveform))
            rows[layer] = reduction(hidden.float(), windows)
        if layer == layers[-1]:
            break
    if len(rows) < len(layers):
        raise _broken(upstream, f"yields fewer layers than the {len(upstream.info.layers)} of its info")
    return {layer: _arrays(values) for layer, values in rows.items()}


def _arrays(rows: Tensor | list[Tensor]) -> list[np.ndarray]:
    """Return the rows of each window on the CPU; those of a pooling come in one transfer."""
    if isinstance(rows, Tensor):
        return list(rows.cpu().numpy())
    return [values.cpu().numpy() for values in rows]


def _refuse_shape(upstream: Upstream, layer: int, hidden: Tensor, clips: int) -> None:
    width, shape = upstream.info.layers[layer].width, tuple(hidden.shape)
    if len(shape) != 3 or not shape[1] or (shape[0], shape[2]) != (clips, width):
        raise _broken(upstream, f"yields {list(shape)} as layer {layer}, where [{clips}, frames, {width}] is promised")


def _broken(upstream: Upstream, seen: str) -> MarbleError:
    return MarbleError(f"{upstream.info.name} {seen}: marble check --upstream tells what else it breaks.")
