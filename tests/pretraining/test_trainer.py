"""The trainer: what it minimises, how it goes on after any end, and what it refuses to learn from."""

import json
import os
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from marble.errors import MarbleError
from marble.pretraining import checkpoint
from marble.pretraining.trainer import MAX_SKIPPED, Stopped

SPEED = {"clips_per_second", "audio_per_second", "waiting", "flop_share", "refused"}


def log(trainer):
    """The log without what the clock decides."""
    lines = map(json.loads, (trainer.folder / "log.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in SPEED} for line in lines]


def everything(folder):
    """All tensors of a checkpoint, and where it stands."""
    tensors = {
        f"{file.name} {name}": tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()
    }
    document = json.loads((folder / "training.json").read_text())
    return tensors, {name: document[name] for name in ("step", "positions", "recipe")}


def same(one, other):
    (tensors, document), (others, other_document) = everything(one), everything(other)
    assert document == other_document
    assert tensors.keys() == others.keys()
    assert [name for name, tensor in tensors.items() if not torch.equal(tensor, others[name])] == []
    return True


VARIANTS = {
    "musicfm-tiny": ("musicfm-tiny", "average=0.9"),
    "summarymixing": ("branchformer-summarymixing-tiny", "seconds=2"),
    "recomputed": ("musicfm-tiny", "recompute=true", "micro_batch=2"),
    "quantiser": ("mel-rvq-tiny", "targets.0.codebooks=2", "average=0.9"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_training_is_the_uninterrupted_one(make_trainer, small, variant):
    """Weights, their average, the optimiser, the data and the log, with dropout, stopped between two lines of the log."""
    name, *settings = VARIANTS[variant]

    def make(folder, **options):
        upstream = small(family="branchformer", mixer="summarymixing") if variant == "summarymixing" else small()
        return make_trainer(name, *settings, folder=folder, upstream=upstream, checkpoint_every=3, log_every=2, **options)

    whole = make("whole")
    expected = whole.train()

    def stop(step, _):
        if step == 3:
            raise KeyboardInterrupt

    torch.manual_seed(99)
    first = make("parts", on_checkpoint=stop)
    with pytest.raises(KeyboardInterrupt):
        first.train()
    # As a killed run leaves it: behind its checkpoint, and in the middle of a line.
    with (first.folder / "log.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 1.0}\n{"step": 5, "lo')
    second = make("parts")
    last = second.train(checkpoint.latest(second.folder))
    assert same(expected, last)
    assert log(second) == log(whole)
    assert [line["step"] for line in log(whole)] == [2, 4, 6]


@pytest.mark.parametrize("damage", ['{"step": 1, "lo', '{"step": 2, "loss": 1.0}', "\udcff", None])
def test_a_training_goes_on_with_the_log_of_its_checkpoint(make_trainer, small, damage):
    """Whatever has become of the log beside it."""
    first = make_trainer("musicfm-tiny", upstream=small(), checkpoint_every=3, log_every=1)
    last = first.train()
    expected = log(first)
    path = first.folder / "log.jsonl"
    if damage is None:
        path.unlink()
    else:
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], damage, *lines[2:], ""]), errors="surrogateescape")
    again = make_trainer("musicfm-tiny", upstream=small(), checkpoint_every=3, log_every=1)
    again.train(last.with_name("00000003"))
    assert log(again) == expected


def test_dropout_and_masks_differ_from_step_to_step(make_trainer, small, in_memory):
    """Otherwise the test above would hold for a training that draws nothing."""
    source = in_memory(1.0, 24_000)
    source.segments = source.segments[:4]
    trainer = make_trainer("musicfm-tiny", upstream=small(), source=source)
    masks = [trainer.objective.draw_masks([number]) for number in range(16)]
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) > 1
    trainer.objective.mask = trainer.objective.mask.__class__(25, 1.0, "zero")
    waveform = torch.from_numpy(source.segments[0])[None]

    def loss(step):
        torch.manual_seed(step)
        return float(trainer.objective(waveform, torch.ones(1, 25, dtype=torch.bool), [0]).loss.detach())

    assert loss(0) == loss(0) != loss(1)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_checkpoint_to_go_on_from(make_trainer, small, number, status):
    whole = make_trainer("musicfm-tiny", folder="whole", upstream=small())
    expected = whole.train()
    stopped = make_trainer("musicfm-tiny", upstream=small())
    taken = stopped.train_step

    def step(batch):
        taken(batch)
        if stopped.state.step == 3:
            os.kill(os.getpid(), number)
            if number == signal.SIGTERM:  # torchrun passes on what the processes have got already
                os.kill(os.getpid(), number)

    stopped.train_step = step
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as caught:
        stopped.train()
    assert 128 + caught.value.signal == status
    assert signal.getsignal(number) is before
    found = checkpoint.latest(stopped.folder)
    assert found.name == "00000003"
    again = make_trainer("musicfm-tiny", upstream=small())
    assert same(expected, again.train(found))
    assert log(again) == log(whole)


