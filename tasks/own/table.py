"""``table:FILE``: any CSV, TSV, Parquet or JSON file, or a DataFrame, with paths and labels as a task.

Columns
    ``path``: audio file, relative to the table's folder or absolute. Exactly one kind of target: ``label`` (one class),
    ``labels`` (several tags: a list, or text separated by ``;``), or ``target`` / ``target.NAME`` (numbers to regress).
    Optional: ``id`` (default: the path, with the times if there are any), ``start`` and ``stop`` or ``duration`` (seconds),
    ``group`` (the track of an excerpt: scored as one), ``artist`` (kept in one split), ``split`` (train, valid or test, and
    their usual synonyms). Other columns are not read, and named; for near-misses see `marble.tasks.own.columns`.
Split
    The column ``split`` if there is one. Else 3:1:1 by a hash of the group, or of the file's content where there is no group,
    stratified by class for ``label``. ``--group`` and ``artist`` keep more together: see `marble.tasks.own.splitting`.
Metrics
    accuracy and balanced accuracy; macro ROC-AUC and average precision; R² and mean squared error.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path, PureWindowsPath
from typing import Any

import pandas

from marble.errors import MarbleError
from marble.kinds import KINDS, Target
from marble.system.files import digest, file_hashes, readable, user_path
from marble.task import Clip, Split, SplitRule, Task
from marble.tasks.own.columns import listed
from marble.tasks.own.labels import Targets, read_targets
from marble.tasks.own.paths import audio_paths
from marble.tasks.own.splitting import Row, deal_again, groups_of_paths, split_rows
from marble.tasks.own.table_file import Table, read_table, table_of
from marble.tasks.splits import ALIASES


def table_task(argument: str, rule: SplitRule | None = None) -> Task:
    """Return the task of a table in a file.

    Args:
        argument: path of the file.
        rule: how it is split.

    Raises:
        MarbleError: the file cannot be read as a table, or a column is missing or has a wrong value.
    """
    file, rule = user_path(argument), rule or SplitRule()
    return task_of_table(read_table(file, extra=rule.column), f"table:{file.stem}", str(file.absolute()), rule)


def frame_task(frame: pandas.DataFrame, rule: SplitRule | None = None) -> Task:
    """Return the task of a DataFrame whose paths are relative to the current folder; errors as `table_task`."""
    if not isinstance(frame, pandas.DataFrame):
        raise MarbleError(
            f"{frame!r:.60} is no task: give the name of one, a Task, the path of a folder or table, or a DataFrame."
        )
    rule = rule or SplitRule()
    table = table_of("DataFrame", Path.cwd(), frame, extra=rule.column)
    content = digest(table.rows.astype(str).to_dict("list"))
    return task_of_table(table, "table:DataFrame", f"DataFrame {content[:12]}", rule)


def task_of_table(table: Table, name: str, source: str, rule: SplitRule, targets: Targets | None = None) -> Task:
    """Return the task of a table; what a user should know of its columns is said in warnings.

    Args:
        table: as read.
        name: of the task.
        source: where the table is.
        rule: how it is split.
        targets: of its rows, where its columns do not hold them.

    Raises:
        MarbleError: a column is missing or has a wrong value.
    """
    if rule.column and rule.column not in table.rows:
        raise MarbleError(
            f"The table {table.name} has no column '{rule.column}' for --group: its columns are {listed(table.columns.names)}; "
            "parent and regex:PATTERN group by path."
        )
    targets = targets or read_targets(table)
    notes = (*table.columns.notes, *targets.notes)
    if notes:
        warnings.warn(f"{table.name}: {'; '.join(notes)}", stacklevel=2)
    return Task(
        name=f"{readable(name)}{rule.suffix}",
        version=1,
        description=f"The targets of {len(table.rows)} clips in {readable(Path(source).name)}.\n\n{__doc__}",
        kind=targets.kind,
        labels=targets.labels,
        metrics=KINDS[targets.kind].metrics,
        clips=lambda _: _clips(table, targets.values, rule),
        citation="the user's own data",
        licence="the user's own data",
        source=readable(source),
        deal=(lambda units: deal_again(table.name, _clips(table, targets.values, rule), units)) if rule.near else None,
        notes=notes,
    )


def _clips(table: Table, targets: list[Target], rule: SplitRule) -> list[Clip]:
    paths, notes = audio_paths(table)
    for note in notes:
        warnings.warn(f"{table.name}: {note}", stacklevel=2)
    times = _times(table)
    ids = _ids(table, times)
    groups = _groups(table, rule)
    splits = _splits(table, rule, targets, paths, groups)
    tracks = map(_text, table.rows["group"]) if "group" in table.rows else [None] * len(paths)
    return [
        Clip(name, path, split, target, start or 0.0, stop, track, artist)
        for name, path, split, target, (start, stop), track, artist in zip(
            ids, paths, splits, targets, times, tracks, groups, strict=True
        )
    ]


def _ids(table: Table, times: list[tuple[float | None, float | None]]) -> list[str]:
    """Return the name of each clip: its id if there is one, else its path with its times."""
    if "id" in table.rows:
        missing = table.rows["id"].isna().to_numpy()
        if missing.any():
            raise MarbleError(f"The table {table.name} has no id in row {int(missing.argmax()) + 1}: fill it in.")
        return list(map(str, table.rows["id"]))
    row_of: dict[str, int] = {}
    for number, (path, (start, stop)) in enumerate(zip(table.rows["path"], times, strict=True), start=1):
        name = f"row {number}" if isinstance(path, dict) else str(path)
        if start is not None or stop is not None:
            name += f"@{start or 0:g}-{'end' if stop is None else f'{stop:g}'}"
        if row_of.setdefault(name, number) != number:
            raise MarbleError(
                f"The table {table.name} has '{name}' in the rows {row_of[name]} and {number}: leave one out, or write all "
                "labels of a file into one row, as tags."
            )
    return list(row_of)


def _times(table: Table) -> list[tuple[float | None, float | None]]:
    """Return start and stop of each row in seconds, None where it has none."""
    starts, stops, durations = (_seconds(table, column) for column in ("start", "stop", "duration"))
    times = zip(starts, stops, durations, strict=True)
    return [(start, stop if length is None else (start or 0.0) + length) for start, stop, length in times]


def _seconds(table: Table, column: str) -> list[float | None]:
    if column not in table.rows:
        return [None] * len(table.rows)
    seconds: list[float | None] = []
    for value in table.rows[column]:
        try:
            seconds.append(None if pandas.isna(value) else float(value))
        except (TypeError, ValueError):
            seconds.append(math.nan)
        if seconds[-1] is not None and not math.isfinite(seconds[-1]):
            raise MarbleError(f"The table {table.name} has the {column} '{value}' in row {len(seconds)}: write seconds.")
    return seconds


def _groups(table: Table, rule: SplitRule) -> list[str | None]:
    """Return what must not be parted with each row: by the rule, else its artist."""
    if rule.group and not rule.column:
        paths = ["" if isinstance(path, dict) else str(path) for path in table.rows["path"]]
        parents = [PureWindowsPath(path).parent.name for path in paths]  # it knows both slashes
        return groups_of_paths(rule.group, table.name, paths, parents)
    column = rule.column or "artist"
    return [_text(value) for value in table.rows[column]] if column in table.rows else [None] * len(table.rows)


def _splits(table: Table, rule: SplitRule, targets: list[Target], paths: list[Path], groups: list[str | None]) -> list[Split]:
    stated = _stated_splits(table) if "split" in table.rows else [None] * len(paths)
    contents = {} if stated[0] and not rule.valid else file_hashes(paths)
    tracks = map(_text, table.rows["group"]) if "group" in table.rows else [None] * len(paths)
    rows = [
        Row(
            label=target if isinstance(target, str) else None,
            tags=tuple(tag for tag in target if isinstance(tag, str)),  # ty: ignore[not-iterable]
            unit=str(contents.get(path)) if track is None else f"group {track}",
            group=group,
            split=split,
        )
        for target, path, track, group, split in zip(targets, paths, tracks, groups, stated, strict=True)
    ]
    return split_rows(table.name, rows, rule)


def _stated_splits(table: Table) -> list[Split]:
    splits = [str(value).strip().lower() for value in table.rows["split"]]
    for number, split in enumerate(splits, start=1):
        if split not in ALIASES:
            value = table.rows["split"].iloc[number - 1]
            raise MarbleError(f"The table {table.name} has the split '{value}' in row {number}: write train, valid or test.")
    return [ALIASES[split] for split in splits]


def _text(value: Any) -> str | None:
    return None if pandas.isna(value) else str(value)
