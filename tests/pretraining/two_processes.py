"""What two processes do, for `test_parallel`: ``two_processes.py FOLDER`` under the variables of torchrun."""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

from marble.pretraining.objective import make_objective
from marble.pretraining.parallel import join_processes, whole
from marble.pretraining.recipes import load_recipe
from marble.pretraining.segments import Loader
from marble.pretraining.targets import mel_rvq
from marble.pretraining.trainer import Trainer
from marble.system.progress import Reporter
from marble.upstreams.mel_encoder import InHouse, InHouseConfig

SIZES = {"width": 16, "depth": 2, "heads": 2, "hidden": 24, "channels": 2}
CONFIG = {"family": "conformer", "mixer": "attention", "dropout": 0.0} | SIZES
SETTINGS = ("seconds=1", "batch=4", "steps=4", "optimiser.warmup=2", "targets.0.codes=32", "optimiser.clip=none", "average=0.9")

VARIANTS = {
    "copied": (),
    "sharded": ("shard=true",),
    "recomputed": ("recompute=true",),
    "frozen": ("frozen_stem=true", "shard=true"),
}


class Noise:
    """Segment n is noise of seed n; the one called `poison` is not finite."""

    hours = None
    refused = {}  # noqa: RUF012

    def __init__(self, poison=None):
        self.poison = poison

    def decoded(self, numbers, workers, ahead):
        for number in numbers:
            volume = float("nan") if number == self.poison else 0.1
            yield str(number), volume * torch.randn(24_000, generator=torch.Generator().manual_seed(number)).numpy()


def trainer(folder, *settings, micro_batch=4, name="musicfm-tiny", poison=None):
    torch.manual_seed(0)
    recipe = load_recipe(name, (*SETTINGS, f"micro_batch={micro_batch}", *settings))
    upstream = InHouse("small", InHouseConfig.model_validate(CONFIG))
    objective = make_objective(recipe, upstream)
    options = {"device": torch.device("cpu"), "workers": 1, "reporter": Reporter(), "checkpoint_every": 2, "log_every": 2}
    return Trainer(recipe, objective, Noise(poison), folder, **options)


def gradients(trainer):
    """The gradients of the first step, and the running statistics after it."""
    found = {}

    def note(*_, **__):
        weights = trainer.objective.named_parameters()
        found.update({f"gradient of {name}": whole(weight.grad).clone() for name, weight in weights if weight.requires_grad})

    trainer.optimiser.step = note
    share = trainer.recipe.batch // trainer.world
    with Loader(trainer.source, share, trainer.objective.samples, trainer.rank, trainer.world, 1) as loader:
        trainer.train_step(loader.batch())
    return found | {name: value.clone() for name, value in trainer.objective.named_buffers() if "running" in name}


def main():
    folder = Path(sys.argv[1])
    join_processes(torch.device("cpu"))
    for name, settings in VARIANTS.items():
        found = gradients(trainer(folder / f"{name}-first", *settings))
        if dist.get_rank() == 0:
            torch.save(found, folder / f"{name}.pt")
    for name, settings in {"copied": (), "sharded": ("shard=true",)}.items():
        trainer(folder / name, *settings).train()
        resumed = trainer(folder / f"{name}-resumed", *settings)
        resumed.train(folder / name / "checkpoints" / "00000002")
    # Clip 5 belongs to the second process.
    trainer(folder / "poisoned", "steps=2", poison=5).train()
    mel_rvq.STALE_AFTER = 2
    settings = ("shard=true", "steps=3", "targets.0.codebooks=1", "optimiser.learning_rate=1e-12")
    quantiser = trainer(folder / "quantiser", *settings, name="mel-rvq-tiny")
    before = quantiser.objective.quantiser.quantizers[0].codebook.weight.detach().clone()
    quantiser.train()
    after = quantiser.objective.quantiser.quantizers[0].codebook.weight.detach()
    torch.save((after - before).abs().amax(1), folder / f"codes-{dist.get_rank()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
