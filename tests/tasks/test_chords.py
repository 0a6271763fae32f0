"""Trees of chord and key annotations, as they lie on the disk."""

import csv
import shutil
from collections import Counter
from dataclasses import replace

import pytest

from marble.chords import LABELS
from marble.errors import MarbleError
from marble.registry import load_task
from marble.task import SPLITS
from marble.tasks import chords

LAB = "0.000\t0.5\tN\n0.5\t2.25\tC:maj7\n2.25\t3.0\tD:sus4\n3.0\t4.0\tA:min/b3\n"
SPANS = ((0.0, 0.5, "N"), (0.5, 2.25, "C:maj"), (2.25, 3.0, "D:sus4"), (3.0, 4.0, "A:min"))


def write(root, *names, text=LAB):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text if name.endswith(".lab") else name)


def read(name, root):
    """The clips of a task without its published sizes."""
    return replace(load_task(name), split_sizes=None).read(root)


def sizes(clips):
    return [sum(clip.split == split for clip in clips) for split in SPLITS]


def one_split_each(clips):
    splits = {}
    for clip in clips:
        splits.setdefault(clip.artist, set()).add(clip.split)
    return all(len(held) == 1 for held in splits.values())


def test_rwc_is_known_by_disc_and_track_or_by_its_own_names(tmp_path):
    names = ["N001-M01-T01", "N002-M01-T02", "N017-M02-T01", "N018-M02-T02", "N100-M07-T16"]
    write(tmp_path, *(f"rwc-pop/annotations/RWC_Pop_Chords/{name}.lab" for name in names))
    write(tmp_path, "rwc-pop/audio/rwc-p-m01/1.wav", "rwc-pop/audio/RWC-P-M01/02.flac", "rwc-pop/audio/rwc-p-m02/1.wav")
    write(tmp_path, "rwc-pop/audio/RM-P018.wav", "rwc-pop/more/n100-m07-t16.wav", "rwc-pop/audio/rwc-p-m02/2.txt")
    clips = read("chords-rwc", tmp_path)
    assert [(clip.id, clip.path.name, clip.path.parent.name) for clip in clips] == [
        ("N001-M01-T01", "1.wav", "rwc-p-m01"), ("N002-M01-T02", "02.flac", "RWC-P-M01"),
        ("N017-M02-T01", "1.wav", "rwc-p-m02"), ("N018-M02-T02", "RM-P018.wav", "audio"),
        ("N100-M07-T16", "n100-m07-t16.wav", "more"),
    ]  # fmt: skip
    assert {clip.target.rows for clip in clips} == {SPANS}
    assert sizes(clips) == [3, 1, 1]


def test_uspop_is_dealt_by_artists_wherever_its_tree_lies(tmp_path):
    for root in ("one/uspop/uspopLabels", "two/uspop/x/y"):
        for artist in "abcde":
            for song in range(3):
                write(tmp_path, f"{root}/{artist}/album/0{song}-Song.lab", f"{root}/{artist}/album/0{song}-Song.mp3")
    one, two = (read("chords-uspop", tmp_path / name) for name in ("one", "two"))
    assert [(clip.id, clip.split) for clip in one] == [(clip.id, clip.split) for clip in two]
    assert one[0].id == "a/album/00-Song"
    assert sizes(one) == [9, 3, 3]
    assert one_split_each(one)


def test_isophonics_is_dealt_by_albums_and_has_chords_and_keys(tmp_path):
    for album in ("01_-_Please", "02_-_With", "03_-_Hard"):
        for song in range(2):
            name = f"The Beatles/{album}/0{song}_-_Song"
            write(tmp_path, f"isophonics/annotations/chordlab/{name}.lab", f"isophonics/audio/{album}/0{song}_-_Song.wav")
            write(tmp_path, f"isophonics/annotations/keylab/{name}.lab", text="0.0\t0.4\tSilence\n0.4\t9.5\tKey\tF#:minor\n")
            write(tmp_path, f"isophonics/annotations/seglab/{name}.lab", text="0.0 9.5 verse\n")
    clips, keys = read("chords-isophonics", tmp_path), read("local-key", tmp_path)
    assert [(clip.id, clip.path, clip.split) for clip in clips] == [(clip.id, clip.path, clip.split) for clip in keys]
    assert clips[0].id == "The Beatles/01_-_Please/00_-_Song"
    assert sizes(clips) == [2, 2, 2]
    assert one_split_each(clips)
    assert {clip.target.rows for clip in clips} == {SPANS}
    assert {clip.target.rows for clip in keys} == {((0.0, 0.4, "Silence"), (0.4, 9.5, "Gb minor"))}
    task = load_task("local-key")
    encoded = task.frames.encode(keys[0].target, task.labels, task.frames.grid(None), 11)
    assert encoded.tolist() == [18] * 9 + [-1, -1]


