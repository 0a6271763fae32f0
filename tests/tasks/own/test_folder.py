"""``folder:PATH``: splits by content, not by name or place."""

import os
import shutil

import pytest

from marble.errors import MarbleError
from marble.registry import load_task


def write(root, classes, each=10, text="{name}{take}"):
    for name in classes:
        (root / name).mkdir(parents=True)
        for take in range(each):
            (root / name / f"{take}.wav").write_bytes(os.fsencode(text.format(name=name, take=take)))
    return root


def splits(root):
    return {clip.path.read_text(): clip.split for clip in load_task(f"folder:{root}").read(root)}


def test_files_are_dealt_three_to_one_to_one_in_every_class(tmp_path):
    root = write(tmp_path / "sounds", "ab")
    (root / "a" / "notes.txt").write_text("no audio")
    (root / "a" / "._0.wav").write_text("a hidden file")
    (root / "loose.wav").write_text("in no class")
    with pytest.warns(UserWarning, match=r"are passed over \(1 \.txt, 1 \.wav\)"):
        task = load_task(f"folder:{root}")
    clips = task.read(root)
    assert task.labels == ("a", "b")
    assert task.name == "folder:sounds"
    for label in "ab":
        counts = [sum(clip.split == split and clip.target == label for clip in clips) for split in ("train", "valid", "test")]
        assert counts == [6, 2, 2]


def test_renaming_and_moving_change_no_split(tmp_path):
    root = write(tmp_path / "sounds", "ab")
    before = splits(root)
    (root / "a" / "3.wav").rename(root / "a" / "zzz.wav")
    shutil.move(root, tmp_path / "elsewhere")
    assert splits(tmp_path / "elsewhere") == before


def test_copies_of_one_recording_stand_in_one_split(tmp_path):
    root = write(tmp_path / "sounds", "ab")
    for take in range(10):
        shutil.copy(root / "a" / f"{take}.wav", root / "a" / f"copy{take}.wav")
        shutil.copy(root / "a" / f"{take}.wav", root / "b" / f"stolen{take}.wav")
    split_of = {}
    for clip in load_task(f"folder:{root}").read(root):
        assert split_of.setdefault(clip.path.read_text(), clip.split) == clip.split
    assert set(split_of.values()) == {"train", "valid", "test"}


def test_split_folders_are_taken_as_they_are(tmp_path):
    for split in ("Train", "validation", "test"):
        write(tmp_path / split, "ab", each=2, text=split + "{name}{take}")
    clips = load_task(f"folder:{tmp_path}").read(tmp_path)
    assert {(clip.path.parent.parent.name, clip.split) for clip in clips} == {
        ("Train", "train"), ("validation", "valid"), ("test", "test"),
    }  # fmt: skip
    assert {clip.target for clip in clips} == {"a", "b"}


def test_wrong_folders_are_explained(tmp_path):
    with pytest.raises(MarbleError, match="there is no folder"):
        load_task(f"folder:{tmp_path}/none")
    with pytest.raises(MarbleError, match="0 class folders"):
        load_task(f"folder:{tmp_path}")
    write(tmp_path / "few", "ab", each=2)
    with pytest.raises(MarbleError, match="only 2 distinct recordings"):
        load_task(f"folder:{tmp_path}/few").read(tmp_path)


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        (("train", "test"), r"has folders of splits \(test, train\), but no valid: give it train, valid and test"),
        (("train", "valid", "test", "extra"), r"\(test, train, valid\), but also 'extra', which is none"),
    ],
)
def test_folders_of_splits_are_all_three_and_nothing_else(folders, sentence, tmp_path):
    for split in folders:
        write(tmp_path / split, "ab", each=2)
    with pytest.raises(MarbleError, match=sentence):
        load_task(f"folder:{tmp_path}")


@pytest.mark.parametrize("name", ["1.m4a", ".hidden.wav", None])
def test_a_class_without_readable_audio_is_not_lost(name, tmp_path):
    root = write(tmp_path / "sounds", "ab")
    (root / "c").mkdir()
    if name:
        (root / "c" / name).write_text("of another kind")
    with pytest.raises(MarbleError, match=r"The class folder 'c' of .* holds no audio that marble reads"):
        load_task(f"folder:{root}")


def test_links_are_followed_once(tmp_path):
    root = write(tmp_path / "sounds", "ab")
    more = write(tmp_path / "more", "b", text="more{name}{take}")
    (root / "b" / "more").symlink_to(more / "b")
    (root / "b" / "again").symlink_to(more / "b")
    (root / "b" / "round").symlink_to(root / "b")
    (root / "b" / "upwards").symlink_to(root)
    clips = load_task(f"folder:{root}").read(root)
    assert len(clips) == 30
    assert [clip.id for clip in clips if clip.id.count("/") > 1] == [f"b/again/{take}.wav" for take in range(10)]


def test_names_that_are_no_utf8_become_labels_that_can_be_written(tmp_path):
    root = write(tmp_path / os.fsdecode(b"caf\xe9"), [os.fsdecode(b"b\xe9te"), "a"])
    task = load_task(f"folder:{root}")
    assert (task.name, task.labels) == ("folder:caf\\xe9", ("a", "b\\xe9te"))
    assert {clip.target for clip in task.read(root)} == set(task.labels)


def test_dots_in_the_path_are_no_name(tmp_path, monkeypatch):
    root = write(tmp_path / "sounds", "ab")
    monkeypatch.chdir(root / "a")
    assert load_task("folder:..").name == "folder:sounds"


def test_the_real_one_shots(shared):
    clips = load_task(f"folder:{shared}/data/audio/one-shots").read(shared)
    assert len(clips) == 292
    assert len({clip.target for clip in clips}) == 12
