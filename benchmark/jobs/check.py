"""``marble check``: run an upstream on noise and explain every promise that it breaks (see `marble.upstream`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from marble.errors import one_line
from marble.upstream import Upstream

BATCH_TOLERANCE = 1e-5
# Clicks, and the share of the largest change of a frame below which a change is no trace of the click.
_CLICKS, _TRACE = 8, 0.25


@dataclass(frozen=True)
class Check:
    """A promise: whether it holds, and the evidence."""

    promise: str
    holds: bool
    seen: str


def check_upstream(upstream: Upstream) -> Iterator[Check]:
    """Yield the check of each promise of a prepared upstream; stop at a broken one that the others depend on."""
    info = upstream.info
    numbers = (info.sample_rate, info.frame_rate, *(layer.width for layer in info.layers))
    plain = bool(info.layers) and all(number > 0 for number in numbers)
    yield Check(
        "rates and widths in info are positive",
        plain,
        f"{info.sample_rate} Hz, {info.frame_rate:g} frames/s, {len(info.layers)} layers",
    )
    if not plain:
        return
    seconds = max(min(info.max_seconds or 3.0, 3.0), info.min_seconds)
    noise = _noise(1, math.ceil(seconds * info.sample_rate))
    try:
        states = _encode(upstream, noise)
    except Exception as error:
        yield Check("encodes noise", False, one_line(error))
        return
    yield Check("encodes noise", True, f"{seconds:g} s")
    yield from _check_shapes(upstream, states, noise)
    yield _check_lazy(upstream, noise)
    again = _encode(upstream, noise)
    same = len(again) == len(states) and all(map(torch.equal, states, again))
    yield Check(
        "gives the same states twice", same, "same bytes" if same else "values differ from call to call: is dropout on?"
    )
    yield _attempt("a clip alone equals the clip in a batch of 8", lambda: _same_in_batch(upstream, noise, states))
    yield _attempt("a click lies where its first frame says", lambda: _clicks_in_place(upstream, noise))
    yield from _check_signals(upstream, noise.shape[1])
    shortest = max(1, math.ceil(info.min_seconds * info.sample_rate))
    yield _attempt(f"encodes its shortest input, {shortest} samples", lambda: _finite(_encode(upstream, _noise(1, shortest))))


def _check_shapes(upstream: Upstream, states: list[Tensor], noise: Tensor) -> Iterator[Check]:
    info = upstream.info
    expected = [layer.width for layer in info.layers]
    widths = [state.shape[-1] if state.ndim else 0 for state in states]
    flat = [layer for layer, state in enumerate(states) if state.ndim != 3 or len(state) != 1]
    seen = f"widths {widths}, info says {expected}"
    if flat:
        shape = list(states[flat[0]].shape)
        seen = f"layer {flat[0]} is {shape} for a batch of one; one vector a window is [1, 1, D], as hidden[:, None] gives"
    yield Check("yields the layers of its info, [B, T, D] each", not flat and widths == expected, seen)
    lengths = {state.shape[1] for state in states if state.ndim == 3}
    vectors = [layer for layer, state in enumerate(states) if state.ndim == 3 and state.shape[1] == 1]
    frames = lengths - {1}
    seen = f"frames {sorted(frames)}" + f", one vector in layer {', '.join(map(str, vectors))}" * bool(vectors)
    yield Check("all layers have one number of frames, or one vector a window", len(frames) < 2 and bool(lengths), seen)
    wanted = noise.shape[1] / info.sample_rate * info.frame_rate
    near = all(abs(length - wanted) <= 2 for length in frames)
    yield Check(
        "keeps its frame rate", near, f"{sorted(frames)} frames, {wanted:.1f} expected from {info.frame_rate:g} a second"
    )
    yield Check("noise gives finite floats", *_finite(states))


def _check_lazy(upstream: Upstream, noise: Tensor) -> Check:
    with torch.inference_mode():
        generator = upstream.layers(noise.to(upstream.device))
    return Check("layers() is a generator", hasattr(generator, "__next__"), f"it is a {type(generator).__name__}")


def _same_in_batch(upstream: Upstream, noise: Tensor, states: list[Tensor]) -> tuple[bool, str]:
    """Compare a clip alone with the same clip as the fourth of eight."""
    batch = _noise(8, noise.shape[1], seed=1)
    batch[3] = noise[0]
    together = _encode(upstream, batch)
    worst = max(float((a[0].float() - b[3].float()).abs().max()) for a, b in zip(states, together, strict=True))
    return worst <= BATCH_TOLERANCE, f"largest difference {worst:.1e}, allowed {BATCH_TOLERANCE:.0e}"


def _clicks_in_place(upstream: Upstream, noise: Tensor) -> tuple[bool, str]:
    """Tell whether clicks in noise change the frames at their times, to half a frame in the mean of `_CLICKS`.

    They are spread over one frame in the middle. The centre of what they change is compared with their time in the first layer
    with several frames; networks with random weights scatter by a quarter of a frame.
    """
    info = upstream.info
    middle, step = noise.shape[1] // 2, info.sample_rate / info.frame_rate / _CLICKS
    samples = [middle + round((click + 0.5) * step) for click in range(_CLICKS)]
    signals = noise.repeat(_CLICKS + 1, 1)
    signals[range(1, _CLICKS + 1), samples] += 1.0
    with torch.inference_mode():
        hidden = next((layer for layer in upstream.layers(signals.to(upstream.device)) if layer.shape[1] > 1), None)
    if hidden is None:
        return True, "every layer is one vector a window"
    change = (hidden[1:].double() - hidden[0].double()).square().sum(2).cpu()
    trace = (change - _TRACE * change.amax(1, keepdim=True)).clamp(min=0)
    if not trace.any():
        return True, "no frame hears a click"
    centres = trace @ torch.from_numpy(info.grid.times(trace.shape[1])) / trace.sum(1)
    late = float((centres - torch.tensor(samples) / info.sample_rate).mean())
    half = 500 / info.frame_rate
    seen = f"{1000 * late:+.1f} ms from the click by a first_frame of {1000 * info.first_frame:.4g} ms, allowed {half:.4g}"
    return 1000 * abs(late) <= half, seen


def _check_signals(upstream: Upstream, samples: int) -> Iterator[Check]:
    click = torch.zeros(1, samples)
    click[0, samples // 2] = 1.0
    signals = {
        "silence": torch.zeros(1, samples),
        "full-scale noise": _noise(1, samples).sign(),
        "a click": click,
        "a constant offset": torch.full((1, samples), 0.5),
    }
    for name, signal in signals.items():
        yield _attempt(f"{name} gives finite floats", lambda signal=signal: _finite(_encode(upstream, signal)))


def _attempt(promise: str, trial: Callable[[], tuple[bool, str]]) -> Check:
    try:
        return Check(promise, *trial())
    except Exception as error:
        return Check(promise, False, one_line(error))


@torch.inference_mode()
def _encode(upstream: Upstream, waveform: Tensor) -> list[Tensor]:
    return [state.cpu() for state in upstream.layers(waveform.to(upstream.device))]


def _finite(states: list[Tensor]) -> tuple[bool, str]:
    """Return whether all values are finite floats, and what they are."""
    for layer, state in enumerate(states):
        if not state.is_floating_point():
            return False, f"layer {layer} holds {state.dtype}"
        if not state.isfinite().all():
            return False, f"layer {layer} holds values that are not finite"
    return True, "finite"


def _noise(batch: int, samples: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))
