"""EmoMusic: the rule of the split, the scale of the targets, and the order of arousal and valence."""

import hashlib
import shutil

import numpy as np
import pytest

from marble.errors import MarbleError
from marble.registry import load_task
from marble.tasks import emomusic


def test_splits_follow_the_artist_and_the_set(stand_in):
    task, root = stand_in("emomusic")
    clips = {clip.id: clip for clip in task.read(root)}
    assert {name for name, clip in clips.items() if clip.split == "test"} == {str(number) for number in range(48, 60)}
    for number in range(48):
        name = "bnd no " + "abcdefghijklmnopqrstuvwxyz"[number % 26]  # as the rule writes "Bänd,  No A"
        rest = int(hashlib.sha1(name.encode()).hexdigest(), 16) % 10
        assert clips[str(number)].split == ("train" if rest < 8 else "valid")


def test_targets_are_arousal_and_valence_scaled_over_the_development_set(stand_in):
    task, root = stand_in("emomusic")
    clips = task.read(root)
    assert task.labels == ("arousal", "valence")
    assert task.metrics == ("r2", "r2_arousal", "r2_valence")
    developed = np.array([clip.target for clip in clips if clip.split != "test"])
    np.testing.assert_allclose(developed.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(developed.std(0), 1)
    lowest, highest = clips[0].target, clips[7].target
    assert lowest[0] == min(clip.target[0] for clip in clips)
    assert highest[0] == max(clip.target[0] for clip in clips)
    assert clips[5].target[1] == max(clip.target[1] for clip in clips)  # 3 · 5 = 7 modulo 8


def test_the_tables_may_lie_in_a_folder(stand_in, tmp_path):
    task, root = stand_in("emomusic")
    home = tmp_path / "emomusic"
    (home / "clips_45seconds").mkdir(parents=True)
    (home / "annotations").mkdir()
    for name in emomusic.COLUMNS:
        shutil.copy(root / "emomusic" / name, home / "annotations")
    assert [clip.target for clip in task.read(tmp_path)] == [clip.target for clip in task.read(root)]


def test_what_is_missing_is_said(tmp_path, stand_in):
    with pytest.raises(MarbleError, match=r"songs_info.csv is missing: fetch http://cvml"):
        load_task("emomusic").read(tmp_path)
    _, root = stand_in("emomusic")
    shutil.copytree(root / "emomusic", tmp_path / "emomusic")
    file = tmp_path / "emomusic/static_annotations.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(MarbleError, match=r"The song 59 .* has no row in static_annotations.csv"):
        load_task("emomusic").read(tmp_path)
    file.write_text("\n".join([*lines, "7,1.0"]))
    with pytest.raises(MarbleError, match=r"static_annotations.csv is not the table of EmoMusic"):
        load_task("emomusic").read(tmp_path)
    file.write_text("\n".join([*lines[:-1], lines[-1].replace(lines[-1].split(",")[1], " ", 1)]))
    with pytest.raises(MarbleError, match=r"A rating in .* is no number"):
        load_task("emomusic").read(tmp_path)
    file.write_text("")
    with pytest.raises(MarbleError, match=r"static_annotations.csv is not the table of EmoMusic"):
        load_task("emomusic").read(tmp_path)
