"""The layers against their definitions: Winograd, stretches, rotary pairings, folding, precision."""

import copy
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from marble.upstreams.nn.conformer import WAV2VEC2_STYLE, ConformerSizes, Convolution, DepthwiseConv1d
from marble.upstreams.nn.hubert import PositionalConvolution
from marble.upstreams.nn.precision import Conv2d, Linear, attend, cast_matrices
from marble.upstreams.nn.rotary import rotary_table, rotate
from marble.upstreams.nn.stem import ResidualConv2d, Stem
from marble.upstreams.nn.winograd import StridedWinogradConv2d, WinogradTail


def random_statistics(module):
    """Give batch norms statistics that a fold has to get right."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (layer.running_mean, layer.weight.data, layer.bias.data):
                tensor.normal_()
            layer.running_var.uniform_(0.5, 2)
    return module.eval().requires_grad_(False)


sizes = st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 40), st.integers(1, 5), st.integers(1, 5))


@settings(deadline=None, max_examples=40)
@given(sizes, st.booleans(), st.integers(0, 1), st.integers(0, 1))
def test_the_winograd_tail_is_the_end_of_a_residual_block(sizes, bias, left, right):
    torch.manual_seed(0)
    batch, height, width, channels_in, channels = sizes
    convolution = nn.Conv2d(channels_in, channels, 3, padding=(1, 0), bias=bias).requires_grad_(False)
    x = torch.randn(batch, channels_in, height, width + 2)
    x[..., : 1 if left else 0] = 0
    x[..., width + 1 if right else width + 2 :] = 0
    shortcut = torch.randn(batch, channels, height, width)
    expected = (copy.deepcopy(convolution).double()(x.double().relu()) + shortcut).relu()
    found = WinogradTail(convolution)(x[..., left : width + 2 - right], left, shortcut)
    torch.testing.assert_close(found.double(), expected, atol=5e-6, rtol=0)


@settings(deadline=None, max_examples=40)
@given(sizes, st.booleans())
def test_strided_winograd_is_the_convolutions(sizes, bias):
    torch.manual_seed(0)
    batch, height, width, channels_in, channels = sizes
    convolutions = [
        nn.Conv2d(channels_in, n, 3, stride=2, padding=(1, 0), bias=bias).requires_grad_(False) for n in (channels, 3)
    ]
    x = torch.randn(batch, channels_in, height, 2 * width + 1)
    expected = torch.cat([copy.deepcopy(convolution).double()(x.double()) for convolution in convolutions], dim=1)
    torch.testing.assert_close(StridedWinogradConv2d(*convolutions)(x).double(), expected, atol=5e-6, rtol=0)


def test_the_winograd_tail_in_bfloat16_is_within_its_rounding():
    """The points of F(4, 3) decide: with p = 2 or 4 / 3 the error is above 2.4e-2."""
    torch.manual_seed(0)
    convolution = nn.Conv2d(64, 8, 3, padding=(1, 0)).requires_grad_(False).bfloat16()
    x = torch.randn(1, 64, 16, 18).bfloat16()
    shortcut = torch.zeros(1, 8, 16, 16).bfloat16()
    expected = copy.deepcopy(convolution).double()(x.double().relu()).relu()
    found = WinogradTail(convolution)(x, 0, shortcut).double()
    assert (found - expected).norm() < 2.4e-2 * expected.norm()


def test_winograd_does_not_depend_on_how_many_tiles_are_in_work(monkeypatch):
    torch.manual_seed(0)
    tail = WinogradTail(nn.Conv2d(4, 4, 3, padding=(1, 0)).requires_grad_(False))
    strided = StridedWinogradConv2d(nn.Conv2d(4, 4, 3, stride=2, padding=(1, 0)).requires_grad_(False))
    x, y = torch.randn(1, 4, 12, 23), torch.randn(1, 4, 12, 21)
    whole = tail(x, 0, y), strided(x)
    monkeypatch.setattr("marble.upstreams.nn.winograd._TILES", 6)
    for found, expected in zip((tail(x, 0, y), strided(x)), whole, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("mel_frames", [1, 2, 3, 4, 5, 37, 501, 1003])
def test_a_stem_in_stretches_is_the_plain_stem(mel_frames, monkeypatch):
    monkeypatch.setattr("marble.upstreams.nn.stem.STRETCH", 7)
    torch.manual_seed(0)
    stem = random_statistics(Stem(bands=16, channels=8, width=12))
    mel = torch.randn(2, 16, mel_frames)
    expected = stem(mel)
    assert expected.shape == (2, -(-mel_frames // 4), 12)
    for block in (stem.first, stem.second):
        block.fold()
        block.fold()
    stem.arrange(torch.device("cpu"))
    torch.testing.assert_close(stem(mel), expected, atol=1e-4, rtol=1e-4)


def test_the_plain_stem_pads_as_a_convolution_does():
    """Against the definition with torch's own padding on all four sides."""
    torch.manual_seed(0)
    block = random_statistics(ResidualConv2d(3, 5))
    x = torch.randn(2, 3, 8, 11)

    def padded(convolution, x):
        return functional.conv2d(x, convolution.weight, convolution.bias, convolution.stride, padding=1)

    inner = block.bn1(padded(block.conv1, x)).relu()
    expected = (block.bn2(padded(block.conv2, inner)) + block.bn3(padded(block.conv3, x))).relu()
    for start, stop in ((0, 6), (0, 2), (2, 5), (4, 6)):
        found = block.columns(lambda a, b: x[..., a:b], 11, start, stop)
        torch.testing.assert_close(found, expected[..., start:stop], atol=1e-5, rtol=0)


