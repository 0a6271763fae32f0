"""Metrics of frames: equal to mir_eval on the same answers, and to values worked out by hand."""

import itertools
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import mir_eval
import numpy as np
import pytest

from marble import chords
from marble.frames import Grid, Spans
from marble.probe.scoring.frame_metrics import FRAME_METRICS
from marble.probe.scoring.keys import key_scores

ADAPTER = Path(__file__).parents[1] / "frames_adapter.py"
WRITTEN = ["N", "X", "C", "C:maj7", "C:9", "A:min", "A:min/b3", "G:7", "G:sus4", "Bb:min7", "F#:dim", "Eb:maj/2"]


def song(seed, gaps=()):
    """An annotation of 20 s that begins late and lacks some intervals, and answers at 12.5 Hz: often right, too short."""
    random = np.random.default_rng(seed)
    times = np.cumsum(random.uniform(0.1, 2.0, 20)) + 0.21
    rows = [(float(a), float(b), str(random.choice(WRITTEN))) for a, b in itertools.pairwise(times)]
    rows = [row for number, row in enumerate(rows) if number not in gaps]
    grid = Grid(12.5, 0.03)
    truth = chords.target(rows).classes(chords.LABELS, grid, int(times[-1] * 12.5) - 9)
    wrong = random.random(len(truth)) < 0.3
    answers = np.where(wrong | (truth < 0), random.integers(0, 25, len(truth)), truth)
    return rows, grid, answers


def by_mir_eval(rows, grid, answers):
    """The scores that mir_eval gives the intervals of these answers."""
    answered = Spans.of(answers, chords.LABELS, grid).rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mir_eval.chord.evaluate(
            np.array([row[:2] for row in rows]), [row[2] for row in rows],
            np.array([row[:2] for row in answered]), [row[2] for row in answered],
        )  # fmt: skip


def statistics(name, answers, grid, target, labels=chords.LABELS, seconds=np.inf):
    return FRAME_METRICS[name].statistics(answers, grid, target, labels, seconds)


@pytest.mark.parametrize("gaps", [(), (5, 6, 11)])
@pytest.mark.parametrize("seed", range(10))
def test_a_song_has_the_scores_of_mir_eval(seed, gaps):
    rows, grid, answers = song(seed, gaps)
    scores = by_mir_eval(rows, grid, answers)
    for name, theirs in (("wcsr", "majmin"), ("chord_root", "root"), ("chord_seg", "seg")):
        if not (gaps and name == "chord_seg"):
            value = FRAME_METRICS[name].value(statistics(name, answers, grid, chords.target(rows)))
            assert float(value) == pytest.approx(scores[theirs], abs=1e-12), name


def test_songs_weigh_by_the_seconds_that_can_be_right():
    """2 s right of 2 s, in a song of 12 s; 2 s right of 8 s: .4, where the mean of songs is .625."""
    songs = [
        ((0.0, 2.0, "C:maj"), (2.0, 12.0, "D:sus4")),
        ((0.0, 2.0, "C:maj"), (2.0, 8.0, "A:min")),
    ]
    parts = [statistics("wcsr", np.zeros(240, dtype=np.int64), Grid(20.0), chords.target(rows)) for rows in songs]
    np.testing.assert_allclose(parts, [[2.0, 2.0], [2.0, 8.0]], atol=1e-9)
    assert FRAME_METRICS["wcsr"].value(np.sum(parts, axis=0)) == pytest.approx(0.4)


def test_what_nobody_can_answer_does_not_count():
    grid, answers = Grid(10.0), np.full(100, 24)
    unknown = chords.target([(0.0, 5.0, "X"), (5.0, 10.0, "C:dim")])
    assert statistics("wcsr", answers, grid, unknown).tolist() == [0.0, 0.0]
    assert statistics("chord_root", answers, grid, unknown).tolist() == pytest.approx([0.0, 5.0])
    assert statistics("wcsr", answers, grid, Spans(())).tolist() == [0.0, 0.0]
    assert statistics("chord_seg", answers, grid, Spans(())).tolist() == [0.0, 0.0]
    with np.errstate(invalid="ignore"):
        assert np.isnan(FRAME_METRICS["wcsr"].value(np.zeros(2)))


@pytest.mark.parametrize("name", ["frame_accuracy", "wcsr", "chord_root", "chord_seg", "local_key_score"])
def test_frames_before_the_first_label_and_after_the_last_change_nothing(name):
    labels = chords.LABELS[:24] if name == "local_key_score" else chords.LABELS
    target = Spans(((1.0, 2.5, "C:maj"), (2.5, 4.0, "A:min")))
    answers = np.repeat([3, 0, 21, 5], 20)
    other = np.concatenate([np.full(20, 7), answers[20:], np.full(44, 9)])
    grid = Grid(20.0, 0.025)
    np.testing.assert_allclose(
        statistics(name, answers, grid, target, labels), statistics(name, other, grid, target, labels), atol=1e-9
    )


def test_an_annotation_counts_up_to_the_end_of_the_audio():
    target = Spans(((0.0, 3.0, "C:maj"), (3.0, 9.0, "A:min")))
    answers = np.zeros(100, dtype=np.int64)
    assert statistics("wcsr", answers, Grid(25.0), target, seconds=4.0).tolist() == pytest.approx([3.0, 4.0])


