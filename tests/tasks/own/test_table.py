"""``table:FILE``: the kinds of targets, optional columns, and what is refused."""

import json

import pandas
import pytest

from marble.errors import MarbleError
from marble.registry import load_task


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
