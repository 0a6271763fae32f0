"""The feature cache: every clip is encoded only once.

Conventions
-----------
- A *space* is one way of turning audio into features: weights, code versions, sample rate, windows, reduction, precision.
  Its folder is named after the sha256 of that description and holds it as ``space.json``.
- A *clip key* is the sha256 of a file's content, of the excerpt's times, and of the format that its name promises, since a
  wrong name makes a file bad. The rest of its name, tasks and results do not count.
- A *shard* is a safetensors file with the features of some clips: ``layer.K`` float32[rows, E] for each layer (frames: float16
  as a rule, one layer a file), ``rows`` int64[clips] (rows of each clip, clips in the order of the keys), and as metadata the
  clip keys (``about``) and, for each tensor, the sha256 of these keys and of its name, type, shape and bytes. It is written
  beside its path and renamed, so a shard is whole or absent. Files of the same kind hold the answers of trained probes, see
  `marble.probe.training.train`.
- A lock per clip lets many processes fill one cache; the lock of a killed process is free.
- The content of a shard is checked against its sha256 whenever it is read, or if parts of it are read (`Space.slice`), once in
  a process; a damaged shard is set aside and its clips are encoded again, with a warning.
- A space of another `FORMAT` belongs to an older marble: it is listed, never read, and removed by ``marble cache gc``.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from marble.errors import MarbleError, reason
from marble.features.checked import DAMAGE, read_checked, read_metadata, read_slice, write_checked
from marble.system.files import atomic_write, digest, writing

FORMAT = 3


def clip_key(content: str, start: float, stop: float | None, formats: Sequence[str] = ()) -> str:
    """Return the key of an excerpt: its file's sha256, its times in seconds, and the formats that its name promises."""
    return digest([content, start, stop, formats])


def _cannot_read(path: Path, error: OSError) -> MarbleError:
    return MarbleError(
        f"Cannot read {path} of the cache ({reason(error)}): make it readable or remove it, then run the same command again."
    )


class FeatureCache:
    """All spaces under one folder."""

    def __init__(self, root: Path):
        self.root = root

    def space(self, description: dict[str, object]) -> Space:
        """Return the space of a description, made if it is new, and mark it as used now.

        Raises:
            MarbleError: the folder cannot be written.
        """
        name = str(description["upstream"]).replace("/", "_").replace(":", "_")
        path = self.root / "features" / f"{name}-{digest(description)[:16]}" / "space.json"
        text = json.dumps(description, indent=1, sort_keys=True) + "\n"
        if not path.exists() or path.read_bytes() != text.encode():
            with atomic_write(path) as beside:
                beside.write_text(text)
        with suppress(OSError):  # a read-only cache works as well
            os.utime(path)
        return Space(path.parent)

    def spaces(self) -> list[Space]:
        """Return all spaces, by name."""
        return [Space(path.parent) for path in sorted(self.root.glob("features/*/space.json"))]

    def older(self, upstream: str) -> list[Space]:
        """Return the spaces of an upstream that an older marble wrote, which this one does not read."""
        older = []
        for path in sorted(self.root.glob("features/*/space.json")):
            with suppress(MarbleError):  # that of another upstream may be damaged
                space = Space(path.parent)
                if space.is_older and space.description.get("upstream") == upstream:
                    older.append(space)
        return older

    def damaged_probes(self) -> list[tuple[Path, str]]:
        """Return the damaged trained probes beside the features, with the reason.

        Raises:
            MarbleError: one of them cannot be read.
        """
        older = {path for path, _ in _older_probes(self.root)}
        return [damage for damage in _damaged(self.root.glob("probes/*/*.safetensors")) if damage[0] not in older]

    def collect(self, older_than_days: float | None = None) -> list[tuple[Path, str]]:
        """Remove interrupted writes, damaged files, files of an older format, old checkpoints and, on request, unused spaces.

        Checkpoints are those of probing that was stopped a week ago.

        Args:
            older_than_days: remove spaces not used for this long, in days; None keeps all.

        Returns:
            The removed files, with the reason.

        Raises:
            MarbleError: a file cannot be read or removed.
        """
        removed = [(path, "damaged") for path in sorted(self.root.glob("features/*/*.damaged"))]
        removed += self.damaged_probes() + _older_probes(self.root)
        for stopped in sorted(self.root.glob("probes/*/*.stopped")):
            if time.time() - stopped.stat().st_mtime > 7 * 86400:
                removed.append((stopped, "stopped a week ago"))
        for part in sorted(self.root.glob("**/.*.part")):
            if time.time() - part.stat().st_mtime > 3600:
                removed.append((part, "interrupted write"))
        for space in self.spaces():
            age = (time.time() - (space.folder / "space.json").stat().st_mtime) / 86400
            if not space.description_damage() and space.is_older:
                removed += [(path, "of an older format") for path in sorted(space.folder.iterdir())]
            elif older_than_days is not None and age > older_than_days:
                removed += [(path, f"not used for {age:.0f} days") for path in sorted(space.folder.iterdir())]
            else:
                removed += space.damaged()
        removed = list(dict(reversed(removed)).items())[::-1]  # each once
        for path, _ in removed:
            with writing(path):
                path.unlink(missing_ok=True)
        for folder in {path.parent for path, _ in removed}:
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()
        return removed


