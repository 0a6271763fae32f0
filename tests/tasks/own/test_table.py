"""``table:FILE``: the kinds of targets, optional columns, and what is refused."""

import json
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pandas
import pytest

from marble.errors import MarbleError
from marble.registry import load_task
from marble.task import SplitRule


def rows(**columns):
    return pandas.DataFrame({"path": [f"{number}.wav" for number in range(12)], **columns})


def test_labels_in_csv_with_splits_and_times(audio):
    rows(
        label=list("ab") * 6,
        split=["train", "val", "test"] * 4,
        start=[0.0, 1.5] * 6,
        stop=[None, 2.5] * 6,
        group=[f"g{number}" for number in range(12)],
    ).to_csv(audio / "t.csv", index=False)
    task = load_task(f"table:{audio}/t.csv")
    clips = task.read(audio)
    assert (task.kind, task.labels, task.main_metric) == ("multiclass", ("a", "b"), "accuracy")
    assert [clip.split for clip in clips[:3]] == ["train", "valid", "test"]
    assert (clips[1].start, clips[1].stop, clips[0].stop, clips[1].group) == (1.5, 2.5, None, "g1")
    assert clips[1].id == "1.wav@1.5-2.5"
    assert clips[1].path == audio / "1.wav"


def test_one_file_may_hold_many_clips(audio):
    frame = rows(label=list("ab") * 6, split=["train", "valid", "test"] * 4)
    frame["path"], frame["start"], frame["stop"], frame["group"] = (
        "0.wav",
        range(12),
        range(1, 13),
        [f"part {n}" for n in range(12)],
    )
    frame.to_csv(audio / "t.csv", index=False)
    assert len(load_task(f"table:{audio}/t.csv").read(audio)) == 12


def test_text_stands_as_it_was_written(audio):
    """What looks like a number or like nothing is a label all the same."""
    rows(label=["01", "1", "1.0", "None", "NA", "nan"] * 2, split=["train", "valid", "test"] * 4, group=range(12)).to_csv(
        audio / "t.csv", index=False
    )
    assert load_task(f"table:{audio}/t.csv").labels == ("01", "1", "1.0", "NA", "None", "nan")
    rows(labels=["None;x", "NA", "", "null"] * 3).to_csv(audio / "t.tsv", index=False, sep="\t")
    assert load_task(f"table:{audio}/t.tsv").labels == ("NA", "None", "null", "x")


def test_a_path_may_begin_like_a_home_that_nobody_has(audio):
    frame = rows(label=list("ab") * 6, split=["train", "valid", "test"] * 4)
    frame.loc[0, "path"] = "~nobody-of-this-name/x.wav"
    frame.to_csv(audio / "t.csv", index=False)
    assert load_task(f"table:{audio}/t.csv").read(audio)[0].path == audio / "~nobody-of-this-name/x.wav"


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_tags_in_every_format(audio, suffix):
    tags = [["rock", "loud"], ["calm"], []] * 4
    file = audio / f"t{suffix}"
    if suffix == ".csv":
        rows(labels=[";".join(row) for row in tags]).to_csv(file, index=False)
    elif suffix == ".parquet":
        rows(labels=tags).to_parquet(file)
    else:
        file.write_text("\n".join(json.dumps({"path": f"{n}.wav", "labels": row}) for n, row in enumerate(tags)))
    task = load_task(f"table:{file}")
    assert (task.kind, task.labels, task.main_metric) == ("multilabel", ("calm", "loud", "rock"), "roc_auc")
    assert [clip.target for clip in task.read(audio)[:3]] == [("loud", "rock"), ("calm",), ()]


def test_numbers(audio):
    frame = rows(**{"target.valence": range(12), "target.arousal": [0.5] * 12})
    frame.to_csv(audio / "t.csv", index=False)
    task = load_task(f"table:{audio}/t.csv")
    assert (task.kind, task.labels, task.metrics) == ("regression", ("valence", "arousal"), ("r2", "mse"))
    assert task.read(audio)[3].target == (3.0, 0.5)


def test_without_a_split_column_groups_stay_together(audio):
    rows(label=list("aabb") * 3, group=[f"g{number // 2}" for number in range(12)]).to_csv(audio / "t.csv", index=False)
    split_of = {}
    for clip in load_task(f"table:{audio}/t.csv").read(audio):
        assert split_of.setdefault(clip.group, clip.split) == clip.split


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (rows(), "needs one of the columns label, labels and target; it has none"),
        (rows(label="a", target=1.0), "it has label, target"),
        (rows(label=["a", None] * 6), "no label in row 2"),
        (rows(target=["x"] * 12), "a target that is no number"),
        (rows(label=list("ab") * 6, split="holdout"), "the split 'holdout' in row 1"),
        (rows(label="a").drop(columns="path"), "needs rows with a 'path'"),
        (rows(label=list("ab") * 6).head(0), "needs rows with a 'path'"),
        (rows(label=["a"] * 12), "has one class, 'a'"),
        (rows(labels=[None] * 12), "has no tag in its column labels"),
        (rows(label=list("ab") * 6, start=[0, "0:01"] * 6), "has the start '0:01' in row 2: write seconds"),
        (rows(label=list("ab") * 6, stop=[1, float("inf")] * 6), "has the stop 'inf' in row 2: write seconds"),
        (rows(label=list("ab") * 6, id=["x", None] * 6), "has no id in row 2"),
        (
            rows(label=list("ab") * 6, group=list("ggcdefhijklm"), split=["train"] * 4 + ["valid", "test"] * 4),
            "the targets a and b",
        ),
        (rows(target=[1, None] * 6), "no target in row 2"),
        (rows(label=[" ", "a"] * 6), "no label in row 1"),
    ],
)
def test_a_wrong_table_is_explained(audio, frame, message):
    frame.to_csv(audio / "t.csv", index=False)
    with pytest.raises(MarbleError, match=message):
        load_task(f"table:{audio}/t.csv").read(audio)