@pytest.mark.parametrize("name", ["musicfm-tiny", "mel-rvq-tiny"])
@pytest.mark.parametrize("poison", [float("nan"), 1e30])
def test_a_step_without_a_finite_gradient_changes_nothing(make_trainer, small, in_memory, name, poison):
    source = in_memory(1.0, 24_000)
    trainer = make_trainer(name, "steps=2", upstream=small(), source=source, log_every=1)
    expected = trainer.train()
    source.segments = [clip.copy() for clip in source.segments]
    source.segments[9][-200:-100] = poison  # of the third step, where no mask reaches
    poisoned = make_trainer(name, "steps=3", folder="poisoned", upstream=small(), source=source, log_every=1)
    # The schedule is that of two steps.
    poisoned.recipe = trainer.recipe.model_copy(
        update={"steps": 3, "optimiser": trainer.recipe.optimiser.model_copy(update={"horizon": 2})}
    )
    last = poisoned.train()
    tensors, others = everything(expected)[0], everything(last)[0]
    differing = [key for key, tensor in tensors.items() if not torch.equal(tensor, others[key])]
    assert differing == []
    skipped = [line for line in log(poisoned) if "skipped" in line]
    assert [(line["step"], line["skipped"]) for line in skipped] == [(3, [8, 9, 10, 11])]
    assert not any(value != value for line in log(poisoned) for value in line.values())


def test_ten_such_steps_in_a_row_end_it_with_the_last_good_weights(make_trainer, small, in_memory):
    good = make_trainer("musicfm-tiny", "steps=2", folder="good", upstream=small())
    expected = everything(good.train())[0]
    source = in_memory(1.0, 24_000)
    source.segments = [*source.segments[:8], *[clip * float("nan") for clip in source.segments[8:]]] + [
        source.segments[0] * float("nan")
    ] * 48
    trainer = make_trainer("musicfm-tiny", "steps=100", upstream=small(), source=source)
    trainer.recipe = trainer.recipe.model_copy(update={"optimiser": trainer.recipe.optimiser.model_copy(update={"horizon": 2})})
    good.recipe = trainer.recipe
    with pytest.raises(
        MarbleError, match=r"diverged: 10 steps in a row up to step 12 had no finite gradient; .*smaller"
    ) as caught:
        trainer.train()
    assert "\n" not in str(caught.value)
    found = checkpoint.latest(trainer.folder)
    assert found.name == f"{2 + MAX_SKIPPED:08d}"
    left = everything(found)[0]
    weights = [
        key for key in expected if key.startswith(("upstream", "training.safetensors model", "training.safetensors opt"))
    ]
    assert len(weights) > 100
    assert all(torch.equal(expected[key], left[key]) for key in weights)
    again = make_trainer("musicfm-tiny", upstream=small(), source=source, recipe=trainer.recipe)
    with pytest.raises(MarbleError, match=r"diverged: .* up to step 13"):
        again.train(found)


