"""Official checkpoints in miniature give the official hidden states.

The files in tests/fixtures/upstreams were made once by the official implementations with random weights: their checkpoint and
configuration files, a waveform, and all hidden states (the gin files are our own, with the same bindings).
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from marble.registry import find_upstream, load_upstream

DATA = Path(__file__).parents[1] / "fixtures" / "upstreams"


@dataclass(frozen=True)
class Case:
    upstream: str
    folder: str
    first: int  # our layer that is the first official hidden state


CASES = [
    Case("muq", "muq", 0),
    Case("musicfm-msd", "musicfm", 0),
    Case("mert-95m", "mert-95m", 0),
    Case("mert-330m", "mert-330m", 0),
    Case("omar-rq-base", "omar-rq-base", 1),
    Case("omar-rq-multifeature", "omar-rq-multifeature", 1),
    Case("omar-rq-multifeature-25hz-fsq", "omar-rq-multifeature-25hz-fsq", 1),
]
ids = [case.folder for case in CASES]


def load(case):
    return find_upstream(case.upstream).load(str(DATA / case.folder), offline=True)


def official(case):
    tensors = load_file(DATA / case.folder / "io.safetensors")
    states = [tensors[f"hidden_states.{i}"] for i in range(sum(name.startswith("hidden_states.") for name in tensors))]
    return tensors["waveform"], states


def states_of(upstream, waveform):
    with torch.inference_mode():
        return list(upstream.layers(waveform))


@pytest.fixture(params=CASES, ids=ids)
def case(request):
    return request.param


@pytest.mark.parametrize("prepared", [False, True], ids=["as loaded", "prepared"])
def test_official_hidden_states(case, prepared):
    waveform, expected = official(case)
    upstream = load(case)
    found = states_of(upstream.prepare("cpu") if prepared else upstream, waveform)
    assert len(found) == len(upstream.info.layers) == case.first + len(expected)
    for state, reference in zip(found[case.first :], expected, strict=True):
        torch.testing.assert_close(state, reference, atol=1e-5, rtol=0)


def test_info_states_what_was_loaded(case):
    upstream = load(case)
    waveform, expected = official(case)
    published = find_upstream(case.upstream).info
    assert upstream.info.parameters == sum(weight.numel() for weight in upstream.parameters()) < published.parameters
    assert {layer.width for layer in upstream.info.layers} == {expected[0].shape[2]}
    assert (upstream.info.name, upstream.info.licence) == (published.name, published.licence)
    frames = waveform.shape[1] / upstream.info.sample_rate * upstream.info.frame_rate
    assert abs(frames - expected[0].shape[1]) <= 2


def test_a_clip_alone_is_a_clip_in_a_batch(case):
    waveform, _ = official(case)
    batch = torch.cat([waveform * gain for gain in (1.0, 0.5, 0.2, 0.1)])
    upstream = load(case).prepare("cpu")
    together = states_of(upstream, batch)
    for index in (0, 3, 7):
        for alone, state in zip(states_of(upstream, batch[index : index + 1]), together, strict=True):
            torch.testing.assert_close(alone[0], state[index], atol=1e-5, rtol=0)


def test_bfloat16_stays_close_and_its_states_are_float32(case):
    waveform, expected = official(case)
    upstream = load(case).prepare("cpu", "bf16")
    for state, reference in zip(states_of(upstream, waveform)[case.first :], expected, strict=True):
        assert state.dtype == torch.float32
        # 64 channels average less rounding than the real models' 1024.
        assert torch.cosine_similarity(state, reference, dim=-1).mean() > 0.999


def test_early_layers_do_not_run_later_blocks(case):
    waveform, _ = official(case)
    upstream = load(case).prepare("cpu")
    ran = []
    for index, block in enumerate(upstream.blocks):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    layers = upstream.layers(waveform)
    next(layers)
    assert ran == []
    next(layers)
    assert ran == [0]


def test_the_shortest_waveform_gives_a_frame_and_a_shorter_one_none(case):
    upstream = load(case).prepare("cpu")
    shortest = round(upstream.info.min_seconds * upstream.info.sample_rate)
    assert all(state.shape[1] == 1 for state in states_of(upstream, torch.randn(1, shortest)))
    with pytest.raises(RuntimeError):
        states_of(upstream, torch.randn(1, shortest - 1))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_extreme_waveforms_stay_finite(case, precision):
    upstream = load(case).prepare("cpu", precision)
    samples = 2 * upstream.info.sample_rate
    click = torch.zeros(samples)
    click[samples // 2] = 1.0
    noise = torch.rand(samples, generator=torch.Generator().manual_seed(0)) * 2 - 1
    waveforms = torch.stack([torch.zeros(samples), noise.sign(), noise, click, torch.ones(samples)])
    assert all(torch.isfinite(state).all() for state in states_of(upstream, waveforms))


@pytest.mark.parametrize(
    ("name", "first", "hop", "rate"),
    [
        ("muq", 0, 960, 24_000),
        ("musicfm-msd", 0, 960, 24_000),
        ("mert-95m", 199.5, 320, 24_000),
        ("omar-rq-base", 384, 1024, 16_000),
        ("omar-rq-multifeature", 639.5, 1280, 24_000),
        ("omar-rq-multifeature-25hz-fsq", 479.5, 960, 24_000),
    ],
)
def test_frame_times_are_the_centres_of_what_a_frame_sees(name, first, hop, rate):
    folder = "musicfm" if name == "musicfm-msd" else name
    upstream = load(Case(name, folder, 0))
    assert upstream.info.grid.times(3).tolist() == pytest.approx([(first + k * hop) / rate for k in range(3)], abs=1e-12)
    assert find_upstream(name).info.grid == upstream.info.grid


CLICKS = 8
# Layer 0 of these sees no further than its own frame.
SHARP = ["omar-rq-base", "omar-rq-multifeature", "omar-rq-multifeature-25hz-fsq", "random-init:omar-rq-tiny"]
NAMED = ["fbank-chroma", "branchformer-summarymixing-tiny", "random-init:omar-rq-tiny"]
UPSTREAMS = {case.folder: lambda case=case: load(case) for case in CASES} | {
    name: lambda name=name: load_upstream(name) for name in NAMED
}


@pytest.mark.parametrize("name", UPSTREAMS)
def test_a_click_at_t_lands_in_frame_floor_of_t_less_first_times_rate_and_a_half(name):
    upstream = UPSTREAMS[name]().prepare("cpu")
    info, rate = upstream.info, upstream.info.sample_rate
    noise = 0.1 * torch.randn(3 * rate, generator=torch.Generator().manual_seed(0))
    samples = [round(rate * (1.5 + (click + 0.5) / CLICKS / info.frame_rate)) for click in range(CLICKS)]
    waveforms = noise.repeat(CLICKS + 1, 1)
    waveforms[range(1, CLICKS + 1), samples] += 1.0
    with torch.inference_mode():
        hidden = next(iter(upstream.layers(waveforms)))
    change = (hidden[1:] - hidden[0]).double().square().sum(2)
    expected = torch.tensor([info.grid.frame(sample / rate) for sample in samples])
    assert ((change.argmax(1) - expected).abs() <= (0 if name in SHARP else 1)).all()
    trace = (change - change.amax(1, keepdim=True) / 4).clamp(min=0)
    centres = trace @ torch.from_numpy(info.grid.times(trace.shape[1])) / trace.sum(1)
    late = (centres - torch.tensor(samples) / rate) * info.frame_rate
    assert abs(float(late.mean())) < 0.25


def test_causal_attention_and_open_convolution():
    """A change at token k reaches back 15 tokens a block, through the convolution alone."""
    case = CASES[-1]
    upstream = load(case).prepare("cpu")
    waveform, _ = official(case)
    changed = waveform.clone()
    changed[:, 50 * 960 :] += 0.1
    for depth, (before, after) in enumerate(zip(states_of(upstream, waveform), states_of(upstream, changed), strict=True)):
        moved = (before - after).abs().amax((0, 2)) > 0
        assert moved.nonzero().min() == 50 - 15 * depth


@pytest.mark.parametrize("case", [CASES[2]], ids=["mert-95m"])
def test_loudness_and_offset_do_not_matter_to_mert(case):
    waveform, _ = official(case)
    upstream = load(case).prepare("cpu")
    for state, scaled in zip(states_of(upstream, waveform), states_of(upstream, 0.1 * waveform + 0.01), strict=True):
        torch.testing.assert_close(state, scaled, atol=1e-3, rtol=0)