def test_a_row_that_stands_twice_is_named_by_its_number(audio):
    frame = rows(label=list("ab") * 6)
    pandas.concat([frame, frame.head(1).assign(label="b")]).to_csv(audio / "t.csv", index=False)
    with pytest.raises(MarbleError, match=r"has '0\.wav' in the rows 1 and 13: leave one out, or write all labels"):
        load_task(f"table:{audio}/t.csv").read(audio)


def test_an_excerpt_ends_with_its_duration(audio):
    rows(label=list("ab") * 6, start=range(12), duration=0.5).to_csv(audio / "t.csv", index=False)
    clips = load_task(f"table:{audio}/t.csv").read(audio)
    assert [(clip.start, clip.stop, clip.id) for clip in clips[:2]] == [(0.0, 0.5, "0.wav@0-0.5"), (1.0, 1.5, "1.wav@1-1.5")]


def test_artists_are_kept_in_one_split_and_scored_clip_by_clip(audio):
    rows(label=list("aaaaaabbbbbb"), Artist=list("xxyyzzuuvvww")).to_csv(audio / "t.csv", index=False)
    with pytest.warns(UserWarning, match="'Artist' is read as artist"):
        task = load_task(f"table:{audio}/t.csv")
    with pytest.warns(UserWarning, match="6 artists are kept in one split each"):
        clips = task.read(audio)
    assert len({(clip.artist, clip.split) for clip in clips}) == 6
    assert len({clip.track for clip in clips}) == 12


@pytest.mark.parametrize("rule", ["kit", "Kit", "parent", r"regex:kit\d"])
def test_a_table_groups_by_a_column_or_by_its_paths(audio, rule):
    frame = rows(label=list("ab") * 6, kit=[f"kit{number // 3}" for number in range(12)])
    for path, kit in zip(frame["path"], frame["kit"], strict=True):
        (audio / kit).mkdir(exist_ok=True)
        (audio / path).rename(audio / kit / path)
    frame.assign(path=frame["kit"] + "/" + frame["path"]).to_csv(audio / "t.csv", index=False)
    options = {"rule": SplitRule(group=rule)}
    note = {"kit": None, "Kit": "'kit' is read as Kit"}.get(rule, "not read: 'kit'")
    with pytest.warns(UserWarning, match=note) if note else nullcontext():
        task = load_task(f"table:{audio}/t.csv", **options)
    assert len({(clip.artist, clip.split) for clip in task.read(audio)}) == 4
    assert task.name == f"table:t@{rule}"
    with pytest.raises(MarbleError, match=r"has no column 'drum' for --group: its columns are 'path', 'label', 'kit'"):
        load_task(f"table:{audio}/t.csv", rule=SplitRule(group="drum"))


def test_train_and_test_alone_are_offered_a_validation_split(audio):
    frame = rows(label=list("ab") * 6, split=["train"] * 8 + ["test"] * 4)
    frame.to_csv(audio / "t.csv", index=False)
    with pytest.raises(MarbleError, match=r"t\.csv has no valid split \(8 train, 4 test\): .* --set split\.valid=0\.2"):
        load_task(f"table:{audio}/t.csv").read(audio / "elsewhere")
    clips = load_task(f"table:{audio}/t.csv", rule=SplitRule(valid=0.25)).read(audio)
    assert [clip.split for clip in clips[8:]] == ["test"] * 4
    assert sorted((clip.split, clip.target) for clip in clips[:8] if clip.split == "valid") == [("valid", "a"), ("valid", "b")]


def test_a_data_frame_is_a_table_whose_paths_start_here(audio, monkeypatch):
    frame = rows(label=list("ab") * 6, start=[0, 1] * 6)
    frame.to_csv(audio / "t.csv", index=False)
    monkeypatch.chdir(audio)
    task, of_file = load_task(frame.set_index(frame["path"] + "!")), load_task(Path("t.csv"))
    assert task.read(audio) == [replace(clip, path=audio / clip.path) for clip in of_file.read(audio)]
    assert (task.name, of_file.name, load_task(frame, name="mine").name) == ("table:DataFrame", "table:t", "table:mine")
    assert load_task(frame.assign(path=[Path(path) for path in frame["path"]])).read(audio) == task.read(audio)
    assert task.source != load_task(frame.assign(start=2)).source
    with pytest.raises(MarbleError, match=r"The table DataFrame has the start 'soon' in row 1: write seconds"):
        load_task(frame.assign(start="soon")).read(audio)


@pytest.mark.parametrize("wrong", [None, 7, ["gtzan"], b"gtzan"])
def test_what_is_no_task_is_one_sentence(wrong):
    with pytest.raises(MarbleError, match="is no task: give the name of one, a Task, the path of a folder or table"):
        load_task(wrong)


def test_a_name_that_is_no_utf8_is_written_as_escapes(audio):
    rows(label=list("ab") * 6).to_csv(audio / "t.csv", index=False)
    odd = (audio / "t.csv").rename(audio / os.fsdecode(b"caf\xe9.csv"))
    task = load_task(odd)
    assert (task.name, task.source.rpartition("/")[2]) == ("table:caf\\xe9", "caf\\xe9.csv")
