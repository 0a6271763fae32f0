"""The main job on real files: numbers, identity, resuming, honest choices, bad clips."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pandas
import pytest
import soundfile
import torch
from sklearn.metrics import accuracy_score

import marble
from marble.errors import MarbleError
from marble.features.cache import FeatureCache
from marble.jobs.job import prepare
from marble.jobs.run import BadClipsError, encode
from marble.registry import load_task, load_upstream
from marble.results import store as results
from marble.system.files import refuse_unwritable
from marble.system.progress import Reporter
from marble.upstream import Layer, Upstream

QUICK = {"seeds": 2, "settings": ["probe.epochs=8", "probe.hidden=32"]}


class Counting(Upstream):
    """Four layers of a fixed random net; counts what it encodes."""

    info = replace(load_upstream("constant").info, name="counting", layers=tuple(Layer(f"block {n}", 16) for n in range(4)))

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.matrix = torch.nn.Parameter(torch.randn(4, 16, 16, generator=generator) / 4)
        self.clips = self.blocks = 0

    def layers(self, waveform):
        self.clips += len(waveform)
        spectrum = torch.stft(waveform, 512, 160, window=torch.hann_window(512), return_complex=True).abs().transpose(1, 2)
        hidden = spectrum[..., :256].unflatten(2, (16, 16)).mean(3)
        for matrix in self.matrix:
            self.blocks += 1
            hidden = (hidden @ matrix).tanh() + hidden
            yield hidden


def test_a_run_learns_writes_and_is_read_back(tones, tmp_path):
    result = marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path / "results", **QUICK)
    assert [layer.name for layer in result.layers] == ["fbank", "chroma", "fbank+chroma"]
    assert result.selected.test["accuracy"].mean > 0.8
    path = tmp_path / "results" / result.path
    assert path.parent.parts[-2:] == ("fbank-chroma", "folder-tones")
    assert results.read(path) == result
    assert marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path / "results", **QUICK) == result


def test_a_class_that_is_lost_with_its_clips_is_told_and_one_class_left_is_no_task(tones, tmp_path):
    for number, file in enumerate((tones / "high").iterdir()):
        soundfile.write(file, np.zeros(4000 + number), 16_000)
    result = marble.run("constant", f"folder:{tones}", results=tmp_path, skip_bad=True, **QUICK)
    assert any("1 labels have no clip to train on, so nothing can find them: 'high'" in doubt for doubt in result.doubts)
    for number, file in enumerate((tones / "low").iterdir()):
        soundfile.write(file, np.zeros(4000 + number), 16_000)
    with pytest.raises(MarbleError, match=r"clips of one class to train on, 'middle' \(.*/high/.*\.wav is silent"):
        marble.run("constant", f"folder:{tones}", results=tmp_path, skip_bad=True, **QUICK)


def test_the_numbers_of_a_result_are_those_of_its_predictions(tones, tmp_path):
    result = marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path, **QUICK)
    table = pandas.read_parquet((tmp_path / result.path).with_suffix(".parquet"))
    assert len(table) == 3 * 2 * (result.task.tracks["valid"] + result.task.tracks["test"])
    for layer in result.layers:
        for run in layer.runs:
            for split, scores in (("valid", run.validation), ("test", run.test)):
                rows = table[(table.layer == str(layer.layer)) & (table.seed == run.seed) & (table.split == split)]
                assert scores["accuracy"] == pytest.approx(accuracy_score(rows.target.str[0], rows.prediction), abs=1e-12)
                argmax = [result.task.labels[int(np.argmax(logits))] for logits in rows.logits]
                assert argmax == rows.prediction.tolist()
        assert layer.test["accuracy"].mean == pytest.approx(np.mean([run.test["accuracy"] for run in layer.runs]))
        assert layer.test["accuracy"].std == pytest.approx(
            np.std([run.test["accuracy"] for run in layer.runs], ddof=1), abs=1e-12
        )
        low, high = layer.test["accuracy"].ci95
        assert low <= layer.test["accuracy"].mean <= high
    assert set(result.selected.ci95_of_choice) == set(result.task.metrics)
    for metric, (low, high) in result.selected.ci95_of_choice.items():
        assert low <= result.selected.test[metric].mean <= high


def test_answers_state_where_the_audio_of_a_track_lies(tones, tmp_path):
    folder = tones.rename(tones.with_name("a '#?<b>% ü"))
    files = sorted(folder.rglob("*.wav"))
    rows = [{"path": str(file), "label": file.parent.name, "group": file.stem + file.parent.name} for file in files]
    table = pandas.DataFrame(rows).assign(start=0.0)
    table.loc[table.label == table.label[0], "start"] = 0.125
    table.loc[1::2, "stop"] = 0.25
    result = marble.run("constant", table, name="parts", results=tmp_path / "results", **QUICK)
    answers = result.predictions(tmp_path / "results").drop_duplicates("track").set_index("track")
    for row in table.itertuples():
        if row.group in answers.index:
            uri, _, part = answers.audio[row.group].partition("#")
            assert Path(url2pathname(urlsplit(uri).path)) == Path(row.path)
            stop = "" if np.isnan(row.stop) else f",{row.stop:g}"
            assert part == (f"t={row.start:g}{stop}" if row.start or stop else "")


def test_layer_rate_and_epoch_are_chosen_on_validation(tones, tmp_path):
    result = marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path, **QUICK)
    best = max(result.layers, key=lambda layer: layer.validation["accuracy"].mean)
    assert result.selected.layer == best.layer
    for run in (run for layer in result.layers for run in layer.runs):
        chosen = max(run.grid, key=lambda point: point.validation)
        assert (run.learning_rate, run.epoch, run.validation["accuracy"]) == (
            chosen.learning_rate,
            chosen.epoch,
            chosen.validation,
        )


def test_permuted_test_labels_change_no_choice(tones, tmp_path):
    def choices(task):
        result = marble.run("fbank-chroma", task, results=tmp_path / "results", cache_dir=tmp_path / "cache", **QUICK)
        runs = [
            (layer.layer, run.seed, run.learning_rate, run.epoch, run.validation)
            for layer in result.layers
            for run in layer.runs
        ]
        return result, (result.selected.layer, runs)

    task = load_task(f"folder:{tones}")
    clips = task.read(tones)
    turn = {"low": "middle", "middle": "high", "high": "low"}
    permuted = [replace(clip, target=turn[clip.target]) if clip.split == "test" else clip for clip in clips]
    honest, first = choices(task)
    fooled, second = choices(replace(task, clips=lambda root: permuted))
    assert first == second
    assert honest.identity != fooled.identity
    assert honest.selected.test["accuracy"].mean > 0.8 > 0.2 > fooled.selected.test["accuracy"].mean


def test_nothing_is_encoded_twice_and_no_block_runs_that_nobody_asked_for(tones, tmp_path):
    task = f"folder:{tones}"
    upstream = Counting()
    marble.run(upstream, task, results=tmp_path, layers="0..1", **QUICK)
    assert (upstream.clips, upstream.blocks) == (24, 48)
    marble.run(upstream, task, results=tmp_path, layers="0..1", seeds=3)
    marble.run(upstream, task, results=tmp_path / "elsewhere", layers="1", **QUICK)
    assert upstream.clips == 24
    marble.run(upstream, task, results=tmp_path, layers="all", **QUICK)
    assert upstream.clips == 48


def test_channels_that_cancel_are_heard_one_by_one_where_that_is_asked(tones, tmp_path):
    for path in (tones / "low").iterdir():
        samples, rate = soundfile.read(path)
        soundfile.write(path, np.stack([0.5 * samples, -0.5 * samples], axis=1), rate)
    with pytest.raises(BadClipsError, match=r"8 bad clips were left out, .* its channels cancel"):
        marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path, **QUICK)
    identities = set()
    for channels in ("left", "loudest"):
        settings = [*QUICK["settings"], f"audio.channels={channels}"]
        result = marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path, seeds=2, settings=settings)
        assert (result.bad_clips, result.cost.clips_encoded) == ([], 24)
        assert result.provenance.space["channels"] == channels
        identities.add(result.identity)
    assert len(identities) == 2
    assert "channels" not in prepare("fbank-chroma", f"folder:{tones}", **QUICK).space.description


def test_a_layer_alone_and_among_others_is_the_same(tones, tmp_path):
    task = f"folder:{tones}"
    alone = marble.run(Counting(), task, results=tmp_path, cache_dir=tmp_path / "one", layers="2", **QUICK)
    among = marble.run(Counting(), task, results=tmp_path, cache_dir=tmp_path / "two", layers="all,weighted", **QUICK)
    assert alone.layers[0].runs == among.layers[2].runs
    weighted = among.layers[4]
    assert (weighted.layer, weighted.name) == ("weighted", "weighted sum")
    assert sum(weighted.weights) == pytest.approx(1.0)
    assert among.selected.layer != "weighted"


def test_a_weighted_sum_of_unequal_widths_is_refused(tones):
    with pytest.raises(MarbleError, match="layers of one width, but those of fbank-chroma have 80, 12, 92"):
        marble.run("fbank-chroma", f"folder:{tones}", layers="weighted")


def test_bad_clips_fail_the_run_at_its_end_unless_accepted(tones, tmp_path):
    (tones / "low" / "text.wav").write_text("no audio")
    soundfile.write(tones / "high" / "silent.wav", np.zeros(4000), 16_000)
    with pytest.raises(BadClipsError, match="2 bad clips were left out") as caught:
        marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path, **QUICK)
    reasons = {clip.id: clip.reason for clip in caught.value.result.bad_clips}
    assert "silent" in reasons["high/silent.wav"]
    assert "not audio" in reasons["low/text.wav"]
    assert results.read(tmp_path / caught.value.result.path).bad_clips == caught.value.result.bad_clips
    accepted = marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path, skip_bad=True, **QUICK)
    assert accepted.layers == caught.value.result.layers
    (tones / "low" / "text.wav").unlink()
    (tones / "high" / "silent.wav").unlink()
    whole = marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path, **QUICK)
    assert whole.bad_clips == []
    assert whole.identity != accepted.identity


def test_a_result_without_some_clips_has_an_identity_of_its_own(tones, tmp_path, monkeypatch):
    def refusing(job, workers, reporter):
        extraction = encode(job, workers, reporter)
        return replace(extraction, bad=dict.fromkeys(job.data.keys[:left_out], "is not for today"))

    monkeypatch.setattr("marble.jobs.run.encode", refusing)
    identities, data = set(), set()
    for left_out in (2, 1, 0):
        result = marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path, skip_bad=True, **QUICK)
        assert len(result.bad_clips) == left_out
        identities.add(result.identity)
        data.add(result.task.data_sha256)
    assert len(identities) == len(data) == 3


def test_regression_and_tags_run_from_a_table(tones, tmp_path):
    paths = [str(path) for path in sorted(tones.glob("*/*.wav"))]
    pitch = [{"low": 7.8, "middle": 9.8, "high": 11.8}[path.split("/")[-2]] for path in paths]
    tags = [["low"] if "low" in path else ["high", "bright"] if "high" in path else [] for path in paths]
    splits = [("train", "train", "valid", "test")[number % 4] for number in range(len(paths))]
    pandas.DataFrame({"path": paths, "split": splits, "target": pitch}).to_csv(tmp_path / "pitch.csv", index=False)
    pandas.DataFrame({"path": paths, "split": splits, "labels": tags}).to_parquet(tmp_path / "tags.parquet")
    numbers = marble.run("fbank-chroma", f"table:{tmp_path}/pitch.csv", results=tmp_path, layers="0", seeds=2)
    assert numbers.selected.test["r2"].mean > 0.7
    predicted = pandas.read_parquet((tmp_path / numbers.path).with_suffix(".parquet")).logits.str[0]
    assert predicted.between(6, 14).all()
    tagged = marble.run("fbank-chroma", f"table:{tmp_path}/tags.parquet", results=tmp_path, layers="0", **QUICK)
    assert tagged.selected.test["roc_auc"].mean > 0.9
    assert tagged.task.labels_without_roc_auc == 0


@pytest.mark.parametrize("column", ["target", "labels"])
def test_a_metric_that_validation_cannot_have_is_told_before_training(tones, tmp_path, column):
    paths = [str(path) for path in sorted(tones.glob("*/*.wav"))]
    splits = [("train", "train", "valid", "test")[number % 4] for number in range(len(paths))]
    numbers = [1.0 if split == "valid" else float(number) for number, split in enumerate(splits)]
    tags = ["loud" if split == "valid" else "loud;deep" for split in splits]
    table = pandas.DataFrame({"path": paths, "split": splits, column: numbers if column == "target" else tags})
    table.to_csv(tmp_path / "alike.csv", index=False)
    with pytest.raises(MarbleError, match=r"does not exist on the 6 validation tracks of table:alike"):
        marble.run("constant", f"table:{tmp_path}/alike.csv", results=tmp_path, **QUICK)


def test_a_probe_larger_than_memory_is_refused(tones, tmp_path):
    with pytest.raises(MarbleError, match=r"The probes of one layer and seed need .* GB, but .*: lower probe\.hidden"):
        marble.run("constant", f"folder:{tones}", results=tmp_path, settings=["probe.hidden=10000000000"])


def test_weights_changed_after_a_run_are_refused(tones, tmp_path):
    upstream = Counting()
    marble.run(upstream, f"folder:{tones}", results=tmp_path, **QUICK)
    marble.run(upstream, f"folder:{tones}", results=tmp_path, **QUICK)
    upstream.matrix.data.zero_()
    with pytest.raises(MarbleError, match=r"weights of counting were changed after it first ran.*load it again"):
        marble.run(upstream, f"folder:{tones}", results=tmp_path, **QUICK)


def test_excerpts_of_one_recording_in_two_splits_are_said(tones, tmp_path):
    paths = [str(path) for path in sorted(tones.glob("*/*.wav"))]
    halves = [
        {"path": path, "label": path.split("/")[-2], "split": split, "start": start, "stop": start + 0.1}
        for number, path in enumerate(paths)
        for start, split in ((0.0, "train"), (0.1, "valid" if number % 2 else "test"))
    ]
    pandas.DataFrame(halves).to_csv(tmp_path / "halves.csv", index=False)
    said = []
    reporter = Reporter()
    reporter.say = said.append
    prepare("constant", f"table:{tmp_path}/halves.csv", reporter=reporter)
    assert any("48 clips are of recordings that stand in another split as well" in text for text in said)


def test_a_limit_takes_that_many_tracks_and_is_another_result(tones, tmp_path):
    few = marble.run("constant", f"folder:{tones}", results=tmp_path, limit=3, **QUICK)
    everything = marble.run("constant", f"folder:{tones}", results=tmp_path, **QUICK)
    assert few.task.tracks == {"train": 3, "valid": 3, "test": 3}
    assert few.task.limit == 3
    assert few.identity != everything.identity
    roomy = marble.run("constant", f"folder:{tones}", results=tmp_path / "roomy", limit=1000, **QUICK)
    assert (roomy.task.limit, roomy.identity) == (None, everything.identity)


def test_what_decides_the_numbers_decides_the_identity(tones, tmp_path):
    def identity(upstream="fbank-chroma", **options):
        return marble.run(upstream, f"folder:{tones}", results=tmp_path, **(QUICK | options)).identity

    reference = identity()
    assert identity(cache_dir=tmp_path / "another") == reference
    others = [
        identity(seeds=3),
        identity(layers="0"),
        identity(settings=["probe.epochs=9", "probe.hidden=32"]),
        identity(settings=[*QUICK["settings"], "windows.seconds=0.1"]),
        identity("constant"),
    ]
    (tones / "low" / "0.wav").write_bytes((tones / "low" / "1.wav").read_bytes()[:-2] + b"\x01\x02")
    others.append(identity())
    assert len({reference, *others}) == len(others) + 1


def test_a_name_that_is_no_utf8_goes_all_the_way(tones, tmp_path):
    old = tones / "low" / "0.wav"
    old.rename(os.fsdecode(os.fsencode(tones / "low") + b"/caf\xe9.wav"))
    (tones / "low" / os.fsdecode(b"bad\xe9.wav")).write_text("no audio")
    result = marble.run("constant", f"folder:{tones}", results=tmp_path, skip_bad=True, **QUICK)
    table = pandas.read_parquet((tmp_path / result.path).with_suffix(".parquet"))
    assert result.bad_clips[0].id == "low/bad\\xe9.wav"
    assert "low/caf\\xe9.wav" in {*table.track, *(clip.id for clip in load_task(f"folder:{tones}").read(tones))}


@pytest.mark.parametrize(("capability", "warned"), [("AVX2", True), ("AVX512", False)])
def test_bfloat16_on_a_cpu_that_has_none_is_said(tones, tmp_path, monkeypatch, capability, warned):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    reporter = Reporter()
    said = []
    monkeypatch.setattr(reporter, "say", said.append)
    where = {"precision": "bf16", "device": "cpu", "cache_dir": tmp_path, "reporter": reporter}
    prepare("random-init:branchformer-summarymixing-tiny", f"folder:{tones}", **where)
    assert any("in software" in text for text in said) == warned


def test_a_copy_with_a_wrong_name_is_bad_whatever_the_cache_holds(tones, tmp_path):
    """It has the content of a good file, and neither makes that one bad nor becomes good by it."""
    first = marble.run("constant", f"folder:{tones}", results=tmp_path / "first", **QUICK)
    shutil.copy(tones / "low/3.wav", tones / "low/copy.mp3")
    for name in ("warm", "cold"):
        cache = tmp_path / "cold cache" if name == "cold" else None
        result = marble.run(
            "constant", f"folder:{tones}", results=tmp_path / name, cache_dir=cache, skip_bad=True, workers=2, **QUICK
        )
        assert [(clip.id, clip.reason) for clip in result.bad_clips] == [
            ("low/copy.mp3", "is wrongly named: it holds WAV data")
        ]
        assert result.task.tracks == first.task.tracks


@pytest.mark.parametrize(("file", "spoilt"), [(".json", b"{"), (".json", b""), (".parquet", b"PAR1"), (".parquet", None)])
def test_a_damaged_result_is_made_again(tones, tmp_path, file, spoilt):
    result = marble.run("constant", f"folder:{tones}", results=tmp_path, **QUICK)
    path = (tmp_path / result.path).with_suffix(file)
    whole = path.read_bytes()
    if spoilt is None:
        path.unlink()
    else:
        path.write_bytes(spoilt)
    with pytest.warns(UserWarning, match=path.name):
        again = marble.run("constant", f"folder:{tones}", results=tmp_path, **QUICK)
    assert again.layers == result.layers
    assert file == ".json" or path.read_bytes() == whole


def test_what_makes_scores_worth_less_is_said(tones, tmp_path):
    """A recording in two splits, and a class that only the test split has."""
    root = tmp_path / "split"
    for number, split in enumerate(["train", "valid", "test"]):
        for label in ("low", "high"):
            (root / split / label).mkdir(parents=True)
            for take in range(2):
                shutil.copy(tones / f"{label}/{2 * number + take}.wav", root / split / label)
    shutil.copy(root / "train/low/0.wav", root / "test/low/again.wav")
    (root / "test/middle").mkdir()
    shutil.copy(tones / "middle/0.wav", root / "test/middle")
    said = []
    reporter = Reporter()
    reporter.say = said.append
    prepare("constant", f"folder:{root}", reporter=reporter)
    cautions = [text for text in said if "clip" in text and "looking" not in text]
    assert len(cautions) == 2
    assert "2 clips are of recordings that stand in another split as well: " in cautions[0]
    assert "1 labels have no clip to train on, so nothing can find them: 'middle'" in cautions[1]
    result = marble.run("constant", f"folder:{root}", results=tmp_path / "results", **QUICK)
    assert [f"folder:split: {caution}" for caution in result.doubts[:2]] == cautions


def test_a_trained_probe_that_was_damaged_is_trained_again(tones, tmp_path):
    def run(results):
        result = marble.run("constant", f"folder:{tones}", results=tmp_path / results, cache_dir=tmp_path / "cache", **QUICK)
        return (tmp_path / results / result.path).with_suffix(".parquet").read_bytes()

    first = run("first")
    cache = FeatureCache(tmp_path / "cache")
    path, *_ = sorted(cache.root.glob("probes/*/*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert [found for found, _ in cache.damaged_probes()] == [path]
    assert run("second") == first
    assert cache.damaged_probes() == []


@pytest.mark.parametrize("asked", [{"precision": "bf16"}, {"device": "cuda"}])
def test_a_prepared_upstream_is_asked_for_nothing_else(tones, tmp_path, asked):
    upstream = load_upstream("constant").prepare("cpu")
    with pytest.raises(MarbleError, match=r"constant is prepared for cpu in fp32, not .*: load it again"):
        prepare(upstream, f"folder:{tones}", cache_dir=tmp_path, **asked)
    assert prepare(upstream, f"folder:{tones}", cache_dir=tmp_path, precision="fp32", device="cpu").upstream is upstream


@pytest.mark.parametrize("results", ["/proc/results", "file/results", "locked/results"])
def test_a_folder_of_results_that_cannot_be_written_is_told_before_anything_is_encoded(tones, tmp_path, home, results):
    (tmp_path / "file").touch()
    (tmp_path / "locked/results/constant").mkdir(parents=True)
    (tmp_path / "locked/results/constant/folder-tones").touch()
    with pytest.raises(MarbleError, match=r"Cannot write .*results/constant/folder-tones \(.*\): make room or choose"):
        marble.run("constant", f"folder:{tones}", results=tmp_path / results, **QUICK)
    assert not list(home.glob("cache/features/*/*.safetensors"))


def test_a_result_that_is_there_is_read_from_a_folder_that_cannot_be_written(tones, tmp_path, monkeypatch):
    def refuse(folder):
        raise MarbleError(f"Cannot write {folder}")

    first = marble.run("constant", f"folder:{tones}", results=tmp_path, **QUICK)
    monkeypatch.setattr("marble.jobs.run.refuse_unwritable", refuse)
    assert marble.run("constant", f"folder:{tones}", results=tmp_path, **QUICK) == first
    with pytest.raises(MarbleError, match="Cannot write"):
        marble.run("constant", f"folder:{tones}", results=tmp_path, limit=3, **QUICK)


def test_asking_whether_a_folder_can_be_written_leaves_nothing(tmp_path):
    refuse_unwritable(tmp_path / "a/b/c")
    assert list(tmp_path.iterdir()) == []


def test_what_was_said_of_the_data_stands_in_the_result_with_its_place(tones, tmp_path):
    (tones / "low" / "copy.wav").write_bytes((tones / "high" / "0.wav").read_bytes())
    files = sorted(tones.rglob("*.wav"))
    rows = [(file, file.parent.name, ("train", "valid", "test")[number % 3], "x") for number, file in enumerate(files)]
    pandas.DataFrame(rows, columns=["path", "label", "Split", "comment"]).to_csv(tmp_path / "t.csv", index=False)
    with pytest.warns(UserWarning, match="'Split' is read as split"):
        result = marble.run("constant", f"table:{tmp_path}/t.csv", results=tmp_path, **QUICK)
    *columns, crossing, contradicting = result.task.notes
    assert columns == ["'Split' is read as split", "not read: 'comment'"]
    assert contradicting.startswith("1 clips have the audio of another clip and other labels than it")
    assert crossing.startswith("2 clips are of recordings that stand in another split as well")
    assert result.task.source == str(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"results": None}, "results=None is no folder: give its path"),
        ({"workers": "2"}, "workers='2' is impossible: write how many, from 1"),
        ({"workers": 0}, "workers=0 is impossible"),
    ],
)
def test_a_wrong_type_is_one_sentence(tmp_path, options, sentence):
    with pytest.raises(MarbleError, match=sentence):
        marble.run("constant", f"folder:{tmp_path}", **{"results": tmp_path} | options)
