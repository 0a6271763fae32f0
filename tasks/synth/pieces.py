"""Compose the pieces of the embedded tasks (`marble.tasks.synth.tasks`) as notes, with the truth about them.

A piece is drawn from a random stream of its own, ``random.Random("<task> <split> <number>")``, and so depends on no other
piece. The functions take the split, the number within the split and that stream; their docstrings are the descriptions of
the tasks. Times in seconds, keys as MIDI numbers, programs as General MIDI numbers from 0.
"""

from __future__ import annotations

import math
from random import Random
from typing import Any, NamedTuple

from marble.frames import Spans
from marble.task import Split
from marble.tasks.synth.soundfont import Note

PITCH_CLASSES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
LOWEST_PITCH = 48
PITCHES = tuple(f"{PITCH_CLASSES[key % 12]}{key // 12 - 1}" for key in range(LOWEST_PITCH, LOWEST_PITCH + 36))
KEYS = tuple(f"{name} {mode}" for mode in ("major", "minor") for name in PITCH_CLASSES)

# Programs whose fundamental is the key that is played, over all 36 keys. No recording is used in two splits.
PITCH_PROGRAMS: dict[Split, tuple[int, ...]] = {
    "train": (0, 5, 11, 20, 24, 26, 40, 42, 46, 48, 56, 57, 64, 71, 74, 80),
    "valid": (4, 50, 58, 69, 79, 107),
    "test": (43, 60, 61, 66, 70, 73, 105, 111),
}
INSTRUMENTS = {
    "piano": 0, "harpsichord": 6, "vibraphone": 11, "xylophone": 13, "church organ": 19, "accordion": 21,
    "nylon guitar": 24, "distortion guitar": 30, "violin": 40, "strings": 48, "choir": 52, "trumpet": 56,
    "french horn": 60, "tenor saxophone": 66, "clarinet": 71, "flute": 73, "sitar": 104, "steel drum": 114,
}  # fmt: skip

_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
# Semitones above the tonic, root first. The dominants of minor have the raised leading tone.
CHORDS = {
    "major": {
        "I": (0, 4, 7), "ii": (2, 5, 9), "iii": (4, 7, 11), "IV": (5, 9, 0), "V": (7, 11, 2), "V7": (7, 11, 2, 5),
        "vi": (9, 0, 4), "viio": (11, 2, 5),
    },
    "minor": {
        "i": (0, 3, 7), "iio": (2, 5, 8), "III": (3, 7, 10), "iv": (5, 8, 0), "V": (7, 11, 2), "V7": (7, 11, 2, 5),
        "VI": (8, 0, 3), "VII": (10, 2, 5),
    },
}  # fmt: skip
# Which chords may follow (Piston, Harmony, table of usual root progressions, abridged).
_FOLLOWING = {
    "major": {
        "I": ("IV", "V", "vi", "ii", "iii"), "ii": ("V", "V7", "viio"), "iii": ("vi", "IV"), "IV": ("V", "V7", "ii", "I"),
        "V": ("I", "vi"), "V7": ("I", "vi"), "vi": ("ii", "IV"), "viio": ("I",),
    },
    "minor": {
        "i": ("iv", "V", "VI", "III", "VII", "iio"), "iio": ("V", "V7"), "III": ("VI", "iv"), "iv": ("V", "V7", "i", "VII"),
        "V": ("i", "VI"), "V7": ("i", "VI"), "VI": ("iv", "iio"), "VII": ("III", "VI"),
    },
}  # fmt: skip
_CADENCES = {
    "major": (("IV", "V"), ("IV", "V7"), ("ii", "V"), ("ii", "V7")),
    "minor": (("iv", "V"), ("iv", "V7"), ("iio", "V7")),
}

CHORD_PROGRAMS = (0, 2, 4, 5, 6, 16, 19, 20, 24, 25, 26, 46, 48, 50)
BASS_PROGRAMS = (32, 33, 34, 35, 36, 43, 58)
MELODY_PROGRAMS = (10, 11, 12, 40, 41, 56, 57, 64, 66, 69, 71, 73, 74, 79, 80)
DRUM_KITS = (0, 8, 16, 24, 25, 32)
_DRUMS = (35, 36, 38, 40, 42, 44, 46, 49, 51)


class Piece(NamedTuple):
    """Notes, the length of the clip in seconds, the target, and other facts, which can be written as JSON."""

    notes: list[Note]
    seconds: float
    target: str | tuple[float, ...] | Spans
    truth: dict[str, Any]


