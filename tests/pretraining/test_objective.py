"""The objectives: their formulas computed otherwise, and the recipes at full size on the meta device."""

import math
from contextlib import nullcontext

import pytest
import torch
from torch.nn import functional

from marble import registry
from marble.errors import MarbleError
from marble.pretraining.objective import make_objective
from marble.pretraining.recipes import RECIPES, load_recipe

FULL_SIZE = [name for name, recipe in RECIPES.items() if not name.endswith("-tiny") and recipe.mask]


def objective(name, upstream, *settings):
    torch.manual_seed(0)
    return make_objective(load_recipe(name, ("seconds=2", "targets.0.codes=32", *settings)), upstream).eval()


def clips(in_memory, count=3):
    return torch.stack([torch.from_numpy(clip) for clip in in_memory(2.0, 24_000).segments[:count]])


@pytest.mark.parametrize("heard", [0.0, 0.25])
def test_losses_are_weighted_sums_over_tokens(in_memory, small, heard):
    """Written out token by token: what masked and heard ones count; targets are of clean audio, the input is the masked one."""
    trained = objective("branchformer-attention-large", small(), "mask.probability=0.5", f"unmasked={heard}")
    waveform, numbers = clips(in_memory), [3, 8, 5]
    masks = trained.draw_masks(numbers)
    found = trained(waveform, masks, numbers)
    entropy = regression = correct = 0.0
    used = torch.zeros(32)
    for clip, mask in zip(waveform, masks, strict=True):
        silenced = clip.clone()
        for token in mask.nonzero()[:, 0].tolist():
            silenced[token * 960 : (token + 1) * 960] = 0
        *_, hidden = trained.upstream.layers(silenced[None])
        stacked, tokens = trained.targets[0](clip[None])
        for place, masked in enumerate(mask.tolist()):
            weight = 1.0 if masked else heard
            logits = trained.heads[0](hidden[0, place])
            entropy += -weight * functional.log_softmax(logits, 0)[tokens[0, place, 0]]
            regression += weight * ((trained.regressions[0](hidden[0, place]) - stacked[0, place]) ** 2).sum() / 512
            correct += weight * int(logits.argmax() == tokens[0, place, 0])
            used[tokens[0, place, 0]] += weight > 0
    torch.testing.assert_close(found.parts["cross_entropy"], entropy.detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.parts["regression"], regression.detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.loss.detach(), (entropy + regression).detach(), rtol=1e-4, atol=1e-4)
    assert (float(found.correct), found.counts[0].tolist()) == (pytest.approx(correct), used.tolist())
    assert float(trained.token_weights(masks).sum()) == pytest.approx(float(masks.sum() + heard * (~masks).sum()))


def test_autocast_rounds_no_sum(in_memory, small):
    """Thousands of tokens are added up: bfloat16 would keep three digits of their loss."""
    trained = objective("branchformer-attention-large", small(), "unmasked=0.4")
    masks = trained.draw_masks([0, 1, 2])
    with torch.autocast("cpu", torch.bfloat16):
        found = trained(clips(in_memory), masks, [0, 1, 2])
    exact = trained(clips(in_memory), masks, [0, 1, 2])
    assert {value.dtype for value in (found.loss, found.correct, *found.parts.values())} == {torch.float32}
    torch.testing.assert_close(found.loss, exact.loss, rtol=1e-3, atol=0)


def test_masks_and_noise_belong_to_the_segment(in_memory, small):
    trained = objective("musicfm-tiny", small())
    waveform = clips(in_memory)
    together = trained(waveform, trained.draw_masks([4, 5, 6]), [4, 5, 6])
    alone = [trained(waveform[k : k + 1], trained.draw_masks([4 + k]), [4 + k]) for k in range(3)]
    torch.testing.assert_close(together.loss, torch.stack([one.loss for one in alone]).sum())
    other = trained(waveform, trained.draw_masks([4, 5, 7]), [4, 5, 7])
    assert float(other.loss.detach()) != float(together.loss.detach())


@pytest.mark.parametrize("fill", ["zero", "noise"])
def test_the_upstream_hears_nothing_of_masked_audio(in_memory, small, fill):
    trained = objective("musicfm-tiny", small(), f"mask.fill={fill}", "mask.probability=0.5")
    masks = trained.draw_masks([3])
    clean = clips(in_memory, 1)
    hidden = masks.repeat_interleave(960, dim=1)[:, : clean.shape[1]]
    other = torch.where(hidden, 0.3 * torch.randn_like(clean), clean)
    heard = []
    trained.upstream.front_end.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    for waveform in (clean, other):
        trained(waveform, masks, [3])
    assert hidden.any()
    assert not torch.equal(clean, other)
    assert torch.equal(heard[0], heard[1])


