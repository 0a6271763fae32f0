"""MagnaTagATune: folders, tags, and the clean lists without running a pickle."""

import pickle

import pytest

from marble.errors import MarbleError
from marble.registry import load_task
from marble.tasks import magnatagatune
from marble.tasks.magnatagatune import TAGS


def test_folders_decide_the_split_and_empty_clips_are_left_out(stand_in):
    task, root = stand_in("mtt")
    clips = {clip.id: clip for clip in task.read(root)}
    assert "35644" not in clips
    assert len(clips) == 44
    folders = {split: {clip.path.parent.name for clip in clips.values() if clip.split == split} for split in ("valid", "test")}
    assert folders == {"valid": {"c"}, "test": set("def")}
    assert clips["100"].target == ()
    assert clips["107"].target == ("guitar", "no vocals", "choral")
    assert all(clip.path.is_file() for clip in clips.values())


def test_the_clean_lists_are_a_part_of_the_clips(stand_in):
    everything, root = stand_in("mtt")
    clean, _ = stand_in("mtt-clean")
    full = {clip.id: clip for clip in everything.read(root)}
    clips = clean.read(root)
    assert all(clip == full[clip.id] for clip in clips)
    assert {clip.id for clip in clips} == {name for name, clip in full.items() if clip.target}


def test_the_real_clean_lists_as_they_are_published(tmp_path, shared, monkeypatch):
    for split, size in {"train": 15_244, "valid": 1_529, "test": 4_332}.items():
        names = (shared / f"data/mtt/clean-{split}.txt").read_text().splitlines()
        file = tmp_path / f"{split}_list_pub.cP"
        # The published pickles, byte for byte, are these lists in the first protocol, each string noted once.
        content = b"(lp1\n" + b"".join(b"S%s\np%d\na" % (repr(name).encode(), number) for number, name in enumerate(names, 2))
        file.write_bytes(content + b".")
        read = magnatagatune._names(file)
        assert len(read) == size
        assert {magnatagatune._split_of(path) for path in read} == {split}
        assert read == [name.replace(".npy", ".mp3") for name in names]


def test_a_pickle_is_read_without_being_run(tmp_path, monkeypatch):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trapped"), "w"))

    file = tmp_path / "train_list_pub.cP"
    file.write_bytes(pickle.dumps([Trap()], protocol=0))
    monkeypatch.setattr(magnatagatune, "SHA256", {file.name: None})
    assert magnatagatune._names(file) == []
    assert not (tmp_path / "trapped").exists()


def test_the_tags_are_those_of_the_published_list(shared):
    theirs = (shared / "data/mtt/top50_tags.txt").read_text().split()
    squeezed = {tag.replace(" ", "").lower() for tag in TAGS}
    assert squeezed == {tag.lower() for tag in theirs}
    assert len(TAGS) == 50


def test_an_unknown_or_missing_file_is_said(stand_in, tmp_path):
    task, root = stand_in("mtt-clean")
    with pytest.raises(MarbleError, match=r"annotations_final.csv is missing: fetch https"):
        load_task("mtt").read(tmp_path)
    home = tmp_path / "mtt"
    home.mkdir()
    for file in (root / "mtt").glob("*.c*"):
        (home / file.name).write_bytes(file.read_bytes())
    with pytest.raises(MarbleError, match=r"no folder .*mtt/mp3 with the folders 0 to f"):
        task.read(tmp_path)
    (home / "valid_list_pub.cP").write_bytes(b"(lp1\n.")
    with pytest.raises(MarbleError, match=r"valid_list_pub.cP is not the published one"):
        task.read(tmp_path)
