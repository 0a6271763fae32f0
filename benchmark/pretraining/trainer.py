"""The trainer: from a recipe, an objective and numbered segments to checkpoints and a log.

Conventions
-----------
- One step takes `Recipe.batch` clips, split over processes (``torchrun``) and, within one, into micro batches whose gradients
  add up. Losses are sums divided by the weight of the tokens of the *whole* batch, and batch norms see the micro batches of
  all processes together, so that many small processes give the gradients of few large ones.
- Weights and optimiser are float32; under ``bf16`` the products run under autocast. Gradients are scaled to the norm
  `Optimiser.clip` at most.
- Masks and noise are drawn by the number of the segment, dropout by the number of the step. A run continued from a checkpoint
  on the same number of processes therefore takes the same steps, bit by bit on a CPU.
- A step whose gradient is not finite changes nothing, running statistics and codebooks included; it is logged with its clips.
  `MAX_SKIPPED` of them in a row end the training with a checkpoint of the last good weights.
- SIGTERM and Ctrl-C end the training after the step that runs, with a checkpoint.
- The log has one line for every `log_every` steps (see `marble.pretraining.meter`), and is that of the checkpoint when a run
  continues.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

from marble.errors import MarbleError
from marble.pretraining import checkpoint, parallel
from marble.pretraining.journal import Journal
from marble.pretraining.meter import Meter, matrix_rate
from marble.pretraining.objective import Losses, MaskedPrediction, Objective
from marble.pretraining.recipes import Recipe
from marble.pretraining.segments import Batch, Loader, Source
from marble.pretraining.state import TrainingState
from marble.random_streams import stream_seed
from marble.system.progress import Reporter

MAX_SKIPPED = 10
# Changed by a forward pass: statistics of batch norms, and the codes that a Mel-RVQ replaces.
_CHANGING = ("running_mean", "running_var", "num_batches_tracked", "stale_counter", "codebook.weight")


class Stopped(Exception):  # noqa: N818  (not an error: a signal stopped the training)
    """A signal ended the training after a checkpoint; `signal` is its number."""

    def __init__(self, number: int):
        super().__init__(number)
        self.signal = number


class Trainer:
    """Trains the objective of a recipe.

    Args:
        recipe: settings.
        objective: its upstream or quantiser is trained in place.
        source: segments of `recipe.seconds`.
        folder: of checkpoints and log.
        device: of the training.
        workers: processes that decode or render; None leaves one core to the training.
        reporter: shows progress.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of the log.
        tensorboard: whether TensorBoard's files are written as well.
        about: entries about training data and licence in the manifest of a checkpoint.
        on_checkpoint: called with (step, folder of the checkpoint) on the first process.

    Raises:
        MarbleError: the batch does not divide by the number of processes.
    """

    def __init__(
        self,
        recipe: Recipe,
        objective: Objective,
        source: Source,
        folder: Path,
        *,
        device: torch.device,
        workers: int | None,
        reporter: Reporter,
        checkpoint_every: int,
        log_every: int = 20,
        tensorboard: bool = False,
        about: Mapping[str, str] | None = None,
        on_checkpoint: Callable[[int, Path], None] = lambda step, folder: None,
    ):
        self.recipe, self.source, self.folder, self.device = recipe, source, folder, device
        self.workers, self.reporter, self.on_checkpoint = workers, reporter, on_checkpoint
        self.checkpoint_every, self.log_every, self.about = checkpoint_every, log_every, about or {}
        self.rank, self.world = parallel.processes()
        if recipe.batch % self.world:
            raise MarbleError(f"A batch of {recipe.batch} clips does not divide by {self.world} processes: use --set batch=N.")
        self.bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and device.type == "cuda")
        self.objective = objective.to(device).train()
        self.model = self._spread()
        self.optimiser = self._optimiser()
        weights = self.objective.named_parameters()
        average = None if recipe.average is None else {name: weight.detach().clone() for name, weight in weights}
        self.state = TrainingState(self.objective, self.optimiser, average, position=self.rank)
        self.meter = Meter(self.state)
        self.journal = Journal(folder, reporter, tensorboard=tensorboard)
        self._signal = 0

    def _spread(self) -> nn.Module:
        """Return the objective as the processes train it together."""
        # A quantiser has no blocks to spread: it is small, and replaces its codes itself.
        blocks = self.objective.upstream.blocks if isinstance(self.objective, MaskedPrediction) else nn.ModuleList()
        if self.recipe.recompute:
            parallel.recompute(blocks)
        if self.world == 1:
            return self.objective
        parallel.synchronise_batch_norms(self.objective)
        if self.recipe.shard and len(blocks):
            return parallel.shard(self.objective, blocks)
        return DistributedDataParallel(self.objective, broadcast_buffers=False)

    def _optimiser(self) -> torch.optim.Optimizer:
        settings = self.recipe.optimiser
        kind = torch.optim.AdamW if settings.weight_decay else torch.optim.Adam
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        return kind(
            trained, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay
        )

    def train(self, resume: Path | None = None) -> Path:
        """Train to the last step of the recipe, from a checkpoint if one is given; return the folder of the last checkpoint.

        Raises:
            MarbleError: the training diverged, no audio can be used, or nothing can be written.
            Stopped: a signal ended the training.
        """
        state = self.state
        if resume:
            checkpoint.restore(state, self.recipe, resume)
        peak = matrix_rate(self.device, self.bf16)
        share = self.recipe.batch // self.world
        if self.rank == 0:
            self.journal.open(state.step, self.source.refused, resume)
        last = resume
        with (
            Loader(self.source, share, self.objective.samples, state.position, self.world, self.workers) as loader,
            self._signals(),
            self.reporter.stage(self.recipe.name, self.recipe.steps - state.step, "steps") as advance,
        ):
            while state.step < self.recipe.steps:
                self.train_step(loader.batch())
                state.position = loader.position
                advance(1)
                self.journal.refuse(loader.refused)
                stop, finished = self._stop_signal(), state.step == self.recipe.steps
                diverged = state.skipped_in_a_row >= MAX_SKIPPED
                if state.step % self.log_every == 0 or finished:
                    self._log(self.meter.line(self.recipe, loader, self.journal.refused, peak))
                if state.step % self.checkpoint_every == 0 or finished or stop or diverged:
                    last = checkpoint.save(state, self.recipe, self.folder, self.about, self.reporter)
                    if self.rank == 0 and not (stop or diverged):
                        with self.meter.paused():
                            self.on_checkpoint(state.step, last)
                if stop:
                    raise Stopped(stop)
                if diverged:
                    raise MarbleError(
                        f"{self.recipe.name} diverged: {MAX_SKIPPED} steps in a row up to step {state.step} had no finite "
                        f"gradient; {last} holds the last good weights: train again with a smaller optimiser.learning_rate."
                    )
        assert last is not None
        return last

    def train_step(self, batch: Batch) -> None:
        """Take one step with this process's share of the batch."""
        state = self.state
        torch.manual_seed(stream_seed("step", self.recipe.seed, state.step, self.rank))
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate(state.step)
        masks = self.objective.draw_masks(batch.numbers)
        weight = self.objective.token_weights(masks).sum()
        before = {name: tensor.clone() for name, tensor in self._changing()}
        counter = FlopCounterMode(display=False) if state.flops is None else nullcontext()
        with counter:
            losses = self._backward(batch, masks, self._sum(weight))
        if isinstance(counter, FlopCounterMode):
            state.flops = counter.get_total_flops()
        norm = float(parallel.whole(nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.optimiser.clip or math.inf)))
        self.meter.count(len(batch.numbers))
        if math.isfinite(norm):
            self.optimiser.step()
            self._update_average()
            state.skipped_in_a_row = 0
            self.meter.add(losses, weight, norm)
        else:
            for name, tensor in self._changing():
                tensor.copy_(before[name])
            state.skipped_in_a_row += 1
            numbers = sorted(number for numbers in parallel.gather(batch.numbers) for number in numbers)
            self._log({"step": state.step + 1, "skipped": numbers, "gradient_norm": str(norm)})
        self.optimiser.zero_grad(set_to_none=True)
        state.step += 1

    def _changing(self) -> list[tuple[str, Tensor]]:
        return [(name, tensor.data) for name, tensor in self.objective.state_dict().items() if name.endswith(_CHANGING)]

    def _backward(self, batch: Batch, masks: Tensor, total: Tensor) -> list[Losses]:
        """Add up the gradients of the sum of losses over `total`, micro batch by micro batch; return the losses."""
        size = self.recipe.micro_batch
        starts = range(0, len(batch.numbers), size)
        detached = []
        for start in starts:
            waveform = batch.waveform[start : start + size].to(self.device, non_blocking=True)
            together = start == starts[-1]
            wait = nullcontext() if together or not isinstance(self.model, DistributedDataParallel) else self.model.no_sync()
            with wait:
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                    losses = self.model(waveform, masks[start : start + size], batch.numbers[start : start + size])
                # The processes' gradients are averaged, but the loss is the mean over all tokens that count.
                (losses.loss * (self.world / total)).backward()
            detached.append(losses._replace(loss=losses.loss.detach()))
        return detached

    def _sum(self, value: Tensor) -> Tensor:
        """Return the sum of a number over the processes."""
        value = value.to(self.device, copy=True)
        if self.world > 1:
            dist.all_reduce(value)
        return value

    @torch.no_grad()
    def _update_average(self) -> None:
        average = self.state.average
        if average is not None and self.recipe.average is not None:
            for name, weight in self.objective.named_parameters():
                average[name].lerp_(weight, 1 - self.recipe.average)

    @contextmanager
    def _signals(self) -> Generator[None]:
        """Note SIGTERM, which torchrun repeats, and the first Ctrl-C; a second Ctrl-C interrupts as usual."""

        def note(number: int, _: object) -> None:
            """Remember the signal; after a Ctrl-C, restore its usual handler."""
            self._signal = number
            if number == signal.SIGINT:
                signal.signal(number, before[number])

        before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        for number in before:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop_signal(self) -> int:
        """Return the number of the signal that any process has received, or 0."""
        if self.world == 1:
            return self._signal
        seen = torch.tensor(self._signal, device=self.device)
        dist.all_reduce(seen, dist.ReduceOp.MAX)
        return int(seen)

    def _log(self, line: dict[str, Any]) -> None:
        if self.rank == 0:
            self.journal.log(line)
            words = (f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in line.items())
            self.reporter.say(f"{self.recipe.name}: {', '.join(words)}")
