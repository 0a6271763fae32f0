"""The songs: chords and pitches are those of the notes, at the times of the notes, and can be heard there."""

import hashlib
import itertools
from collections import Counter
from random import Random

import mir_eval
import numpy as np
import pytest

from marble import chords
from marble.frames import Grid
from marble.probe.scoring.frame_metrics import FRAME_METRICS
from marble.registry import load_task
from marble.task import SPLITS
from marble.tasks.synth import pieces, songs
from marble.tasks.synth import tasks as synth
from marble.tasks.synth.soundfont import RATE, mix, zones

COMPOSERS = {
    "synth-chords": (synth.SONG_CHORDS, songs.chords_piece),
    "frame-pitch": (synth.FRAME_PITCH, songs.frame_pitch_piece),
}


def composed(name, split, number):
    return COMPOSERS[name][1](split, number, Random(f"{name} {split} {number}"))


@pytest.fixture(scope="module")
def corpora():
    """All pieces of both tasks as notes: name -> split -> list of pieces."""
    return {
        name: {split: [composed(name, split, number) for number in range(task.split_sizes[split])] for split in SPLITS}
        for name, (task, _) in COMPOSERS.items()
    }


@pytest.mark.parametrize("name", COMPOSERS)
def test_every_note_has_a_recording_and_no_two_songs_are_alike(corpora, name):
    everything = [piece for split in corpora[name].values() for piece in split]
    assert len({tuple(piece.notes) for piece in everything}) == len(everything)
    for program, key, drum in {(note.program, note.key, note.drum) for piece in everything for note in piece.notes}:
        assert zones(program, key, drum=drum)
        assert drum or songs.LOWEST_KEY <= key <= songs.HIGHEST_KEY
    assert all(0 <= note.start < songs.SECONDS and note.seconds > 0 for piece in everything for note in piece.notes)
    assert all(1 <= note.velocity <= 127 for piece in everything for note in piece.notes)


@pytest.mark.parametrize("name", COMPOSERS)
def test_keys_are_equally_many_in_every_split(corpora, name):
    for made in corpora[name].values():
        counts = Counter(piece.truth["key"] for piece in made)
        assert set(counts) == set(pieces.KEYS)
        assert len(set(counts.values())) == 1


def test_chords_cover_each_song_without_a_gap(corpora):
    for piece in [piece for made in corpora["synth-chords"].values() for piece in made]:
        rows = piece.target.rows
        assert (rows[0][0], rows[-1][1]) == (0.0, songs.SECONDS)
        assert all(before[1] == after[0] for before, after in itertools.pairwise(rows))
        beats = np.array([row[0] for row in rows]) * piece.truth["bpm"] / 60
        np.testing.assert_allclose(beats, beats.round(), atol=1e-9)
        assert rows[0][2] == "N"


def test_notes_are_those_of_the_chord_that_sounds(corpora):
    """Chords and bass play tones of the chord and nothing else, from where it begins; in a rest drums alone begin."""
    for piece in [piece for made in corpora["synth-chords"].values() for piece in made]:
        melody = piece.truth["programs"][2]
        for start, stop, label in piece.target.rows:
            inside = [note for note in piece.notes if not note.drum and start - 1e-9 <= note.start < stop - 1e-9]
            if label == "N":
                assert not inside
                continue
            root, bitmap, _ = mir_eval.chord.encode(label)
            tones = {(root + step) % 12 for step in np.flatnonzero(bitmap)}
            played = {note.key % 12 for note in inside if note.program != melody}
            assert played - tones <= {(root + 10) % 12}  # the seventh of a dominant, whose class is its triad
            assert root in played
            assert min(note.start for note in inside) == pytest.approx(start)
            assert all(note.start + note.seconds <= stop + 1e-9 for note in inside if note.program != melody)


def test_all_classes_are_trained_and_none_is_half_of_the_time(corpora):
    seconds = Counter()
    for piece in corpora["synth-chords"]["train"]:
        for start, stop, label in piece.target.rows:
            seconds[label if label in chords.LABELS else "ignored"] += stop - start
    shares = {label: time / seconds.total() for label, time in seconds.items()}
    assert set(chords.LABELS) < set(shares)
    assert max(shares, key=shares.get) == "N"
    assert shares["N"] == pytest.approx(0.113, abs=0.001)
    assert shares["ignored"] == pytest.approx(0.038, abs=0.001)


