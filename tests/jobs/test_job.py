"""How a job comes about, what it keeps for the next one, and what it shares with those beside it."""

import dataclasses
import json
import resource
import shutil
import sys
import threading
import time

import numpy as np
import pytest
import soundfile
import torch

import marble
from marble.errors import MarbleError
from marble.features.cache import FeatureCache
from marble.features.checked import write_checked
from marble.jobs.job import prepare
from marble.jobs.many import run_all
from marble.jobs.plan import make_plan
from marble.jobs.run import run_job
from marble.probe.training import train
from marble.probe.training.bank import train_probes
from marble.registry import load_task
from marble.system.files import digest, locked
from marble.system.progress import Reporter
from marble.system.threads import usable_cores
from marble.upstream import Layer, Upstream, UpstreamInfo

QUICK = {"settings": ["probe.epochs=4", "probe.hidden=8"], "layers": "0"}


class Counted(Upstream):
    """Ones, from one weight; `loaded` and `hashed` count how often that was done."""

    info = UpstreamInfo(name="counted", sample_rate=16_000, frame_rate=1.0, layers=(Layer("ones", 4),), max_seconds=2.0)
    loaded = hashed = 0

    def __init__(self):
        super().__init__()
        Counted.loaded += 1
        self.weight = torch.nn.Parameter(torch.ones(4))

    def layers(self, waveform):
        yield torch.ones(len(waveform), waveform.shape[1] // 16_000 + 1, 4) * self.weight

    def weights_hash(self):
        Counted.hashed += 1
        return super().weights_hash()


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    monkeypatch.setitem(sys.modules, "of_a_test", sys.modules[__name__])
    monkeypatch.setattr(Counted, "loaded", 0)
    monkeypatch.setattr(Counted, "hashed", 0)


def test_a_missing_data_set_is_told_before_weights_are_loaded(tmp_path):
    with pytest.raises(MarbleError, match="gtzan"):
        prepare("of_a_test:Counted", "gtzan", data_root=tmp_path)
    list(run_all(["of_a_test:Counted"], ["gtzan", "emomusic"], data_root=tmp_path, results=tmp_path))
    assert Counted.loaded == 0


def test_many_tasks_load_and_hash_the_weights_once(tones, tmp_path):
    other = shutil.copytree(tones, tmp_path / "other")
    outcomes = run_all(["of_a_test:Counted"], [f"folder:{tones}", f"folder:{other}"], results=tmp_path, seeds=1, **QUICK)
    assert [outcome.complaint for outcome in outcomes] == [None, None]
    assert (Counted.loaded, Counted.hashed) == (1, 1)


@pytest.mark.parametrize("hop", ["none", "1", "1.5"])
def test_a_plan_counts_the_windows_that_are_encoded(tmp_path, hop):
    for number in range(30):
        noise = np.random.default_rng(number).uniform(-0.5, 0.5, round((1.5 + 0.37 * (number // 2)) * 16_000))
        path = tmp_path / "sounds" / "ab"[number % 2] / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise, 16_000)
    settings = [*QUICK["settings"], f"windows.hop={hop}"]
    job = prepare(Counted(), f"folder:{tmp_path / 'sounds'}", seeds=1, layers="0", settings=settings)
    planned = make_plan(job)["feature_gigabytes"]
    run_job(job, results=tmp_path)
    rows = int(job.space.read(job.data.keys, 0)[1].sum())
    assert planned == pytest.approx(rows * 4 * 4 / 1e9)
    assert rows > 30


def probe_files(home):
    return {path: path.stat().st_mtime_ns for path in home.glob("cache/probes/*/*.safetensors")}


def test_more_seeds_train_only_what_is_new_and_all_that_is_kept_is_whole(tones, tmp_path, home):
    marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path, seeds=2, **QUICK)
    first = probe_files(home)
    assert len(first) == 2
    assert FeatureCache(home / "cache").damaged_probes() == []
    marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path, seeds=3, **QUICK)
    second = probe_files(home)
    assert len(second) == 3
    assert first.items() <= second.items()


def test_a_group_that_another_process_trains_is_waited_for_and_read(tones, tmp_path, home, monkeypatch):
    where = {"seeds": 3, **QUICK}
    reference = marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path / "first", **where)
    kept, *others = sorted(probe_files(home))
    content = kept.read_bytes()
    for path in (kept, *others):
        path.unlink()
    trained = []

    def counting(features, layers, groups, *arguments):
        trained.extend(groups)
        return train_probes(features, layers, groups, *arguments)

    monkeypatch.setattr(train, "train_probes", counting)
    locked_by_other = threading.Event()

    def other_process():
        with locked(kept, wait=True):
            locked_by_other.set()
            while not all(path.exists() for path in others):  # this run trains those first
                time.sleep(0.01)
            kept.write_bytes(content)

    thread = threading.Thread(target=other_process)
    thread.start()
    assert locked_by_other.wait(10)
    result = marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path / "second", **where)
    thread.join(30)
    assert len(trained) == len(others)
    assert result.layers == reference.layers


