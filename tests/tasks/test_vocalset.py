"""VocalSet: singers and techniques from folders, doubles left out, splits that depend on no order."""

import shutil
from collections import Counter

import pytest

from marble.errors import MarbleError
from marble.registry import load_task


def test_techniques_are_split_by_singer(stand_in):
    task, root = stand_in("vocalset-technique")
    clips = task.read(root)
    assert {clip.target for clip in clips} == {"trill", "lip_trill"}  # messa is none of the ten
    singers = {split: {clip.id.split("/")[0] for clip in clips if clip.split == split} for split in ("train", "valid", "test")}
    assert singers == {"train": {"female3", "male2"}, "valid": {"female1", "male11"}, "test": {"female2"}}
    assert not any("(1)" in clip.id or "/." in clip.id for clip in clips)


def test_the_recordings_of_each_singer_are_dealt_twelve_eight_five(tmp_path):
    for folder, count in {"female1": 25, "male10": 50}.items():
        home = tmp_path / f"vocalset/FULL/{folder}/arpeggios/belt"
        home.mkdir(parents=True)
        for take in range(count):
            (home / f"{take}.wav").write_text("sound")
    clips = load_task("vocalset-singer").read(tmp_path)
    assert Counter((clip.target, clip.split) for clip in clips) == {
        ("f1", "train"): 12, ("f1", "valid"): 8, ("f1", "test"): 5,
        ("m10", "train"): 24, ("m10", "valid"): 16, ("m10", "test"): 10,
    }  # fmt: skip
    # The split is a fact of the names: pinned, so that no change goes unseen.
    tested = sorted(clip.path.stem for clip in clips if clip.target == "f1" and clip.split == "test")
    assert tested == ["1", "14", "18", "5", "6"]


def test_the_case_of_an_extension_is_no_matter(stand_in, tmp_path):
    task, root = stand_in("vocalset-singer")
    shutil.copytree(root / "vocalset", tmp_path / "vocalset")
    file = sorted((tmp_path / "vocalset").glob("FULL/female1/*/*/*.wav"))[0]
    file.rename(file.with_suffix(".WAV"))
    assert {(clip.id, clip.split) for clip in task.read(tmp_path)} == {(clip.id, clip.split) for clip in task.read(root)}


def test_what_is_missing_or_foreign_is_said(tmp_path):
    with pytest.raises(MarbleError, match=r"no folder .*vocalset/FULL with one folder a singer: get it from https"):
        load_task("vocalset-singer").read(tmp_path)
    foreign = tmp_path / "vocalset/FULL/child1/scales/belt/a.wav"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("sound")
    with pytest.raises(MarbleError, match="child1 is no singer of VocalSet"):
        load_task("vocalset-singer").read(tmp_path)
