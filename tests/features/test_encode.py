"""Real sounds through a small net: what is computed, how often, and what is told about the rest."""

import importlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from marble import registry
from marble.errors import MarbleError
from marble.features import encode as extraction
from marble.features.cache import FeatureCache, clip_key
from marble.features.encode import Excerpt, extract, reduced_layers
from marble.features.reduction import REDUCTIONS
from marble.features.space import Windows, cut_windows, describe_space, resolve_windows
from marble.probe.protocol import load_protocol
from marble.system.files import file_hash

RATE = 8000
ALL = [0, 1, 2, 3, 4]
MEAN = REDUCTIONS["mean"]


@pytest.fixture
def net(small_net):
    return small_net.Net().prepare("cpu")


@pytest.fixture
def space(net, tmp_path):
    return FeatureCache(tmp_path / "cache").space(describe_space(net, windows(net), MEAN))


def windows(net, **wishes):
    return resolve_windows(Windows(**wishes), None, net)


def sounds(folder: Path, *seconds: float) -> list[Excerpt]:
    """Noise of given lengths, a file each."""
    folder.mkdir(exist_ok=True)
    for number, length in enumerate(seconds):
        generator = np.random.default_rng(number)
        soundfile.write(folder / f"{number}.wav", generator.uniform(-0.5, 0.5, round(length * RATE)), RATE, subtype="FLOAT")
    return [excerpt(folder / f"{number}.wav") for number in range(len(seconds))]


def excerpt(path: Path, start: float = 0.0, stop: float | None = None) -> Excerpt:
    return Excerpt(clip_key(file_hash(path) if path.exists() else str(path), start, stop), path, start, stop)


def run(net, space, excerpts, layers=ALL, *, workers=1, on_clip=lambda key: None):
    return extract(net, space, excerpts, layers, windows(net), MEAN, workers=workers, on_clip=on_clip)


def features(space, excerpts, layers=ALL):
    """The stored features of excerpts: float32[layers, windows, D]."""
    return np.stack([space.read([one.key for one in excerpts], layer)[0] for layer in layers])


def test_features_are_the_means_over_time_of_each_window(net, space, tmp_path):
    excerpts = sounds(tmp_path / "a", 1.5, 5.3, 4.5, 0.3)
    done = run(net, space, excerpts)
    _, counts = space.read([one.key for one in excerpts], 0)
    assert counts.tolist() == [1, 3, 2, 1]  # 2 + 2 + 1.3 s; the last half second of 4.5 s is no second long
    cuts = [(0, 0, 1.5), (1, 0, 2), (1, 2, 4), (1, 4, 5.3), (2, 0, 2), (2, 2, 4), (3, 0, 0.3)]
    for row, (number, begin, end) in enumerate(cuts):
        waveform = soundfile.read(excerpts[number].path, dtype="float32")[0][round(begin * RATE) : round(end * RATE)]
        for layer, hidden in enumerate(net.layers(torch.from_numpy(waveform)[None])):
            np.testing.assert_allclose(features(space, excerpts)[layer, row], hidden[0].mean(0), rtol=1e-5, atol=1e-6)
    assert (done.clips, done.bad) == (4, {})
    assert done.audio_seconds == pytest.approx(1.5 + 5.3 + 4.5 + 0.3)
    assert done.encoder_seconds > 0


def test_nothing_is_encoded_twice(net, space, tmp_path):
    excerpts = sounds(tmp_path / "a", 0.5, 0.6, 0.7)
    told = []
    run(net, space, excerpts, on_clip=told.append)
    assert net.runs == [3] * 5
    again = run(net, FeatureCache(tmp_path / "cache").space(space.description), excerpts, on_clip=told.append)
    assert net.runs == [3] * 5
    assert again.clips == 0
    assert told == [one.key for one in excerpts] * 2


def test_blocks_behind_the_last_wanted_layer_do_not_run(net, space, tmp_path):
    excerpts = sounds(tmp_path / "a", 0.5, 0.6)
    run(net, space, excerpts, [0, 2])
    assert net.runs == [2, 2, 2, 0, 0]
    assert space.missing([excerpts[0].key], [1]) == [excerpts[0].key]


def test_one_sound_under_two_names_is_encoded_once(net, space, tmp_path):
    (first,) = sounds(tmp_path / "a", 0.5)
    second = excerpt(Path(shutil.copy(first.path, tmp_path / "b.wav")))
    assert run(net, space, [first, second]).clips == 1
    assert net.runs[0] == 1


