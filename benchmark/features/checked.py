"""Safetensors files that hold the sha256 of their content, so that damage is always noticed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from marble.system.files import atomic_write

DAMAGE = (SafetensorError, ValueError, KeyError, TypeError)
# Tensors whose checksum this process has found right, with size and modification time of their file.
_RIGHT: dict[tuple[Path, str], tuple[int, int]] = {}
_ROWS_AT_ONCE = 2**11


def write_checked(path: Path, about: str, tensors: dict[str, np.ndarray]) -> None:
    """Write a safetensors file whose metadata holds a text and the sha256 of each tensor with its name, type and shape.

    Raises:
        MarbleError: the disk is full or the folder cannot be written.
    """
    # safetensors writes contiguous memory from an array's pointer on, whatever its strides are.
    tensors = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    metadata = {"about": about} | {f"sha256.{name}": _checksum(name, about, values) for name, values in tensors.items()}
    with atomic_write(path) as beside:
        beside.write_bytes(save(tensors, metadata))


def read_checked(path: Path, *names: str) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Return the metadata of a checked file and the named tensors, or all without names.

    Raises:
        OSError: it cannot be read.
        SafetensorError, ValueError, KeyError, TypeError: it is damaged.
    """
    path.open("rb").close()  # safetensors reports every file that it cannot open as missing
    with safe_open(path, framework="np") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in names or file.keys()}
    if "about" not in metadata:
        raise ValueError("it is of an older format")
    for name, values in tensors.items():
        if _checksum(name, metadata["about"], values) != metadata.get(f"sha256.{name}"):
            raise ValueError(f"{name} does not match its checksum")
    return metadata, tensors


def read_slice(path: Path, name: str, begin: int, end: int) -> np.ndarray:
    """Return rows of a tensor of a checked file, whose checksum is computed once in a process, in parts.

    Raises:
        OSError, SafetensorError, ValueError, KeyError, TypeError: as `read_checked`.
    """
    state = path.stat()
    stamp = (state.st_size, state.st_mtime_ns)
    with safe_open(path, framework="np") as file:
        part = file.get_slice(name)
        if _RIGHT.get((path, name)) != stamp:
            metadata = file.metadata() or {}
            dtype, shape = part[:0].dtype, tuple(part.get_shape())
            content = _checksum_of(name, metadata["about"], dtype, shape)
            for first in range(0, shape[0], _ROWS_AT_ONCE):
                content.update(np.ascontiguousarray(part[first : min(first + _ROWS_AT_ONCE, shape[0])]).data)
            if content.hexdigest() != metadata.get(f"sha256.{name}"):
                raise ValueError(f"{name} does not match its checksum")
            _RIGHT[path, name] = stamp
        return part[begin:end]


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a checked file; errors as `read_checked`."""
    with safe_open(path, framework="np") as file:
        return file.metadata() or {}


def _checksum(name: str, about: str, values: np.ndarray) -> str:
    content = _checksum_of(name, about, values.dtype, values.shape)
    content.update(np.ascontiguousarray(values).data)
    return content.hexdigest()


def _checksum_of(name: str, about: str, dtype: np.dtype, shape: tuple[int, ...]) -> hashlib._Hash:
    """Return the hash of a tensor to which its bytes are to be added."""
    return hashlib.sha256(f"{about} {name} {dtype} {shape} ".encode())
