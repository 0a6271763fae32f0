"""SummaryMixing against its formula, written out frame by frame and head by head in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from marble.upstreams.nn.precision import cast_matrices
from marble.upstreams.nn.summary_mixing import SummaryMixing, SummaryMixingBranch, SummarySizes

WIDTH = 24


def mixing(heads=4, lite=False, dropout=0.0):
    torch.manual_seed(heads)
    return SummaryMixing(WIDTH, SummarySizes(heads, 8, 20, 16, 12, lite), dropout)


def phi(x):
    return 0.5 * x * (1 + torch.erf(x / 2**0.5))


def slices(x, weight, bias, heads):
    """φ of one linear per slice of a single frame ``x[I]``."""
    weights, biases = weight.double().chunk(heads), bias.double().chunk(heads)
    return phi(torch.cat([w @ part + b for part, w, b in zip(x.chunk(heads), weights, biases, strict=True)]))


def by_the_formula(module, x, heads):
    p = {name: tensor.detach() for name, tensor in module.named_parameters()}

    def two(name, frame):
        for layer in (f"{name}1", f"{name}2"):
            frame = slices(frame, p[f"{layer}.weight"], p[f"{layer}.bias"], heads)
        return frame

    out = torch.empty(*x.shape[:2], 12, dtype=torch.float64)
    for b, clip in enumerate(x.double()):
        summary = sum(two("summary", frame) for frame in clip) / len(clip)
        for t, frame in enumerate(clip):
            if "combine.weight" in p:
                joined = torch.cat((two("local", frame), summary))
                out[b, t] = phi(p["combine.weight"].double() @ joined + p["combine.bias"].double())
            else:
                out[b, t] = summary
    return out


@settings(max_examples=10)
@given(st.sampled_from([1, 2, 4]), st.booleans(), st.integers(1, 2), st.integers(1, 6))
def test_it_is_its_formula(heads, lite, batch, frames):
    module = mixing(heads, lite)
    x = torch.randn(batch, frames, WIDTH, generator=torch.Generator().manual_seed(frames))
    torch.testing.assert_close(module(x).double(), by_the_formula(module, x, heads), atol=1e-6, rtol=0)


@pytest.mark.parametrize("lite", [False, True])
def test_permuted_frames_give_permuted_outputs(lite):
    module, x = mixing(lite=lite), torch.randn(2, 50, WIDTH)
    order = torch.randperm(50)
    torch.testing.assert_close(module(x[:, order]), module(x)[:, order], atol=1e-6, rtol=0)


def test_every_frame_hears_every_other_one_but_no_other_clip():
    module, x = mixing(), torch.randn(2, 30, WIDTH)
    changed = x.clone()
    changed[0, 17] += 1
    difference = (module(changed) - module(x)).abs().amax(2)
    assert (difference[0] > 0).all()
    assert (difference[1] == 0).all()


def test_the_mean_over_time_is_float32_in_bfloat16():
    module = mixing(lite=True)
    cast_matrices(module, torch.bfloat16)
    assert {x.dtype for x in module.parameters()} == {torch.bfloat16}
    x = torch.randn(1, 500, WIDTH)
    each = functional.gelu(module.summary2(functional.gelu(module.summary1(x))))
    torch.testing.assert_close(module(x)[:, 0].double(), each.double().mean(1), rtol=1e-5, atol=1e-6)


def test_dropout_is_for_training_only():
    module, x = mixing(dropout=0.5), torch.randn(2, 9, WIDTH)
    plain = mixing()(x)
    assert not torch.equal(module(x), plain)
    assert torch.equal(module.eval()(x), plain)
    branch = SummaryMixingBranch(WIDTH, SummarySizes(4, 8, 20, 16, WIDTH), 0.5)
    assert (branch.branch(x, x) == 0).any()
    assert (branch.eval().branch(x, x) != 0).all()