def test_an_untrained_head_guesses_about_uniformly(in_memory, small):
    trained = objective("musicfm-tiny", small())
    masks = trained.draw_masks([0, 1, 2])
    found = trained(clips(in_memory), masks, [0, 1, 2])
    assert float(found.parts["cross_entropy"]) / int(masks.sum()) == pytest.approx(math.log(32), abs=0.5)


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("musicfm-tiny", ["mask.domain=patches"], "small has no patches to mask: write --set mask.domain=waveform"),
        (
            "musicfm-tiny",
            ["targets.0.quantiser=mel-rvq"],
            "name the folder of its checkpoint with --set targets.0.weights=PATH",
        ),
        ("muq-tiny", ["targets.0.weights=/nowhere"], "There is no quantiser at /nowhere"),
        ("musicfm-tiny", ["targets.0.feature=latents"], "The teacher of an iteration is not named"),
        ("musicfm-tiny", ["targets.0.std=2"], "The target stacked-mel has a mean and a std of its own: leave out"),
        ("muq-iter-rvq-tiny", [], "The teacher of an iteration is not named"),
        (
            "muq-iter-rvq-tiny",
            ["targets.0.upstream=random-init:branchformer-attention-tiny", "seconds=0.5"],
            r"branchformer-attention-tiny encodes no less than 0\.61 s, and a segment of the recipe has 0\.5 s: write a longer",
        ),
    ],
)
def test_a_recipe_that_does_not_fit_is_one_sentence(small, name, settings, sentence):
    with pytest.raises(MarbleError, match=sentence) as caught:
        objective(name, small(), *settings)
    assert "\n" not in str(caught.value)


def test_a_segment_that_is_too_short_for_the_upstream_is_one_sentence():
    with torch.device("meta"):
        upstream = registry.find_upstream("branchformer-attention-tiny").random()
    with pytest.raises(MarbleError, match=r"branchformer-attention-tiny encodes no less than 0\.61 s, and a segment"):
        objective("musicfm-tiny", upstream, "seconds=0.5")


@pytest.mark.parametrize(
    ("feature", "what"), [("cqt", "640 samples at 24000 Hz|samples at 24000 Hz"), ("stacked-mel", "no stacked mel")]
)
def test_features_have_the_rate_of_the_upstream(feature, what):
    with torch.device("meta"):
        upstream = registry.find_upstream("omar-rq-tiny").random()
    with pytest.raises(MarbleError, match=what):
        objective("omar-rq-tiny", upstream, f"targets.0.feature={feature}")


@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_recipes_take_a_step_on_the_meta_device(name, monkeypatch):
    """Encoder, heads, targets and optimiser at the size of the paper; two clips of 30 s.

    Two things are not what the recipe says: masked places are filled with zeros, because noise is drawn by a generator of the
    device, and the meta device has none; and there is no EnCodec among the features, which needs transformers and its weights.
    Nor does the meta device know autocast, which is off wherever it is named here.
    """
    monkeypatch.setattr(torch, "autocast", lambda *_, enabled: nullcontext())
    recipe = load_recipe(name, ["mask.fill=zero"])
    targets = tuple(target for target in recipe.targets if target.feature not in ("encodec", "latents"))
    if not targets:  # of an iteration, whose teacher and quantiser come from files
        targets = (RECIPES["musicfm"].targets[0].model_copy(update={"codes": 1024, "codebooks": 8}),)
    targets = tuple(
        target.model_copy(update={"quantiser": "random-projection"}) if target.quantiser == "mel-rvq" else target
        for target in targets
    )
    with torch.device("meta"):
        upstream = registry.find_upstream(recipe.upstream).random()
        trained = make_objective(recipe.model_copy(update={"targets": targets}), upstream)
    trained.to("meta").train()
    how = recipe.optimiser
    optimiser = torch.optim.AdamW(trained.parameters(), lr=how.learning_rate, betas=how.betas, weight_decay=how.weight_decay)
    masks = trained.draw_masks([0, 1])
    losses = trained(torch.zeros(2, trained.samples, device="meta"), masks, [0, 1])
    losses.loss.backward()
    optimiser.step()
    assert losses.loss.shape == ()
    assert all(weight.grad is not None for weight in trained.parameters() if weight.requires_grad)
    assert len(losses.counts) == sum(target.codebooks for target in targets)
    assert masks.shape[1] == {25.0: 750, 18.75: 562, 15.625: 469}[upstream.info.frame_rate]
