"""MTG-Jamendo: the published table on the real lists, and rows, files and places on the official format."""

import shutil
from itertools import pairwise

import pytest

from marble.errors import MarbleError
from marble.registry import load_task
from marble.task import SPLITS
from marble.tasks import mtg_jamendo

PUBLISHED = {
    "mtg-top50": (50, 32_136, 10_888, 11_356),
    "mtg-genre": (87, 32_572, 11_043, 11_479),
    "mtg-instrument": (40, 14_395, 5_466, 5_115),
    "mtg-mood": (56, 9_949, 3_802, 4_231),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_split(name, tmp_path, shared):
    shutil.copytree(shared / "data/mtg-jamendo", tmp_path / "mtg-jamendo/data/splits/split-0")
    (tmp_path / "mtg-jamendo/audio").mkdir()
    task = load_task(name)
    clips = task.read(tmp_path)
    sizes = [len({clip.track for clip in clips if clip.split == split}) for split in SPLITS]
    assert (len(task.labels), *sizes) == PUBLISHED[name]
    assert list(task.labels) == sorted(task.labels)
    artists = [{clip.artist for clip in clips if clip.split == split} for split in SPLITS]
    assert sum(map(len, artists)) == len(set.union(*artists)) > 1000
    for split in SPLITS:
        assert {tag for clip in clips if clip.split == split for tag in clip.target} == set(task.labels)


def test_rows_of_any_number_of_tags_and_both_encodings_of_a_track(stand_in):
    task, root = stand_in("mtg-mood")
    clips = {clip.id: clip for clip in task.read(root)}
    assert clips["track_0000007"].target == ("happy", "dark", "film")
    assert clips["track_0000001"].target == ("happy",)
    assert clips["track_0000001"].path == root / "mtg-jamendo/audio/01/1.low.mp3"
    assert clips["track_0000002"].path == root / "mtg-jamendo/audio/02/2.mp3"
    assert all(clip.path.is_file() for clip in clips.values())
    top50, _ = stand_in("mtg-top50")
    assert {clip.id: clip.target for clip in top50.read(root)}["track_0000007"] == (
        "genre---rock", "instrument---piano", "mood/theme---film",
    )  # fmt: skip


@pytest.mark.parametrize("seconds", [301.1, 303.0, 4000.0])
def test_a_long_track_is_heard_at_ten_excerpts(tmp_path, seconds):
    row = ["track_0000036", "artist_1", "album_1", "36/36.mp3", str(seconds), "genre---rock"]
    places = mtg_jamendo._excerpts(tmp_path, "genre", "test", row)
    assert len(places) == len({clip.id for clip in places}) == 10
    assert {(clip.track, clip.path, clip.target) for clip in places} == {(row[0], tmp_path / row[3], ("rock",))}
    starts = [clip.start for clip in places]
    assert starts[0] == 0
    assert starts[-1] + 30 == pytest.approx(seconds - 1)
    assert all(later - earlier == pytest.approx((seconds - 31) / 9, abs=0.11) for earlier, later in pairwise(starts))
    assert all(clip.stop - clip.start == pytest.approx(30) for clip in places)


def test_a_track_of_ten_windows_is_heard_whole(tmp_path):
    row = ["track_0000036", "artist_1", "album_1", "36/36.mp3", "301.0", "genre---rock"]
    (clip,) = mtg_jamendo._excerpts(tmp_path, "genre", "test", row)
    assert (clip.id, clip.start, clip.stop, clip.group) == (row[0], 0.0, None, None)


def test_an_edited_list_is_refused(stand_in, monkeypatch):
    task, root = stand_in("mtg-mood")
    monkeypatch.setitem(mtg_jamendo.SHA256, "autotagging_moodtheme-validation.tsv", "0" * 64)
    with pytest.raises(MarbleError, match=r"moodtheme-validation.tsv is not the published one: fetch https"):
        task.read(root)


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(MarbleError, match=r"autotagging_genre-train.tsv is missing: fetch https"):
        load_task("mtg-genre").read(tmp_path)