def test_depthwise_convolution_and_fold():
    torch.manual_seed(0)
    layer = random_statistics(Convolution(ConformerSizes(width=6, depth=1, heads=1, hidden=8, kernel=5), WAV2VEC2_STYLE))
    x = torch.randn(2, 9, 6)
    plain = layer(x)
    depthwise = functional.conv1d(x.mT, layer.depthwise.weight, padding=2, groups=6)
    torch.testing.assert_close(layer.depthwise(x.mT), depthwise)
    layer.fold()
    assert isinstance(layer.depthwise, DepthwiseConv1d)
    assert isinstance(layer.batch_norm, nn.Identity)
    torch.testing.assert_close(layer(x), plain, atol=1e-6, rtol=1e-5)


def test_depthwise_convolutions_of_any_width_end_in_bfloat16():
    """In a process of its own, whose end shows that no kernel hangs; wide layers hang where threads share their channels."""
    program = """
import torch
from marble.upstreams.nn.conformer import DepthwiseConv1d
torch.manual_seed(0)
for threads, batch, width, frames in ((1, 3, 16, 50), (1, 1, 5, 40), (2, 3, 144, 100), (2, 2, 64, 33)):
    torch.set_num_threads(threads)
    exact = DepthwiseConv1d(width, width, 31, padding=15, groups=width)
    x = torch.randn(batch, frames, width).mT
    expected = exact(x)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(exact(x).float(), expected, rtol=0, atol=0.05)
    found = exact.bfloat16()(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.05)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=100)


@pytest.mark.parametrize("width", [32, 64, 160, 224, 256, 48, 768])
def test_positional_convolutions_of_any_width_are_right_in_bfloat16(width):
    torch.manual_seed(0)
    layer = PositionalConvolution(width, 128, 16)
    x = torch.randn(2, 50, width, requires_grad=True)
    expected = layer(x)
    (slope,) = torch.autograd.grad(expected.square().sum(), x)
    with torch.autocast("cpu", torch.bfloat16):
        trained = layer(x)
    (found_slope,) = torch.autograd.grad(trained.float().square().sum(), x)
    cast_matrices(layer, torch.bfloat16)
    for found, reference in ((trained, expected), (found_slope, slope), (layer(x), expected)):
        assert torch.cosine_similarity(found.float().flatten(), reference.flatten(), dim=0) > 0.999


@pytest.mark.parametrize("pairing", ["halves", "interleaved"])
def test_rotation_is_a_complex_product(pairing):
    x = torch.randn(2, 50, 3, 8, dtype=torch.float64)
    angles = torch.arange(50.0)[:, None] / 10_000 ** (torch.arange(0, 8, 2) / 8)
    first, second = (x[..., :4], x[..., 4:]) if pairing == "halves" else (x[..., ::2], x[..., 1::2])
    turned = torch.complex(first, second) * torch.polar(torch.ones(50, 4), angles)[:, None]
    parts = [turned.real, turned.imag]
    expected = torch.cat(parts, -1) if pairing == "halves" else torch.stack(parts, -1).flatten(-2)
    found = rotate(x.float(), rotary_table(50, 8, torch.device("cpu")), pairing)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


def test_attention_of_one_head_by_definition():
    query, key, value = torch.randn(3, 1, 5, 1, 4)
    scores = (query[0, :, 0] @ key[0, :, 0].T / 2).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    torch.testing.assert_close(attend(query, key, value, causal=True)[0], scores.softmax(-1) @ value[0, :, 0])
    whole = (query[0, :, 0] @ key[0, :, 0].T / 2).softmax(-1) @ value[0, :, 0]
    torch.testing.assert_close(attend(query, key, value)[0], whole)


def test_only_matrices_become_bfloat16():
    model = nn.ModuleDict({"linear": Linear(2, 2), "convolution": Conv2d(1, 1, 1), "norm": nn.LayerNorm(2)})
    cast_matrices(model, torch.bfloat16)
    types = {name: weight.dtype for name, weight in model.named_parameters()}
    assert types["linear.weight"] == types["convolution.bias"] == torch.bfloat16
    assert types["norm.weight"] == torch.float32
    assert model["linear"](torch.ones(1, 2)).dtype == torch.bfloat16