class Space:
    """The shards of one way of turning audio into features."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._index: dict[int, dict[str, tuple[Path, int, int]]] = {}
        self._seen: set[Path] = set()

    @property
    def description(self) -> dict[str, object]:
        """The description of this space: upstream, weights, versions, windows, reduction, precision.

        Raises:
            MarbleError: its file cannot be read or is damaged.
        """
        path = self.folder / "space.json"
        try:
            description = json.loads(path.read_bytes())
            if not isinstance(description, dict) or not self.folder.name.endswith(digest(description)[:16]):
                raise ValueError("it does not fit the name of its folder")
            return description
        except OSError as error:
            raise _cannot_read(path, error) from error
        except (ValueError, RecursionError) as error:
            raise MarbleError(f"{path} is damaged ({error}): remove it and run again, which writes a new one.") from error

    def description_damage(self) -> list[tuple[Path, str]]:
        """Return the file of the description, with the reason, if it is damaged."""
        try:
            _ = self.description
        except MarbleError as error:
            return [(self.folder / "space.json", str(error))]
        return []

    @property
    def is_older(self) -> bool:
        """Tell whether the space has the format of an older marble."""
        return self.description.get("format") != FORMAT

    def refresh(self) -> None:
        """Read the shards that other processes have written since; damaged ones are set aside with a warning.

        Raises:
            MarbleError: a shard cannot be read.
        """
        for path in sorted(self.folder.glob("*.safetensors")):
            if path not in self._seen:
                self._seen.add(path)
                self._add(path)

    def missing(self, keys: Iterable[str], layers: Sequence[int]) -> list[str]:
        """Return the clip keys that lack one of the layers, in order."""
        indices = [self._index.get(layer, {}) for layer in layers]
        return [key for key in keys if any(key not in index for index in indices)]

    def size(self) -> tuple[int, list[int], int]:
        """Return how many clips, which layers and how many bytes the space holds; of an older one the bytes alone."""
        if not self.is_older:
            self.refresh()
        clips = {key for layer in self._index.values() for key in layer}
        return len(clips), sorted(self._index), sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))

    def write(self, keys: Sequence[str], rows: Sequence[int], features: dict[int, np.ndarray]) -> Path:
        """Write a shard.

        Args:
            keys: of its clips.
            rows: number of rows of each clip.
            features: for each layer float32[rows, E] or float16, clips in the order of the keys.

        Returns:
            The path of the shard.

        Raises:
            MarbleError: it cannot be written or read back.
        """
        tensors: dict[str, np.ndarray] = {"rows": np.asarray(rows, dtype=np.int64)}
        for layer, values in features.items():
            tensors[f"layer.{layer}"] = values if values.dtype == np.float16 else np.ascontiguousarray(values, dtype=np.float32)
        path = self.shard_path(keys, list(features))
        write_checked(path, json.dumps(list(keys)), tensors)
        self._seen.add(path)
        self._add(path)
        return path

    def clip_path(self, key: str) -> Path:
        """Return the path whose lock claims a clip."""
        return self.folder / f"{key[:32]}.clip"

    def shard_path(self, keys: Sequence[str], layers: Sequence[int]) -> Path:
        """Return the path of the shard of these clips and layers."""
        return self.folder / f"{digest([list(keys), sorted(layers)])[:24]}.safetensors"

    def read(self, keys: Sequence[str], layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the features of some clips and the number of rows of each: float32[sum(rows), E], int64[clips].

        Raises:
            MarbleError: a clip is not in the cache, or its shard is damaged (it is then set aside).
        """
        index, counts = self._held(keys, layer), self.rows(keys, layer)
        ends = np.cumsum(counts)
        by_shard: dict[Path, list[int]] = {}
        for number, key in enumerate(keys):
            by_shard.setdefault(index[key][0], []).append(number)
        values: np.ndarray | None = None
        for path, numbers in by_shard.items():
            shard = self._tensor(path, f"layer.{layer}")
            if values is None:
                values = np.empty((int(ends[-1]), shard.shape[1]), dtype=np.float32)
            for number in numbers:
                begin = index[keys[number]][1]
                values[ends[number] - counts[number] : ends[number]] = shard[begin : begin + counts[number]]
        return values if values is not None else np.empty((0, 0), dtype=np.float32), counts

    def rows(self, keys: Sequence[str], layer: int) -> np.ndarray:
        """Return the number of rows of some clips of a layer, ``int64[clips]``.

        Raises:
            MarbleError: a clip is not in the cache.
        """
        index = self._held(keys, layer)
        return np.array([index[key][2] for key in keys], dtype=np.int64)

    def slice(self, key: str, layer: int, begin: int, end: int) -> np.ndarray:
        """Return some rows of a clip as they are stored, float16[end - begin, E] or float32; no others are held in memory.

        Raises:
            MarbleError: the clip is not in the cache, or its shard is damaged (it is then set aside).
        """
        path, first, _ = self._held([key], layer)[key]
        with self._set_aside_if_damaged(path):
            return read_slice(path, f"layer.{layer}", first + begin, first + end)
        raise AssertionError

    def damaged(self) -> list[tuple[Path, str]]:
        """Return the files whose content does not match their sha256, with the reason.

        Raises:
            MarbleError: one of them cannot be read.
        """
        return self.description_damage() + _damaged(self.folder.glob("*.safetensors"))

    def _held(self, keys: Sequence[str], layer: int) -> dict[str, tuple[Path, int, int]]:
        """Return shard, first row and number of rows of the clips of a layer, which must hold these."""
        index = self._index.get(layer, {})
        absent = [key for key in keys if key not in index]
        if absent:
            raise MarbleError(f"{len(absent)} clips are no longer in the cache {self.folder}: run the same command again.")
        return index

    def _tensor(self, path: Path, name: str) -> np.ndarray:
        with self._set_aside_if_damaged(path):
            return read_checked(path, name)[1][name]
        raise AssertionError

    @contextmanager
    def _set_aside_if_damaged(self, path: Path) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise _cannot_read(path, error) from error
        except DAMAGE as error:
            self._set_aside(path, error)
            others = _damaged(self.folder.glob("*.safetensors"))  # at once, not one in each run
            for other, why in others:
                self._set_aside(other, why)
            more = f", and so are {len(others)} more" if others else ""
            raise MarbleError(
                f"A shard of the cache was damaged ({path.name}: {error}) and is set aside{more}: run the same command again, "
                "which encodes only what was lost."
            ) from error

    def _add(self, path: Path) -> None:
        try:
            metadata, tensors = read_checked(path, "rows")
            keys, rows = json.loads(metadata["about"]), tensors["rows"].tolist()
            layers = [int(name.rpartition(".")[2]) for name in metadata if name.startswith("sha256.layer.")]
        except FileNotFoundError:
            return
        except OSError as error:
            raise _cannot_read(path, error) from error
        except DAMAGE as error:
            self._set_aside(path, error)
            return
        begin = 0
        for key, count in zip(keys, rows, strict=True):
            for layer in layers:
                self._index.setdefault(layer, {})[key] = (path, begin, count)
            begin += count

    def _set_aside(self, path: Path, reason: Exception | str) -> None:
        warnings.warn(f"set aside the damaged shard {path} ({reason}); its clips are encoded again", stacklevel=3)
        self._seen.discard(path)
        for layer, rows in self._index.items():
            self._index[layer] = {key: entry for key, entry in rows.items() if entry[0] != path}
        with writing(path.with_suffix(".damaged")), suppress(FileNotFoundError):  # another process may be faster
            path.replace(path.with_suffix(".damaged"))


def _older_probes(root: Path) -> list[tuple[Path, str]]:
    """Return the trained probes that an older marble wrote; damaged ones are left out."""
    older = []
    for path in sorted(root.glob("probes/*/*.safetensors")):
        with suppress(OSError, *DAMAGE):
            written_as = json.loads(read_metadata(path)["about"]).get("format")
            # A flipped digit makes no file older; before format 3 none was written.
            if written_as is None or (written_as != FORMAT and not _damaged([path])):
                older.append((path, "of an older format"))
    return older


def _damaged(paths: Iterable[Path]) -> list[tuple[Path, str]]:
    """Return the damaged files, with the reason."""
    damaged = []
    for path in sorted(paths):
        try:
            read_checked(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _cannot_read(path, error) from error
        except DAMAGE as error:
            damaged.append((path, str(error)))
    return damaged
