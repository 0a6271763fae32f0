"""Trained probes kept beside the feature cache: a group is trained once, and its test answers are computed once.

One safetensors file for each group, named after the sha256 of what decides it (features, splits, targets, probe, layer, seed),
with the sha256 of what it holds. A killed run finds here what it had finished; more seeds or layers train only what is new. A
damaged file counts as none: its group is trained again.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from marble.cache import checksum, digest, written_whole
from marble.probes import Trained

_DAMAGE = (SafetensorError, KeyError, ValueError, TypeError, OSError)
_TENSORS = ("grid_scores", "grid_epochs", "validation", "test", "layer_weights", "validation_windows", "test_windows")


class ProbeStore:
    """Trained groups in one folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def load(self, key: str) -> Trained | None:
        """Return a trained group, or None where it is not there or its file is damaged."""
        path = self._path(key)
        try:
            return _read(path)
        except _DAMAGE:
            with suppress(OSError):  # not there, or in a folder that may only be read
                path.unlink()
            return None

    def save(self, key: str, trained: Trained) -> None:
        """Keep a trained group.

        Raises:
            MarbleError: the disk is full or the folder cannot be written.
        """
        choice = json.dumps({"learning_rate": trained.learning_rate, "epoch": trained.epoch})
        tensors = {name: getattr(trained, name).contiguous() for name in _TENSORS}
        with written_whole(self._path(key)) as beside:
            beside.write_bytes(save(tensors, {"choice": choice, "sha256": _sha256(choice, tensors)}))

    def damaged(self) -> list[tuple[Path, str]]:
        """Return the files that do not hold what was written, with the reason."""
        found = []
        for path in sorted(self.folder.glob("*/*.safetensors")):
            try:
                _read(path)
            except FileNotFoundError:
                continue
            except _DAMAGE as error:
                found.append((path, str(error)))
        return found

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[:40]}.safetensors"


def _read(path: Path) -> Trained:
    """Return a trained group from its file; one of `_DAMAGE` where it is not there or not as it was written."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in _TENSORS}
    if _sha256(metadata["choice"], tensors) != metadata["sha256"]:
        raise ValueError("it does not match its checksum")
    return Trained(**json.loads(metadata["choice"]), **tensors)


def _sha256(choice: str, tensors: dict[str, Tensor]) -> str:
    return digest([checksum(name, choice, tensor.numpy(force=True)) for name, tensor in tensors.items()])
