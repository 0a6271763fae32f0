"""The embedded tasks: music that marble composes and renders itself, so that the first run needs no download.

Data
    Pieces are composed from seeded streams (`marble.tasks.synth.pieces`) and played by recorded instruments: the General MIDI
    soundfont that `pretty_midi` ships (`marble.tasks.synth.soundfont`, with its licence). The truth is exact. Every clip has
    its own tuning (25 cents around 440 Hz), room, colour, noise and level, so that no single number gives the answer away.
    On first use a task is rendered, once, into ``<data root>/<task>-v<version>/``: one 16-bit mono WAV file of 24 kHz a clip,
    and ``clips.jsonl`` with a line for each: file, split, target and ``truth`` (programs, chords, beats). The folder appears
    when it is complete, and is only read from then on; a second process waits for the first.
Tasks
    `PITCH` (36 pitches), `INSTRUMENT` (18 instruments), `KEY` (24 keys), `TEMPO` (log2 of beats per minute), and at each
    moment `SONG_CHORDS` (25 chords) and `FRAME_PITCH` (88 keys). The description of each task states its target, its number of
    clips, the difference between its splits, and its metrics.
Note
    These tasks serve first steps, tests and controlled experiments. Their results never stand beside those of real data.
"""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from functools import partial
from inspect import cleandoc
from pathlib import Path
from random import Random

import numpy as np
from filelock import FileLock

from marble.chords import LABELS
from marble.errors import MarbleError
from marble.frames import Spans
from marble.kinds import Target
from marble.system.files import atomic_folder, writing
from marble.system.threads import Threads, usable_cores
from marble.task import SPLITS, Clip, Frames, Split, Task
from marble.tasks.chords import FRAMES, METRICS
from marble.tasks.synth.pieces import INSTRUMENTS, KEYS, PITCHES, Piece, instrument_piece, key_piece, pitch_piece, tempo_piece
from marble.tasks.synth.songs import KEY_NAMES, chords_piece, frame_pitch_piece
from marble.tasks.synth.soundfont import LICENCE, RATE, mix

Compose = Callable[[Split, int, Random], Piece]

_MANIFEST = "clips.jsonl"


def render(task: str, compose: Compose, split: Split, number: int) -> tuple[np.ndarray, Piece]:
    """Compose and play one piece: ``int16[N]`` at 24 kHz, and the piece. Equal arguments give equal samples.

    Raises:
        MarbleError: the soundfont is not installed.
    """
    random = Random(f"{task} {split} {number}")
    piece = compose(split, number, random)
    audio = _record(mix(piece.notes, piece.seconds, tuning=random.uniform(-25, 25)), random)
    fade = round(0.01 * RATE)
    audio[-fade:] *= np.linspace(1, 0, fade)
    peak = 10 ** (random.uniform(-12, -1) / 20)
    return np.round(audio * (peak * 32767 / np.abs(audio).max())).astype(np.int16), piece


