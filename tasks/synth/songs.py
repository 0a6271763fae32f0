"""Compose songs with the truth about every moment: chords and sounding pitches.

Songs are drawn like the pieces of `marble.tasks.synth.pieces`, whose harmony they share. Their truth is that of the score: a
chord lasts until the next one begins, and a note for its written length, whatever the instrument and the room leave of it.
"""

from __future__ import annotations

import itertools
import math
from random import Random

from marble import chords
from marble.frames import Spans
from marble.task import Split
from marble.tasks.synth.pieces import (
    BASS_PROGRAMS,
    CHORD_PROGRAMS,
    CHORDS,
    DRUM_KITS,
    MELODY_PROGRAMS,
    PITCH_CLASSES,
    Piece,
    chord_notes,
    groove,
    harmony,
    near,
    next_key,
    scale_over,
)
from marble.tasks.synth.soundfont import Note

SECONDS = 20.0
LOWEST_KEY, HIGHEST_KEY = 21, 108
KEY_NAMES = tuple(f"{PITCH_CLASSES[key % 12]}{key // 12 - 1}" for key in range(LOWEST_KEY, HIGHEST_KEY + 1))

_QUALITIES = {(0, 4, 7): "maj", (0, 3, 7): "min", (0, 3, 6): "dim", (0, 4, 7, 10): "7"}
_DEGREES = {3: "b3", 4: "3", 6: "b5", 7: "5"}


def chords_piece(split: Split, number: int, random: Random) -> Piece:
    """synth-chords: which of 25 chords (12 major, 12 minor, none) sounds at each moment of a song of 20 s.

    Data: bass, chords, melody with passing notes and, mostly, drums; every song in one of 24 keys by the usual root
    progressions, with bars of drums alone or of silence, which have no chord. Programs, tempo (70 to 150 beats a minute),
    rhythm of the harmony, voicing, inversions and texture vary. 72 / 24 / 48 songs in train / valid / test, equally many in
    each key. Sevenths count as their triads; diminished chords are not scored. The truth is exact: chords change on a beat.
    Split: the songs are disjoint: no two clips have the same notes.
    Metrics: wcsr (main), wcsr_mode, wcsr_viterbi, chord_root, chord_seg, frame_accuracy; see ``chords``.
    """
    notes, rows, truth = _song(number, random)
    return Piece(notes, SECONDS, chords.target(rows), truth)


def frame_pitch_piece(split: Split, number: int, random: Random) -> Piece:
    """frame-pitch: which of the 88 keys of a piano (A0 to C8, MIDI 21 to 108) sound at each moment of a song of 20 s.

    Data: songs as those of ``synth-chords``: bass, chords and melody of three programs and, mostly, drums. 48 / 24 / 24 songs
    in train / valid / test, equally many in each key.
    Split: the songs are disjoint: no two clips have the same notes.
    Metrics: frame_f1, of all pairs of a frame and a key whose probability is above one half, without a tolerance in time.
    """
    notes, _, truth = _song(number, random)
    sounding = [note for note in notes if not note.drum]
    rows = ((note.start, min(note.start + note.seconds, SECONDS), KEY_NAMES[note.key - LOWEST_KEY]) for note in sounding)
    return Piece(notes, SECONDS, Spans(tuple(sorted(rows))), truth)


