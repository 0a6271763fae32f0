"""The contract of an upstream: a frozen model that turns audio into hidden states, layer by layer.

Conventions
-----------
- A waveform is ``Tensor[B, N]``, float32, mono, at ``info.sample_rate`` Hz, nominally in [-1, 1].
- Layer 0 is the input of the first block, layer k the output of block k. Every layer is ``Tensor[B, T, D]``; its width D
  is in ``info.layers`` and may differ between layers. A layer that is one vector for the whole window, such as a class token
  or a projection of the mean, is ``Tensor[B, 1, D]``; the others have ``info.frame_rate`` frames a second, the first of which
  is centred at ``info.first_frame``: half a frame of error moves every beat and chord.
- `Upstream.layers` is a *generator*: the caller takes the layers it wants and stops. Later blocks are never computed, and
  only one hidden state is alive at a time.
- All clips of a batch have equal length; nothing is padded inside a batch, and a clip has the same hidden states alone as in
  a batch.
- A loaded upstream is in evaluation mode and without gradients, so `layers` is right at once; `Upstream.prepare` makes it fast.
- The key of the feature cache holds ``info.name``, ``info.version``, raised whenever a change of the code changes a number, and
  the content of all parameters and persistent buffers. It misses a number that is kept elsewhere, such as an attribute read
  from a file: make it a buffer.

A new upstream is one subclass of `Upstream` with an `info` and a `layers`; `marble check` explains every broken promise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from marble.errors import MarbleError
from marble.frames import Grid


@dataclass(frozen=True)
class Layer:
    """Name and width D of one hidden state ``Tensor[B, T, D]``."""

    name: str
    width: int


@dataclass(frozen=True, kw_only=True)
class UpstreamInfo:
    """The facts about an upstream, known before any audio is encoded; the first four fields are needed.

    Attributes:
        name: on the command line.
        sample_rate: of the waveform, in Hz.
        frame_rate: hidden-state frames per second, in Hz; any where every layer is one vector a window.
        layers: name and width of each hidden state, layer 0 first.
        first_frame: centre of what the first frame stands for, in seconds, by the arithmetic of the front end: 0 where its
            windows are centred, half of what a frame covers where frames are cut side by side.
        version: raised whenever the hidden states change for the same weights and audio.
        parameters: number of weights that the hidden states depend on; None if not counted.
        licence: of the weights (and of the code where that differs).
        training_data: of the weights, in words.
        trained_on: the collections of music that the training data comes from, by the names of
            `marble.data.leakage.COLLECTIONS`; a result says where a task draws on the same ones.
        paper: the paper that describes the model.
        source: where the weights come from.
        max_seconds: longest window, in seconds, as a rule the longest in training; longer clips are cut into windows. None:
            any length can be encoded; windows are 30 s long where protocol and task state nothing else.
        trained_seconds: length of the waveforms that it was trained on, where that is shorter than `max_seconds`: its windows
            last no longer where the protocol states no length.
        min_seconds: shortest waveform that can be encoded, in seconds; shorter clips are extended with zeros.
        precisions: which of "fp32" and "bf16" `Upstream.prepare` accepts.
    """

    name: str
    sample_rate: int
    frame_rate: float
    layers: tuple[Layer, ...]
    first_frame: float = 0.0
    version: int = 1
    parameters: int | None = None
    licence: str = "not stated"
    training_data: str = "not stated"
    trained_on: tuple[str, ...] = ()
    paper: str = "not stated"
    source: str = "not stated"
    max_seconds: float | None = None
    trained_seconds: float | None = None
    min_seconds: float = 0.0
    precisions: tuple[str, ...] = ("fp32",)

    @property
    def grid(self) -> Grid:
        """The grid of the frames of a window."""
        return Grid(self.frame_rate, self.first_frame)


class UpstreamSource(Protocol):
    """An upstream before it is loaded: a subclass of `Upstream`, or an object that knows where the weights come from."""

    @property
    def info(self) -> UpstreamInfo:
        """Return the facts about the upstream."""
        ...

    def load(self, argument: str | None = None, *, offline: bool = False) -> Upstream:
        """Return the upstream with its weights."""
        ...

    def random(self) -> Upstream:
        """Return the upstream with random weights."""
        ...


class Upstream(nn.Module):
    """Base of every upstream: a subclass gives `info` and `layers`, and `load` and `random` where it has weights.

    Attributes:
        info: what is known about it.
        device, precision: as prepared; before that, precision is None.
        weights_sha256: hash of the weights as they were loaded, once prepared.
        first_run_sha256: hash of the prepared weights, folded and cast, when a job first used them.
    """

    info: UpstreamInfo
    device: torch.device = torch.device("cpu")
    precision: str | None = None
    weights_sha256: str | None = None
    first_run_sha256: str | None = None

    @classmethod
    def load(cls, argument: str | None = None, *, offline: bool = False) -> Upstream:
        """Return the upstream with its weights, in evaluation mode and without gradients.

        Args:
            argument: the part after the colon of ``NAME:ARGUMENT``, as a rule a path to weights; None means the default.
            offline: do not use the network.

        Raises:
            MarbleError: this upstream takes no argument.
        """
        if argument is not None:
            raise MarbleError(f"{cls.info.name} takes no argument, but got '{argument}': leave out the part after the colon.")
        return cls().eval().requires_grad_(False)

    @classmethod
    def random(cls) -> Upstream:
        """Return the upstream at its full size with weights drawn from torch's current random state, ready to be trained.

        Raises:
            MarbleError: the upstream has no weights to draw.
        """
        raise MarbleError(
            f"{cls.info.name} has no weights to draw: define random(cls) where it has some, else leave out random-init."
        )

    def layers(self, waveform: Tensor) -> Iterator[Tensor]:
        """Yield the hidden states ``Tensor[B, T, D]`` of a waveform ``Tensor[B, N]``, layer 0 first.

        Raises:
            NotImplementedError: the subclass does not define it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define layers(waveform).")

    def prepare(self, device: str | torch.device, precision: str = "fp32") -> Upstream:
        """Make ready for inference: evaluation mode, no gradients, on `device`, in `precision`; return self.

        Sets `weights_sha256` first: a subclass calls this before it folds or casts its weights.

        Raises:
            MarbleError: the upstream does not offer this precision, or was prepared in another.
        """
        if precision not in self.info.precisions:
            offered = " or ".join(self.info.precisions)
            raise MarbleError(f"{self.info.name} does not run in {precision}: use --precision {offered}.")
        if self.precision not in (None, precision):
            raise MarbleError(f"{self.info.name} was prepared in {self.precision}: load it again for {precision}.")
        self.weights_sha256 = self.weights_sha256 or self.weights_hash()
        self.device, self.precision = torch.device(device), precision
        return self.eval().requires_grad_(False).to(self.device)

    def refuse_changed_weights(self) -> None:
        """Raise a `MarbleError` where the weights of a prepared upstream have changed since the first call."""
        present = Upstream.weights_hash(self)
        self.first_run_sha256 = self.first_run_sha256 or present
        if present != self.first_run_sha256:
            raise MarbleError(
                f"The weights of {self.info.name} were changed after it first ran, so its results would stand under the old "
                "ones: load it again and change them before it runs."
            )

    def weights_hash(self) -> str:
        """Return the sha256 of names, types, shapes and contents of all weights and persistent buffers, as 64 hex digits."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(memoryview(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()))
        return digest.hexdigest()
