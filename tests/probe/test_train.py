"""From features to what a probe reads."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from marble.errors import MarbleError
from marble.probe.answers import Group
from marble.probe.protocol import Probe
from marble.probe.train import _Point, standardise


def test_standardise_uses_the_given_rows_and_leaves_constants_alone():
    generator = torch.Generator().manual_seed(0)
    features = 1e3 + torch.randn(2, 40, 5, generator=generator)
    features[1, :, 2] = 7.25
    rows = torch.arange(30)
    expected = (features - features[:, rows].mean(1, keepdim=True)) / features[:, rows].std(1, correction=0, keepdim=True)
    result = standardise(features.clone(), rows)
    torch.testing.assert_close(result[0], expected[0], rtol=1e-3, atol=1e-3)
    assert torch.equal(result[1, :, 2], torch.zeros(40))
    torch.testing.assert_close(result[0, :30].std(0, correction=0), torch.ones(5), rtol=1e-4, atol=0)


def test_a_stack_that_memory_does_not_hold_is_told_in_a_sentence():
    inputs: Any = SimpleNamespace(layers=[0, 1], features=lambda layers: torch.empty(2**60))
    with pytest.raises(
        MarbleError, match=r"^Training the probes of 2 layers needs more memory than there is: lower probe\.hidden"
    ):
        _Point(Probe(), Path(), inputs, [])._train([Group(0, 0), Group(1, 0)], lambda epochs: None)
