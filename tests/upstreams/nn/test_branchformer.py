"""The Branchformer block against its formulas; a Conformer block with SummaryMixing, dropout, or as in OMAR-RQ."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from marble.upstreams.nn.branchformer import BranchformerBlock, GatedMLP
from marble.upstreams.nn.conformer import WAV2VEC2_STYLE, ConformerBlock, ConformerSizes
from marble.upstreams.nn.rotary import rotary_table
from marble.upstreams.nn.summary_mixing import SummarySizes
from marble.upstreams.omar_rq import STYLE as OMAR_STYLE

SIZES = ConformerSizes(width=24, depth=1, heads=3, hidden=40, kernel=7)
STYLE = replace(WAV2VEC2_STYLE, rotate_input=False)
SUMMARY = SummarySizes(4, 16, 16, 16, 24)
FRAMES = 21


def shaken(module):
    """Weights away from their first values, of which many are zero or one."""
    torch.manual_seed(1)
    for weight in module.parameters():
        nn.init.normal_(weight, std=0.3)
    return module


def frames():
    return torch.randn(2, FRAMES, 24, generator=torch.Generator().manual_seed(2)), rotary_table(FRAMES, 8, torch.device("cpu"))


def gated(module, x):
    a, b = functional.gelu(module.expand(functional.layer_norm(x, (24,), module.norm.weight, module.norm.bias))).chunk(2, -1)
    b = functional.layer_norm(b, (20,), module.gate_norm.weight, module.gate_norm.bias).transpose(1, 2)
    b = functional.pad(b, (3, 3), mode="reflect")
    b = torch.stack([torch.einsum("bck,ck->bc", b[..., t : t + 7], module.depthwise.weight[:, 0]) for t in range(FRAMES)], 1)
    b = b + module.depthwise.bias
    return module.project(a * (b if module.linear is None else module.linear(b)))


@pytest.mark.parametrize("linear", [True, False])
def test_the_gated_mlp_is_its_formula(linear):
    module = shaken(GatedMLP(24, 40, 7, linear, 0.0))
    x, _ = frames()
    torch.testing.assert_close(module(x), gated(module, x), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("linear", [True, False])
def test_at_first_the_gate_is_open(linear):
    module = GatedMLP(24, 40, 7, linear, 0.0)
    x, _ = frames()
    let_through = functional.gelu(module.expand(module.norm(x)))[..., :20]
    torch.testing.assert_close(module(x), module.project(let_through), atol=1e-4, rtol=0)


def test_a_branchformer_block_with_attention_is_its_formula():
    block = shaken(BranchformerBlock(SIZES, STYLE))
    x, table = frames()
    mixer = block.attention

    def turned(y):
        heads = torch.view_as_complex(torch.stack(y.unflatten(-1, (3, 2, 4)).unbind(-2), -1).contiguous())
        angles = torch.outer(torch.arange(FRAMES), 10_000.0 ** -(torch.arange(4) / 4))
        heads = torch.view_as_real(heads * torch.polar(torch.ones_like(angles), angles)[:, None])
        return torch.cat(heads.unbind(-1), -1).transpose(1, 2)

    y = mixer.norm(x)
    scores = turned(mixer.query(y)) @ turned(mixer.key(y)).transpose(2, 3) / 8**0.5
    mixed = scores.softmax(-1) @ mixer.value(y).unflatten(-1, (3, 8)).transpose(1, 2)
    both = torch.cat((mixer.out(mixed.transpose(1, 2).flatten(2)), gated(block.gated_mlp, x)), -1)
    torch.testing.assert_close(block(x, table), x + both @ block.merge.weight.t() + block.merge.bias, atol=1e-4, rtol=1e-4)


def test_a_branchformer_block_with_summary_mixing_is_its_formula():
    block = shaken(BranchformerBlock(SIZES, STYLE, SUMMARY))
    x, table = frames()
    mixed = block.attention.mixing(block.attention.norm(x))
    expected = x + block.merge(torch.cat((mixed, gated(block.gated_mlp, x)), -1))
    torch.testing.assert_close(block(x, table), expected, atol=1e-4, rtol=1e-4)


def test_summary_mixing_takes_the_place_of_the_attention_of_a_conformer():
    block = shaken(ConformerBlock(SIZES, STYLE, SUMMARY)).eval()
    x, table = frames()
    y = x + 0.5 * block.feed_forward1(x)
    y = y + block.attention.mixing(block.attention.norm(y))
    y = y + block.convolution(y)
    expected = block.norm(y + 0.5 * block.feed_forward2(y))
    torch.testing.assert_close(block(x, table), expected, atol=1e-5, rtol=1e-5)


def test_a_clip_without_enough_frames_to_reflect_is_an_error():
    block = GatedMLP(24, 40, 7, False, 0.0)
    assert block(torch.randn(1, 4, 24)).shape == (1, 4, 24)
    for short in (1, 2, 3):
        with pytest.raises((RuntimeError, IndexError)):
            block(torch.randn(1, short, 24))


@pytest.mark.parametrize("block", [BranchformerBlock, ConformerBlock])
@pytest.mark.parametrize("summary", [None, SUMMARY], ids=["attention", "summary"])
def test_dropout_reaches_every_branch_in_training_only(block, summary):
    """Where all is dropped in training, what is left of every branch is its bias, or nothing."""
    x, table = frames()
    calm = shaken(block(SIZES, STYLE, summary)).eval()(x, table)
    module = shaken(block(SIZES, replace(STYLE, dropout=1.0), summary))
    assert torch.equal(module.eval()(x, table), calm)
    left = x if block is BranchformerBlock else module.norm(x)
    torch.testing.assert_close(module.train()(x, table), left, atol=1e-6, rtol=0)


def test_omar_rq_drops_attention_weights_but_nothing_after_the_attention():
    """Where all is dropped, feed-forwards and convolution vanish, and the bias of the attention's output stays."""
    x, table = frames()
    block = shaken(ConformerBlock(SIZES, replace(OMAR_STYLE, deepnorm=1.5, dropout=1.0)))
    expected = block.norm(block.attention.norm(1.5 * x + block.attention.out.bias))
    torch.testing.assert_close(block.train()(x, table), expected)