def test_excerpts_of_one_file_are_clips_of_their_own(net, space, tmp_path):
    (whole,) = sounds(tmp_path / "a", 2.0)
    parts = [excerpt(whole.path, 0.0, 1.0), excerpt(whole.path, 0.25, 1.25), excerpt(whole.path, 1.0, None)]
    assert run(net, space, parts).clips == 3
    soundfile.write(tmp_path / "b.wav", soundfile.read(whole.path)[0][2000:10_000], RATE, subtype="FLOAT")
    cut = excerpt(tmp_path / "b.wav")
    run(net, space, [cut])
    np.testing.assert_array_equal(features(space, [cut]), features(space, parts[1:2]))


@pytest.mark.parametrize("shard", [1, 3, 64])
def test_a_clip_depends_on_itself_alone(small_net, tmp_path, monkeypatch, shard):
    excerpts = sounds(tmp_path / "a", 0.5, 5.3, 0.5, 2.0, 0.05, 0.6, 9.0)
    monkeypatch.setattr(extraction, "SHARD_CLIPS", shard)
    together = small_net.Net().prepare("cpu")
    common = FeatureCache(tmp_path / "together").space(describe_space(together, windows(together), MEAN))
    run(together, common, excerpts[2:4], [0, 1])
    run(together, common, excerpts[::-1], workers=2)
    for number, one in enumerate(excerpts):
        net = small_net.Net().prepare("cpu")
        alone = FeatureCache(tmp_path / f"alone {number}").space(describe_space(net, windows(net), MEAN))
        run(net, alone, [one])
        assert features(alone, [one]).tobytes() == features(common, [one]).tobytes()


def test_no_batch_on_a_cpu_holds_two_clips(net, space, tmp_path, monkeypatch):
    layers, sizes = type(net).layers, []

    def counting(self, waveform):
        sizes.append(len(waveform))
        return layers(self, waveform)

    monkeypatch.setattr(type(net), "layers", counting)
    run(net, space, sounds(tmp_path / "a", 0.5, 0.5, 5.5, 17.0, 18.0))
    assert sizes == [1, 1, 2, 1, 8, 1, 8, 1]  # 2 + 2, 1.5; 8 windows of 2 s, 1; and 9 windows of 2 s


def test_a_short_clip_is_extended_with_zeros(net, space, tmp_path):
    excerpts = sounds(tmp_path / "a", 0.02)
    run(net, space, excerpts)
    waveform = np.zeros(800, np.float32)
    waveform[:160] = soundfile.read(excerpts[0].path, dtype="float32")[0]
    expected = reduced_layers(net, torch.from_numpy(waveform)[None], ALL, MEAN, [Path()])
    np.testing.assert_array_equal(features(space, excerpts)[:, 0], np.stack([expected[layer][0][0] for layer in ALL]))


def test_bad_clips_are_told_and_never_stored(net, space, tmp_path):
    good = sounds(tmp_path / "a", 0.5, 0.6)
    (tmp_path / "a/broken.wav").write_bytes(b"RIFF and nothing else")
    (tmp_path / "a/empty.wav").touch()
    soundfile.write(tmp_path / "a/silent.wav", np.zeros(4000), RATE)
    bad = [excerpt(tmp_path / f"a/{name}.wav") for name in ("broken", "empty", "silent", "missing")]
    bad.append(excerpt(good[0].path, 0.2, 9.0))
    for clips in (2, 0):
        told = []
        done = run(net, space, [bad[0], good[0], *bad[1:], good[1]], on_clip=told.append)
        assert done.clips == clips
        assert sorted(told) == sorted(one.key for one in [*good, *bad])
        assert [done.bad[one.key] for one in bad] == [
            "is not audio that libsndfile reads, or is corrupt",
            "is an empty file",
            "is silent (no sample of the mono mix above -100 dB)",
            "cannot be read (no such file or directory)",
            "is 0.50 s long and ends before the clip from 0.2 s to 9 s",
        ]
        assert list(done.bad) == [one.key for one in bad]
        assert space.missing([one.key for one in bad], [0]) == [one.key for one in bad]
    assert net.runs[0] == 2
    assert np.isfinite(features(space, good)).all()


def test_a_shard_of_bad_clips_alone_writes_nothing(net, space, tmp_path):
    (tmp_path / "empty.wav").touch()
    assert len(run(net, space, [excerpt(tmp_path / "empty.wav")]).bad) == 1
    assert not list(space.folder.glob("*.safetensors"))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_hidden_states_that_are_not_finite_name_their_layer(net, space, tmp_path, monkeypatch, value):
    excerpts = sounds(tmp_path / "a", 0.5, 3.0, 0.6)
    layers = type(net).layers

    def broken(self, waveform):
        for layer, hidden in enumerate(layers(self, waveform)):
            if layer == 2 and waveform.shape[1] == 2 * RATE:
                hidden = hidden.index_fill(1, torch.tensor([3]), value)
            yield hidden

    monkeypatch.setattr(type(net), "layers", broken)
    done = run(net, space, excerpts)
    assert done.bad == {excerpts[1].key: "gives small-net values that are not finite in layer 2"}
    assert done.clips == 2
    assert space.missing([one.key for one in excerpts], ALL) == [excerpts[1].key]
    assert np.isfinite(features(space, [excerpts[0], excerpts[2]])).all()


