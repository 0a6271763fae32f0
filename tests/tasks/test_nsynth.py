"""NSynth: labels from the official table, splits from the folders."""

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
