"""The embedded tasks: the truth agrees with the sound, splits are disjoint, and rendering leaves nothing half."""

import hashlib
import math
import subprocess
import sys
import wave
from collections import Counter
from random import Random

import numpy as np
import pytest

from marble.errors import MarbleError
from marble.registry import load_task
from marble.task import SPLITS
from marble.tasks.synth import pieces
from marble.tasks.synth import tasks as synth
from marble.tasks.synth.soundfont import RATE, mix, zones

COMPOSERS = {
    "synth-pitch": (synth.PITCH, pieces.pitch_piece),
    "synth-instrument": (synth.INSTRUMENT, pieces.instrument_piece),
    "synth-key": (synth.KEY, pieces.key_piece),
    "synth-tempo": (synth.TEMPO, pieces.tempo_piece),
}


def composed(name, split, number):
    return COMPOSERS[name][1](split, number, Random(f"{name} {split} {number}"))


@pytest.fixture(scope="module")
def corpora():
    """All pieces of all tasks as notes: name -> split -> list of pieces."""
    return {
        name: {split: [composed(name, split, number) for number in range(task.split_sizes[split])] for split in SPLITS}
        for name, (task, _) in COMPOSERS.items()
    }


@pytest.fixture
def tiny():
    """The pitch task with five clips."""
    sizes = {"train": 2, "valid": 1, "test": 2}
    return synth._task("synth-tiny", pieces.pitch_piece, "multiclass", pieces.PITCHES, ("accuracy",), sizes)


# The music


@pytest.mark.parametrize("name", COMPOSERS)
def test_every_note_has_a_recording_and_no_two_pieces_are_alike(corpora, name):
    everything = [piece for split in corpora[name].values() for piece in split]
    assert len({tuple(piece.notes) for piece in everything}) == len(everything)
    for program, key, drum in {(note.program, note.key, note.drum) for piece in everything for note in piece.notes}:
        assert zones(program, key, drum=drum)
    assert all(1 <= note.velocity <= 127 and note.seconds > 0 for piece in everything for note in piece.notes)
    assert all(-7 < note.start < piece.seconds + 7 for piece in everything for note in piece.notes)


@pytest.mark.parametrize("name", ["synth-pitch", "synth-instrument", "synth-key"])
def test_classes_are_equally_many_in_every_split(corpora, name):
    for made in corpora[name].values():
        counts = Counter(piece.target for piece in made)
        assert set(counts) == set(COMPOSERS[name][0].labels)
        assert len(set(counts.values())) == 1


def test_pitch_splits_share_no_program_and_no_recording():
    recordings = {
        split: {zone.sample for program in programs for key in range(48, 84) for zone in zones(program, key)}
        for split, programs in pieces.PITCH_PROGRAMS.items()
    }
    for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not recordings[one] & recordings[other]
        assert not set(pieces.PITCH_PROGRAMS[one]) & set(pieces.PITCH_PROGRAMS[other])


def test_pitch_labels_name_the_key_that_is_played(corpora):
    assert (pieces.PITCHES[0], pieces.PITCHES[12], pieces.PITCHES[-1]) == ("C3", "C4", "B5")  # C4 is MIDI 60
    for split, made in corpora["synth-pitch"].items():
        for piece in made:
            (note,) = [note for note in piece.notes if not note.drum]
            assert piece.target == pieces.PITCHES[note.key - 48]
            assert note.program in pieces.PITCH_PROGRAMS[split]


def test_instruments_play_the_same_range(corpora):
    means = {}
    for piece in corpora["synth-instrument"]["train"]:
        assert {note.program for note in piece.notes} == {pieces.INSTRUMENTS[piece.target]}
        means.setdefault(piece.target, []).extend(note.key for note in piece.notes)
    assert all(abs(np.mean(keys) - 68) < 4 for keys in means.values())