def test_pitches_are_the_notes(corpora):
    assert (songs.KEY_NAMES[0], songs.KEY_NAMES[39], songs.KEY_NAMES[-1], len(songs.KEY_NAMES)) == ("A0", "C4", "C8", 88)
    piece = corpora["frame-pitch"]["test"][3]
    task, grid = synth.FRAME_PITCH, Grid(25.0, 0.01)
    encoded = task.frames.encode(piece.target, task.labels, grid, 500)
    assert (encoded.shape, encoded.dtype, set(np.unique(encoded))) == ((500, 88), np.float32, {0.0, 1.0})
    for frame in range(0, 500, 17):
        time = 0.01 + frame / 25
        sounding = {note.key for note in piece.notes if not note.drum and note.start <= time < note.start + note.seconds}
        assert {21 + int(column) for column in np.flatnonzero(encoded[frame])} == sounding
    for made in corpora["frame-pitch"].values():
        assert all(0 <= start < stop <= songs.SECONDS for piece in made for start, stop, _ in piece.target.rows)


def heard(piece, seconds=songs.SECONDS):
    """The chord of each frame at 25 Hz, by the triad nearest to the chroma of chords and bass; N where little sounds."""
    backing = [note for note in piece.notes if not note.drum and note.program in piece.truth["programs"][:2]]
    audio, size = np.pad(mix(backing, seconds), 2048), 4096
    frames = np.lib.stride_tricks.sliding_window_view(audio, size)[:: RATE // 25] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames)) ** 2
    frequency = np.fft.rfftfreq(size, 1 / RATE)
    used = (frequency > 100) & (frequency < 1500)
    classes = np.round(12 * np.log2(frequency[used] / 440) + 69).astype(int) % 12
    chroma = np.log1p(1e3 * power[:, used] @ np.eye(12)[classes] / power.max())
    triads = np.array([[(tone - root) % 12 in (0, third, 7) for tone in range(12)] for third in (4, 3) for root in range(12)])
    return np.where(power.sum(1) < 1e-4 * power.max(), 24, (chroma @ triads.T).argmax(1))


def test_the_chords_can_be_heard_when_they_sound():
    """The attack of a chord outweighs the rest of the one before it in a window, so that late answers lose less."""
    sums = dict.fromkeys((-0.2, -0.1, 0.0, 0.1, 0.2), 0.0)
    for number in range(12):
        piece = composed("synth-chords", "test", number)
        answers = heard(piece)
        for shift in sums:
            grid = Grid(25.0, shift)
            sums[shift] += FRAME_METRICS["wcsr"].statistics(answers, grid, piece.target, chords.LABELS, songs.SECONDS)
    wcsr = {shift: correct / valid for shift, (correct, valid) in sums.items()}
    assert wcsr[0.0] > 0.7
    assert wcsr[0.0] > max(wcsr[-0.1], wcsr[0.1])
    assert wcsr[0.0] - max(wcsr[-0.2], wcsr[0.2]) > 0.03


@pytest.mark.parametrize(
    ("name", "notes", "level"),
    [("synth-chords", "2205d2d0acb988f2", 0.1211563), ("frame-pitch", "940f0009c93052d1", 0.0349483)],
)
def test_the_music_is_that_of_version_1(corpora, name, notes, level):
    """A change of the notes or of their sound changes every result: raise the version of the task with it."""
    rounded = [
        (split, number, [tuple(round(value, 4) for value in note) for note in piece.notes])
        for split in SPLITS
        for number, piece in enumerate(corpora[name][split])
    ]
    assert COMPOSERS[name][0].version == 1
    assert hashlib.sha256(repr(rounded).encode()).hexdigest()[:16] == notes
    audio, _ = synth.render(name, COMPOSERS[name][1], "train", 7)
    assert np.abs(audio / 2**15).mean() == pytest.approx(level, rel=1e-4)


@pytest.mark.parametrize("name", COMPOSERS)
def test_targets_survive_the_manifest(name, tmp_path):
    task, compose = COMPOSERS[name]
    sizes = {"train": 1, "valid": 1, "test": 1}
    tiny = synth._task("synth-tiny", compose, task.kind, task.labels, task.metrics, sizes, task.frames)
    clips = tiny.read(tmp_path)
    assert clips[0].target == compose("train", 0, Random("synth-tiny train 0")).target
    assert tiny.read(tmp_path) == clips


def test_declarations():
    for name, (task, _) in COMPOSERS.items():
        assert load_task(name) is task
        assert task.synthetic
        assert task.description.startswith(name)
        for size in task.split_sizes.values():
            assert str(size) in task.description