def pitch_piece(split: Split, number: int, random: Random) -> Piece:
    """synth-pitch: which of 36 pitches (C3 to B5, MIDI 48 to 83) a single note among some drum strokes has, in 1 s.

    Data: every program plays every pitch once, 16 programs in train, 6 in valid, 8 in test: 576 / 216 / 288 clips.
    Onset, length, velocity and drums vary.
    Split: the instruments are disjoint (programs and their recordings), so a probe must hear pitch through timbre.
    Metrics: accuracy (main), balanced accuracy; chance is 1/36.
    """
    program = PITCH_PROGRAMS[split][number // len(PITCHES)]
    key = LOWEST_PITCH + number % len(PITCHES)
    note = Note(random.uniform(0, 0.2), random.uniform(0.2, 0.8), key, random.randint(50, 127), program)
    kit = random.choice(DRUM_KITS)
    drums = [
        Note(random.uniform(0, 0.9), 0.2, random.choice(_DRUMS), random.randint(50, 127), kit, drum=True)
        for _ in range(random.randint(2, 6))
    ]
    return Piece([note, *drums], 1.0, PITCHES[number % len(PITCHES)], {"key": key, "program": program})


def instrument_piece(split: Split, number: int, random: Random) -> Piece:
    """synth-instrument: which of 18 General MIDI instruments plays a melodic phrase of 2 s.

    Data: 16 / 6 / 8 phrases for each instrument in train / valid / test: 288 / 108 / 144 clips. Scale, register (the same
    range for all instruments), rhythm, articulation and velocity vary.
    Split: the phrases are disjoint: no two clips have the same notes.
    Metrics: accuracy (main), balanced accuracy; chance is 1/18.
    """
    label = list(INSTRUMENTS)[number % len(INSTRUMENTS)]
    tonic, scale = random.randrange(12), random.choice(list(_SCALES.values()))
    low = random.randint(55, 64)
    ladder = [key for key in range(low, low + 18) if (key - tonic) % 12 in scale]
    pulse, articulation = random.uniform(0.14, 0.28), random.uniform(0.5, 1.0)
    notes, time, step = [], random.uniform(0, 0.1), random.randrange(len(ladder))
    while time < 2.0:
        length = pulse * random.choice((1, 1, 1, 2, 2, 3))
        notes.append(Note(time, length * articulation, ladder[step], random.randint(60, 120), INSTRUMENTS[label]))
        time += length
        step = min(max(step + random.choice((-3, -2, -1, -1, 1, 1, 2, 3)), 0), len(ladder) - 1)
    return Piece(notes, 2.0, label, {"program": INSTRUMENTS[label]})


def key_piece(split: Split, number: int, random: Random) -> Piece:
    """synth-key: which of the 24 major and minor keys a piece of 6 s is in.

    Data: bass, chords and melody of three programs. The harmony begins on the tonic, moves by the usual root progressions
    and ends with a cadence (predominant, dominant, tonic); minor has the raised leading tone in its dominants. 10 / 3 / 5
    pieces for each key in train / valid / test: 240 / 72 / 120 clips. Programs, tempo, voicing and texture vary.
    Split: the pieces are disjoint: no two clips have the same notes.
    Metrics: accuracy (main), balanced accuracy; chance is 1/24.
    """
    label = KEYS[number % len(KEYS)]
    tonic, mode = number % 12, label.split()[1]
    names = harmony(random, mode, random.randint(5, 8))
    seconds = 5.6 / len(names)
    programs = [random.choice(choice) for choice in (CHORD_PROGRAMS, BASS_PROGRAMS, MELODY_PROGRAMS)]
    texture, centre = random.choice(("block", "repeated", "broken")), random.randint(56, 64)
    division, low = random.choice((1, 2, 2, 4)), random.randint(64, 70)
    notes, chords, melody = [], [], low + 6
    for index, name in enumerate(names):
        chord = [(tonic + step) % 12 for step in CHORDS[mode][name]]
        start, last = index * seconds, index == len(names) - 1
        length = 6.0 - start if last else seconds
        notes += chord_notes(random, chord, start, length, programs[0], texture, centre)
        notes.append(Note(start, length * 0.95, near(chord[0], 40), random.randint(80, 110), programs[1]))
        for part in range(1 if last else division):
            pool = scale_over(tonic, mode, chord) if part % 2 else chord
            melody = next_key(random, [key for key in range(low, low + 16) if key % 12 in pool], melody)
            span = length if last else seconds / division
            notes.append(Note(start + part * span, span * 0.9, melody, random.randint(80, 115), programs[2]))
        chords.append([round(start, 6), name])
    return Piece(notes, 6.0, label, {"programs": programs, "chords": chords})


def tempo_piece(split: Split, number: int, random: Random) -> Piece:
    """synth-tempo: the tempo of a groove of 6 s, as log2 of the beats per minute.

    Data: drums, bass and chords in 4/4 or 3/4, straight or in triplets, tempo uniform in log2 between 60 and 200 beats per
    minute. 260 / 80 / 120 clips in train / valid / test. The excerpt begins anywhere in a bar, and notes stray from the grid
    by some milliseconds. Patterns, harmony, kit and programs vary.
    Split: the pieces are disjoint: no two clips have the same notes.
    Metrics: r2 (main), mse in squared octaves of tempo.
    """
    bpm = 2 ** random.uniform(math.log2(60), math.log2(200))
    beat, meter = 60 / bpm, random.choice((4, 4, 4, 3))
    division = random.choice([parts for parts in (2, 3, 4) if beat / parts > 0.09])
    grid, bar = beat / division, beat * meter
    offset = random.uniform(0, bar)
    onsets = groove(random, meter, division)
    kit, bass, chord_program = random.choice(DRUM_KITS), random.choice(BASS_PROGRAMS), random.choice(CHORD_PROGRAMS)
    tonic, mode = random.randrange(12), random.choice(("major", "minor"))
    loop = [random.choice(list(CHORDS[mode].values())) for _ in range(random.choice((1, 2, 4)))]
    notes = []
    for number_of_bar in range(math.ceil((6.0 + offset) / bar)):
        chord = [(tonic + step) % 12 for step in loop[number_of_bar % len(loop)]]

        def at(slot: int, bar_start: float = number_of_bar * bar - offset) -> float:
            """Return the time of a slot of the grid, in seconds, a few milliseconds early or late."""
            return bar_start + slot * grid + random.gauss(0, 0.004)

        for drum, slots in onsets["drums"].items():
            for slot in slots:
                velocity = random.randint(85, 120) if slot % division == 0 else random.randint(55, 90)
                notes.append(Note(at(slot), 0.2, drum, velocity, kit, drum=True))
        for slot in onsets["bass"]:
            key = near(random.choice((chord[0], chord[0], chord[2])), 40)
            notes.append(Note(at(slot), grid * 1.5, key, random.randint(80, 110), bass))
        for slot in onsets["chords"]:
            start, velocity = at(slot), random.randint(60, 90)
            length = bar if len(onsets["chords"]) == 1 else grid
            notes += [Note(start, length * 0.9, near(tone, 60), velocity, chord_program) for tone in chord]
    beats = [round(index * beat - offset, 6) for index in range(math.ceil((6.0 + offset) / beat)) if index * beat >= offset]
    return Piece(notes, 6.0, (math.log2(bpm),), {"bpm": bpm, "meter": meter, "beats": [time for time in beats if time < 6.0]})


def harmony(random: Random, mode: str, count: int) -> list[str]:
    """Return `count` chord names from the tonic to a cadence on it, every step a usual progression."""
    tonic = next(iter(CHORDS[mode]))
    predominant, dominant = random.choice(_CADENCES[mode])
    while True:
        names = [tonic]
        while len(names) < count - 3:
            names.append(random.choice(_FOLLOWING[mode][names[-1]]))
        if predominant in _FOLLOWING[mode][names[-1]]:
            return [*names, predominant, dominant, tonic]


def near(pitch_class: int, centre: int) -> int:
    """Return the key of a pitch class that is nearest to a centre."""
    return centre - 6 + (pitch_class - centre + 6) % 12


def scale_over(tonic: int, mode: str, chord: list[int]) -> set[int]:
    """Return the pitch classes of a scale, without those a semitone from a chord tone outside of it (leading tones)."""
    scale = {(tonic + step) % 12 for step in _SCALES[mode]}
    foreign = set(chord) - scale
    return {tone for tone in scale if (tone + 1) % 12 not in foreign} | set(chord)


def next_key(random: Random, pool: list[int], previous: int) -> int:
    """Return one of the three keys of a pool that are nearest to the previous one, as a rule another one."""
    nearest = sorted(pool, key=lambda key: (abs(key - previous), key))[:3]
    return random.choice([key for key in nearest if key != previous] or nearest)


def chord_notes(
    random: Random, chord: list[int], start: float, seconds: float, program: int, texture: str, centre: int
) -> list[Note]:
    """Return the notes of a chord in close position around a centre, held, repeated or broken."""
    keys = sorted(near(tone, centre) for tone in chord)
    velocity = random.randint(65, 95)
    if texture == "broken":
        order = [*keys, *keys[-2:0:-1]]
        length = seconds / len(order)
        return [Note(start + index * length, length, key, velocity, program) for index, key in enumerate(order)]
    times = 1 if texture == "block" else 2
    length = seconds / times
    return [Note(start + index * length, length * 0.9, key, velocity, program) for index in range(times) for key in keys]


def groove(random: Random, meter: int, division: int) -> dict[str, Any]:
    """Return the grid slots of a bar at which drums (by General MIDI drum), bass and chords sound."""
    slots, beats = range(meter * division), range(0, meter * division, division)
    kick = [slot for slot in slots if slot == 0 or random.random() < (0.4 if slot % division == 0 else 0.12)]
    backbeats = [beats[1], beats[3]] if meter == 4 else [beats[2]]
    snare = [slot for slot in slots if slot in backbeats or random.random() < 0.06]
    hats = random.choice(
        (list(slots), list(beats), [slot for slot in slots if slot % division], [*slots][:: max(division // 2, 1)])
    )
    drums = {random.choice((35, 36)): kick, random.choice((38, 40)): snare, random.choice((42, 44, 51)): hats}
    bass = random.choice((kick, list(beats), sorted({*kick, *random.sample(slots, 2)})))
    chords = random.choice(([0], list(beats), [slot + division - 1 for slot in beats], sorted(random.sample(slots, 3))))
    return {"drums": drums, "bass": bass, "chords": chords}
