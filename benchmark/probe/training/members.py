"""The members of a bank: stacked probes that learn side by side, each kept at its best validation.

Conventions
-----------
- A *group* is (layer, seed); its *members* are the learning rates. Members are sorted by learning rate and then by group.
- A bank (`marble.probe.training.bank` for rows of clips, `marble.probe.frames.bank` for frames) knows the data: it writes
  gradients, takes steps, and scores its members on validation. What follows from these scores is the same for all: the best
  epoch of each member is kept, a member stops `patience` validations after it, and finished members leave the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from marble.probe.answers import Group, Training
from marble.probe.settings import Probe
from marble.probe.training.checkpoint import Checkpoint
from marble.probe.training.optimiser import Optimiser

# What is held of every member, beside weights.
_OF_MEMBERS = ("member", "rates", "kept_score", "kept_epoch", "kept_combination", "best", "best_at")


class Members:
    """The stacked weights of some groups; a bank adds the data.

    Args:
        groups: to train.
        settings: the probe of the protocol, without a grid.
        higher_is_better: direction of the metric that chooses.
        initial: the weights of one member, by seed.
        statistics: what one member learns without a gradient, at its beginning.
        like: a tensor of the device and type of the computation.
        rates: of all members; None takes those of the settings.

    Attributes:
        member: the number of each member that still learns, ``int64[K]``.
        rates: the learning rate of every member, ``float64``.
        validations: how often it was validated.
        streams: the random streams that the next epoch depends on.
    """

    streams: Sequence[torch.Generator]

    def __init__(
        self, groups: Sequence[Group], settings: Probe, higher_is_better: bool, initial: Mapping[int, list[Tensor]],
        statistics: list[Tensor], like: Tensor, rates: Tensor | None = None,
    ):  # fmt: skip
        self.groups, self.settings, self.higher_is_better = list(groups), settings, higher_is_better
        self.device = like.device
        self.seeds = sorted(initial)
        self.seed_of_group = torch.tensor([self.seeds.index(group.seed) for group in groups], device=self.device)
        count = len(groups) * len(settings.learning_rates)
        self.member = torch.arange(count, device=self.device)

        def stacked(of_groups: Sequence[list[Tensor]]) -> list[Tensor]:
            """Return the weights of all members from those of each group."""
            stacks = [torch.stack(weights) for weights in zip(*of_groups, strict=True)]
            return [values.to(like).repeat(len(settings.learning_rates), 1, 1) for values in stacks]

        self.weights = stacked([initial[group.seed] for group in groups])
        self.statistics = stacked([statistics for _ in groups])
        self._learn()
        self.gradient = torch.empty_like(self.weights[0])
        base = torch.tensor(settings.learning_rates, dtype=torch.float64).repeat_interleave(len(groups))
        self.optimiser = Optimiser(settings, self.weights, base if rates is None else rates)
        self.rates = self.optimiser.rates
        self.kept = [values.detach().clone() for values in self.weights + self.statistics]
        self.kept_score = torch.full((count,), -torch.inf, dtype=torch.float64, device=self.device)
        self.kept_epoch = torch.zeros(count, dtype=torch.int64, device=self.device)
        self.kept_combination = torch.zeros(count, dtype=torch.int64, device=self.device)
        self.best = self.kept_score.clone()
        self.best_at = self.kept_epoch.clone()
        self.validations = 0

    def train_epoch(self, epoch: int) -> None:
        """Let every member see an epoch, and validate when it is due."""
        raise NotImplementedError

    def validate(self, epoch: int) -> None:
        """Score all members on the validation split and `keep` what is wanted."""
        raise NotImplementedError

    def step(self) -> None:
        """Take one step of the optimiser."""
        small = [torch.zeros_like(values) if values.grad is None else values.grad for values in self.weights[1:]]
        self.optimiser.step(self.weights, [self.gradient, *small])
        for values in self.weights:
            values.grad = None

    @torch.no_grad()
    def keep(self, epoch: int, score: Tensor, combination: Tensor | None = None) -> None:
        """Take notice of a validation: keep the weights that are wanted, and drop finished members.

        Args:
            epoch: of the validation.
            score: of each member that learns, ``float64[K]``, higher when better.
            combination: number of the way from rows to tracks that has this score, ``int64[K]``.
        """
        self.validations += 1
        better = score.nan_to_num(nan=-torch.inf) > self.best[self.member]
        members = self.member[better]
        self.best[members], self.best_at[members] = score[better], self.validations
        kept = better if self.settings.selection == "best" else torch.ones_like(better)
        members = self.member[kept]
        self.kept_score[members], self.kept_epoch[members] = score[kept].nan_to_num(nan=-torch.inf), epoch
        if combination is not None:
            self.kept_combination[members] = combination[kept]
        for values, now in zip(self.kept, self.weights + self.statistics, strict=True):
            values[members] = now[kept]
        self.optimiser.observe(score, higher_is_better=self.higher_is_better)
        if self.settings.patience:
            learning = self.validations - self.best_at[self.member] < self.settings.patience
            if not learning.all():
                self._compact(learning)

    def chosen(self) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return the number of the best member of each group, ``int64[G]``, and their weights and statistics."""
        scores = self.kept_score.view(-1, len(self.groups)).T
        member = scores.argmax(dim=1) * len(self.groups) + torch.arange(len(self.groups), device=self.device)
        kept = [values[member] for values in self.kept]
        return member, kept[: len(self.weights)], kept[len(self.weights) :]

    def training(self, group: int) -> Training:
        """Return how the best member of a group was chosen."""
        scores, epochs, rates = (
            values.view(-1, len(self.groups))[:, group] for values in (self.kept_score, self.kept_epoch, self.rates)
        )
        chosen = int(scores.argmax())
        return Training(
            learning_rate=float(rates[chosen]),
            epoch=int(epochs[chosen]),
            grid_scores=(1 if self.higher_is_better else -1) * scores.cpu(),
            grid_epochs=epochs.cpu(),
            grid_rates=tuple(rates.tolist()),
        )

    def state(self) -> dict[str, Tensor]:
        """Return all that the next epoch depends on, by name."""
        parts = {name: getattr(self, name) for name in _OF_MEMBERS}
        parts |= {f"{name}.{number}": part for name, stack in self._stacks().items() for number, part in enumerate(stack)}
        parts |= {f"stream.{number}": stream.get_state() for number, stream in enumerate(self.streams)}
        optimiser = self.optimiser
        parts["counts"] = torch.tensor([self.validations, optimiser.done])
        return parts | {"best_on_plateau": optimiser.best, "idle": optimiser.idle, "rates_now": optimiser.rates}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over a state of a bank of the same groups, data and settings."""
        for name in _OF_MEMBERS:
            setattr(self, name, state[name].to(getattr(self, name).device))
        for name, stack in self._stacks().items():
            stack[:] = [state[f"{name}.{number}"].to(self.device) for number in range(len(stack))]
        for number, stream in enumerate(self.streams):
            stream.set_state(state[f"stream.{number}"])
        optimiser = self.optimiser
        self.validations, optimiser.done = state["counts"].tolist()
        optimiser.best, optimiser.idle = state["best_on_plateau"], state["idle"]
        optimiser.set_rates(state["rates_now"])
        self.gradient = self.gradient[: len(self.member)]
        self._learn()

    def _stacks(self) -> dict[str, list[Tensor]]:
        means, squares = self.optimiser.moments
        return {"weights": self.weights, "statistics": self.statistics, "kept": self.kept, "means": means, "squares": squares}

    def _learn(self) -> None:
        """Let autograd follow all weights but the first, whose gradient `marble.probe.training.heads.first_layer` writes."""
        for values in self.weights[1:]:
            values.requires_grad_()

    def _compact(self, keep: Tensor) -> None:
        """Drop the members that have finished."""
        self.member = self.member[keep]
        self.weights = [values.detach()[keep] for values in self.weights]
        self.statistics = [values[keep] for values in self.statistics]
        self.gradient = self.gradient[: len(self.member)]
        self._learn()
        self.optimiser.keep(keep)


def train(bank: Members, epochs: int, on_epochs: Callable[[int], object], checkpoint: Checkpoint | None = None) -> None:
    """Train a bank to its end.

    Args:
        bank: new.
        epochs: at most.
        on_epochs: called with the number of epochs done: 1 after each, and all that are left when the last member has stopped.
        checkpoint: of the same groups, data and settings, to go on from and to write.
    """
    if bank.settings.validate_untrained:
        bank.validate(0)
    done = checkpoint.restore(bank) if checkpoint else 0
    if done:
        on_epochs(done)
    for epoch in range(done + 1, epochs + 1):
        bank.train_epoch(epoch)
        if not len(bank.member):
            on_epochs(epochs - epoch + 1)
            break
        on_epochs(1)
        if checkpoint:
            checkpoint.save(bank, epoch)
    if not bank.validations:
        bank.validate(epochs)
