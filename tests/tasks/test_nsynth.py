"""NSynth: labels from the official table, splits from the folders."""

import json

import pytest

from marble.errors import MarbleError
from marble.registry import load_task


def test_labels_and_splits(stand_in):
    instrument, root = stand_in("nsynth-instrument")
    pitch, _ = stand_in("nsynth-pitch")
    families, pitches = instrument.read(root), pitch.read(root)
    assert [clip.id for clip in families] == [clip.id for clip in pitches]
    assert {clip.target for clip in families if clip.split == "test"} == {"bass", "organ"}
    assert {clip.target for clip in families if clip.split == "train"} == {"bass", "organ", "synth_lead"}
    (note,) = [clip for clip in pitches if clip.id == "organ_acoustic_008-057-100"]
    assert (note.target, note.split) == ("57", "test")
    assert note.path == root / "nsynth/nsynth-test/audio/organ_acoustic_008-057-100.wav"
    assert len(pitch.labels) == 128
    assert pitch.encode([note]).tolist() == [57]


@pytest.mark.parametrize("label", ["instrument", "pitch"])
def test_the_clean_variant_leaves_out_the_notes_that_are_noise_and_nothing_else(tmp_path, label):
    test = ["organ_acoustic_046-099-100", "brass_acoustic_045-099-100"]
    test += [f"brass_acoustic_046-{pitch:03d}-{velocity:03d}" for pitch in (83, 84, 99, 108, 109) for velocity in (25, 127)]
    for split, names in (("train", ["organ_acoustic_001-060-100"]), ("valid", ["organ_acoustic_002-060-100"]), ("test", test)):
        (tmp_path / f"nsynth/nsynth-{split}/audio").mkdir(parents=True)
        notes = {name: {"pitch": int(name.split("-")[1]), "instrument_family_str": name.split("_")[0]} for name in names}
        (tmp_path / f"nsynth/nsynth-{split}/examples.json").write_text(json.dumps(notes))
    every, clean = load_task(f"nsynth-{label}"), load_task(f"nsynth-{label}-clean")
    kept = clean.read(tmp_path)
    left_out = [clip.id for clip in every.clips(tmp_path) if clip not in kept]
    assert left_out == [
        f"brass_acoustic_046-{pitch}-{velocity}" for pitch in ("084", "099", "108") for velocity in ("025", "127")
    ]
    assert (clean.labels, clean.metrics, clean.kind) == (every.labels, every.metrics, every.kind)
    assert "without the notes that are noise" in clean.description.splitlines()[0]


def test_what_is_missing_or_damaged_is_said(tmp_path):
    with pytest.raises(MarbleError, match=r"nsynth-train/examples.json is missing: fetch http"):
        load_task("nsynth-pitch").read(tmp_path)
    (tmp_path / "nsynth/nsynth-train").mkdir(parents=True)
    for text in ("{", "[]", '{"a": {"pitch": 3}}'):
        (tmp_path / "nsynth/nsynth-train/examples.json").write_text(text)
        with pytest.raises(MarbleError, match=r"examples.json is not the table of NSynth"):
            load_task("nsynth-instrument").read(tmp_path)
    with pytest.raises(MarbleError, match=r"no folder .*nsynth-train/audio"):
        load_task("nsynth-pitch").read(tmp_path)
