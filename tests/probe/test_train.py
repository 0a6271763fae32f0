"""From features to what a probe reads."""

import torch

from marble.probe.train import standardise


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