def test_time_without_a_frame_is_answered_with_no_chord():
    target = Spans(((0.0, 1.0, "C:maj"), (1.0, 2.0, "N")))
    answers = np.zeros(5, dtype=np.int64)
    assert statistics("wcsr", answers, Grid(10.0, 0.05), target).tolist() == pytest.approx([0.5 + 1.0, 2.0])


def test_in_a_gap_the_chord_before_it_goes_on():
    target = Spans(((0.0, 1.0, "C:maj"), (3.0, 4.0, "C:maj")))
    answers = np.repeat([0, 24], [15, 25])
    assert statistics("wcsr", answers, Grid(10.0, 0.05), target).tolist() == pytest.approx([1.5, 4.0])
    assert statistics("frame_accuracy", answers, Grid(10.0, 0.05), target).tolist() == [10, 20]


def test_the_truth_at_25_hz_loses_half_a_frame_at_each_change():
    """Two changes, 10 and 14 ms from the edge of a frame, and an end at the centre of one."""
    target = Spans(((0.0, 3.03, "C:maj"), (3.03, 6.034, "A:min"), (6.034, 9.0, "G:maj")))
    grid = Grid(25.0)
    truth = target.classes(chords.LABELS, grid, 226)
    truth[truth < 0] = 24
    assert statistics("frame_accuracy", truth, grid, target, seconds=9.0).tolist() == [225, 225]
    correct, valid = statistics("wcsr", truth, grid, target, seconds=9.0)
    assert valid - correct == pytest.approx(0.010 + 0.014 + 0.020)
    shifted = np.concatenate([np.full(8, 24), truth[:-8]])  # .32 s late
    correct, _ = statistics("wcsr", shifted, grid, target, seconds=9.0)
    # No frame ends at 0, but at .02: so much less is lost to the first chord.
    assert valid - correct == pytest.approx(0.3 + 0.310 + 0.306)


def test_keys_are_scored_by_the_second():
    keys = tuple(f"{tonic} {mode}" for mode in ("major", "minor") for tonic in chords.PITCH_CLASSES)
    target = Spans(((0.0, 10.0, "C major"), (10.0, 14.0, "Silence"), (14.0, 20.0, "A minor")))
    answers = np.repeat([7, 21, 0], [8, 8, 4])  # G major, A minor, C major at 1 Hz
    expected = 8 * 0.5 + 2 * 0.3 + 2 * 1.0 + 4 * 0.3
    assert statistics("local_key_score", answers, Grid(1.0, 0.5), target, keys).tolist() == pytest.approx([expected, 16.0])


@pytest.mark.parametrize("reference", range(24))
def test_pairs_of_keys_have_the_scores_of_mir_eval(reference):
    names = [f"{tonic} {mode}" for mode in ("major", "minor") for tonic in chords.PITCH_CLASSES]
    expected = [mir_eval.key.weighted_score(names[reference], name) for name in names]
    assert key_scores()[reference].tolist() == expected


def test_tags_have_the_f_measure_of_multipitch():
    random = np.random.default_rng(0)
    labels, grid = tuple(map(str, range(60, 72))), Grid(20.0, 0.01)
    notes = zip(random.uniform(0, 9, 80).tolist(), random.uniform(0.1, 2, 80).tolist(), random.choice(labels, 80), strict=True)
    target = Spans(tuple((start, start + seconds, str(label)) for start, seconds, label in notes))
    truth = target.tags(labels, grid, 200) > 0
    answers = truth ^ (random.random(truth.shape) < 0.1)
    times = grid.times(200)
    hertz = 440 * 2 ** ((np.arange(60, 72) - 69) / 12)
    scores = mir_eval.multipitch.metrics(times, [hertz[row] for row in truth], times, [hertz[row] for row in answers])
    value = FRAME_METRICS["frame_f1"].value(statistics("frame_f1", answers, grid, target, labels))
    assert float(value) == pytest.approx(2 * scores[0] * scores[1] / (scores[0] + scores[1]))


def test_the_oracles(shared):
    folder = shared / "fixtures/frames"
    done = subprocess.run(
        [sys.executable, folder / "check_frames.py", "--adapter", ADAPTER, "--only", "chords,structure"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {kind: int(passed) for kind, passed in re.findall(r"(chords|structure): (\d+) passed, 0 failed", done.stdout)}
    assert counts["chords"] == 1845
    assert counts["structure"] == 100
    assert "chord" not in " ".join(re.findall(r"skipped .*", done.stdout))


def test_the_bounds_of_the_truth_and_the_answers_beside_it(shared):
    document = json.loads((shared / "fixtures/frames/chords/excerpts.json").read_text())
    sums = {}
    for excerpt in document["excerpts"]:
        target = chords.target([(*pair, label) for pair, label in zip(excerpt["intervals"], excerpt["labels"], strict=True)])
        for estimate in excerpt["estimates"]:
            part = statistics("wcsr", np.array(estimate["classes"]), Grid(25.0), target, seconds=excerpt["intervals"][-1][1])
            sums[estimate["kind"]] = sums.get(estimate["kind"], 0) + part
    values = {kind: float(FRAME_METRICS["wcsr"].value(total)) for kind, total in sums.items()}
    assert values == pytest.approx({kind: totals["wcsr"] for kind, totals in document["totals"].items()}, abs=1e-9)
    assert values["truth-frames"] == pytest.approx(0.9947, abs=1e-4)
