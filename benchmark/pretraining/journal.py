"""What a training writes beside its checkpoints: ``log.jsonl``, ``refused.csv``, and TensorBoard's files where it is installed.

Conventions
-----------
- A line is written whole or not at all; half a line, which a killed run may leave, is dropped when the training goes on.
- Where nothing can be written (a full disk, as a rule) the training waits and tries again for `PATIENCE` seconds: what is
  trained is lost only if nobody makes room.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from marble.errors import MarbleError
from marble.files import atomic_write
from marble.progress import Reporter

PATIENCE, PAUSE = 3600.0, 30.0
LOG, REFUSED = "log.jsonl", "refused.csv"


def insist(write: Callable[[], object], path: Path, reporter: Reporter) -> None:
    """Call `write`, which writes `path`, until it succeeds.

    Raises:
        MarbleError: it failed for `PATIENCE` seconds.
    """
    began = time.monotonic()
    while True:
        try:
            write()
        except (OSError, MarbleError, SafetensorError) as error:
            if time.monotonic() - began > PATIENCE:
                raise MarbleError(
                    f"{path} could not be written for {PATIENCE:g} s: make room, and continue with --resume."
                ) from error
            reporter.say(f"{path} cannot be written ({error}): make room; the training waits and tries again.")
            time.sleep(PAUSE)
        else:
            return


class Journal:
    """The journal of a training in a folder."""

    def __init__(self, folder: Path, reporter: Reporter):
        self.folder, self.reporter = folder, reporter
        self._named: set[str] = set()
        self._board: Any = None

    def open(self, step: int, refused: dict[str, str]) -> None:
        """Drop the lines of the log behind a step, and name the audio that is refused from the start."""
        log = _whole_lines(self.folder / LOG)
        self._replace(LOG, "".join(line for line in log if json.loads(line)["step"] <= step))
        named = _whole_lines(self.folder / REFUSED) or ["audio,reason\n"]
        self._named = {row[0] for row in csv.reader(named)}
        self._replace(REFUSED, "".join(named))
        self.refuse(refused)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step + 1)

    def refuse(self, refused: dict[str, str]) -> None:
        """Name the audio that is not named yet, each with the reason."""
        rows = [(name, reason) for name, reason in refused.items() if name not in self._named]
        if rows:
            self._named |= {name for name, _ in rows}
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(rows)
            self._append(REFUSED, text.getvalue())

    def log(self, line: dict[str, Any]) -> None:
        """Write one line of the log."""
        self._append(LOG, json.dumps(line) + "\n")
        if self._board is not None:
            for name, value in line.items():
                if isinstance(value, float):
                    self._board.add_scalar(name, value, line["step"])

    def _append(self, name: str, text: str) -> None:
        path = self.folder / name

        def append() -> None:
            """Write the text whole or not at all."""
            size = path.stat().st_size if path.exists() else 0
            try:
                with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
                    file.write(text)
            except OSError:
                os.truncate(path, size)
                raise

        insist(append, path, self.reporter)

    def _replace(self, name: str, text: str) -> None:
        def replace() -> None:
            """Write the file anew, beside its place."""
            with atomic_write(self.folder / name) as beside:
                beside.write_text(text, encoding="utf-8", errors="surrogateescape")

        insist(replace, self.folder / name, self.reporter)


def _whole_lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines(keepends=True) if path.exists() else []
    return [line for line in lines if line.endswith("\n")]
