"""Reductions against NumPy, and the settings that choose them."""

import numpy as np
import pytest
import torch

import marble
from marble.errors import MarbleError
from marble.features.reduction import REDUCTIONS
from marble.probe.protocol import load_protocol

HIDDEN = torch.randn(3, 11, 4, generator=torch.Generator().manual_seed(0))
EXPECTED = {
    "mean": lambda x: x.mean(1),
    "mean+std": lambda x: np.concatenate([x.mean(1), x.std(1)], axis=1),
    "max": lambda x: x.max(1),
    "first": lambda x: x[:, 0],
    "last": lambda x: x[:, -1],
}


def test_every_reduction_is_a_pooling_of_the_protocol():
    assert set(REDUCTIONS) == set(EXPECTED)
    assert load_protocol("marble").pooling == "mean"
    assert [load_protocol("marble", [f"pooling={name}"]).pooling for name in EXPECTED] == list(EXPECTED)
    with pytest.raises(MarbleError, match=r"--set pooling: value error, write one of mean, .*, last, got 'median'"):
        load_protocol("marble", ["pooling=median"])
    assert load_protocol("marble", ["pooling=max"]).label == "marble (pooling=max)"


@pytest.mark.parametrize("name", EXPECTED)
def test_a_pooling_keeps_one_row_for_each_window(name):
    reduction = REDUCTIONS[name]
    rows = reduction(HIDDEN)
    assert rows.shape == (3, 1, 4 * reduction.widening)
    np.testing.assert_allclose(rows[:, 0], EXPECTED[name](HIDDEN.double().numpy()), rtol=1e-5, atol=1e-6)


def test_another_pooling_or_head_is_another_result_on_the_same_audio(tones, tmp_path):
    where = {"results": tmp_path / "results", "seeds": 1, "layers": "0"}
    few = ["probe.epochs=8", "probe.hidden=16"]
    results = [
        marble.run("fbank-chroma", f"folder:{tones}", settings=[*few, *settings], **where)
        for settings in ([], ["pooling=mean+std"], ["probe.kind=linear"])
    ]
    assert len({result.identity for result in results}) == 3
    assert [result.cost.clips_encoded for result in results] == [24, 24, 0]
