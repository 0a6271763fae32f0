"""``folder:PATH``: splits by content, not by name or place."""

import os
import re
import shutil
from collections import Counter

import pytest

from marble.data.verify import verify
from marble.errors import MarbleError
from marble.registry import load_task
from marble.task import SplitRule


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
        (
            ("train", "test"),
            r"\(test, train\), but no valid: give it .* take a fifth of train for it with --set split\.valid=0\.2\.",
        ),
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


@pytest.mark.parametrize("name", ["__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"])
@pytest.mark.parametrize("place", ["", "a", "a/deeper"])
def test_folders_of_systems_are_passed_over_and_counted(tmp_path, name, place):
    root = write(tmp_path / "sounds", "ab")
    before = splits(root)
    (root / place / name / "x").mkdir(parents=True)
    for other in ("._0.wav", "x/y.wav", "0.wav@SynoEAStream"):
        (root / place / name / other).write_text("rubbish")
    with pytest.warns(UserWarning, match=rf"are passed over \(1 folder {re.escape(name)}\)"):
        assert splits(root) == before


def test_a_folder_of_pictures_is_no_class_and_counted(tmp_path):
    root = write(tmp_path / "sounds", "ab")
    (root / "images" / "a").mkdir(parents=True)
    (root / "images" / "a" / "0.png").touch()
    with pytest.warns(UserWarning, match=r"are passed over \(1 \.png, 1 folder images\)"):
        assert load_task(f"folder:{root}").labels == ("a", "b")
    (root / "images" / "a" / "0.m4a").touch()
    with pytest.raises(MarbleError, match=r"The class folder 'images' of .* holds no audio that"):
        load_task(f"folder:{root}")


def test_the_folder_that_may_be_meant_is_named(tmp_path):
    """As in the archive of GTZAN at Kaggle."""
    write(tmp_path / "kaggle/genres_original", "ab")
    with pytest.raises(MarbleError, match=r"holds 1 class folders .*; folder:.*/kaggle/genres_original holds 2\."):
        load_task(f"folder:{tmp_path}/kaggle")
    (tmp_path / "hub/data").mkdir(parents=True)
    (tmp_path / "hub/data/train-0.parquet").touch()
    with (
        pytest.warns(UserWarning, match=r"passed over \(1 \.parquet, 1 folder data\)"),
        pytest.raises(MarbleError, match=r"holds 0 class folders .*; table:.* may be a task"),
    ):
        load_task(f"folder:{tmp_path}/hub")


@pytest.mark.parametrize("names", [("train_set", "valid_set", "test_set"), ("nsynth-train", "nsynth-valid", "nsynth-test")])
def test_splits_are_read_in_longer_names_where_all_folders_have_them(tmp_path, names):
    for name in names:
        write(tmp_path / "sounds" / name, "ab")
    task = load_task(f"folder:{tmp_path}/sounds")
    assert task.labels == ("a", "b")
    assert {clip.id.partition("/")[0]: clip.split for clip in task.read(tmp_path)} == dict(
        zip(names, ("train", "valid", "test"), strict=True)
    )
    write(tmp_path / "sounds", ["bells"])
    assert load_task(f"folder:{tmp_path}/sounds").labels == tuple(sorted([*names, "bells"]))


def test_splits_below_classes_and_files_beside_each_other_are_told(tmp_path):
    for label in "ab":
        write(tmp_path / "sounds" / label, ["train", "test"])
    with pytest.warns(UserWarning, match=r"hold folders of splits \(test …\), which count above class folders alone"):
        load_task(f"folder:{tmp_path}/sounds")
    write(tmp_path, ["flat"])
    with (
        pytest.warns(UserWarning, match="passed over"),
        pytest.raises(MarbleError, match="where the name of a file tells its class, write a table"),
    ):
        load_task(f"folder:{tmp_path}/flat")
    (tmp_path / "flat/list.csv").touch()
    with (
        pytest.warns(UserWarning, match="passed over"),
        pytest.raises(MarbleError, match=r"; table:.*/flat/list\.csv may be a task"),
    ):
        load_task(f"folder:{tmp_path}/flat")


@pytest.mark.parametrize("names", [("fold1", "fold2", "fold3"), ("Disc 1", "Disc 2"), ("part-01", "part-02"), ("cv_0", "cv_1")])
def test_class_folders_that_look_like_folds_are_doubted(tmp_path, names):
    root = write(tmp_path / "sounds", names)
    with pytest.warns(UserWarning, match=rf"called like folds or parts \({names[0]}, {names[1]} …\)"):
        task = load_task(f"folder:{root}")
    assert len(task.notes) == 1