def _song(number: int, random: Random) -> tuple[list[Note], list[tuple[float, float, str]], dict]:
    """Return the notes, the chords and other facts of a song."""
    tonic, mode = number % 12, ("major", "minor")[number // 12 % 2]
    bpm = 2 ** random.uniform(math.log2(70), math.log2(150))
    beat = 60 / bpm
    programs = [random.choice(choice) for choice in (CHORD_PROGRAMS, BASS_PROGRAMS, MELODY_PROGRAMS)]
    style = {
        "texture": random.choice(("block", "repeated", "broken")), "centre": random.randint(56, 64),
        "spread": random.random() < 0.4, "walking": random.random() < 0.4, "low": random.randint(66, 72),
    }  # fmt: skip
    notes: list[Note] = []
    rows: list[tuple[float, float, str]] = []
    melody = style["low"] + 6
    for start, stop, name in _form(random, mode, beat):
        if name is None:
            rows.append((start, stop, "N"))
            continue
        chord = [(tonic + step) % 12 for step in CHORDS[mode][name]]
        bass = chord[0] if random.random() < 0.8 else random.choice(chord[1:3])
        rows.append((start, stop, _label(chord, bass)))
        notes += _accompaniment(random, chord, bass, (start, stop, beat), programs, style)
        pulse = beat / random.choice((1, 2, 2))
        for part in range(round((stop - start) / pulse)):
            pool = scale_over(tonic, mode, chord) if part % 2 else set(chord)
            keys = [key for key in range(style["low"], style["low"] + 16) if key % 12 in pool]
            melody = next_key(random, keys, melody)
            if random.random() < 0.85:
                notes.append(Note(start + part * pulse, pulse * 0.9, melody, random.randint(80, 115), programs[2]))
    drummed = random.random() < 0.7
    notes += _drums(random, beat) if drummed else []
    truth = {"programs": programs, "bpm": bpm, "key": f"{PITCH_CLASSES[tonic]} {mode}", "drums": drummed}
    return [note for note in notes if note.start < SECONDS], rows, truth


def _form(random: Random, mode: str, beat: float) -> list[tuple[float, float, str | None]]:
    """Return start, stop and name of each chord of a song, None for a rest, from 0 to its end without a gap."""
    names: list[tuple[int, str | None]] = [(random.choice((1, 2, 4)), None)]
    while sum(beats for beats, _ in names) * beat < SECONDS:
        slow = random.random() < 0.3
        phrase = harmony(random, mode, random.randint(5, 8))
        names += [(4 if slow else random.choice((2, 2, 4)), name) for name in phrase]
        names += [(random.choice((2, 4)), None)] * (random.random() < 0.5)
    edges = [beats * beat for beats in itertools.accumulate((beats for beats, _ in names), initial=0)]
    whole = zip(itertools.pairwise(edges), names, strict=True)
    return [(start, min(stop, SECONDS), name) for (start, stop), (_, name) in whole if start < SECONDS]


def _label(chord: list[int], bass: int) -> str:
    """Return the label of a chord, root first, over a bass."""
    steps = [(tone - chord[0]) % 12 for tone in chord]
    label = f"{PITCH_CLASSES[chord[0]]}:{_QUALITIES[tuple(steps)]}"
    return label if bass == chord[0] else f"{label}/{_DEGREES[(bass - chord[0]) % 12]}"


def _accompaniment(
    random: Random, chord: list[int], bass: int, times: tuple[float, float, float], programs: list[int], style: dict
) -> list[Note]:
    """Return the chord and its bass; `times` are start, stop and the length of a beat."""
    start, stop, beat = times
    notes = chord_notes(random, chord, start, stop - start, programs[0], style["texture"], style["centre"])
    if style["spread"]:
        keys = sorted({note.key for note in notes})
        notes = [note._replace(key=note.key - 12) if note.key == keys[1] else note for note in notes]
    count = max(round((stop - start) / beat), 1) if style["walking"] else 1
    length = (stop - start) / count
    key, velocity = near(bass, 40), random.randint(80, 110)
    return notes + [Note(start + part * length, length * 0.95, key, velocity, programs[1]) for part in range(count)]


def _drums(random: Random, beat: float) -> list[Note]:
    """Return the strokes of a groove in eighths over the whole song."""
    kit, grid = random.choice(DRUM_KITS), beat / 2
    strokes = [(drum, slot) for drum, slots in groove(random, 4, 2)["drums"].items() for slot in slots]
    bars = range(math.ceil(SECONDS / (4 * beat)))
    return [
        Note((8 * bar + slot) * grid, 0.2, drum, random.randint(60, 110), kit, drum=True)
        for bar in bars
        for drum, slot in strokes
    ]
