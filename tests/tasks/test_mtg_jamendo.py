"""MTG-Jamendo: the published table on the real lists, and rows, files and places on the official format."""

import shutil

import pytest

from marble.data.excerpts import represent
from marble.errors import MarbleError
from marble.jobs.run import prepare
from marble.registry import load_task
from marble.task import SPLITS
from marble.tasks import mtg_jamendo

# Labels, tracks of each split, and clips of each split when a long track is heard at ten excerpts.
PUBLISHED = {
    "mtg-top50": (50, 32_136, 10_888, 11_356, 99_060, 30_913, 32_992),
    "mtg-genre": (87, 32_572, 11_043, 11_479, 100_216, 31_383, 33_358),
    "mtg-instrument": (40, 14_395, 5_466, 5_115, 41_197, 14_502, 14_313),
    "mtg-mood": (56, 9_949, 3_802, 4_231, 26_095, 9_328, 9_748),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_split(name, tmp_path, shared):
    shutil.copytree(shared / "data/mtg-jamendo", tmp_path / "mtg-jamendo/data/splits/split-0")
    (tmp_path / "mtg-jamendo/audio").mkdir()
    task = load_task(name)
    clips = task.read(tmp_path)
    sizes = [len({clip.track for clip in clips if clip.split == split}) for split in SPLITS]
    heard = represent(clips, task.most_windows, task.window)
    excerpts = [sum(clip.split == split for clip in heard) for split in SPLITS]
    assert (len(task.labels), *sizes, *excerpts) == PUBLISHED[name]
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


def test_the_cap_of_a_long_track_is_a_setting_that_every_result_names(stand_in, tmp_path):
    task, root = stand_in("mtg-mood")
    assert load_task("mtg-mood").most_windows == 10
    long = "track_0000036"
    for settings, most, excerpts in (([], 2, 2), (["windows.most=all"], "all", 1), (["windows.most=1"], 1, 1)):
        job = prepare("constant", task, data_root=root, cache_dir=tmp_path, settings=settings)
        clips = [clip for clip in job.data.clips if clip.track == long]
        assert (job.windows.most, job.protocol.windows.most, len(clips)) == (most, most, excerpts)
        assert all(clip.stop - clip.start == 30 for clip in clips if most != "all")


def test_an_edited_list_is_refused(stand_in, monkeypatch):
    task, root = stand_in("mtg-mood")
    monkeypatch.setitem(mtg_jamendo.SHA256, "autotagging_moodtheme-validation.tsv", "0" * 64)
    with pytest.raises(MarbleError, match=r"moodtheme-validation.tsv is not the published one: fetch https"):
        task.read(root)


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(MarbleError, match=r"autotagging_genre-train.tsv is missing: fetch https"):
        load_task("mtg-genre").read(tmp_path)