def test_key_names_are_those_of_the_key_data_sets():
    assert pieces.KEYS[:3] == ("C major", "Db major", "D major")
    assert pieces.KEYS[11:14] == ("B major", "C minor", "Db minor")
    assert pieces.KEYS[-1] == "B minor"
    assert len(set(pieces.KEYS)) == 24


def test_key_pieces_stay_in_their_key_and_end_with_a_cadence(corpora):
    scales = {"major": {0, 2, 4, 5, 7, 9, 11}, "minor": {0, 2, 3, 5, 7, 8, 10, 11}}
    for piece in [piece for made in corpora["synth-key"].values() for piece in made]:
        name, mode = piece.target.split()
        tonic = pieces.PITCH_CLASSES.index(name)
        assert {(note.key - tonic) % 12 for note in piece.notes} <= scales[mode]
        chords = [chord for _, chord in piece.truth["chords"]]
        assert chords[0] == chords[-1] == ("I" if mode == "major" else "i")
        assert chords[-2] in ("V", "V7")
        final = [note for note in piece.notes if note.start >= piece.truth["chords"][-1][0] - 1e-6]
        third = 4 if mode == "major" else 3
        assert {(note.key - tonic) % 12 for note in final} == {0, third, 7}
        if mode == "minor":
            assert 11 in {(note.key - tonic) % 12 for note in piece.notes}


def test_tempo_targets_are_the_logarithm_of_the_tempo_and_cover_the_range(corpora):
    made = [piece for split in corpora["synth-tempo"].values() for piece in split]
    for piece in made:
        assert piece.target == (math.log2(piece.truth["bpm"]),)
        np.testing.assert_allclose(np.diff(piece.truth["beats"]), 60 / piece.truth["bpm"], atol=2e-6)
    tempos = [piece.truth["bpm"] for piece in made]
    assert 60 <= min(tempos) < 65 < 185 < max(tempos) <= 200


# The sound


def chroma(audio):
    power = np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) ** 2
    frequency = np.fft.rfftfreq(len(audio), 1 / RATE)
    heard = (frequency > 60) & (frequency < 2000)
    classes = np.round(12 * np.log2(frequency[heard] / 440) + 69).astype(int) % 12
    return np.bincount(classes, power[heard], minlength=12)


def test_the_keys_can_be_heard():
    steps = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 11)}
    right = 0
    for number in range(24):
        audio, piece = synth.render("synth-key", pieces.key_piece, "test", number)
        heard = np.sqrt(chroma(audio))
        inside = [sum(heard[(tonic + step) % 12] for step in steps[mode]) for mode in steps for tonic in range(12)]
        best = np.argsort(inside)[-3:]  # neighbouring keys share six of seven tones
        right += pieces.KEYS.index(piece.target) in best
    assert right >= 18