def test_a_cache_of_an_older_marble_is_named_listed_and_removed_and_never_read(tones, tmp_path, home):
    cache = FeatureCache(home / "cache")
    description = {"format": 2, "upstream": "constant", "version": 1}
    folder = cache.root / "features" / f"constant-{digest(description)[:16]}"
    folder.mkdir(parents=True)
    (folder / "space.json").write_text(json.dumps(description))
    shard, row = folder / "0.safetensors", np.ones((1, 8), np.float32)
    write_checked(shard, '["a key"]', {"windows": np.ones(1, np.int64), "layer.0": row})
    old_probe = cache.root / "probes" / "ab" / "abc.safetensors"
    write_checked(old_probe, '{"learning_rate": 0.1, "epoch": 3}', {"test": np.ones((1, 3), np.float32)})
    said = []
    reporter = Reporter()
    reporter.say = said.append
    marble.run("constant", f"folder:{tones}", results=tmp_path, seeds=1, reporter=reporter, **QUICK)
    assert any("features of constant that an older marble wrote" in text and "marble cache gc" in text for text in said)
    old, new = sorted(cache.spaces(), key=lambda space: not space.is_older)
    assert (old.folder, old.size()[:2]) == (folder, (0, []))
    assert new.size()[0] == 24
    assert old.damaged() == cache.damaged_probes() == []
    removed = {path for path, why in cache.collect() if why == "of an older format"}
    assert removed == {folder / "space.json", shard, old_probe}
    assert cache.spaces()[0].folder == new.folder
    assert len(probe_files(home)) == 1
    said.clear()
    marble.run("constant", f"folder:{tones}", results=tmp_path / "again", seeds=1, reporter=reporter, **QUICK)
    assert not any("an older marble wrote" in text for text in said)


@pytest.mark.parametrize("content", ["{garbage", "[1]", '{"format": 2}'])
def test_a_damaged_description_of_another_upstream_stops_no_run(tones, tmp_path, home, content):
    marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path, seeds=1, **QUICK)
    ((space,), cache) = FeatureCache(home / "cache").spaces(), FeatureCache(home / "cache")
    shards = set(space.folder.glob("*.safetensors"))
    (space.folder / "space.json").write_text(content)
    marble.run("constant", f"folder:{tones}", results=tmp_path, seeds=1, **QUICK)
    assert [path.name for path, _ in space.damaged()] == ["space.json"]
    assert [path.name for path, _ in cache.collect()] == ["space.json"]
    assert set(space.folder.glob("*.safetensors")) == shards
    again = marble.run("fbank-chroma", f"folder:{tones}", results=tmp_path / "again", seeds=1, **QUICK)
    assert again.cost.clips_encoded == 0


def test_a_flipped_format_makes_no_healthy_space_an_older_one(tones, tmp_path, home):
    marble.run("constant", f"folder:{tones}", results=tmp_path, seeds=1, **QUICK)
    cache = FeatureCache(home / "cache")
    (space,) = cache.spaces()
    file = space.folder / "space.json"
    file.write_text(file.read_text().replace('"format": 3', '"format": 2'))
    assert [path.name for path, _ in cache.collect()] == ["space.json"]
    assert list(space.folder.glob("*.safetensors"))


def test_a_flipped_format_makes_no_probe_an_older_one(tones, tmp_path, home):
    marble.run("constant", f"folder:{tones}", results=tmp_path, seeds=1, **QUICK)
    (path,) = probe_files(home)
    content = path.read_bytes()
    assert content.count(b'\\"format\\": 3') == 1
    path.write_bytes(content.replace(b'\\"format\\": 3', b'\\"format\\": 2'))
    assert [damaged for damaged, _ in FeatureCache(home / "cache").damaged_probes()] == [path]


def test_a_stack_of_probes_holds_few_open_files(tones, tmp_path):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limit[1]))
    try:
        tiny = ["probe.epochs=1", "probe.learning_rates=1e-3", "probe.kind=linear"]
        result = marble.run("constant", f"folder:{tones}", results=tmp_path, seeds=150, layers="0", settings=tiny)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert len(result.layers[0].runs) == 150


@pytest.mark.parametrize(
    ("metrics", "sentence"),
    [
        ((), "has no metric: name some of accuracy"),
        (("acuracy",), "has the metric 'acuracy': name some of accuracy"),
        (("window_accuracy",), "window_accuracy scores windows, so it cannot choose"),
        (("roc_auc",), "roc_auc does not score multiclass tasks such as .*: name some of accuracy, window_accuracy"),
        (("accuracy", "mse"), "mse does not score multiclass tasks"),
    ],
)
def test_a_task_with_an_impossible_metric_is_told_at_once(tones, metrics, sentence):
    task = dataclasses.replace(load_task(f"folder:{tones}"), metrics=metrics)
    with pytest.raises(MarbleError, match=sentence):
        prepare("constant", task)


def test_threads_are_those_that_were_asked_for(tones):
    before = torch.get_num_threads()
    try:
        for threads in (3, 1):
            prepare("constant", f"folder:{tones}", threads=threads)
            assert torch.get_num_threads() == threads
        torch.set_num_threads(64)
        prepare("constant", f"folder:{tones}")
        assert torch.get_num_threads() == usable_cores()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("task", "setting", "sentence"),
    [
        (
            "synth-tempo",
            "probe.loss=binary",
            "probe.loss=binary is for tasks with one class a clip, and synth-tempo is regression",
        ),
        ("synth-tempo", "probe.track_answer=vote", "probe.track_answer=vote is for tasks with one class"),
        ("synth-tempo", "probe.grid=loss=default/binary", "probe.loss=binary is for tasks with one class"),
        ("synth-tempo", "probe.metric=accuracy", "probe.metric=accuracy cannot choose probes of synth-tempo: name one of"),
    ],
)
def test_a_setting_that_does_not_fit_the_task_is_told_at_once(task, setting, sentence):
    with pytest.raises(MarbleError, match=sentence):
        prepare("constant", task, settings=[setting])


def test_a_sum_without_any_layer_is_told_at_once(tones):
    with pytest.raises(MarbleError, match=r"probe\.first_layer=1 leaves no layer of constant to sum: lower it"):
        prepare("constant", f"folder:{tones}", layers="weighted", settings=["probe.first_layer=1"])
