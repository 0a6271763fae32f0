"""Heads: how their weights begin, and what they compute."""

import pytest
import torch

from marble.probe.protocol import Probe
from marble.probe.training.heads import make_head, rounded


@pytest.mark.parametrize(
    ("kind", "shapes"), [("mlp", [(400, 300), (1, 300), (300, 7), (1, 7)]), ("linear", [(400, 7), (1, 7)])]
)
def test_weights_are_drawn_as_a_linear_layer_draws_them_and_padded_with_zeros(kind, shapes):
    drawn = make_head(Probe(kind=kind, hidden=300), 7).initial("task", 0, 400)
    for values, (height, width), fan_in in zip(drawn, shapes, (400, 400, 300, 300), strict=False):
        own = values[:height, :width]
        assert float(own.abs().max()) <= fan_in**-0.5
        assert float(values.abs().sum()) == pytest.approx(float(own.abs().sum()))
        assert values.shape[-1] % 16 == 0
    assert len(drawn) == len(shapes)
    assert float(drawn[0][:, : shapes[0][1]].std()) == pytest.approx(400**-0.5 / 3**0.5, rel=0.03)


def test_a_linear_head_is_a_matrix_product_without_dropout():
    head = make_head(Probe(kind="linear", dropout=0.5), 3)
    weights = [values[None] for values in head.initial("task", 1, 5)]
    inputs = torch.randn(1, 4, 5, dtype=torch.float64)
    expected = inputs @ weights[0][..., :3] + weights[1][..., :3]
    torch.testing.assert_close(head.outputs(weights, [], inputs, [], torch.empty_like(weights[0]), learning=True), expected)
    assert head.hidden == []


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_an_arithmetic_rounds_as_the_type_of_its_name_and_its_gradient_too(kind):
    values = torch.cat([torch.randn(1000), torch.tensor([0.0, 1 + 2**-11, 1 + 3 * 2**-11, -1 - 2**-8])]).requires_grad_()
    result = rounded(values, kind)
    torch.testing.assert_close(result, values.to(getattr(torch, kind)).float(), rtol=0, atol=0)
    slope = torch.linspace(0.1, 3, len(values))
    result.backward(slope)
    torch.testing.assert_close(values.grad, slope.to(getattr(torch, kind)).float(), rtol=0, atol=0)
    assert rounded(torch.tensor([1e-30, 1e30]), kind).log10() == pytest.approx([-30, 30], abs=0.01)