def test_the_beats_can_be_heard():
    sharper = 0
    for number in range(20):
        piece = composed("synth-tempo", "test", number)
        audio = mix([note for note in piece.notes if note.drum], piece.seconds)
        energy = np.square(audio[: len(audio) // 240 * 240].reshape(-1, 240)).sum(1)  # every 10 ms
        onset = np.maximum(np.diff(np.log(energy + 1e-6), prepend=0), 0)
        onset = np.maximum(onset, np.roll(onset, 1))  # a tolerance of 10 ms

        def strength(period, onset=onset, first=piece.truth["beats"][0]):
            return onset[np.arange(first, 5.9, period).__mul__(100).astype(int)].mean()

        beat = 60 / piece.truth["bpm"]
        sharper += strength(beat) > 1.5 * max(strength(beat * factor) for factor in (0.89, 0.95, 1.05, 1.11))
    assert sharper >= 17


def test_no_clip_clips_or_is_silent():
    for name in COMPOSERS:
        for number in range(6):
            audio, piece = synth.render(name, COMPOSERS[name][1], "valid", number)
            assert len(audio) == round(piece.seconds * RATE)
            assert 10 ** (-12.1 / 20) < np.abs(audio.astype(int)).max() / 32767 <= 10 ** (-0.9 / 20)


@pytest.mark.parametrize(
    ("name", "notes", "level"),
    [
        ("synth-pitch", "5dbb41a5498d810f", 0.0115881),
        ("synth-instrument", "727c2f26fc061d9d", 0.0659048),
        ("synth-key", "75f4949309fcec71", 0.0747048),
        ("synth-tempo", "03852cffb66b62d8", 0.0363322),
    ],
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


# The files


def test_declarations():
    for name, (task, _) in COMPOSERS.items():
        assert load_task(name) is task
        assert task.synthetic
        assert task.name == name
        assert task.description.startswith(name)
        assert "GPL-2.0" in task.licence
        for size in task.split_sizes.values():
            assert str(size) in task.description
    assert synth.TEMPO.main_metric == "r2"
    assert synth.TEMPO.labels == ("log2_bpm",)


def test_renders_once_and_then_only_reads(tiny, tmp_path, monkeypatch):
    clips = tiny.read(tmp_path)
    assert [clip.id for clip in clips] == ["train-0000", "train-0001", "valid-0000", "test-0000", "test-0001"]
    assert [clip.target for clip in clips] == ["C3", "Db3", "C3", "C3", "Db3"]
    with wave.open(str(clips[0].path)) as file:
        assert file.getparams()[:4] == (1, 2, RATE, RATE)
    monkeypatch.setattr(synth, "render", None)
    assert tiny.read(tmp_path) == clips


def test_regression_targets_survive_the_manifest(tmp_path):
    sizes = {"train": 1, "valid": 1, "test": 1}
    task = synth._task("synth-tiny", pieces.tempo_piece, "regression", ("log2_bpm",), ("r2",), sizes)
    composer = Random("synth-tiny train 0")
    assert task.read(tmp_path)[0].target == pieces.tempo_piece("train", 0, composer).target


def test_equal_bytes_everywhere(tiny, tmp_path):
    for root in ("one", "two"):
        tiny.read(tmp_path / root)
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / root / "synth-tiny-v1").iterdir()} for root in ("one", "two")
    )
    assert one == two


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_an_interrupted_rendering_leaves_nothing_and_is_repeated(tiny, tmp_path, monkeypatch, stop):
    whole, calls = synth.render, []

    def interrupted(*piece):
        calls.append(piece)
        if len(calls) == 3:
            raise stop("no space left")
        return whole(*piece)

    monkeypatch.setattr(synth, "render", interrupted)
    with pytest.raises(MarbleError if stop is OSError else stop):
        tiny.read(tmp_path)
    assert not (tmp_path / "synth-tiny-v1").exists()
    monkeypatch.setattr(synth, "render", whole)
    assert len(tiny.read(tmp_path)) == 5
    assert {path.name for path in tmp_path.iterdir()} == {"synth-tiny-v1", ".synth-tiny-v1.lock"}


def test_two_processes_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from marble.tasks.synth import pieces, tasks as synth;"
        "task = synth._task('synth-tiny', pieces.pitch_piece, 'multiclass', pieces.PITCHES, ('accuracy',),"
        "{'train': 30, 'valid': 30, 'test': 30}); print(len(task.read(Path(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0] for process in running] == ["90\n", "90\n"]
    assert len(list((tmp_path / "synth-tiny-v1").glob("*.wav"))) == 90


def test_a_place_that_cannot_be_written_is_named(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MarbleError, match=r"Cannot write .*file/synth-tiny-v1 .*choose another folder"):
        tiny.read(tmp_path / "file")


@pytest.mark.parametrize("damage", ["absent", "cut"])
def test_a_damaged_manifest_is_named(tiny, tmp_path, damage):
    tiny.read(tmp_path)
    manifest = tmp_path / "synth-tiny-v1" / "clips.jsonl"
    text = manifest.read_text()
    manifest.unlink()
    if damage == "cut":
        manifest.write_text(text[:-20])
    with pytest.raises(MarbleError, match=r"clips\.jsonl cannot be read .*remove"):
        tiny.read(tmp_path)