@pytest.mark.parametrize(
    "names", [("c000", "c001"), ("kick", "fold1"), ("01", "02"), ("cd", "set"), ("split tones", "part songs")]
)
def test_other_class_folders_are_not_doubted(tmp_path, names):
    assert load_task(f"folder:{write(tmp_path / 'sounds', names)}").notes == ()


def test_class_folders_that_differ_in_case_alone_are_named(tmp_path):
    root = write(tmp_path / "sounds", ("rock", "Rock", "jazz"))
    with pytest.warns(UserWarning, match="'Rock' and 'rock'|'rock' and 'Rock'"):
        assert len(load_task(f"folder:{root}").labels) == 3


def kits(root, drums=("kick", "snare", "tom"), number=6, each=4):
    for drum in drums:
        for kit in range(number):
            (root / drum / f"kit{kit}").mkdir(parents=True)
            for take in range(each):
                (root / drum / f"kit{kit}" / f"{take}.wav").write_text(f"{drum} {kit} {take}")
    return root


@pytest.mark.parametrize("rule", ["parent", "regex:kit[0-9]+", "regex:kit([0-9]+)"])
def test_kits_stand_in_one_split_over_all_their_drums(tmp_path, rule):
    root = kits(tmp_path / "drums")
    clips = load_task(f"folder:{root}", rule=SplitRule(group=rule)).read(root)
    split_of = {}
    for clip in clips:
        assert split_of.setdefault(clip.path.parent.name, clip.split) == clip.split
        assert clip.artist == clip.path.parent.name.removeprefix("kit" if "(" in rule else "")
        assert clip.track == clip.id
    for drum in ("kick", "snare", "tom"):
        assert {clip.split for clip in clips if clip.target == drum} == {"train", "valid", "test"}
    findings = {finding.check: finding for finding in verify(load_task(f"folder:{root}", rule=SplitRule(group=rule)), root)}
    assert findings["artists"].found == "0 of 6 stand in training and elsewhere"
    assert load_task(f"folder:{root}", rule=SplitRule(group=rule)).name == f"folder:drums@{rule}"


def test_folders_inside_the_class_folders_are_offered_as_groups(tmp_path):
    with pytest.warns(UserWarning, match=r"class folders hold folders \(kit0 …\), which --group parent keeps in one split"):
        load_task(f"folder:{kits(tmp_path / 'drums')}")
    single = kits(tmp_path / "singles", number=4, each=1)
    assert load_task(f"folder:{single}", rule=SplitRule(group="parent")).notes == ()
    for name in "ab":
        (tmp_path / "flat" / name / "more").mkdir(parents=True)
        for take in range(9):
            (tmp_path / "flat" / name / ("more" if take < 3 else "") / f"{take}.wav").write_text(f"{name} {take}")
    assert load_task(f"folder:{tmp_path / 'flat'}").notes == ()


def test_a_folder_groups_by_paths_alone(tmp_path):
    root = write(tmp_path / "sounds", "ab")
    with pytest.raises(MarbleError, match="A folder has no column 'kit' for --group: write parent or regex:PATTERN"):
        load_task(f"folder:{root}", rule=SplitRule(group="kit"))
    with pytest.raises(MarbleError, match="--group parent finds no group in"):
        load_task(f"folder:{root}", rule=SplitRule(group="parent")).read(root)


def test_validation_may_be_taken_out_of_training(tmp_path):
    for split in ("train", "test"):
        write(tmp_path / split, "ab", each=10, text=split + "{name}{take}")
    task = load_task(f"folder:{tmp_path}", rule=SplitRule(valid=0.2))
    counts = Counter((clip.split, clip.target) for clip in task.read(tmp_path))
    assert counts == {(split, label): n for split, n in (("train", 8), ("valid", 2), ("test", 10)) for label in "ab"}
    assert task.name == f"folder:{tmp_path.name}@valid=0.2"
    assert {clip.path.parts[-3] for clip in task.read(tmp_path) if clip.split == "test"} == {"test"}
    write(tmp_path / "valid", "ab", each=2, text="valid{name}{take}")
    with pytest.raises(MarbleError, match=r"has a validation split of its own: leave out split\.valid"):
        task = load_task(f"folder:{tmp_path}", rule=SplitRule(valid=0.2)).read(tmp_path)
