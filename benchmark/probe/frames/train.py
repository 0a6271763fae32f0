"""Training of a bank of frames within a budget of memory.

Half of the budget is for members, so that a stack is as many groups as fit there, all seeds of a layer first, since they read
the same validation tracks. The other half is for one member's step and what is read ahead; what is left of it holds tracks of
the layers in work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import torch

from marble.errors import MarbleError
from marble.probe.answers import Answers, Group
from marble.probe.frames.answers import answers_of
from marble.probe.frames.bank import FrameBank
from marble.probe.frames.inputs import FrameInputs
from marble.probe.settings import Probe
from marble.probe.training.checkpoint import Checkpoint
from marble.probe.training.heads import make_head
from marble.probe.training.members import train

_AHEAD = 4  # batches that are read ahead, in work, or being read
_SLACK = 2**26  # bytes that libraries take when they first work, and that freed pieces leave


def frame_stacks(probe: Probe, inputs: FrameInputs, groups: Sequence[Group]) -> Iterator[list[Group]]:
    """Yield groups that are trained together: layers of one width, as many as fit into half of the budget.

    Raises:
        MarbleError: not one group fits.
    """
    seeds = len({group.seed for group in groups})
    for width, members in groupby(groups, lambda group: inputs.widths[int(group.layer)]):
        waiting = list(members)
        own = len(probe.learning_rates) * member_bytes(probe, inputs, width)
        fits = (inputs.memory // 2) // own
        if not fits or inputs.memory // 2 < step_bytes(probe, inputs, width, seeds):
            least = 2 * max(own, step_bytes(probe, inputs, width, seeds))
            raise MarbleError(
                f"The probes of one layer and seed need {least / 1e9:.2f} GB, and {inputs.memory / 1e9:.2f} GB are allowed: "
                "raise --memory, or lower probe.hidden, probe.batch_size or probe.chunk."
            )
        size = fits // seeds * seeds or fits
        for begin in range(0, len(waiting), size):
            yield waiting[begin : begin + size]


def member_bytes(probe: Probe, inputs: FrameInputs, width: int) -> int:
    """Return what a member takes: its weights with gradient, moments and the best, and its share of answers."""
    return make_head(probe, inputs.data.outputs).bytes_per_member(width, 0)


def step_bytes(probe: Probe, inputs: FrameInputs, width: int, seeds: int) -> int:
    """Return what a step takes beside members: one member's activations, the masks of each seed, and what is read ahead."""
    head = make_head(probe, inputs.data.outputs)
    chunks = probe.batch_size * max(1, round(probe.chunk * inputs.grid.rate))
    rows = max(chunks, max(map(len, inputs.targets)))
    one = head.bytes_per_member(width, rows) - head.bytes_per_member(width, 0) + 16 * rows * inputs.data.outputs
    masks = seeds * chunks * (8 * sum(head.hidden) + (8 * width if probe.input_dropout else 0))
    return one + masks + _AHEAD * rows * width * 4


def train_frames(
    inputs: FrameInputs,
    groups: Sequence[Group],
    probe: Probe,
    on_epochs: Callable[[int], object],
    checkpoint: Checkpoint | None,
) -> list[Answers]:
    """Train groups together and return their answers in their order."""
    layers = sorted({int(group.layer) for group in groups})
    width, seeds = inputs.widths[layers[0]], len({group.seed for group in groups})
    members = len(groups) * len(probe.learning_rates) * member_bytes(probe, inputs, width)
    reader = inputs.reader(layers, inputs.memory - members - step_bytes(probe, inputs, width, seeds) - _SLACK)
    bank = FrameBank(inputs.bank_data(reader, probe), width, groups, probe, torch.empty(0, device=inputs.device))
    train(bank, epochs_of_frames(probe, bank), on_epochs, checkpoint)
    return answers_of(bank, inputs)


def epochs_of_frames(probe: Probe, bank: FrameBank) -> int:
    """Return the epochs that a probe trains at most, the last of them perhaps in part."""
    batches = -(-len(bank.train) // probe.batch_size)
    by_steps = -(-probe.steps // batches) if probe.steps else None
    return min(limit for limit in (probe.epochs, by_steps) if limit is not None)
