"""How a waveform is cut into windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marble.audio.decode import window_slices


@pytest.mark.parametrize(
    ("samples", "hop", "tail", "starts"),
    [
        (23, 10, 3, [0, 10, 20]),  # the rest is as long as the tail
        (22, 10, 3, [0, 10]),  # a sample shorter
        (20, 10, 1, [0, 10]),  # no rest at all
        (23, 5, 3, [0, 5, 10, 15]),  # overlap: 3 samples are not yet heard
        (22, 5, 3, [0, 5, 10]),
        (27, 15, 2, [0, 15]),  # gaps: the last 2 samples are in one
        (32, 15, 2, [0, 15, 30]),
        (31, 15, 2, [0, 15]),
    ],
)
def test_the_rest_is_a_window_from_the_length_of_the_tail_on(samples, hop, tail, starts):
    cuts = window_slices(samples, 10, hop, tail)
    assert [cut.start for cut in cuts] == starts
    assert cuts[-1].stop == (samples if cuts[-1].start + 10 > samples else cuts[-1].start + 10)


@given(
    samples=st.integers(1, 400),
    length=st.none() | st.integers(1, 100),
    hop=st.integers(1, 150),
    tail=st.integers(0, 120),
)
def test_windows_cover_the_waveform(samples, length, hop, tail):
    cuts = window_slices(samples, length, hop, tail)
    assert cuts
    assert all(0 <= cut.start < cut.stop <= samples for cut in cuts)
    assert [cut.start for cut in cuts] == [number * hop for number in range(len(cuts))]
    if length is None or samples <= length:
        assert cuts == [slice(0, samples)]
        return
    assert all(cut.stop - cut.start == length for cut in cuts[:-1])
    assert cuts[-1].stop - cuts[-1].start <= length
    rest = samples - max(cuts[-1].start + hop, cuts[-1].stop)
    assert rest < max(tail, 1)  # nothing that lasts a tail is left out
    if cuts[-1].stop - cuts[-1].start < length:
        assert samples - max(cuts[-1].start, cuts[-2].stop) >= max(tail, 1)
    if hop <= length:
        covered = np.zeros(samples, bool)
        for cut in cuts:
            covered[cut] = True
        assert covered[: cuts[-1].stop].all()
        assert samples - cuts[-1].stop < max(tail, 1)
