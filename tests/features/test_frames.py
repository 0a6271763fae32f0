"""Frames of whole tracks: weights, windows, what is stored, and what is read of it."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from marble.audio.decode import VERSION
from marble.errors import MarbleError
from marble.features import checked, frames
from marble.features.cache import FeatureCache, clip_key
from marble.features.encode import Excerpt, extract
from marble.features.frame_reader import FrameReader, ahead
from marble.features.frames import FrameReduction, Window, frames_within, overlap_weights
from marble.features.reduction import REDUCTIONS
from marble.features.space import Windows, describe_space, overlapping, resolve_windows, windows_of
from marble.frames import Grid
from marble.registry import load_upstream
from marble.system.files import file_hash
from marble.upstream import Layer, Upstream, UpstreamInfo

RATE = 8000
LABELS = Grid(5.0, 0.1)


class Counting(Upstream):
    """Frames at 25 Hz: the mean of their samples; a vector for the window; the mean times a large number."""

    info = UpstreamInfo(
        name="counting", sample_rate=RATE, frame_rate=25.0, first_frame=0.02, max_seconds=30.0,
        layers=(Layer("mean", 2), Layer("vector", 2), Layer("large", 2), Layer("small", 2)),
    )  # fmt: skip

    def layers(self, waveform):
        mean = waveform.unfold(1, 320, 320).mean(2)
        hidden = torch.stack([mean, -mean], dim=2)
        yield hidden
        yield hidden.mean(1, keepdim=True)
        yield hidden * 1e6
        yield hidden * 1e-4


def track(folder, number, seconds):
    """A ramp whose value is the time, in hundreds of seconds, on a little noise."""
    samples = round(seconds * RATE)
    noise = np.random.default_rng(number).normal(size=samples) / 1e3
    folder.mkdir(exist_ok=True)
    soundfile.write(folder / f"{number}.wav", np.arange(samples) / RATE / 100 + noise, RATE, subtype="FLOAT")
    return Excerpt(clip_key(file_hash(folder / f"{number}.wav"), 0.0, None), folder / f"{number}.wav", 0.0, None)


def encoded(upstream, excerpts, root, labels=None, seconds=None, layers=None):
    """The space that holds the frames of some tracks on a grid, its reduction, and the outcome."""
    reduction = FrameReduction.of(upstream.info.grid, labels or upstream.info.grid)
    windows = overlapping(resolve_windows(Windows(seconds=seconds), None, upstream), None)
    space = FeatureCache(root).space(describe_space(upstream, windows, reduction))
    layers = list(range(len(upstream.info.layers))) if layers is None else layers
    done = extract(upstream, space, excerpts, layers, windows, reduction, workers=1)
    return space, reduction, done


def whole(space, key, layer):
    return space.slice(key, layer, 0, int(space.rows([key], layer)[0]))


def test_the_space_of_pooled_features_is_described_as_before_there_were_frames():
    upstream = load_upstream("fbank-chroma").prepare("cpu")
    described = describe_space(upstream, resolve_windows(Windows(), None, upstream), REDUCTIONS["mean"])
    assert described == {
        "format": 3, "upstream": "fbank-chroma", "version": 1, "sample_rate": 24_000, "min_seconds": 0.0, "audio": VERSION,
        "weights": hashlib.sha256().hexdigest(), "windows": {"seconds": 30.0, "hop": 30.0, "tail": 1.0}, "reduction": "mean",
        "precision": "fp32",
    }  # fmt: skip


def test_weights_are_the_overlaps_of_cells():
    weights = overlap_weights(0.1, 2, 5.0, 11, 25.0)
    row = np.array([0.5, 1, 1, 1, 1, 0.5]) / 5
    np.testing.assert_allclose(weights, [[*row, *[0] * 5], [*[0] * 5, *row]], atol=1e-7)
    beyond = overlap_weights(0.38, 3, 5.0, 11, 25.0)  # the last two lie behind the last frame of the window, at .4 s
    np.testing.assert_array_equal(beyond[1:, :10], 0)
    np.testing.assert_array_equal(beyond[1:, 10], 1)


@given(
    st.floats(0, 2), st.integers(1, 40), st.sampled_from([1.0, 5.0, 7.3, 15.625]), st.integers(2, 60),
    st.sampled_from([15.625, 18.75, 25.0, 75.0]),
)  # fmt: skip
def test_weights_have_sum_one_and_keep_what_grows_evenly(offset, count, rate, length, native):
    weights = overlap_weights(offset, count, rate, length, native)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    assert (weights >= 0).all()
    centres = offset + np.arange(count) / rate
    inside = (centres - 0.5 / rate >= -0.5 / native) & (centres + 0.5 / rate <= (length - 0.5) / native)
    # A cell's mean of a line is its value at the centre, but for the width of a frame at its two edges.
    np.testing.assert_allclose((weights @ (np.arange(length) / native))[inside], centres[inside], atol=0.5 / native)


@given(st.floats(0.2, 400), st.sampled_from([5.0, 2.0, 30.0]))
def test_windows_part_in_the_middle_of_their_overlap(seconds, length):
    info = replace(Counting.info, max_seconds=None)
    reduction = FrameReduction.of(info.grid, LABELS)
    windows = overlapping(Windows(seconds=length), None)
    samples = round(seconds * RATE)
    cuts = windows_of(samples, windows, info, reduction)
    assert [frame for cut in cuts for frame in cut.frames] == list(range(frames_within(LABELS, samples / RATE)))
    assert (cuts[0].samples.start, cuts[-1].samples.stop) == (0, samples)
    step = 1.6 if length > 4 else 0.4
    for number, cut in enumerate(cuts):
        assert cut.start / step == pytest.approx(round(cut.start / step), abs=1e-6)
        assert cut.samples.start == round(cut.start * RATE)
        assert (cut.samples.stop - cut.samples.start) / RATE <= length + 1e-4
        if len(cuts) > 1:
            assert (cut.samples.stop - cut.samples.start) / RATE >= length - step - 1e-3
        margin = 0.1 * length - 0.21  # half a label frame less
        centres = LABELS.times(max(cut.frames.stop, 1))[cut.frames.start :]
        if number and len(centres):
            assert centres[0] >= cut.start + margin
        if number < len(cuts) - 1 and len(centres):
            assert centres[-1] <= cut.samples.stop / RATE - margin


def test_thirty_seconds_start_every_twenty_four():
    windows = overlapping(Windows(seconds=30.0), None)
    assert windows.hop == 24.0
    reduction = FrameReduction.of(Counting.info.grid, LABELS)
    cuts = windows_of(100 * RATE, windows, Counting.info, reduction)
    assert [(cut.start, cut.frames) for cut in cuts] == [
        (0.0, range(135)), (24.0, range(135, 255)), (48.0, range(255, 371)), (pytest.approx(70.4), range(371, 500)),
    ]  # fmt: skip


@pytest.mark.parametrize("labels", [None, LABELS])
def test_stitched_windows_are_one_window(labels, tmp_path, monkeypatch):
    monkeypatch.setattr(frames, "_LARGEST", 0.0)  # keeps float32
    upstream = load_upstream("fbank-chroma").prepare("cpu")
    excerpt = track(tmp_path / "a", 0, 61.3)
    parts, one = (encoded(upstream, [excerpt], tmp_path / name, labels, length)[0] for name, length in (("b", None), ("c", 90)))
    for layer in range(3):
        mine, expected = whole(parts, excerpt.key, layer), whole(one, excerpt.key, layer)
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("labels", [LABELS, Grid(25.0, 0.0), Grid(3.1, 0.2)])
def test_a_frame_holds_the_time_at_its_centre(labels, tmp_path):
    upstream = Counting().prepare("cpu")
    excerpts = [track(tmp_path / "a", number, seconds) for number, seconds in enumerate((0.5, 12.34, 71.1))]
    space, reduction, _ = encoded(upstream, excerpts, tmp_path / "b", labels)
    assert reduction.stored == labels if labels.rate < 25 else upstream.info.grid
    for excerpt, seconds in zip(excerpts, (0.5, 12.34, 71.1), strict=True):
        frame = whole(space, excerpt.key, 0)[:, 0].astype(np.float64) * 100
        times = reduction.stored.times(len(frame))
        assert len(frame) == frames_within(reduction.stored, seconds)
        inside = times + 0.5 / reduction.stored.rate < seconds - 0.04
        np.testing.assert_allclose(frame[inside], times[inside], atol=0.06)


def test_frames_of_a_track_do_not_depend_on_what_stands_beside_it(tmp_path):
    upstream = Counting().prepare("cpu")
    excerpts = [track(tmp_path / "a", number, 20.0 + 7 * number) for number in range(10)]
    together, _, _ = encoded(upstream, excerpts, tmp_path / "b", LABELS)
    for excerpt in excerpts[::3]:
        alone, _, _ = encoded(upstream, [excerpt], tmp_path / excerpt.key[:8], LABELS)
        for layer in range(4):
            np.testing.assert_array_equal(whole(together, excerpt.key, layer), whole(alone, excerpt.key, layer))


def test_a_file_holds_one_layer_of_eight_tracks_in_float16_where_it_fits(tmp_path):
    upstream = Counting().prepare("cpu")
    excerpts = [track(tmp_path / "a", number, 20.0 + number / 10) for number in range(10)]
    space, _, done = encoded(upstream, excerpts, tmp_path / "b", LABELS)
    assert len(list(space.folder.glob("*.safetensors"))) == 2 * 4
    assert [str(space.slice(excerpts[0].key, layer, 0, 2).dtype) for layer in range(4)] == ["float16"] * 2 + ["float32"] * 2
    assert done.wide == {2, 3}
    assert len(np.unique(whole(space, excerpts[0].key, 1), axis=0)) == 1
    assert space.size()[:2] == (10, [0, 1, 2, 3])
    assert space.description["reduction"] == {"frames": 5.0, "first": 0.1, "weights": "overlap", "store": "float16"}
    again = extract(
        upstream, space, excerpts, [0, 2], overlapping(Windows(seconds=30.0), None), FrameReduction.of(Grid(25.0, 0.02), LABELS)
    )
    assert again.clips == 0


def test_a_slice_is_checked_once_and_again_when_the_file_has_changed(tmp_path, monkeypatch):
    upstream = Counting().prepare("cpu")
    excerpts = [track(tmp_path / "a", number, 20.0) for number in range(3)]
    space, _, _ = encoded(upstream, excerpts, tmp_path / "b", LABELS)
    sums = []
    monkeypatch.setattr(checked, "_checksum_of", lambda *about, real=checked._checksum_of: sums.append(about) or real(*about))
    for excerpt in excerpts * 2:
        space.slice(excerpt.key, 0, 3, 9)
    assert len(sums) == 1
    path = space._index[0][excerpts[0].key][0]
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert [damaged for damaged, _ in space.damaged()] == [path]
    with pytest.warns(UserWarning, match="set aside"), pytest.raises(MarbleError, match="was damaged"):
        space.slice(excerpts[0].key, 0, 0, 1)
    assert space.missing([excerpts[0].key], [0, 1]) == [excerpts[0].key]
    assert space.missing([excerpts[0].key], [1]) == []
    removed = FeatureCache(tmp_path / "b").collect()
    assert [file.suffix for file, _ in removed] == [".damaged"]


def test_reading_interpolates_where_labels_are_finer(tmp_path):
    upstream = Counting().prepare("cpu")
    excerpts = [track(tmp_path / "a", number, seconds) for number, seconds in enumerate((0.06, 9.0, 20.0))]
    fine = Grid(100.0, 0.0)
    space, reduction, _ = encoded(upstream, excerpts, tmp_path / "b", fine)
    assert reduction.stored == upstream.info.grid
    keys = [excerpt.key for excerpt in excerpts]
    reader = FrameReader(space, keys, [0, 2], reduction.stored, fine, 0)
    for number, key in enumerate(keys):
        stored = whole(space, key, 0).astype(np.float64)
        count = int(reader.frames[number])
        assert count == frames_within(fine, len(stored) / 25)
        expected = np.stack(
            [np.interp(fine.times(count), reduction.stored.times(len(stored)), column) for column in stored.T], axis=1
        )
        np.testing.assert_allclose(reader.read(number, 0, 0, count), expected, atol=1e-6)
        middle = slice(count // 3, count // 3 + 7)
        np.testing.assert_allclose(reader.read(number, 0, middle.start, min(middle.stop, count)), expected[middle], atol=1e-6)


def test_a_reader_holds_what_its_budget_allows_and_reads_the_same(tmp_path, monkeypatch):
    upstream = Counting().prepare("cpu")
    excerpts = [track(tmp_path / "a", number, 20.0) for number in range(4)]
    space, reduction, _ = encoded(upstream, excerpts, tmp_path / "b", LABELS)
    keys = [excerpt.key for excerpt in excerpts]
    size = 100 * 2 * 2  # frames, dimensions, bytes
    readers = [FrameReader(space, keys, [0, 1], reduction.stored, LABELS, budget) for budget in (0, 3 * size + 1, 99 * size)]
    assert [reader.resident for reader in readers] == [0, 3 * size, 8 * size]
    assert {reader.bytes for reader in readers} == {8 * size}
    read = []
    monkeypatch.setattr(space, "slice", lambda *what, real=space.slice: read.append(what) or real(*what))
    answers = [[reader.read(track, layer, 5, 30) for track in range(4) for layer in (0, 1)] for reader in readers for _ in "ab"]
    for answer in answers[1:]:
        for mine, other in zip(answers[0], answer, strict=True):
            np.testing.assert_array_equal(mine, other)
    assert len(read) == 16 + (3 + 10) + 8


def test_work_ahead_keeps_its_order_and_its_errors():
    assert list(ahead(lambda number: number**2, range(10))) == [number**2 for number in range(10)]
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda number: 1 / number, [2, 1, 0]))


def test_a_window_of_one_frame_gives_it_to_all():
    reduction = FrameReduction.of(Grid(25.0, 0.0), Grid(25.0, 0.0))
    hidden = torch.tensor([[[1.0, 2.0]]])
    (rows,) = reduction(hidden, [Window(slice(0, 8), 0.0, range(3))])
    assert rows.tolist() == [[1.0, 2.0]] * 3
