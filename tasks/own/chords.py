"""``chords:PATH``: any folder of audio and ``.lab`` files as a task of chords.

Data
    ``.lab`` files and audio anywhere below PATH, paired by name (`marble.tasks.lab_files`); where there are folders
    ``chordlab``, as in the trees of Isophonics, annotations are taken from these alone. What has no partner is passed over and
    counted.
Labels, frames, metrics
    Those of `marble.tasks.chords`.
Split
    Folders ``train``, ``valid`` and ``test`` where the annotations first differ, if they do so. Else 3:1:1 by the first folder
    in which they differ, which is taken for the artist; or as ``--group parent`` and ``--group regex:PATTERN`` say. Without
    such folders, or with fewer than three, songs are dealt one by one, by the content of their audio.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from marble.errors import MarbleError
from marble.frames import Spans
from marble.system.files import file_hashes, readable, user_path
from marble.task import Clip, SplitRule, Task
from marble.tasks.chords import CHORDS, task_of
from marble.tasks.lab_files import audio_of, files_below, read_chords
from marble.tasks.own.splitting import Row, groups_of_paths, split_rows
from marble.tasks.splits import ALIASES


class _Song(NamedTuple):
    """An annotation, its folders below the one that all share, its audio and its chords."""

    lab: Path
    folders: tuple[str, ...]
    audio: Path
    target: Spans


def chords_task(argument: str, rule: SplitRule | None = None) -> Task:
    """Return the task of a folder; without an argument that of the 1,217 list.

    Args:
        argument: path of the folder.
        rule: how it is split.

    Raises:
        MarbleError: the folder holds no pair of audio and annotation, an annotation cannot be read, or the rule does not fit.
    """
    if not argument:
        return CHORDS
    root, rule = user_path(argument), rule or SplitRule()
    if not root.is_dir():
        raise MarbleError(f"chords:{argument} cannot be read: there is no folder {root.absolute()}.")
    if rule.column or rule.near:
        asked = "split.near=group" if rule.near else f"column '{rule.column}' for --group"
        raise MarbleError(f"A folder of chords has no {asked}: write --group parent or --group regex:PATTERN.")
    songs, notes = _songs(root)
    artists = Counter(song.folders[0] for song in songs if song.folders and not _stated(songs))
    if not (rule.group or _stated(songs)):
        notes += _about(artists, len(songs))
    for note in notes:
        warnings.warn(f"{root.absolute()}: {note}", stacklevel=2)
    return task_of(
        name=f"chords:{readable(Path(os.path.normpath(root.absolute())).name)}{rule.suffix}",
        description=f"The chords of {len(songs)} songs in a folder.\n\n{__doc__}",
        clips=lambda _: _clips(root, songs, rule),
        citation="the user's own data",
        licence="the user's own data",
        source=readable(os.path.normpath(root.absolute())),
        audio_from=(),
        notes=tuple(notes),
    )


def _songs(root: Path) -> tuple[list[_Song], list[str]]:
    """Return the pairs below a folder, and what is passed over, in words."""
    labs, audio = files_below(root)
    labs = [lab for lab in labs if "chordlab" in lab.parts] or labs
    found = audio_of(labs, audio)
    if not found:
        raise MarbleError(
            f"{root.absolute()} holds {len(labs)} .lab files and {len(audio)} audio files, of which no two have one name: name "
            "each annotation like its audio."
        )
    alone = [path for path in labs if path not in found]
    mute = sorted(set(audio) - set(found.values()))
    notes = [f"{len(alone)} annotations have no audio, first {readable(alone[0])}"] if alone else []
    notes += [f"{len(mute)} audio files have no annotation, first {readable(mute[0])}"] if mute else []
    top = Path(os.path.commonpath([lab.parent for lab in found]))
    return [
        _Song(lab, lab.relative_to(top).parts[:-1], path, target)
        for (lab, path), target in zip(found.items(), read_chords(list(found)), strict=True)
    ], notes


def _stated(songs: list[_Song]) -> bool:
    """Tell whether the annotations first differ in folders of splits."""
    return all(song.folders and song.folders[0].lower() in ALIASES for song in songs)


def _about(artists: Counter[str], songs: int) -> list[str]:
    """Return what is wrong with the folders of artists, in words."""
    if len(artists) < 3:
        return [f"there are {len(artists)} folders of artists, so that artists are not kept in one split; --group keeps more"]
    name, count = artists.most_common(1)[0]
    return [f"{count} of {songs} songs are in '{readable(name)}', which stands in one split"] if count > songs / 2 else []


def _clips(root: Path, songs: list[_Song], rule: SplitRule) -> list[Clip]:
    names = [readable(song.lab.relative_to(root).with_suffix("").as_posix()) for song in songs]
    stated = _stated(songs)
    if rule.group:
        groups = groups_of_paths(rule.group, str(root), names, [song.lab.parent.name for song in songs])
    else:
        artists = [next(iter(song.folders[int(stated) :]), None) for song in songs]
        groups = artists if stated or len(set(artists) - {None}) >= 3 else [None] * len(songs)
    contents = file_hashes([song.audio for song in songs])
    rows = [
        Row(None, (), str(contents[song.audio]), group, ALIASES[song.folders[0].lower()] if stated else None)
        for song, group in zip(songs, groups, strict=True)
    ]
    splits = split_rows(str(root), rows, rule)
    return [
        Clip(id=name, path=song.audio, split=split, target=song.target, artist=group)
        for name, song, split, group in zip(names, songs, splits, groups, strict=True)
    ]