def test_micro_batches_add_up_to_the_batch(make_trainer, small):
    """Batch norms see micro batches, so they are left as they are here."""

    def gradients(micro_batch):
        trainer = make_trainer(
            "musicfm-tiny", f"micro_batch={micro_batch}", upstream=small(dropout=0.0), folder=str(micro_batch)
        )
        for module in trainer.objective.modules():
            if "BatchNorm" in type(module).__name__:
                module.eval()
        return gradients_of_a_step(trainer)

    close(gradients(4), gradients(1))
    close(gradients(4), gradients(3))


def gradients_of_a_step(trainer):
    """The gradients before clipping of the first batch, and the buffers after it."""
    from marble.pretraining.segments import Loader

    found = {}

    def note(*_, **__):
        found.update(
            {name: weight.grad.clone() for name, weight in trainer.objective.named_parameters() if weight.requires_grad}
        )

    trainer.optimiser.step = note
    object.__setattr__(trainer.recipe.optimiser, "clip", None)
    share = trainer.recipe.batch // trainer.world
    with Loader(trainer.source, share, trainer.objective.samples, trainer.rank, trainer.world, 1) as loader:
        trainer.train_step(loader.batch())
    return found | {name: buffer.clone() for name, buffer in trainer.objective.named_buffers() if "running" in name}


def close(one, other, tolerance=1e-5):
    assert one.keys() == other.keys()
    largest = max(tensor.abs().max() for name, tensor in one.items() if "running" not in name)
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-4, atol=tolerance * float(largest), msg=name)


def test_recomputed_blocks_give_the_gradients_of_kept_ones(make_trainer, small):
    """Dropout and the statistics of batch norms included, which a second forward pass would count twice."""
    kept, recomputed = (
        gradients_of_a_step(make_trainer("musicfm-tiny", f"recompute={flag}", upstream=small(), folder=flag))
        for flag in ("false", "true")
    )
    assert all(torch.equal(tensor, recomputed[name]) for name, tensor in kept.items())


def test_the_log_says_how_it_goes(make_trainer, small):
    trainer = make_trainer("musicfm-tiny", upstream=small(), log_every=3)
    trainer.train()
    for line in map(json.loads, (trainer.folder / "log.jsonl").read_text().splitlines()):
        assert {"loss", "cross_entropy", "accuracy", "usage", "learning_rate", "gradient_norm"} | SPEED <= line.keys()
        assert 0 <= line["accuracy"] <= 1
        assert 0 < line["usage"] <= 1
        assert 0 <= line["waiting"] <= 1
        assert 0 < line["flop_share"] < 1
        assert line["audio_per_second"] == pytest.approx(line["clips_per_second"])


def test_refused_segments_are_passed_over_and_named(make_trainer, small, in_memory):
    source = in_memory(1.0, 24_000, bad={1, 6})
    source.refused = {"broken, really.wav": "is truncated"}
    trainer = make_trainer("musicfm-tiny", "steps=2", upstream=small(), source=source)
    last = trainer.train()
    assert json.loads((last / "training.json").read_text())["positions"] == [10]
    expected = ["audio,reason", '"broken, really.wav",is truncated', "segment 1,is silent", "segment 6,is silent"]
    assert (trainer.folder / "refused.csv").read_text().splitlines() == expected
    assert json.loads((trainer.folder / "log.jsonl").read_text().splitlines()[-1])["refused"] == 3
    trainer = make_trainer("musicfm-tiny", "steps=2", upstream=small(), source=source)
    trainer.train(last)
    assert (trainer.folder / "refused.csv").read_text().splitlines() == expected


def test_a_source_without_one_good_segment_ends_in_a_sentence(make_trainer, small, in_memory):
    trainer = make_trainer("musicfm-tiny", upstream=small(), source=in_memory(1.0, 24_000, bad=range(5000)))
    with pytest.raises(MarbleError, match="1000 segments in a row cannot be used, the last because segment 999 is silent"):
        trainer.train()


def test_time_spent_on_probing_is_no_time_of_training(make_trainer, small):
    meter = make_trainer("musicfm-tiny", upstream=small()).meter
    before = meter._began
    with meter.paused():
        time.sleep(0.05)
    assert meter._began - before >= 0.05