def allocate() -> None:
    """Fail as PyTorch does where a CPU has no memory left."""
    torch.empty(2**60)


def raise_as_a_gpu() -> None:
    raise torch.OutOfMemoryError("too much")


@pytest.mark.parametrize("fail", [allocate, raise_as_a_gpu])
def test_a_batch_that_does_not_fit_is_halved(net, monkeypatch, fail):
    waveform = torch.randn(5, RATE, generator=torch.Generator().manual_seed(0))
    expected = reduced_layers(net, waveform, [0, 3], MEAN, [Path()] * 5)
    layers, sizes = type(net).layers, []

    def small(self, waveform):
        sizes.append(len(waveform))
        if len(waveform) > 2:
            fail()
        yield from layers(self, waveform)

    monkeypatch.setattr(type(net), "layers", small)
    found = reduced_layers(net, waveform, [0, 3], MEAN, [Path()] * 5)
    assert sizes == [5, 3, 2, 1, 2]
    for layer in (0, 3):
        np.testing.assert_allclose(found[layer], expected[layer], rtol=1e-5, atol=1e-6)


def test_a_window_that_does_not_fit_is_told_in_a_sentence(net, space, tmp_path, monkeypatch):
    monkeypatch.setattr(type(net), "layers", lambda self, waveform: allocate())
    with pytest.raises(
        MarbleError, match=r"^small-net needs more memory than there is for one window of 2 s of /.*/0\.wav: lower windows\.sec"
    ):
        run(net, space, sounds(tmp_path / "a", 5.0))
    monkeypatch.setattr(type(net), "layers", lambda self, waveform: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):  # a defect keeps its traceback
        run(net, space, sounds(tmp_path / "a", 5.0))


def test_long_clips_take_smaller_batches_and_others_keep_theirs(net, space, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "LONG_SECONDS", 16.0)
    monkeypatch.setattr(extraction, "LONG_BATCH_SECONDS", 7.0)
    layers, sizes = type(net).layers, []

    def counting(self, waveform):
        sizes.append(len(waveform))
        return layers(self, waveform)

    monkeypatch.setattr(type(net), "layers", counting)
    run(net, space, sounds(tmp_path / "a", 16.0, 16.5, 18.0))
    assert sizes == [8, 3, 3, 2, 3, 3, 3]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_batches_across_clips_and_agrees(net, small_net, space, tmp_path):
    excerpts = sounds(tmp_path / "a", *[0.5] * 70, 5.3, 4.5, *[0.6] * 5)
    run(net, space, excerpts)
    other = small_net.Net().prepare("cuda")
    there = FeatureCache(tmp_path / "gpu").space(describe_space(other, windows(other), MEAN))
    run(other, there, excerpts)
    np.testing.assert_allclose(features(there, excerpts), features(space, excerpts), rtol=1e-4, atol=1e-5)


def test_windows_follow_protocol_task_and_upstream(net):
    free = net
    assert resolve_windows(Windows(), None, free) == Windows(seconds=2.0, hop=2.0)
    assert resolve_windows(Windows(), 1.0, free) == Windows(seconds=1.0, hop=1.0)
    assert resolve_windows(Windows(), 30.0, free) == Windows(seconds=2.0, hop=2.0)
    assert resolve_windows(Windows(seconds=1.5, hop=0.5), 30.0, free) == Windows(seconds=1.5, hop=0.5)
    free.info = replace(free.info, max_seconds=None)
    assert resolve_windows(Windows(), 45.0, free) == Windows(seconds=45.0, hop=45.0)
    default = resolve_windows(Windows(), None, free)
    assert default == Windows(seconds=30.0, hop=30.0)
    assert cut_windows(30 * RATE, default, free.info) == [slice(0, 30 * RATE)]
    assert cut_windows(60 * RATE + 1, default, free.info) == [slice(0, 30 * RATE), slice(30 * RATE, 60 * RATE)]
    free.info = replace(free.info, min_seconds=40.0)
    assert resolve_windows(Windows(), None, free) == Windows(seconds=40.0, hop=40.0)


