"""The time axis: worked examples, and what holds on every grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marble.frames import Grid, Spans

GRIDS = st.builds(Grid, st.sampled_from([1.0, 5.0, 15.625, 18.75, 25.0, 50.0, 75.0, 100.0]), st.floats(0, 0.2))


@pytest.mark.parametrize(
    ("rate", "first", "seconds", "frame"),
    [(25, 0, 1.03, 26), (15.625, 0.024, 1.03, 16), (5, 0.1, 4.0, 20), (5, 0.1, 3.9, 19), (25, 0, 0.0, 0), (25, 0.1, 0.0, -2)],
)
def test_an_event_lies_in_the_frame_whose_cell_holds_it(rate, first, seconds, frame):
    assert Grid(rate, first).frame(seconds) == frame


def test_an_interval_holds_the_centres():
    assert Grid(5, 0.1).inside(4, 24, 1000) == slice(20, 120)
    assert Grid(5, 0.1).inside(-3, 0.1, 10) == slice(0, 0)
    assert Grid(5, 0.1).inside(0.1, 99, 10) == slice(0, 10)
    assert Grid(5, 0.1).inside(50, 99, 10) == slice(10, 10)


@given(GRIDS, st.integers(0, 10**6))
def test_the_centre_of_a_frame_lies_in_it(grid, frame):
    centre = grid.first + frame / grid.rate
    assert grid.frame(centre) == frame
    assert grid.inside(centre, centre + 1 / grid.rate, frame + 2) == slice(frame, frame + 1)


@given(GRIDS, st.lists(st.integers(-1, 2), min_size=1, max_size=60))
def test_runs_of_classes_come_back(grid, classes):
    spans = Spans.of(np.array(classes), "abc", grid)
    assert spans.classes("abc", grid, len(classes)).tolist() == classes
    assert all(left[1] <= right[0] for left, right in zip(spans.rows, spans.rows[1:], strict=False))


def test_labels_that_are_no_class_and_gaps_are_not_scored():
    spans = Spans(((0.0, 1.0, "a"), (1.0, 2.0, "X"), (3.0, 4.0, "b")))
    assert spans.classes("ab", Grid(1, 0.5), 6).tolist() == [0, -1, -1, 1, -1, -1]
    assert spans.stop == 4.0


def test_tags_may_overlap():
    spans = Spans(((0.0, 0.3, "a"), (0.1, 0.2, "b"), (0.2, 0.4, "c")))
    tags = spans.tags(("a", "b"), Grid(10.0), 5)
    assert tags.tolist() == [[1, 0], [1, 1], [1, 0], [0, 0], [0, 0]]
    assert tags.dtype == np.float32