def test_billboard_is_known_by_number_or_by_title_and_an_entry_that_comes_again_is_left_out(tmp_path):
    home = tmp_path / "billboard"
    rows = [
        ("1", "", ""), ("3", "I Don't Mind", "James Brown"), ("4", "Hush", "Deep Purple"),
        ("7", "I Don t  mind", "JAMES BROWN"), ("35", "Fire", "The Trio"), ("36", "Ice", "Trio"), ("37", "Late", "Nobody"),
        ("38", "No Labels", "Nobody"),
    ]  # fmt: skip
    home.mkdir()
    with (home / "billboard-2.0-index.csv").open("w", newline="") as text:
        csv.writer(text).writerows([("id", "title", "artist"), *rows])
    write(home, *(f"McGill-Billboard/{int(row[0]):04d}/{kind}.lab" for row in rows[:-1] for kind in ("full", "majmin")))
    write(home, "audio/1960s/James Brown/I Don't Mind/audio.flac", "audio/0004.mp3", "audio/35.wav", "audio/36.wav")
    with pytest.warns(UserWarning, match=r"1 of 5 annotations have no audio, first .*0037/full\.lab"):
        clips = load_task("chords-billboard").clips(tmp_path)
    assert [(clip.id, clip.path.name, clip.artist) for clip in clips] == [
        ("0003", "audio.flac", "jamesbrown"), ("0004", "0004.mp3", "deeppurple"), ("0035", "35.wav", "trio"),
        ("0036", "36.wav", "trio"),
    ]  # fmt: skip


@pytest.fixture
def listed(tmp_path, monkeypatch):
    """A list of seven songs in five folds, the table of the user, and the files that it names."""
    home = tmp_path / "chords-1217"
    folds = {"test00.csv": "TRA TRB TRC", "test01.csv": "TRD", "test02.csv": "TRE", "test03.csv": "TRF", "test04.csv": "TRG"}
    write(home, *folds)
    for name, ids in folds.items():
        (home / name).write_text("\n".join(ids.split()))
    monkeypatch.setattr(chords, "SHA256", dict.fromkeys(folds))
    lines = [f"TR{letter},music/{letter}.flac,labs/{letter}.lab" for letter in "GFEDCBAZ"]
    (home / "tracks.csv").write_text("\n".join(["id,audio,lab", *lines]))
    write(home, *(f"labs/{letter}.lab" for letter in "ABCDEFG"))
    return home


def test_the_list_has_its_folds_and_the_table_its_files(listed):
    clips = read("chords", listed.parent)
    assert [(clip.id[-1], clip.split) for clip in clips] == [
        *zip("ABCDE", ["train"] * 5, strict=True),
        ("F", "valid"),
        ("G", "test"),
    ]
    assert clips[0].path == listed / "music/A.flac"
    assert clips[0].target.rows == SPANS


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (None, r"tracks\.csv is missing: write a table with the columns id, audio and lab"),
        ("id,path\nTRA,x", r"tracks\.csv has no column 'audio'"),
        ("id,audio,lab\nTRA,a,labs/A.lab", r"tracks\.csv lacks 6 of 7 songs, TRB first"),
        ("id,audio,lab\n" + "\n".join(f"TR{letter},a,none.lab" for letter in "ABCDEFG"), r"none\.lab cannot be read"),
    ],
)
def test_a_table_that_does_not_serve_is_explained(listed, table, sentence):
    (listed / "tracks.csv").unlink()
    if table:
        (listed / "tracks.csv").write_text(table)
    with pytest.raises(MarbleError, match=sentence):
        read("chords", listed.parent)


@pytest.mark.parametrize("name", ["chords-rwc", "chords-uspop", "chords-isophonics", "local-key"])
def test_an_empty_tree_is_explained(tmp_path, name):
    with pytest.raises(MarbleError, match=r"There are no annotations in .*: see marble data status"):
        read(name, tmp_path)


def test_a_damaged_annotation_is_named(tmp_path):
    write(tmp_path, "rwc-pop/N001-M01-T01.wav", "rwc-pop/N001-M01-T01.lab", text="0 1 C\n<html>")
    with pytest.raises(MarbleError, match=r"N001-M01-T01\.lab has '<html>' in line 2"):
        read("chords-rwc", tmp_path)


