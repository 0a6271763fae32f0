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
from marble.features.reduction import Reduction
from marble.features.space import Windows, cut_windows, shortest_input
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
    """The outcome of an extraction: reasons of bad clips by key, good clips encoded, seconds of audio, seconds of encoding."""

    bad: dict[str, str] = field(default_factory=dict)
    clips: int = 0
    audio_seconds: float = 0.0
    encoder_seconds: float = 0.0


def extract(
    upstream: Upstream,
    space: Space,
    excerpts: Sequence[Excerpt],
    layers: Sequence[int],
    windows: Windows,
    reduction: Reduction,
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
        windows: resolved; see `marble.features.space.resolve_windows`.
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
    waiting = deque(unique[begin : begin + SHARD_CLIPS] for begin in range(0, len(unique), SHARD_CLIPS))
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
    """A window of a clip, float32[N], and how many of its like are encoded together."""

    clip: int
    window: int
    samples: np.ndarray
    batch: int


@dataclass
class _Encoder:
    """Encodes the clips of one shard after another."""

    upstream: Upstream
    layers: Sequence[int]
    windows: Windows
    reduction: Reduction
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
            rows = reduced_layers(self.upstream, waveform, layers, self.reduction, [shard[piece.clip].path for piece in batch])
            self.done.encoder_seconds += time.perf_counter() - begin
            for number, piece in enumerate(batch):
                # Copies: what a batch leaves above its own large tensors keeps their memory from being used again.
                reduced[piece.clip, piece.window] = {layer: values[number].copy() for layer, values in rows.items()}
            del rows
        for (clip, _), rows in sorted(reduced.items()):
            broken = [layer for layer, values in rows.items() if not np.isfinite(values).all()]
            if broken and counts.pop(clip, None):
                self.done.bad[shard[clip].key] = (
                    f"gives {self.upstream.info.name} values that are not finite in layer {broken[0]}"
                )
        good = {clip: [reduced[clip, window] for window in range(counts[clip])] for clip in sorted(counts)}
        self.done.clips += len(good)
        if good:
            features = {layer: np.concatenate([rows[layer] for clip in good.values() for rows in clip]) for layer in layers}
            rows_of = [sum(len(rows[layers[0]]) for rows in clip) for clip in good.values()]
            space.write([shard[clip].key for clip in good], rows_of, features)

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
            cuts = cut_windows(len(waveform), self.windows, self.upstream.info)
            counts[clip] = len(cuts)
            batch = batch_size(self.upstream.device, len(waveform) / rate, cuts[0].stop / rate)
            for window, cut in enumerate(cuts):
                yield _Piece(clip, window, waveform[cut], batch)
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
    upstream: Upstream, waveform: Tensor, layers: Sequence[int], reduction: Reduction, paths: Sequence[Path]
) -> dict[int, np.ndarray]:
    """Encode a batch and reduce each wanted layer.

    Args:
        upstream: prepared for inference.
        waveform: ``Tensor[B, N]`` at the upstream's rate, on the CPU.
        layers: the wanted layers, ascending; blocks after the last one do not run.
        reduction: from the hidden states of a window to its rows.
        paths: the B files of the windows.

    Returns:
        For each layer float32[B, R, E]. Where the memory does not hold the batch, it is encoded in halves.

    Raises:
        MarbleError: the upstream does not yield the layers of its `info`, or the memory does not hold one window.
    """
    try:
        return _rows(upstream, waveform, layers, reduction)
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
        reduced_layers(upstream, waveform[half], layers, reduction, paths[half])
        for half in (slice(middle), slice(middle, None))
    ]
    return {layer: np.concatenate([half[layer] for half in halves]) for layer in layers}


def _rows(upstream: Upstream, waveform: Tensor, layers: Sequence[int], reduction: Reduction) -> dict[int, np.ndarray]:
    rows: dict[int, Tensor] = {}
    for layer, hidden in enumerate(upstream.layers(waveform.to(upstream.device))):
        if layer in layers:
            _refuse_shape(upstream, layer, hidden, len(waveform))
            rows[layer] = reduction(hidden.float())
        if layer == layers[-1]:
            break
    if len(rows) < len(layers):
        raise _broken(upstream, f"yields fewer layers than the {len(upstream.info.layers)} of its info")
    return {layer: values.cpu().numpy() for layer, values in rows.items()}


def _refuse_shape(upstream: Upstream, layer: int, hidden: Tensor, clips: int) -> None:
    width, shape = upstream.info.layers[layer].width, tuple(hidden.shape)
    if len(shape) != 3 or not shape[1] or (shape[0], shape[2]) != (clips, width):
        raise _broken(upstream, f"yields {list(shape)} as layer {layer}, where [{clips}, frames, {width}] is promised")


def _broken(upstream: Upstream, seen: str) -> MarbleError:
    return MarbleError(f"{upstream.info.name} {seen}: marble check --upstream tells what else it breaks.")
