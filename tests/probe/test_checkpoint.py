"""A probing that is stopped anywhere goes on with the same bytes."""

import pytest
import torch
from sequential import asked
from test_sequential import GROUPS, OPTIONS, changed

from marble.probe.training import checkpoint
from marble.probe.training.bank import train_probes
from marble.probe.training.checkpoint import Checkpoint


class StoppedError(Exception):
    """The process ends."""


def stopping(after):
    """A count of epochs that stops the training after some of them."""
    done = 0

    def advance(epochs):
        nonlocal done
        done += epochs
        if done >= after:
            raise StoppedError

    return advance


def trained(probe, path, advance=lambda epochs: None, groups=GROUPS):
    features, data = asked("multiclass")
    return train_probes(features.float(), [0, 1, 2], groups, data, probe, advance, Checkpoint(path) if path else None)


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Checkpoints after each epoch."""
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "TIMES_THE_WRITING", 0)


def assert_equal(first, second):
    for a, b in zip(first, second, strict=True):
        for values, others in ((a.validation, b.validation), (a.test, b.test), (a.layer_weights, b.layer_weights)):
            assert values.numpy().tobytes() == others.numpy().tobytes()
        assert (a.training.learning_rate, a.training.epoch) == (b.training.learning_rate, b.training.epoch)
        assert torch.equal(a.training.grid_scores, b.training.grid_scores)


@pytest.mark.parametrize("option", [*OPTIONS, "default", "found rate"])
def test_what_was_stopped_ends_as_if_it_was_not(option, tmp_path):
    special = {"default": {}, "found rate": {"learning_rates": (1e-3,), "find_rate": True}}
    probe = changed(**OPTIONS.get(option, special.get(option, {})))
    whole = trained(probe, None)
    path = tmp_path / "stack.stopped"
    seen = []
    for after in (2, 2, 3):
        try:
            trained(probe, path, stopping(after))
        except StoppedError:
            seen.append(path.stat().st_mtime_ns if path.exists() else None)
    assert_equal(trained(probe, path), whole)
    assert len(set(seen)) > 1 or probe.steps  # each attempt got further


def test_it_goes_on_from_the_epoch_that_was_written(tmp_path):
    path = tmp_path / "stack.stopped"
    with pytest.raises(StoppedError):
        trained(changed(patience=None), path, stopping(5))
    counts = []
    trained(changed(patience=None), path, counts.append)
    assert (counts[0], sum(counts)) == (4, 12)  # the fifth ended before it was written


@pytest.mark.parametrize("spoil", [lambda content: content[:100], lambda content: b"", lambda content: content[:-1] + b"~"])
def test_a_damaged_checkpoint_counts_as_none(spoil, tmp_path):
    path = tmp_path / "stack.stopped"
    with pytest.raises(StoppedError):
        trained(changed(), path, stopping(3))
    path.write_bytes(spoil(path.read_bytes()))
    counts = []
    assert_equal(trained(changed(), path, counts.append), trained(changed(), None))
    assert counts[0] == 1
