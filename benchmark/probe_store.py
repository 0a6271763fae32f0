"""Trained probes kept beside the feature cache: a group is trained once, and its test answers are computed once.

One safetensors file for each group, named after the sha256 of what decides it (features, splits, targets, probe, layer, seed).
A killed run finds here what it had finished; more seeds or layers train only what is new.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from marble.cache import written_whole
from marble.probes import Trained

_TENSORS = ("grid_scores", "grid_epochs", "validation", "test", "layer_weights", "validation_windows", "test_windows")


class ProbeStore:
    """Trained groups in one folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def load(self, key: str) -> Trained | None:
        """Return a trained group, or None where it is not there or its file is damaged."""
        path = self._path(key)
        try:
            with safe_open(path, framework="pt") as file:
                choice = json.loads(file.metadata()["choice"])
                return Trained(**choice, **{name: file.get_tensor(name) for name in _TENSORS})
        except (SafetensorError, KeyError, ValueError, TypeError, OSError):
            path.unlink(missing_ok=True)
            return None

    def save(self, key: str, trained: Trained) -> None:
        """Keep a trained group.

        Raises:
            MarbleError: the disk is full or the folder cannot be written.
        """
        choice = {"learning_rate": trained.learning_rate, "epoch": trained.epoch}
        tensors = {name: getattr(trained, name).contiguous() for name in _TENSORS}
        with written_whole(self._path(key)) as beside:
            beside.write_bytes(save(tensors, {"choice": json.dumps(choice)}))

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[:40]}.safetensors"