@pytest.mark.parametrize("name", ["mert-95m", "mert-330m"])
def test_mert_hears_what_it_was_trained_on_where_the_protocol_states_nothing(name, small_net):
    """5 s, or less where the windows of the task are shorter; a protocol that states a length is followed."""
    mert = small_net.Net()
    mert.info = registry.upstream_info(name)
    seconds = {task: resolve_windows(Windows(), task, mert).seconds for task in (None, 3.0, 5.0, 30.0)}
    assert seconds == {None: 5.0, 3.0: 3.0, 5.0: 5.0, 30.0: 5.0}
    assert resolve_windows(Windows(seconds=30.0), 30.0, mert) == Windows(seconds=30.0, hop=30.0)
    for task in ("gtzan", "giantsteps-key", "mtt", "mtg-top50"):
        assert resolve_windows(load_protocol("marble-v1", task=task).windows, 30.0, mert).seconds == 30.0


def test_no_other_upstream_hears_less_than_its_longest_window():
    others = [registry.find_upstream(name).info for name in registry.complete_upstream_names() if "mert" not in name]
    assert len(others) > 10
    assert {info.trained_seconds for info in others} == {None}


@pytest.mark.parametrize("most", [None, 3, "all"])
def test_the_number_of_windows_that_represent_a_clip_changes_no_key(net, most):
    """It decides which excerpts are clips; features of a clip stay where they are."""
    assert describe_space(net, windows(net, most=most), MEAN)["windows"] == {"seconds": 2.0, "hop": 2.0, "tail": 1.0}


def test_windows_that_nobody_can_encode_are_refused(net):
    with pytest.raises(MarbleError, match=r"Windows of 0\.05 s are too short for small-net, which needs 0\.1 s"):
        resolve_windows(Windows(seconds=0.05), None, net)
    with pytest.raises(MarbleError, match="A hop of 1e-05 s is less than a sample"):
        resolve_windows(Windows(seconds=1.0, hop=1e-5), None, net)


def test_a_class_without_a_file_is_refused(net):
    typed = type("Typed", (type(net),), {"__module__": "builtins"})  # as in an interactive session
    with pytest.raises(MarbleError, match="The class Typed has no source file"):
        describe_space(typed().prepare("cpu"), Windows(), MEAN)


HELPED = """
import numpy, torch
from marble.upstream import Layer, Upstream, UpstreamInfo
from {helper} import scale
class Mine(Upstream):
    info = UpstreamInfo(name="mine", sample_rate=8000, frame_rate=100.0, layers=(Layer("a", 2),))
"""


def test_the_modules_that_a_class_uses_count_with_it(net, tmp_path, monkeypatch):
    """Those beside it, directly or through others; not those that it does not use, nor installed ones."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = [f"{tmp_path.name}_{part}".replace("-", "_") for part in ("model", "helper", "deep", "other")]
    (tmp_path / f"{names[0]}.py").write_text(HELPED.format(helper=names[1]))
    (tmp_path / f"{names[1]}.py").write_text(f"import {names[2]}\n\ndef scale(x):\n    return x\n")
    for name in names[2:]:
        (tmp_path / f"{name}.py").write_text("NUMBER = 1\n")
        importlib.import_module(name)
    mine = importlib.import_module(names[0]).Mine().prepare("cpu")
    before = describe_space(mine, windows(net), MEAN)
    assert len(before["source"]) == 3
    (tmp_path / f"{names[3]}.py").write_text("NUMBER = 2\n")
    assert describe_space(mine, windows(net), MEAN) == before
    for name in names[:3]:
        (tmp_path / f"{name}.py").write_text((tmp_path / f"{name}.py").read_text() + "# changed\n")
        after = describe_space(mine, windows(net), MEAN)
        assert after != before
        before = after


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda states: [state[..., :15] for state in states], r"yields \[1, \d+, 15\] as layer 0, where \[1, frames, 16\]"),
        (lambda states: [state[0] for state in states], r"yields \[\d+, 16\] as layer 0"),
        (lambda states: [torch.cat([state, state]) for state in states], r"yields \[2, \d+, 16\] as layer 0"),
        (lambda states: [state[:, :0] for state in states], r"yields \[1, 0, 16\] as layer 0"),
        (lambda states: list(states)[:3], "yields fewer layers than the 5 of its info"),
    ],
)
def test_an_upstream_that_breaks_its_word_stores_nothing(net, space, tmp_path, monkeypatch, change, sentence):
    excerpts, layers = sounds(tmp_path / "a", 0.5), net.layers
    monkeypatch.setattr(net, "layers", lambda waveform: iter(change(layers(waveform))))
    with pytest.raises(MarbleError, match=f"small-net {sentence}.*: marble check --upstream tells"):
        run(net, space, excerpts)
    assert space.missing([one.key for one in excerpts], ALL)
