"""Piano difficulty: the authors' test parts, and their numbers from their predictions."""

import json
import shutil

import pytest
import torch
from scipy.stats import kendalltau
from sklearn.metrics import balanced_accuracy_score

from marble.errors import MarbleError
from marble.probe.scoring.metrics import METRICS
from marble.registry import load_task

HISTOGRAM = [46, 117, 119, 159, 160, 178, 169, 173, 159, 118, 191]


@pytest.fixture
def cache(shared):
    return json.loads((shared / "data/psyllabus/audio_midi_cqt5_ps_v5_cache.json").read_text())


@pytest.mark.parametrize("number", range(5))
def test_the_test_part_is_the_one_that_the_authors_published(number, cache, tmp_path):
    home = tmp_path / "psyllabus"
    (home / "mp3").mkdir(parents=True)
    test = {title: piece["true"] for title, piece in cache["predictions"][number].items()}
    parts = {"train": {"Another Piece": 3}, "val": {"A Third": 4}, "test": test}
    (home / "split_audio.json").write_text(json.dumps({str(number): parts}))
    (home / "new_clean_data.json").write_text("{}")
    task = load_task(f"piano-difficulty{f'-{number}' * (number > 0)}")
    clips = [clip for clip in task.clips(tmp_path) if clip.split == "test"]
    encoded = task.encode(clips)
    assert [int((encoded == grade).sum()) for grade in range(11)] == HISTOGRAM


@pytest.mark.parametrize("number", range(5))
def test_the_metrics_are_those_of_the_authors(number, cache):
    pieces = list(cache["predictions"][number].values())
    true, predicted = (torch.tensor([piece[name] for piece in pieces]) for name in ("true", "pred"))
    outputs = (torch.arange(11) <= predicted[:, None]).float() * 0.8
    assert float(METRICS["ordinal_mse"](outputs, true)) == pytest.approx(cache["mse"][number], abs=1e-12)
    assert float(METRICS["ordinal_balanced_accuracy"](outputs, true)) == pytest.approx(cache["acc"][number], abs=1e-12)
    assert float(METRICS["ordinal_balanced_accuracy"](outputs, true)) == pytest.approx(
        balanced_accuracy_score(true, predicted), abs=1e-12
    )
    assert float(METRICS["kendall_tau"](outputs, true)) == pytest.approx(kendalltau(true, predicted).statistic, abs=1e-12)
    if number == 0:
        assert cache["mse"][0] == 2.221981786917024
        assert cache["acc"][0] == 0.3366931557186426


def test_three_parts_of_each_split(stand_in):
    task, root = stand_in("piano-difficulty")
    other, _ = stand_in("piano-difficulty-1")
    clips = task.read(root)
    assert [sum(clip.split == split for clip in clips) for split in ("train", "valid", "test")] == [44, 22, 22]
    assert all(clip.path.is_file() for clip in clips)
    cuts = {clip.id: (clip.start, clip.stop) for clip in clips if clip.start or clip.stop}
    assert cuts == {"Composer 0.Étude No 0": (0.1, 0.9), "Composer 1.Étude No 1": (0.2, None)}
    tested = [{clip.id for clip in one.read(root) if clip.split == "test"} for one in (task, other)]
    assert tested[0] != tested[1]
    assert task.kind == "ordinal"


def test_other_parts_are_refused_and_missing_ones_said(stand_in, tmp_path):
    task, root = stand_in("piano-difficulty")
    with pytest.raises(MarbleError, match=r"split_audio.json is missing: fetch https://zenodo"):
        load_task("piano-difficulty").read(tmp_path)
    shutil.copytree(root / "psyllabus", tmp_path / "psyllabus")
    file = tmp_path / "psyllabus/split_audio.json"
    document = json.loads(file.read_text())
    document["0"]["test"].popitem()
    file.write_text(json.dumps(document))
    with pytest.raises(MarbleError, match=r"The test part of split 0 in .* is not the published one"):
        task.read(tmp_path)
    for broken in ({"1": {}}, {"0": {"train": {}}}, {"0": {"other": {}}}, []):
        file.write_text(json.dumps(broken))
        with pytest.raises(MarbleError, match="does not hold three parts of split 0"):
            task.read(tmp_path)


def test_cuts_that_are_missing_or_cannot_be_read_are_said(stand_in, tmp_path):
    task, root = stand_in("piano-difficulty")
    shutil.copytree(root / "psyllabus", tmp_path / "psyllabus")
    file = tmp_path / "psyllabus/new_clean_data.json"
    for broken in ([], {"A Piece": 3}, {"A Piece": {"end": "soon"}}):
        file.write_text(json.dumps(broken))
        with pytest.raises(MarbleError, match=r"new_clean_data.json does not tell where the pieces begin and end: fetch https"):
            task.read(tmp_path)
    file.unlink()
    with pytest.raises(MarbleError, match=r"new_clean_data.json is missing: fetch https"):
        task.read(tmp_path)