# The published trees


def test_the_published_folds_part_1217_songs(shared):
    folder = shared / "data/chords/folds-1217"
    ids = {name: (folder / name).read_text().split() for name in chords.SHA256}
    everything = [name for fold in ids.values() for name in fold]
    assert sorted(everything) == sorted(set((folder / "all_1217.csv").read_text().split()))
    assert [len(fold) for fold in ids.values()] == [244, 244, 243, 243, 243]
    assert chords.CHORDS.split_sizes == {"train": 731, "valid": 243, "test": 243}


def test_the_1217_list_is_read_as_published(tmp_path, shared):
    home = tmp_path / "chords-1217"
    shutil.copytree(shared / "data/chords/folds-1217", home)
    names = (home / "all_1217.csv").read_text().split()
    write(home, "a.lab")
    (home / "tracks.csv").write_text("\n".join(["id,audio,lab", *(f"{name},{name}.mp3,a.lab" for name in names)]))
    assert sizes(load_task("chords").read(tmp_path)) == [731, 243, 243]


@pytest.mark.parametrize(
    ("name", "source", "tree", "commonest", "share"),
    [
        ("chords-rwc", "rwc-pop", "rwc-pop/RWC_Pop_Chords", "G:maj", 0.099),
        ("chords-uspop", "uspop", "uspop/uspopLabels", "G:maj", 0.09),
    ],
)
def test_the_published_trees(tmp_path, shared, name, source, tree, commonest, share):
    shutil.copytree(shared / "data/chords" / source, tmp_path / tree)
    for lab in (tmp_path / tree).rglob("*.lab"):
        lab.with_suffix(".wav").write_text("audio")
    task = load_task(name)
    clips = task.read(tmp_path)
    assert one_split_each([clip for clip in clips if clip.artist])
    seconds = dict(zip(LABELS, task.encode([clip for clip in clips if clip.split == "train"]).sum(0), strict=True))
    assert max(seconds, key=seconds.get) == commonest
    assert seconds[commonest] / sum(seconds.values()) == pytest.approx(share, abs=0.005)
    labels = Counter(row[2] for clip in clips for row in clip.target.rows if row[2] not in LABELS)
    assert "G:sus4" in labels


def test_the_samples_of_the_other_trees(tmp_path, shared):
    for name in ("beatles", "queen"):
        shutil.copytree(shared / "data/layouts" / name, tmp_path / "isophonics" / name)
    for name in ("chords-isophonics", "local-key"):
        clips = load_task(name).clips(tmp_path)
        assert [clip.path.name for clip in clips] == ["11_-_Do_You_Want_To_Know_A_Secret.wav", "01 Bohemian Rhapsody.flac"]
    assert [row[2] for row in clips[1].target.rows] == ["Silence", "Bb major", "Eb major"]
    shutil.copytree(shared / "data/layouts/billboard", tmp_path / "billboard")
    with pytest.warns(UserWarning, match="1 of 2 annotations have no audio"):
        assert [clip.id for clip in load_task("chords-billboard").clips(tmp_path)] == ["0003"]
    shutil.copytree(shared / "data/layouts/rwc_popular", tmp_path / "rwc-pop")
    assert [(clip.id, clip.path.name) for clip in load_task("chords-rwc").clips(tmp_path)] == [("N001-M01-T01", "1.wav")]


def test_the_songs_of_billboard_are_740(shared):
    index = csv.DictReader((shared / "data/layouts/billboard/billboard-2.0-index.csv").read_text("utf-8").splitlines())
    songs = [(chords._letters(row["artist"]), chords._letters(row["title"])) for row in index if row["title"]]
    assert (len(songs), len(set(songs))) == (890, sum(chords.CHORDS_BILLBOARD.split_sizes.values()))


@pytest.mark.parametrize(
    ("label", "key"),
    [
        ("Key E", "E major"), ("Key\tBb", "Bb major"), ("Key F#:min", "Gb minor"), ("Key A:minor", "A minor"),
        ("Cb", "B major"), ("Dbm", "Db minor"), ("Silence", "Silence"), ("Key D:mixolydian", "Key D:mixolydian"),
        ("Key", "Key"), ("", "unknown"),
    ],
)  # fmt: skip
def test_keys(label, key):
    from marble.tasks.local_key import key_of

    assert key_of(label) == key
