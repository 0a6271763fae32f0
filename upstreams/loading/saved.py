"""Checkpoints that marble writes: a folder with ``upstream.safetensors`` and ``upstream.json``, probed by ``--upstream PATH``.

Conventions
-----------
- The JSON holds the architecture of the weights, with all its sizes, and their origin (`Manifest`). It holds the sha256 of the
  weights, so that two files of different checkpoints are refused.
- Reading is strict: every tensor of the configuration, in its shape, and no other.
- Both files are written in full before either replaces an older one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError
from torch import Tensor, nn

from marble.errors import MarbleError
from marble.system.files import atomic_write, file_hash, user_path
from marble.upstream import UpstreamInfo
from marble.upstreams import SHIPPED
from marble.upstreams.loading.weights import fill, read_checkpoint, read_json
from marble.upstreams.network import NetworkUpstream
from marble.upstreams.nn.mel import DecibelMel
from marble.upstreams.nn.patches import MelPatches, WaveformPatches
from marble.upstreams.nn.stem import Stem

WEIGHTS, MANIFEST = "upstream.safetensors", "upstream.json"

# What can be saved: architecture -> "module:Class" of a `SavedUpstream`.
ARCHITECTURES = {"in-house": "marble.upstreams.mel_encoder:InHouse", "omar-rq": "marble.upstreams.omar_rq:OmarRQ"}


class Manifest(BaseModel):
    """The content of ``upstream.json``.

    Attributes:
        format, version: of this file.
        name: of the upstream, as results call it.
        architecture: one of `ARCHITECTURES`.
        config: its sizes.
        licence, training_data, trained_on: of the weights.
        recipe: the command that trained them.
        steps: of training.
        sha256: of the weights file.
    """

    model_config = ConfigDict(extra="forbid")

    format: Literal["marble-upstream"] = "marble-upstream"
    version: Literal[1] = 1
    name: str
    architecture: str
    config: dict[str, Any]
    licence: str = "not stated"
    training_data: str = "not stated"
    trained_on: tuple[str, ...] = ()
    recipe: str = "not stated"
    steps: NonNegativeInt = 0
    sha256: str


class SavedUpstream(NetworkUpstream):
    """Base of the upstreams that marble trains: made from a name and a configuration, saved to a folder and read from it.

    Pretraining relies on these attributes and on no subclass. A subclass sets those that it has.

    Attributes:
        blocks: the units of recomputation and sharding.
        front_end: decibel mel spectrogram, the input of `stem`, with its mean and std, or None.
        stem: convolutions that may be calibrated and frozen, or None.
        patches: front end whose output ``Tensor[B, T, P]`` may be masked, and then goes to `encode`, or None.
    """

    architecture: ClassVar[str]
    config: BaseModel
    blocks: nn.ModuleList
    front_end: DecibelMel | None
    stem: Stem | None
    patches: MelPatches | WaveformPatches | None

    def __init__(self) -> None:
        super().__init__()
        self.front_end = self.stem = self.patches = None

    @classmethod
    def from_config(cls, name: str, config: Mapping[str, Any]) -> Self:
        """Return the architecture of a configuration, weights as torch draws them; a `ValidationError` if it is invalid."""
        raise NotImplementedError(f"{cls.__name__} must define from_config.")

    def encode(self, patches: Tensor) -> Iterator[Tensor]:
        """Yield the layers of `patches` ``Tensor[B, T, P]``, each ``Tensor[B, T, D]``, where an upstream has patches."""
        raise NotImplementedError(f"{type(self).__name__} encodes no patches.")

    def save(self, folder: Path, extra: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> None:
        """Write weights and `Manifest` into a folder; `extra` gives fields of it, such as the licence or another name.

        `tensors` replace the present weights, which may be spread over processes or not be the best.

        Raises:
            MarbleError: the folder cannot be written.
        """
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in (tensors or self.state_dict()).items()}
        with atomic_write(folder / MANIFEST) as manifest, atomic_write(folder / WEIGHTS) as weights:
            safetensors.torch.save_file(tensors, weights)
            about = {
                "name": self.info.name,
                "architecture": self.architecture,
                "config": self.config.model_dump(mode="json"),
                "sha256": file_hash(weights),
            }
            text = Manifest.model_validate(about | dict(extra)).model_dump_json(indent=2)
            manifest.write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Trained:
    """An upstream that marble trains: its weights are those of a folder, else those that marble ships.

    Attributes:
        name: on the command line, and in the manifest of the folder.
        draw: makes the network at its size, weights as before training, from torch's current random state.
    """

    name: str
    draw: Callable[[], SavedUpstream]

    @cached_property
    def info(self) -> UpstreamInfo:
        """Return the facts about the network, counted without memory, and about the weights that marble ships."""
        with torch.device("meta"):
            upstream = self.draw()
        folder = SHIPPED / self.name
        return _described(upstream, _read_manifest(folder)).info if folder.is_dir() else upstream.info

    def load(self, argument: str | None = None, *, offline: bool = False) -> SavedUpstream:
        """Return the upstream as saved in the folder `argument`, or as marble ships it where none is given.

        Raises:
            MarbleError: there are no weights, or they are damaged or those of another upstream.
        """
        folder = SHIPPED / self.name if argument is None else user_path(argument)
        if argument is None and not folder.is_dir():
            raise MarbleError(
                f"{self.name} has no public weights: pretrain it (marble pretrain {self.name} --data DIR), give the folder of "
                f"your own (--upstream PATH), or take its random weights (--upstream random-init:{self.name})."
            )
        manifest = _read_manifest(folder)
        if manifest.name != self.name:
            raise MarbleError(f"{folder} holds {manifest.name}, not {self.name}: write --upstream {folder}.")
        return _from_folder(folder, manifest)

    def random(self) -> SavedUpstream:
        """Return the upstream with weights as before training, from torch's current random state."""
        return self.draw()


