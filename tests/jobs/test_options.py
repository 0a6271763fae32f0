"""Options as Python gives them: what is meant is understood, what cannot be is one sentence."""

from pathlib import Path

import numpy as np
import pandas
import pytest

import marble
from marble.errors import MarbleError
from marble.jobs.options import JobOptions
from marble.upstream import Upstream

QUICK = {"settings": ["probe.epochs=2", "probe.hidden=8"]}


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ("0,3..5", "0,3..5"),
        (7, "7"),
        ([7], "7"),
        ((0, 2), "0,2"),
        (range(3), "0,1,2"),
        ([0, "2..3", "weighted"], "0,2..3,weighted"),
        (np.int64(2), "2"),
        (np.array([1, 2]), "1,2"),
        ((layer for layer in (1, 2)), "1,2"),
    ],
)
def test_layers(layers, text):
    assert JobOptions.of({"layers": layers}).layers == text


@pytest.mark.parametrize(
    ("seeds", "numbers"),
    [
        (2, (0, 1)),
        (np.int64(1), (0,)),
        ([3, 5], (3, 5)),
        ((7,), (7,)),
        ([5, 5, 3], (5, 3)),
        (range(2, 4), (2, 3)),
        (np.array([4]), (4,)),
    ],
)
def test_seeds(seeds, numbers):
    assert JobOptions.of({"seeds": seeds}).seeds == numbers
    assert JobOptions.of({}).seeds is None  # the kind of the task decides


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"layers": 0.5}, "layers=0.5 is impossible: write all, weighted, a number, or several of these"),
        ({"layers": None}, "layers=None is impossible"),
        ({"layers": []}, r"layers=\[\] is impossible"),
        ({"layers": [0, 1.5]}, r"layers=\[0, 1\.5\] is impossible"),
        ({"layers": True}, "layers=True is impossible"),
        ({"seeds": 0}, "seeds=0 is impossible: ask for at least one seed"),
        ({"seeds": []}, "ask for at least one seed"),
        ({"seeds": -1}, "seeds=-1 is impossible: write how many, or which: numbers from 0"),
        ({"seeds": "3"}, "seeds='3' is impossible"),
        ({"seeds": 1.5}, "seeds=1.5 is impossible"),
        ({"seeds": True}, "seeds=True is impossible"),
        ({"seeds": [1, 2.5]}, r"seeds=\[1, 2\.5\] is impossible"),
        ({"protocol": None}, "protocol=None is impossible: input should be a valid string"),
        ({"settings": "probe.hidden=3"}, "settings='probe.hidden=3' is impossible"),
        ({"settings": {"probe.hidden": 3}}, "is impossible"),
        ({"settings": [3]}, "settings=.* is impossible"),
        ({"limit": 1.5}, "limit=1.5 is impossible: input should be a valid integer"),
        ({"limit": "3"}, "limit='3' is impossible"),
        ({"device": 0}, "device=0 is impossible"),
        ({"data_root": 3}, "data_root=3 is impossible"),
        ({"offline": "yes"}, "offline='yes' is impossible"),
        ({"layer": 3}, "layer=3 is impossible: extra inputs are not permitted"),
    ],
)
def test_a_wrong_type_is_one_sentence(options, sentence):
    with pytest.raises(MarbleError, match=sentence) as caught:
        marble.run("constant", "synth-pitch", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["2", "0", "1", "-0.1", "nan", "a fifth", "none"])
def test_a_share_that_is_none_is_one_sentence(value):
    options = JobOptions.of({"settings": [f"split.valid={value}"]})
    if value == "none":
        assert options.rule is None
    else:
        with pytest.raises(MarbleError, match=r"--set split\.valid: input should be"):
            _ = options.rule
    with pytest.raises(MarbleError, match=r"'split\.test=0\.2' sets nothing: write KEY=VALUE with a key among split\.valid"):
        _ = JobOptions.of({"settings": ["split.test=0.2"]}).rule


def test_paths_numbers_and_frames_reach_the_result(tones, tmp_path, monkeypatch):
    result = marble.run(
        "fbank-chroma", tones, results=tmp_path / "r", layers=[2, 0], seeds=[3, 5], cache_dir=tmp_path / "c", **QUICK
    )
    assert [layer.layer for layer in result.layers] == [0, 2]
    assert [run.seed for run in result.layers[0].runs] == [3, 5]
    assert result.task.name == "folder:tones"
    both = marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path / "q", layers="0,2", seeds=6, **QUICK)
    assert [both.layers[0].runs[seed] for seed in (3, 5)] == result.layers[0].runs
    files = sorted(tones.rglob("*.wav"))
    frame = pandas.DataFrame({"path": files, "label": [file.parent.name for file in files]})
    framed = marble.run("fbank-chroma", frame, name="tones", results=tmp_path / "r", layers=0, seeds=1, **QUICK)
    assert (framed.task.name, framed.task.tracks) == ("table:tones", result.task.tracks)
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert marble.load_task(tmp_path / "t.csv").name == "table:t"


@pytest.mark.parametrize("upstream", [None, 3, Upstream, Path("/no/such/place"), Path("model.py")])
def test_what_is_no_upstream_is_one_sentence(tones, upstream):
    with pytest.raises(MarbleError, match=r"is no upstream: give|no upstream called '/no/such/place'|write model\.py:NAME"):
        marble.run(upstream, tones)


def test_a_task_that_is_loaded_takes_neither_name_nor_group(tones):
    for options in ({"name": "x"}, {"group": "parent"}, {"settings": ["split.valid=0.2"]}):
        with pytest.raises(MarbleError, match="The task folder:tones is loaded already: give its name"):
            marble.run("constant", marble.load_task(tones), **options)
        with pytest.raises(MarbleError, match="'synth-pitch' has a name and splits of its own: --name"):
            marble.run("constant", "synth-pitch", **options)
