"""The files of a training beside its checkpoints: ``log.jsonl``, ``refused.csv``, and optionally TensorBoard's.

Conventions
-----------
- A line is written completely or not at all. A training that continues has the log of its checkpoint, whatever a killed run or
  a damaged disk has left.
- Where nothing can be written (a full disk, as a rule) the training waits and tries again for `RETRY_SECONDS`: the
  training is lost only if no room is made.
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
from marble.system.files import atomic_write
from marble.system.progress import Reporter

RETRY_SECONDS, RETRY_PAUSE = 3600.0, 30.0
LOG, REFUSED = "log.jsonl", "refused.csv"


def retry_until_written(write: Callable[[], object], path: Path, reporter: Reporter) -> None:
    """Call `write`, which writes `path`, until it succeeds.

    Raises:
        MarbleError: it failed for `RETRY_SECONDS`.
    """
    began = time.monotonic()
    while True:
        try:
            write()
        except (OSError, MarbleError, SafetensorError) as error:
            if time.monotonic() - began > RETRY_SECONDS:
                raise MarbleError(
                    f"{path} could not be written for {RETRY_SECONDS:g} s: make room, and continue with --resume."
                ) from error
            reporter.say(f"{path} cannot be written ({error}): make room; the training waits and tries again.")
            time.sleep(RETRY_PAUSE)
        else:
            return


class Journal:
    """The journal of a training in a folder, with TensorBoard's files where `tensorboard` is set."""

    def __init__(self, folder: Path, reporter: Reporter, *, tensorboard: bool = False):
        self.folder, self.reporter = folder, reporter
        self.tensorboard = tensorboard
        self._named: set[str] = set()
        self._board: Any = None

    def open(self, step: int, refused: dict[str, str], checkpoint: Path | None) -> None:
        """Begin with the log of the checkpoint of a step, or with none; list the audio refused at the start."""
        kept = checkpoint and next((path for path in (checkpoint / LOG, self.folder / LOG) if path.exists()), None)
        self._replace(LOG, "".join(_whole_lines(kept)) if kept else "")
        named = _whole_lines(self.folder / REFUSED) or ["audio,reason\n"]
        self._named = {row[0] for row in csv.reader(named) if row}
        self._replace(REFUSED, "".join(named))
        self.refuse(refused)
        if self.tensorboard:
            self._board = summary_writer()(str(self.folder / "tensorboard"), purge_step=step + 1)

    @property
    def refused(self) -> int:
        """The number of names in ``refused.csv``, whichever process or earlier training wrote them."""
        return max(0, sum(1 for row in csv.reader(_whole_lines(self.folder / REFUSED)) if row) - 1)

    def refuse(self, refused: dict[str, str]) -> None:
        """List refused audio that is not listed yet, each with the reason."""
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
            self._board.flush()

    def _append(self, name: str, text: str) -> None:
        path = self.folder / name

        def append() -> None:
            """Write all of the text or nothing."""
            size = path.stat().st_size if path.exists() else 0
            try:
                with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
                    file.write(text)
            except OSError:
                os.truncate(path, size)
                raise

        retry_until_written(append, path, self.reporter)

    def _replace(self, name: str, text: str) -> None:
        def replace() -> None:
            """Replace the file, atomically."""
            with atomic_write(self.folder / name) as beside:
                beside.write_text(text, encoding="utf-8", errors="surrogateescape")

        retry_until_written(replace, self.folder / name, self.reporter)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a training's log."""
    return [json.loads(line) for line in _whole_lines(folder / LOG)]


def _whole_lines(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
    return [f"{line}\n" for line in text.split("\n")[:-1]]


def summary_writer() -> Any:
    """Return the class that writes TensorBoard's files.

    Raises:
        MarbleError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MarbleError("TensorBoard is not installed: pip install tensorboard, or leave out --tensorboard.") from error
    return SummaryWriter