def load_saved(argument: str, *, offline: bool = False) -> SavedUpstream:
    """Return the upstream saved in the folder `argument`: ``saved:PATH``, or the path alone.

    Raises:
        MarbleError: a file is missing or damaged, or the files do not fit each other.
    """
    folder = user_path(argument)
    return _from_folder(folder, _read_manifest(folder))


def _from_folder(folder: Path, manifest: Manifest) -> SavedUpstream:
    module, _, name = ARCHITECTURES[manifest.architecture].partition(":")
    architecture: type[SavedUpstream] = getattr(importlib.import_module(module), name)
    remedy = "copy both files again from where they were written"
    try:
        with torch.device("meta"):
            upstream = architecture.from_config(manifest.name, manifest.config)
    except ValidationError as error:
        raise MarbleError(f"{folder / MANIFEST} has no valid config ({first_fault(error)}): {remedy}.") from error
    if file_hash(_existing(folder / WEIGHTS)) != manifest.sha256:
        raise MarbleError(f"{folder / WEIGHTS} is not the file that {MANIFEST} was written for: {remedy}.")
    fill(upstream, read_checkpoint(folder / WEIGHTS), ignored=())
    return _described(upstream, manifest).eval().requires_grad_(False)


def _described(upstream: SavedUpstream, manifest: Manifest) -> SavedUpstream:
    upstream.info = replace(
        upstream.info,
        source=f"{manifest.recipe}, {manifest.steps} steps",
        licence=manifest.licence,
        training_data=manifest.training_data,
        trained_on=manifest.trained_on,
    )
    return upstream


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise MarbleError(f"{path} does not exist: give the folder that marble pretrain wrote its upstream to.")
    return path


def _read_manifest(folder: Path) -> Manifest:
    path = _existing(folder / MANIFEST)
    try:
        manifest = Manifest.model_validate(read_json(path))
    except ValidationError as error:
        raise MarbleError(f"{path} does not describe an upstream of this version of marble ({first_fault(error)}).") from error
    if manifest.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise MarbleError(f"{path} names the architecture '{manifest.architecture}', but marble knows {known}.")
    return manifest


def first_fault(error: ValidationError) -> str:
    """Return the first fault of an error of pydantic, with its place."""
    fault = error.errors()[0]
    return f"{'.'.join(map(str, fault['loc'])) or 'it'}: {fault['msg']}"
