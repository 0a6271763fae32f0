"""GTZAN: the real lists, the real layout, and what is said when something is missing."""

import shutil

import pytest

from marble.errors import MarbleError
from marble.registry import load_task
from marble.tasks import gtzan


@pytest.fixture
def root(tmp_path, shared):
    shutil.copytree(shared / "data/layouts/gtzan_genre/gtzan_genre/genres", tmp_path / "gtzan/genres")
    for split in ("train", "valid", "test"):
        shutil.copy(shared / f"data/gtzan/{split}_filtered.txt", tmp_path / "gtzan")
    return tmp_path


def test_the_fault_filtered_split(root):
    clips = load_task("gtzan").read(root)
    sizes = [sum(clip.split == split for clip in clips) for split in ("train", "valid", "test")]
    assert sizes == [442, 197, 290]
    assert "jazz.00054" not in {clip.id for clip in clips}
    largest = max(sum(clip.split == "test" and clip.target == label for clip in clips) for label in gtzan.GTZAN.labels)
    assert largest == 32
    assert sum(clip.path.exists() for clip in clips) == sum(clip.id == "country.00000" for clip in clips)


def test_a_list_that_was_edited_is_refused(root):
    file = root / "gtzan/valid_filtered.txt"
    file.write_text(file.read_text().replace("blues", "bleus", 1))
    with pytest.raises(MarbleError, match=r"valid_filtered.txt is not the published one: fetch https"):
        load_task("gtzan").read(root)


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(MarbleError, match="put its folder 'genres'"):
        load_task("gtzan").read(tmp_path)
    (tmp_path / "gtzan/genres_original").mkdir(parents=True)
    with pytest.raises(MarbleError, match=r"train_filtered.txt is missing: fetch https"):
        load_task("gtzan").read(tmp_path)


def test_a_corrupt_file_of_the_training_list_is_left_out_without_the_real_lists(tmp_path, monkeypatch):
    from marble.system.files import file_hash

    (tmp_path / "gtzan/genres").mkdir(parents=True)
    lists = {
        "train": "jazz/jazz.00054.wav\nblues/blues.00001.wav\n",
        "valid": "rock/rock.00001.wav\n",
        "test": "pop/pop.00002.wav\n",
    }
    for split, text in lists.items():
        file = tmp_path / f"gtzan/{split}_filtered.txt"
        file.write_text(text)
        monkeypatch.setitem(gtzan.SHA256, split, file_hash(file))
    assert [clip.id for clip in gtzan.GTZAN.clips(tmp_path)] == ["blues.00001", "rock.00001", "pop.00002"]
    # An empty folder does not stand for the full one beside it.
    full = tmp_path / "gtzan/genres_original/blues/blues.00001.wav"
    full.parent.mkdir(parents=True)
    full.write_text("sound")
    assert gtzan.GTZAN.clips(tmp_path)[0].path == full
