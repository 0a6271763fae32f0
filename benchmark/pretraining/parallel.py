"""Training on several processes, and in less memory: shared statistics, sharded weights, recomputed blocks."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint

from marble.pretraining.journal import RETRY_SECONDS


def join_processes(device: torch.device) -> torch.device:
    """Join the other processes where ``torchrun`` started this one; return the device of this process."""
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        return device
    on_gpu = device.type == "cuda"
    if on_gpu:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    # The others wait while the first process waits for a full disk, or probes.
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(seconds=4 * RETRY_SECONDS))
    return device


def leave_processes() -> None:
    """Leave the group of processes, all at the same step; after an error the others might never reach this call."""
    if dist.is_initialized():
        dist.destroy_process_group()


def processes() -> tuple[int, int]:
    """Return the number of this process and of all of them: (0, 1) without ``torchrun``."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def gather(value: Any) -> list[Any]:
    """Return the values of all processes by their numbers; every process calls this."""
    values = [value] * processes()[1]
    if len(values) > 1:
        dist.all_gather_object(values, value)
    return values


class SynchronisedBatchNorm(nn.BatchNorm1d):
    """A synchronised batch norm for any device, so that a CPU can test many processes against one; torch's needs GPUs.

    It norms ``Tensor[B, C, ...]``. In training its statistics are those of all processes, so the gradients are those of one
    process with the whole batch.
    """

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        pass

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Norm ``Tensor[B, C, ...]`` over all axes but the second, and over the processes."""
        if not self.training:
            return super().forward(input)
        normed, mean, variance, count = _Normed.apply(input, self.weight, self.bias, self.eps)
        assert self.momentum is not None
        with torch.no_grad():
            for name, value in {"running_mean": mean, "running_var": variance * count / (count - 1)}.items():
                self.get_buffer(name).lerp_(value, self.momentum)
            self.get_buffer("num_batches_tracked").add_(1)
        return normed


class _Normed(torch.autograd.Function):
    """The norm over all processes: ``(x - mean) / sqrt(variance + eps) * weight + bias``, computed in float32.

    It keeps its input, in the input's type, and a few numbers a channel for the backward pass: the float32 tensors in
    between would double the memory of a stem.
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # noqa: A002
        """Return ``Tensor[B, C, ...]``, and mean, variance and count of values of each channel, ``Tensor[C]``."""
        axes, shape = _other_axes(input)
        x = input.float()
        total = x.sum(axes)
        count, total = _over_processes(torch.full_like(total, x.numel() // x.shape[1]), total)
        mean = total / count
        centred = x - mean.view(shape)
        variance = _over_processes(centred.square().sum(axes))[0] / count
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(input, weight, mean, scale, count)
        ctx.mark_non_differentiable(mean, variance, count)
        normed = centred * (scale * weight).view(shape) + bias.view(shape)
        return normed.to(input.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *upper: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients of input, weight and bias (Ioffe & Szegedy 2015, section 3)."""
        x, weight, mean, scale, count = ctx.saved_tensors
        axes, shape = _other_axes(x)
        of_normed = upper[0].float()
        normed = (x.float() - mean.view(shape)) * scale.view(shape)
        of_bias, of_weight = of_normed.sum(axes), (of_normed * normed).sum(axes)
        first, second = (total / count for total in _over_processes(of_bias, of_weight))
        of_input = (of_normed - first.view(shape) - normed * second.view(shape)) * (scale * weight).view(shape)
        return of_input.to(x.dtype), of_weight, of_bias, None


def _other_axes(x: Tensor) -> tuple[list[int], list[int]]:
    """Return all axes of ``Tensor[B, C, ...]`` but the second, and the shape that spreads ``Tensor[C]`` over them."""
    return [axis for axis in range(x.ndim) if axis != 1], [1, -1] + [1] * (x.ndim - 2)


def _over_processes(*values: Tensor) -> tuple[Tensor, ...]:
    """Return the sums of some ``Tensor[C]`` over the processes."""
    joint = torch.stack(values)
    dist.all_reduce(joint)
    return joint.unbind()


def synchronise_batch_norms(module: nn.Module) -> None:
    """Let every batch norm inside a module share its statistics, in place; one that is frozen stays so."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                shared = SynchronisedBatchNorm(child.num_features, child.eps, child.momentum)
                shared.load_state_dict(child.state_dict())
                shared.requires_grad_(child.weight.requires_grad).train(child.training)
                setattr(parent, name, shared.to(child.weight.device))


def recompute(blocks: nn.ModuleList) -> None:
    """Let every block be computed again in the backward pass, which saves its activations, in place."""
    for block in blocks:
        contexts = partial(_first_and_second, block)
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)


def _first_and_second(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    return nullcontext(), _statistics_as_they_are(block)


@contextmanager
def _statistics_as_they_are(block: nn.Module) -> Generator[None]:
    """Let batch norms count what they see once, not again when it is recomputed."""
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.get_buffer("num_batches_tracked").sub_(1)


def shard(model: nn.Module, blocks: nn.ModuleList) -> nn.Module:
    """Spread the weights of the blocks, and of the rest of a model, over the processes (FSDP2), in place."""
    for module in (*blocks, model):
        fully_shard(module)
    return model


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor that may be spread over the processes; every process calls this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def spread_like(tensor: Tensor, pattern: Tensor) -> Tensor:
    """Return a whole tensor on the device of another, and spread over the processes where the other is."""
    if isinstance(pattern, DTensor):
        return distribute_tensor(tensor.to(pattern.device), pattern.device_mesh, pattern.placements)
    return tensor.to(pattern.device)
