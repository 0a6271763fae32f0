"""Weights and settings: read as data, renamed, and filled into an upstream completely.

Conventions
-----------
- Nothing is executed: safetensors, or PyTorch files that `torch.load` accepts with ``weights_only=True``.
- Official tensor names are translated by a table of (official, marble's) fragments, applied in order. What an upstream ignores
  stands in an explicit list; every other tensor that is missing, left over or of another shape is an error that names it.
- The work is bounded by the size of the files, whatever they claim: `MOST_BLOCKS`, `MOST_UNITS`, `SETTINGS_BYTES`.
"""

from __future__ import annotations

import json
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from marble.errors import MarbleError

MOST_BLOCKS, MOST_UNITS = 1000, 65_536  # ten times what the deepest and the widest model has
SETTINGS_BYTES = 1 << 20  # a hundred times what the longest published configuration has
_MAPPED_BYTES = 64 << 20


class Checkpoint(dict[str, Tensor]):
    """Tensors by name, their path, and their names in that file where these differ.

    Asking for a name that is not there is a user's mistake.
    """

    def __init__(self, tensors: dict[str, Tensor], path: Path, official: dict[str, str] | None = None):
        super().__init__(tensors)
        self.path, self.official = path, official or {}

    def __missing__(self, name: str) -> Tensor:
        raise MarbleError(f"{self.path} is not a checkpoint of this upstream: it has no tensor '{name}'; check the path.")

    def renamed(self, table: Iterable[tuple[str, str]]) -> Checkpoint:
        """Return the same tensors with the fragments of a (from, to) table replaced in their names, in order.

        Raises:
            MarbleError: two of them get the same name.
        """
        names, official = {}, {}
        for old, tensor in self.items():
            name = old
            for theirs, ours in table:
                name = name.replace(theirs, ours)
            if name in names:
                raise MarbleError(f"{self.path} holds '{name}' twice, under two names: get the checkpoint as it was published.")
            names[name], official[name] = tensor, old
        return Checkpoint(names, self.path, official)

    def with_pointwise_as_linear(self) -> Checkpoint:
        """Return the same tensors with convolution kernels of one tap ``[O, I, 1]`` as matrices ``[O, I]``."""
        matrices = {name: x.squeeze(-1) if x.ndim == 3 and x.shape[-1] == 1 else x for name, x in self.items()}
        return Checkpoint(matrices, self.path, self.official)

    def with_weight_norm_merged(self, layer: str) -> Checkpoint:
        """Return the same tensors with magnitude and direction of a weight-normed layer as its weight.

        Both spellings of torch are read. The norm is over all axes but the last: ``weight = g * v / |v|`` with ``g[1, 1, K]``.
        """
        spellings = ("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")
        old, new = ([f"{layer}.{part}" for part in spelling] for spelling in spellings)
        names = old if old[0] in self else new
        magnitude, direction = (self[name].float() for name in names)
        merged = {name: tensor for name, tensor in self.items() if name not in names}
        merged[f"{layer}.weight"] = direction * (magnitude / direction.norm(dim=(0, 1), keepdim=True))
        return Checkpoint(merged, self.path)

    def depth(self, prefix: str) -> int:
        """Return one more than the highest index i of the names ``{prefix}{i}.``, 0 where there is none.

        Raises:
            MarbleError: it is more than `MOST_BLOCKS`.
        """
        matches = (re.match(rf"{re.escape(prefix)}(\d+)\.", name) for name in self)
        depth = 1 + max((int(match[1]) for match in matches if match), default=-1)
        if depth > MOST_BLOCKS:
            raise MarbleError(f"{self.path} names {depth} blocks, more than any model has: download it again.")
        return depth


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the tensors of a safetensors or PyTorch file; a dictionary under the key ``state_dict`` is unwrapped.

    Raises:
        MarbleError: the file is no such file, is damaged, carries code, or holds something other than tensors.
    """
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":
        content = _read_safetensors(path)
    elif zipfile.is_zipfile(path) or start.startswith((b"PK", b"\x80")):
        content = _read_pickle(path)
    else:
        raise MarbleError(f"{path} holds no weights: it is neither a safetensors nor a PyTorch file; download it again.")
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not (isinstance(content, dict) and all(map(_is_plain, content.values()))):
        raise MarbleError(f"{path} holds something other than named tensors: give the checkpoint file itself.")
    return Checkpoint({str(name): tensor for name, tensor in content.items()}, path)


def _is_plain(value: object) -> bool:
    """Tell whether a value is a dense tensor in memory."""
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta


def _read_safetensors(path: Path) -> object:
    """Return copies of the tensors: a mapped tensor changes with the file, and its alignment changes how products round.

    The file is reopened after every `_MAPPED_BYTES`, so that no more of it is in memory beside the copies.
    """
    tensors: dict[str, Tensor] = {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = iter(list(file.keys()))
        name = next(names, None)
        while name is not None:
            mapped = 0
            with safetensors.safe_open(path, framework="pt") as file:
                while name is not None and mapped < _MAPPED_BYTES:
                    tensors[name] = file.get_tensor(name).clone()
                    mapped += tensors[name].nbytes
                    name = next(names, None)
        return tensors
    except safetensors.SafetensorError as error:
        raise MarbleError(f"{path} is truncated or damaged ({error}): download it again.") from error


def _read_pickle(path: Path) -> object:
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's warnings are about files that are refused in any case
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's words are "Unsupported operand" (another protocol) and "Unsupported class" or "global" (code), in either case.
        if "nsupported operand" in str(error):
            raise MarbleError(f"{path} is of another pickle protocol: save its tensors with torch.save as it is.") from error
        if "nsupported" in str(error):
            raise MarbleError(f"{path} carries code or objects besides tensors and is not opened: get a plain one.") from error
        raise MarbleError(f"{path} is truncated, damaged or no checkpoint: download it again.") from error
    except Exception as error:  # on a damaged file torch.load raises almost anything, AssertionError included
        raise MarbleError(f"{path} is truncated, damaged or no checkpoint: download it again.") from error


def fill(module: nn.Module, checkpoint: Checkpoint, ignored: tuple[str, ...]) -> None:
    """Give a module its tensors from a checkpoint that already has the module's names.

    Weights become float32; counters of batch norms, which old checkpoints store as floats or not at all, become integers
    (nothing reads them). Tensors whose name matches one of the regular expressions `ignored` from its start are left out.

    Raises:
        MarbleError: names the tensors that are missing (by the module's names), unexpected, of another shape, or no finite
            floating-point numbers (by the file's).
    """
    wanted = module.state_dict()
    patterns = [re.compile(pattern) for pattern in ignored]
    tensors = {name: torch.zeros((), dtype=torch.int64) for name in wanted if name.endswith(".num_batches_tracked")}
    tensors |= {name: tensor for name, tensor in checkpoint.items() if not any(pattern.match(name) for pattern in patterns)}
    both = wanted.keys() & tensors.keys()
    floats = [name for name in both if wanted[name].is_floating_point()]
    faults = {
        "misses": wanted.keys() - tensors.keys(),
        "has unexpected": tensors.keys() - wanted.keys(),
        "has another shape for": [name for name in both if wanted[name].shape != tensors[name].shape],
        "has no finite floats for": [name for name in floats if not _is_finite(tensors[name])],
    }
    if any(faults.values()):
        named = {fault: [checkpoint.official.get(name, name) for name in names] for fault, names in faults.items() if names}
        sentence = "; ".join(f"it {fault} {_listed(names)}" for fault, names in named.items())
        raise MarbleError(f"{checkpoint.path} does not fit this upstream: {sentence}; check that it is the right checkpoint.")
    cast = {name: tensor.to(wanted[name].dtype) for name, tensor in tensors.items()}
    module.load_state_dict(cast, strict=True, assign=True)


def _is_finite(tensor: Tensor) -> bool:
    """Tell whether a tensor holds floating-point numbers that are finite in float32; on the meta device only their kind."""
    if not tensor.is_floating_point() or tensor.is_meta or not tensor.numel():
        return tensor.is_floating_point()
    return all(bool(end.isfinite()) for end in tensor.float().aminmax())


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


class Settings(dict[str, Any]):
    """Settings of a configuration file by name, and its path; asking for one that is not there is a user's mistake."""

    def __init__(self, settings: dict[str, Any], path: Path):
        super().__init__(settings)
        self.path = path

    def __missing__(self, name: str) -> Any:
        raise MarbleError(
            f"{self.path} does not say '{name}': it is not the configuration of this upstream; download it again."
        )

    def inner(self, name: str) -> Settings:
        """Return settings that are an object inside these.

        Raises:
            MarbleError: they are missing, or are not an object.
        """
        if not isinstance(self[name], dict):
            raise MarbleError(f"{self.path} says {name} = {self[name]!r}, which is not an object: download it again.")
        return Settings(self[name], self.path)

    def demand(self, **values: object) -> None:
        """Raise a `MarbleError` that names the first setting whose value differs from that in `values`."""
        for name, value in values.items():
            if self[name] != value:
                raise MarbleError(f"{self.path} says {name} = {self[name]!r}, but marble implements {value!r} only.")

    def numbers(self, *names: str) -> tuple[float, ...]:
        """Return settings that must be finite numbers.

        Raises:
            MarbleError: one of them is missing, or is not a finite number.
        """
        for name in names:
            if isinstance(self[name], bool) or not isinstance(self[name], int | float) or not math.isfinite(self[name]):
                raise MarbleError(f"{self.path} says {name} = {self[name]!r}, which is not a number: download it again.")
        return tuple(float(self[name]) for name in names)

    def heads(self, name: str, width: int) -> int:
        """Return a setting that must divide a width.

        Raises:
            MarbleError: it is missing, or does not.
        """
        if type(self[name]) is not int or self[name] < 1 or width % self[name]:
            raise MarbleError(f"{self.path} says {name} = {self[name]!r}, which does not divide the width {width}.")
        return self[name]


def read_text(path: Path) -> str:
    """Return the text of a file of settings.

    Raises:
        MarbleError: it is no UTF-8, or longer than `SETTINGS_BYTES`.
    """
    if path.stat().st_size > SETTINGS_BYTES:
        raise MarbleError(f"{path} is too long for a configuration ({path.stat().st_size} bytes): download it again.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MarbleError(f"{path} cannot be read as text ({error}): download it again.") from error


def read_json(path: Path) -> Settings:
    """Return the settings of a JSON file.

    Raises:
        MarbleError: it is not valid JSON, not an object, or too long.
    """
    try:
        settings = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise MarbleError(f"{path} is not valid JSON ({error}): download it again.") from error
    if not isinstance(settings, dict):
        raise MarbleError(f"{path} does not hold a JSON object: download it again.")
    return Settings(settings, path)
