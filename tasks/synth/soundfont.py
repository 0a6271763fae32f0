"""A sampler: notes to audio through the soundfont that `pretty_midi` ships.

The soundfont
    ``TimGM6mb.sf2`` by Tim Brechbill, a General MIDI set of 6 MB, made for MuseScore and under the GNU General Public Licence,
    version 2 (so packaged by Debian and Alpine; the file itself names no licence). It is read from the installed `pretty_midi`,
    checked by sha256 and not redistributed by marble.
What is played
    Of the SoundFont 2.04 specification: zones by key, sample and loop points, root key, tuning and scale tuning (8.1.2:
    generators 46 to 58), attenuation, and the volume envelope (8.1.2: generators 33 to 40; in decibels linear decay and
    release), and velocity as (v / 127)^2. Left out, since no task depends on them: filters, low-frequency oscillators,
    the modulation envelope, panning and modulators. Channels are summed to mono.
Conventions
    Times in seconds, keys as MIDI numbers (60 is middle C, 69 is 440 Hz), programs as General MIDI numbers from 0, audio
    ``float32[N]`` at `RATE` Hz. Equal notes give equal samples, whatever was played before.

Why not symusic: its synthesizer (0.5.9) ignores the root keys that zones of this soundfont set (generator 58), so that most
programs are out of tune, the piano by 13 to 27 semitones; it has no velocity; and for some programs (78) it returns
uninitialised memory, different in every process. Why not tinysoundfont: its tuning is right, but it requires PyAudio, which
needs PortAudio to build.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr

from marble.errors import MarbleError

RATE = 24_000
SOUNDFONT = "TimGM6mb.sf2"
SHA256 = "82475b91a76de15cb28a104707d3247ba932e228bada3f47bba63c6b31aaf7a1"
LICENCE = "compositions and annotations MIT; played with the soundfont TimGM6mb by Tim Brechbill (GPL-2.0), of pretty_midi"

_DRUM_BANK = 128
# Longer releases only add an inaudible tail.
_LONGEST_RELEASE = 0.5
# Decibels over which the decay and release times of the specification reach (8.1.2, generators 36 and 38).
_ENVELOPE_RANGE = 100.0
# Creative's hardware applied 0.4 of the written attenuation, and soundfonts are voiced for it (as in FluidSynth).
_ATTENUATION_SCALE = 0.4

_RECORDS = {
    b"phdr": [("name", "S20"), ("program", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("unused", "V12")],
    b"inst": [("name", "S20"), ("bag", "<u2")],
    b"pbag": [("generator", "<u2"), ("modulator", "<u2")],
    b"ibag": [("generator", "<u2"), ("modulator", "<u2")],
    b"pgen": [("operator", "<u2"), ("amount", "<i2")],
    b"igen": [("operator", "<u2"), ("amount", "<i2")],
    b"shdr": [
        ("name", "S20"),
        *((name, "<u4") for name in ("start", "end", "loop_start", "loop_end", "rate")),
        *(("root", "u1"), ("correction", "i1"), ("link", "<u2"), ("type", "<u2")),
    ],
}  # fmt: skip


class Note(NamedTuple):
    """One note: `key` is a MIDI number (for drums the General MIDI drum), `velocity` 1 to 127."""

    start: float
    seconds: float
    key: int
    velocity: int
    program: int
    drum: bool = False


@dataclass(frozen=True, eq=False)
class Zone:
    """One recorded sample and how to play it on the keys from `low` to `high`.

    Attributes:
        low: lowest key.
        high: highest key.
        sample: name of the recording.
        samples: ``int16[N]``, the recording.
        rate: sampling rate of the recording, in Hz.
        loop: first sample of the loop and first one after it, or None.
        root: key at which the recording sounds as recorded.
        cents: additional tuning.
        cents_per_key: distance of two keys, 100 where they are tempered.
        gain: amplitude factor.
        delay: of the volume envelope, in seconds; likewise attack, hold, decay (by 100 dB) and release (by 100 dB).
        decay_per_key: factor of the decay for each key below middle C.
        sustain: level after the decay, in dB below full.
    """

    low: int
    high: int
    sample: str
    samples: np.ndarray
    rate: float
    loop: tuple[int, int] | None
    root: int
    cents: float
    cents_per_key: float
    gain: float
    delay: float
    attack: float
    hold: float
    decay: float
    decay_per_key: float
    sustain: float
    release: float


def zones(program: int, key: int, *, drum: bool = False) -> tuple[Zone, ...]:
    """Return the zones that sound for a key of a program, at least one.

    Raises:
        MarbleError: the soundfont is not installed.
        ValueError: the program has no recording for this key.
    """
    sounding = tuple(zone for zone in _presets()[_DRUM_BANK if drum else 0, program] if zone.low <= key <= zone.high)
    if not sounding:
        raise ValueError(f"Program {program} has no recording for key {key}.")
    return sounding


def mix(notes: Iterable[Note], seconds: float, tuning: float = 0.0) -> np.ndarray:
    """Return the sum of notes, ``float32[seconds * RATE]``; sound before 0 or after the end is cut off.

    Args:
        notes: in any order.
        seconds: length of the audio.
        tuning: of the pitched instruments, in cents above 440 Hz.

    Raises:
        MarbleError: the soundfont is not installed.
        ValueError: a program has no recording for a key.
    """
    audio = np.zeros(round(seconds * RATE), dtype=np.float32)
    for note in notes:
        for zone in zones(note.program, note.key, drum=note.drum):
            steady = _steady(zone, note.key, _at_least(note.seconds + zone.release), 0.0 if note.drum else tuning)
            sound = _envelope(zone, note) * steady[: _frames(zone, note)]
            first = round(note.start * RATE)
            sound = sound[max(-first, 0) : max(len(audio) - first, 0)]
            audio[max(first, 0) : max(first, 0) + len(sound)] += sound
    return audio


def _frames(zone: Zone, note: Note) -> int:
    return round((note.seconds + zone.release) * RATE)


def _at_least(seconds: float) -> float:
    """Round up to a multiple of half a second, so that notes of like lengths share one resampled sound."""
    return math.ceil(seconds * 2) / 2


@lru_cache(maxsize=512)
def _steady(zone: Zone, key: int, seconds: float, tuning: float) -> np.ndarray:
    """Return the sample at the pitch of a key, looped to `seconds`: ``float32[N]`` without envelope."""
    cents = (key - zone.root) * zone.cents_per_key + zone.cents + tuning
    rate = zone.rate * 2 ** (cents / 1200)
    index = np.arange(math.ceil(seconds * rate))
    if zone.loop:
        start, end = zone.loop
        index = np.where(index < end, index, start + (index - start) % (end - start))
    source = zone.samples[index[index < len(zone.samples)]].astype(np.float32) / 2**15
    frames = round(seconds * RATE)
    sound = soxr.resample(source, rate, RATE, quality="MQ")[:frames]
    return np.pad(sound, (0, frames - len(sound)))


def _envelope(zone: Zone, note: Note) -> np.ndarray:
    """Return the volume envelope times the gain of zone and velocity, ``float32[N]``."""
    time = np.arange(_frames(zone, note), dtype=np.float32) / RATE
    decay = zone.decay * zone.decay_per_key ** (60 - note.key)
    peak = zone.delay + zone.attack + zone.hold
    loss = np.clip((time - peak) * (_ENVELOPE_RANGE / decay), 0, zone.sustain)
    end = round(note.seconds * RATE)
    loss[end:] += (time[end:] - note.seconds) * (_ENVELOPE_RANGE / zone.release)
    envelope = np.exp(loss * (-math.log(10) / 20)) * np.float32(zone.gain * (note.velocity / 127) ** 2)
    rising = round((zone.delay + zone.attack) * RATE)
    envelope[:rising] *= np.maximum(time[:rising] - zone.delay, 0) / zone.attack
    return envelope


@cache
def _presets() -> dict[tuple[int, int], tuple[Zone, ...]]:
    """Return the zones of every preset, by bank and program."""
    records = _read(_soundfont())
    samples = np.frombuffer(records.pop(b"smpl"), dtype="<i2")
    tables = {name: np.frombuffer(data, dtype=_RECORDS[name]) for name, data in records.items()}
    presets: dict[tuple[int, int], tuple[Zone, ...]] = {}
    # Presets of this soundfont only name instruments (generator 41); every instrument zone names its sample (53).
    for preset, following in zip(tables[b"phdr"][:-1], tables[b"phdr"][1:], strict=True):
        sounds = []
        for layer in _generators(tables[b"pbag"], tables[b"pgen"], preset["bag"], following["bag"]):
            first, last = (tables[b"inst"][layer[41] + offset]["bag"] for offset in (0, 1))
            for zone in _generators(tables[b"ibag"], tables[b"igen"], first, last):
                sounds.append(_zone(zone, tables[b"shdr"][zone[53]], samples))
        presets[int(preset["bank"]), int(preset["program"])] = tuple(sounds)
    return presets


def _soundfont() -> bytes:
    spec = importlib.util.find_spec("pretty_midi")
    path = Path(spec.origin).parent / SOUNDFONT if spec and spec.origin else None
    if path is None or not path.is_file():
        raise MarbleError(
            f"The soundfont {SOUNDFONT} of pretty_midi is missing: run 'pip install --force-reinstall pretty_midi'."
        )
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise MarbleError(f"The soundfont {path} is not the expected one: run 'pip install --force-reinstall pretty_midi'.")
    return data


def _read(data: bytes) -> dict[bytes, bytes]:
    """Return the chunks of a SoundFont that are used, those inside lists as well."""
    chunks: dict[bytes, bytes] = {}
    begin = 12
    while begin < len(data):
        name, size = data[begin : begin + 4], int.from_bytes(data[begin + 4 : begin + 8], "little")
        if name == b"LIST":
            begin += 12
            continue
        if name in _RECORDS or name == b"smpl":
            chunks[name] = data[begin + 8 : begin + 8 + size]
        begin += 8 + size + size % 2
    return chunks


def _generators(bags: np.ndarray, generators: np.ndarray, first: int, last: int) -> list[dict[int, int]]:
    """Return the generators of the bags from `first` to before `last`, each as operator -> amount."""
    edges = bags["generator"]
    return [
        {int(generator["operator"]): int(generator["amount"]) for generator in generators[edges[bag] : edges[bag + 1]]}
        for bag in range(first, last)
    ]


def _zone(generators: dict[int, int], header: np.void, samples: np.ndarray) -> Zone:
    """Return a zone from its generators, numbered as in section 8.1.2 of the specification, and its sample header."""

    def seconds(operator: int) -> float:
        """Return the duration that a generator gives in timecents."""
        return 2 ** (generators.get(operator, -12000) / 1200)

    keys = generators.get(43, 127 << 8)
    start = int(header["start"]) + generators.get(0, 0) + 32768 * generators.get(4, 0)
    end = int(header["end"]) + generators.get(1, 0) + 32768 * generators.get(12, 0)
    loop_start = int(header["loop_start"]) + generators.get(2, 0) + 32768 * generators.get(45, 0) - start
    loop_end = int(header["loop_end"]) + generators.get(3, 0) + 32768 * generators.get(50, 0) - start
    root = generators.get(58, -1)
    return Zone(
        low=keys & 0xFF,
        high=keys >> 8 & 0xFF,
        sample=header["name"].split(b"\0")[0].decode("ascii"),
        samples=samples[start:end],
        rate=float(header["rate"]),
        loop=(loop_start, loop_end) if generators.get(54, 0) in (1, 3) else None,
        root=int(header["root"]) if root < 0 else root,
        cents=100 * generators.get(51, 0) + generators.get(52, 0) + int(header["correction"]),
        cents_per_key=generators.get(56, 100),
        gain=10 ** (-_ATTENUATION_SCALE * generators.get(48, 0) / 200),
        delay=seconds(33),
        attack=seconds(34),
        hold=seconds(35),
        decay=seconds(36),
        decay_per_key=2 ** (generators.get(40, 0) / 1200),
        sustain=generators.get(37, 0) / 10,
        release=min(seconds(38), _LONGEST_RELEASE),
    )
