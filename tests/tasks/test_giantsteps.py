"""GiantSteps key: jukemir's split on the real annotations and on the official format."""

import hashlib
import shutil

import pytest

from marble.errors import MarbleError
from marble.registry import load_task
from marble.task import SPLITS
from marble.tasks import giantsteps

# The first half of the sha256 of the ids in the order of their numbers, joined by line ends.
IDS = {"train": "3f6bef5e38a87a8b", "valid": "d28597bec3debd22", "test": "358da6058ba853b9"}


@pytest.fixture
def real(tmp_path, shared):
    mtg, test = (tmp_path / f"giantsteps/giantsteps-{name}-dataset" for name in ("mtg-key", "key"))
    for repository in (mtg, test):
        (repository / "audio").mkdir(parents=True)
        (repository / "annotations").mkdir()
    shutil.copytree(shared / "data/giantsteps/key", test / "annotations/key")
    for name in ("annotations", "beatport_metadata"):
        shutil.copy(shared / f"data/giantsteps/{name}.txt", mtg / "annotations")
    return tmp_path


def test_the_published_split(real):
    clips = load_task("giantsteps-key").read(real)
    for split, size in {"train": 923, "valid": 236, "test": 604}.items():
        names = sorted((clip.id for clip in clips if clip.split == split), key=int)
        assert len(names) == size
        assert hashlib.sha256("\n".join(names).encode()).hexdigest()[:16] == IDS[split]
        assert len({clip.target for clip in clips if clip.split == split}) == 24
    assert sum(clip.split == "test" and clip.target.endswith("minor") for clip in clips) == 511


def test_an_artist_is_held_out_from_the_hundredth_of_116_on():
    """Artists of the published table whose names hash to 99, 0, 100 and 115."""
    assert giantsteps._held_out([["Black Motion"], ["Hussey"], ["Eric Solomon"], ["Agroprom"]]) == {"Eric Solomon", "Agroprom"}
    assert giantsteps._held_out([["Black Motion", "Eric Solomon"], ["Hussey"]]) == {"Black Motion", "Eric Solomon"}


def test_an_edited_key_is_refused(real):
    file = next((real / "giantsteps/giantsteps-key-dataset/annotations/key").iterdir())
    file.write_text("C major ")
    with pytest.raises(MarbleError, match=r"keys in .*annotations/key are not the published ones: fetch https"):
        load_task("giantsteps-key").read(real)


def test_unsure_and_double_keys_are_left_out_and_collaborators_stay_together(stand_in):
    task, root = stand_in("giantsteps-key")
    clips = {clip.id: clip for clip in task.read(root)}
    assert not {"900", "901", "902"} & set(clips)
    # Two passes in the order of the table, where 913 stands first and 910, with an artist of validation, last.
    assert [clips[name].split for name in ("910", "911", "912", "913")] == ["valid", "valid", "valid", "train"]
    assert clips["01"].target == "Gb minor"
    assert clips["01"].path.name == "01.LOFI.mp3"
    assert {clip.split for name, clip in clips.items() if name.startswith("20") and len(name) == 4} == {"test"}


def test_what_is_missing_is_said(tmp_path, stand_in):
    with pytest.raises(MarbleError, match=r"beatport_metadata.txt is missing: fetch https"):
        load_task("giantsteps-key").read(tmp_path)
    task, root = stand_in("giantsteps-key")
    shutil.copytree(root / "giantsteps", tmp_path / "giantsteps")
    shutil.rmtree(tmp_path / "giantsteps/giantsteps-key-dataset/audio")
    with pytest.raises(MarbleError, match=r"There is no folder .*key-dataset/audio with the previews .* get it from http"):
        task.read(tmp_path)


def test_a_copy_of_another_system_is_no_key(tmp_path, stand_in):
    task, root = stand_in("giantsteps-key")
    shutil.copytree(root / "giantsteps", tmp_path / "giantsteps")
    (tmp_path / "giantsteps/giantsteps-key-dataset/annotations/key/._2000.LOFI.key").write_bytes(b"\xff\x00")
    assert [clip.id for clip in task.read(tmp_path)] == [clip.id for clip in task.read(root)]


def test_the_splits_of_a_stand_in(stand_in):
    task, root = stand_in("giantsteps-key")
    clips = task.read(root)
    assert {split: sum(clip.split == split for clip in clips) for split in SPLITS} == {"train": 13, "valid": 9, "test": 9}