def _record(audio: np.ndarray, random: Random) -> np.ndarray:
    """Put the music into a room with some noise, ``float64[N]``.

    The room is noise that falls by 60 dB in 0.2 to 1 s and has 10 to 30 dB less energy than the direct sound. The microphone
    colours all: gains with a standard deviation of 6 dB at every octave of 8 kHz, joined by lines over the logarithm of
    frequency. The background is white noise 20 to 50 dB below the music.
    """
    noise = np.random.default_rng(random.getrandbits(64))
    seconds, wet = random.uniform(0.2, 1.0), 10 ** (random.uniform(-30, -10) / 20)
    time = np.arange(round(seconds * RATE)) / RATE
    room = noise.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    room *= wet / np.sqrt(np.square(room).sum())
    room[0] += 1
    size = -(-(len(audio) + len(room)) // 4096) * 4096  # a size without large prime factors
    octave = np.log2(np.maximum(np.arange(size // 2 + 1) * (RATE / size), 1) / 8000)
    colour = 10 ** (np.interp(octave, np.arange(-8, 1), noise.normal(0, 6, 9)) / 20)
    recorded = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(room, size) * colour)[: len(audio)]
    level = np.sqrt(np.square(recorded).mean()) * 10 ** (random.uniform(-50, -20) / 20)
    return recorded + level * noise.standard_normal(len(recorded))


def _clips(task: str, version: int, compose: Compose, sizes: dict[Split, int], root: Path) -> list[Clip]:
    home = root / f"{task}-v{version}"
    if not home.is_dir():
        with writing(home):
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(root / f".{home.name}.lock"):
                if not home.is_dir():
                    with atomic_folder(home) as beside:
                        _render_all(task, compose, sizes, beside)
    try:
        lines = [json.loads(line) for line in (home / _MANIFEST).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise MarbleError(f"{home / _MANIFEST} cannot be read ({error}): remove {home}, and it is rendered again.") from error
    return [
        Clip(
            id=Path(line["file"]).stem,
            path=home / line["file"],
            split=line["split"],
            target=_target(line["target"]),
        )
        for line in lines
    ]


def _target(written: str | list) -> Target:
    """Return a target from the manifest, where intervals are lists in a list."""
    if isinstance(written, list) and isinstance(written[0], list):
        return Spans(tuple((start, stop, label) for start, stop, label in written))
    return written if isinstance(written, str) else tuple(written)


def _render_all(task: str, compose: Compose, sizes: dict[Split, int], folder: Path) -> None:
    """Fill a folder with the clips of all splits and their manifest."""

    def line(split: Split, number: int) -> str:
        """Render one piece and return its line of the manifest."""
        audio, piece = render(task, compose, split, number)
        file = f"{split}-{number:04d}.wav"
        _write(folder / file, audio)
        target = piece.target.rows if isinstance(piece.target, Spans) else piece.target
        return json.dumps({"file": file, "split": split, "target": target, "truth": piece.truth})

    splits = [split for split in SPLITS for _ in range(sizes[split])]
    numbers = [number for split in SPLITS for number in range(sizes[split])]
    with Threads(min(usable_cores(), 8)) as threads:
        lines = list(threads.map(line, splits, numbers))
    (folder / _MANIFEST).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write(path: Path, audio: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, len(audio), "NONE", "not compressed"))
        file.writeframes(audio.astype("<i2").tobytes())


def _task(
    name: str,
    compose: Compose,
    kind: str,
    labels: tuple[str, ...],
    metrics: tuple[str, ...],
    sizes: dict[Split, int],
    frames: Frames | None = None,
) -> Task:
    version = 1
    return Task(
        name=name,
        version=version,
        description=cleandoc(compose.__doc__ or ""),
        kind=kind,
        labels=labels,
        metrics=metrics,
        clips=partial(_clips, name, version, compose, sizes),
        citation="composed and rendered by marble",
        licence=LICENCE,
        source="rendered on first use",
        split_sizes=sizes,
        frames=frames,
        audio_from=("marble's synthesiser",),
        synthetic=True,
    )


_CLASSES = ("accuracy", "balanced_accuracy")
PITCH = _task("synth-pitch", pitch_piece, "multiclass", PITCHES, _CLASSES, {"train": 576, "valid": 216, "test": 288})
INSTRUMENT = _task(
    "synth-instrument", instrument_piece, "multiclass", tuple(INSTRUMENTS), _CLASSES, {"train": 288, "valid": 108, "test": 144}
)
KEY = _task("synth-key", key_piece, "multiclass", KEYS, _CLASSES, {"train": 240, "valid": 72, "test": 120})
TEMPO = _task("synth-tempo", tempo_piece, "regression", ("log2_bpm",), ("r2", "mse"), {"train": 260, "valid": 80, "test": 120})
SONG_CHORDS = _task(
    "synth-chords", chords_piece, "frame_classes", LABELS, METRICS, {"train": 72, "valid": 24, "test": 48}, frames=FRAMES
)
FRAME_PITCH = _task(
    "frame-pitch", frame_pitch_piece, "frame_tags", KEY_NAMES, ("frame_f1",), {"train": 48, "valid": 24, "test": 24},
    frames=Frames(most=25.0, encode=Spans.tags),
)  # fmt: skip
