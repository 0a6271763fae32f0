"""What is measured before the first step: targets of mean 0 and variance 1, and a stem that trains no more."""

import pytest
import torch

from marble import registry
from marble.errors import MarbleError
from marble.pretraining.calibration import STEM_STD, calibrate
from marble.pretraining.objective import make_objective
from marble.pretraining.recipes import load_recipe

FROZEN = ("seconds=2", "targets.0.codes=32", "standardise=true", "frozen_stem=true")


@pytest.fixture
def clips(in_memory):
    return torch.stack([torch.from_numpy(clip) for clip in in_memory(2.0, 24_000).segments[:6]])


def frozen(upstream):
    torch.manual_seed(0)
    return make_objective(load_recipe("branchformer-attention-large", FROZEN), upstream)


def test_targets_get_mean_0_and_variance_1_in_every_dimension(clips, small):
    objective = frozen(small(mixer="attention"))
    (target,) = objective.targets
    before = target(clips)
    calibrate(objective, clips.split(4), standardise=True)
    features, tokens = target(clips)
    torch.testing.assert_close(features.mean((0, 1)), torch.zeros(512), rtol=0, atol=1e-4)
    torch.testing.assert_close(features.std((0, 1), correction=0), torch.ones(512), rtol=1e-3, atol=1e-3)
    assert torch.equal(tokens, target.quantiser(features))
    assert not torch.equal(tokens, before[1])


def test_the_stem_gives_principal_components(clips, small):
    """Uncorrelated, of falling variance, whatever the batches; its batch norms know the clips; nothing else changes."""
    whole, parts = frozen(small()), frozen(small())
    others = {name: tensor.clone() for name, tensor in whole.upstream.state_dict().items() if "stem" not in name}
    calibrate(whole, clips.split(6), standardise=False)
    calibrate(parts, clips.split(2), standardise=False)
    assert not any(bool((target.mean != 0).any()) for target in whole.targets)
    upstream = whole.upstream
    frames = upstream.stem(upstream.front_end(clips)).flatten(0, 1).double()
    covariance = torch.cov(frames.T, correction=0)
    torch.testing.assert_close(frames.mean(0), torch.zeros(16).double(), rtol=0, atol=1e-4)
    variances = covariance.diagonal()
    torch.testing.assert_close(covariance, torch.diag(variances), rtol=0, atol=1e-4)
    assert bool((variances.diff() <= 1e-5).all())
    assert float(variances.mean().sqrt()) == pytest.approx(STEM_STD, rel=1e-3)
    inner = upstream.stem.first.bn1
    convolved = inner(upstream.stem.first.conv1(torch.nn.functional.pad(upstream.front_end(clips)[:, None], (1, 0))))
    torch.testing.assert_close(convolved.mean((0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-3)
    for name, tensor in upstream.state_dict().items():
        if "stem" not in name:
            assert torch.equal(tensor, others[name])
        elif "num_batches" not in name and "linear" not in name:
            torch.testing.assert_close(parts.upstream.state_dict()[name], tensor, rtol=0.05, atol=0.05)


def test_a_frozen_stem_is_what_it_was_after_training(make_trainer):
    trainer = make_trainer("branchformer-summarymixing-tiny", "frozen_stem=true", "steps=2")
    before = {name: tensor.clone() for name, tensor in trainer.objective.upstream.state_dict().items()}
    trainer.train()
    changed = {
        name for name, tensor in trainer.objective.upstream.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed
    assert not any(name.startswith("stem.") for name in changed)


def test_only_some_upstreams_have_a_stem_to_freeze():
    with torch.device("meta"):
        upstream = registry.find_upstream("omar-rq-tiny").random()
    with pytest.raises(MarbleError, match="has no stem to freeze: write --set frozen_stem=false"):
        make_objective(load_recipe("omar-rq-tiny", ["frozen_stem=true"]), upstream)
