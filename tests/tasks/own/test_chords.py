"""``chords:PATH``: a folder of audio and lab files."""

import pytest

from marble import registry
from marble.errors import MarbleError
from marble.registry import load_task
from marble.task import SPLITS, SplitRule

LAB = "0.0 1.5 C:7\n1.5 3.0 D:sus4\n3.0 4.0 N\n"


def write(root, *names, audio=".wav", lab=".lab"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}{audio}").write_text(f"the sound of {name}")
        (root / f"{name}{lab}").write_text(LAB)
    return root


def artists(root, number=5, each=3):
    return write(root, *(f"artist {artist}/album/{song}" for artist in range(number) for song in range(each)))


def read(root, rule=None):
    return load_task(f"chords:{root}", rule=rule).read(root)


def sizes(clips):
    return [sum(clip.split == split for clip in clips) for split in SPLITS]


def test_artists_stand_in_one_split(tmp_path):
    root = artists(tmp_path / "music")
    with pytest.warns(UserWarning, match="5 artists are kept in one split each"):
        clips = read(root)
    task = load_task(f"chords:{root}")
    assert (task.name, task.kind, len(task.labels), task.main_metric) == ("chords:music", "frame_classes", 25, "wcsr")
    assert task.notes == ()
    assert sizes(clips) == [9, 3, 3]
    assert len({(clip.artist, clip.split) for clip in clips}) == 5
    assert clips[0].id == "artist 0/album/0"
    assert clips[0].path == root / "artist 0/album/0.wav"
    assert clips[0].target.rows == ((0.0, 1.5, "C:maj"), (1.5, 3.0, "D:sus4"), (3.0, 4.0, "N"))


def test_audio_and_annotations_may_lie_in_trees_of_their_own(tmp_path):
    root = artists(tmp_path / "music")
    for lab in list(root.rglob("*.lab")):
        target = root / "annotations/chordlab" / lab.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        lab.rename(target)
        (root / "annotations/keylab" / lab.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
        (root / "annotations/keylab" / lab.relative_to(root)).write_text("0 1 Key E")
    with pytest.warns(UserWarning, match="5 artists"):
        clips = read(root)
    assert {clip.artist for clip in clips} == {f"artist {number}" for number in range(5)}
    assert sizes(clips) == [9, 3, 3]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_without_artists_songs_are_dealt_one_by_one_and_that_is_said(tmp_path, number):
    root = write(tmp_path, *map(str, range(10))) if not number else artists(tmp_path, number, 5)
    with pytest.warns(UserWarning, match=r"there are \d folders of artists, so that artists are not kept in one split") as said:
        clips = read(root)
    assert len(said) == 1
    assert sizes(clips) in ([6, 2, 2], [3, 1, 1])
    assert {clip.artist for clip in clips} == {None}


def test_an_artist_with_most_songs_is_named(tmp_path):
    root = artists(tmp_path)
    write(tmp_path, *(f"The Beatles/{song}" for song in range(20)))
    with pytest.warns(UserWarning, match="20 of 35 songs are in 'The Beatles', which stands in one split"):
        load_task(f"chords:{root}")


def test_split_folders_are_taken_as_they_are(tmp_path):
    for part in ("train", "validation", "test"):
        artists(tmp_path / part, 2, 2)
    with pytest.warns(UserWarning, match="2 groups stand in train and in another split"):
        clips = read(tmp_path)
    assert {(clip.path.relative_to(tmp_path).parts[0], clip.split) for clip in clips} == {
        ("train", "train"), ("validation", "valid"), ("test", "test"),
    }  # fmt: skip


@pytest.mark.parametrize("group", ["parent", "regex:[^/]+/[^/]+"])
def test_the_user_says_what_is_kept_together(tmp_path, group):
    root = tmp_path / "music"
    write(root, *(f"a/album {album}/{song}" for album in range(5) for song in range(2)), *(f"b/x{song}/1" for song in range(5)))
    clips = read(root, SplitRule(group=group))
    assert load_task(f"chords:{root}", rule=SplitRule(group=group)).name == f"chords:music@{group}"
    assert len({(clip.artist, clip.split) for clip in clips}) == 10


def test_copies_of_one_recording_stand_in_one_split(tmp_path):
    root = write(tmp_path, *map(str, range(12)))
    for number in range(12):
        (root / f"copy{number}.wav").write_text(f"the sound of {number}")
        (root / f"copy{number}.lab").write_text(LAB)
    with pytest.warns(UserWarning, match="0 folders"):
        clips = read(root)
    split_of = {}
    for clip in clips:
        assert split_of.setdefault(clip.path.read_text(), clip.split) == clip.split


def test_what_has_no_partner_is_counted(tmp_path):
    root = artists(tmp_path)
    (root / "artist 0/album/0.wav").unlink()
    (root / "artist 1/album/1.lab").unlink()
    (root / "loose.mp3").touch()
    with pytest.warns(UserWarning, match="have no a") as said:
        task = load_task(f"chords:{root}")
    assert len(task.notes) == len(said) == 2
    assert "1 annotations have no audio, first " in task.notes[0]
    assert "2 audio files have no annotation, first " in task.notes[1]


def test_wrong_folders_and_rules_are_explained(tmp_path):
    with pytest.raises(MarbleError, match=r"chords:.*none cannot be read: there is no folder"):
        load_task(f"chords:{tmp_path}/none")
    (tmp_path / "a.lab").write_text(LAB)
    (tmp_path / "b.wav").touch()
    with pytest.raises(MarbleError, match=r"1 \.lab files and 1 audio files, of which no two have one name"):
        load_task(f"chords:{tmp_path}")
    root = artists(tmp_path / "music")
    with pytest.raises(MarbleError, match="has no column 'artist' for --group"):
        load_task(f"chords:{root}", rule=SplitRule(group="artist"))
    with pytest.raises(MarbleError, match=r"has no split\.near=group"):
        load_task(f"chords:{root}", rule=SplitRule(near="group"))
    (root / "artist 2/album/1.lab").write_text("no times")
    with pytest.raises(MarbleError, match=r"1\.lab has 'no times' in line 1"):
        load_task(f"chords:{root}")


def test_chords_alone_is_the_list_and_has_its_own_splits(tmp_path):
    assert load_task("chords").name == "chords"
    assert "chords" in registry.complete_task_names()
    for more in ({"rule": SplitRule(group="parent")}, {"name": "mine"}):
        with pytest.raises(MarbleError, match="'chords' has a name and splits of its own"):
            load_task("chords", **more)
    with pytest.raises(MarbleError, match="write chords:PATH"):
        load_task("chords:")
    root = artists(tmp_path / "music")
    assert load_task(f"chords:{root}", name="mine").name == "chords:mine"
