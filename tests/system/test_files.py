"""Hashes of files, and the memory of them."""

import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
import warnings
from pathlib import Path, PosixPath
from types import SimpleNamespace

import pytest

from marble.errors import MarbleError
from marble.system import files as content
from marble.system.files import atomic_folder, atomic_write, file_hash, file_hashes


@pytest.fixture
def reads(monkeypatch):
    """The paths that are read; and all files count as old enough to be remembered."""
    read = []
    monkeypatch.setattr(content, "file_hash", lambda path: read.append(path) or file_hash(path))
    monkeypatch.setattr(content, "time", SimpleNamespace(time=lambda: time.time() + 10))
    return read


def files(folder, count=5):
    paths = [folder / f"{number}.wav" for number in range(count)]
    for path in paths:
        path.write_text(path.name)
    return paths


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_an_unchanged_file_is_read_once(tmp_path, reads):
    paths = files(tmp_path)
    expected = {path: sha256(path.name) for path in paths}
    counted = []
    assert file_hashes([*paths, *paths], lambda: counted.append(1)) == expected
    assert sorted(reads) == paths
    assert len(counted) == 5
    assert file_hashes(paths) == expected
    assert sorted(reads) == paths


def test_a_changed_file_is_read_again(tmp_path, reads):
    path, other, _, _, _ = paths = files(tmp_path)
    file_hashes(paths)
    reads.clear()
    written = path.stat().st_mtime_ns
    path.write_text("X.wav")
    os.utime(path, ns=(written, written))
    assert file_hashes(paths)[path] == sha256("X.wav")
    assert reads == [path]
    other.replace(path)
    assert file_hashes([path]) == {path: sha256("1.wav")}


class CoarsePath(PosixPath):
    """A file on a system that counts time in whole seconds."""

    def stat(self, **options):
        found = super().stat(**options)
        seconds = {name: getattr(found, name) // 10**9 * 10**9 for name in ("st_mtime_ns", "st_ctime_ns")}
        rest = {name: getattr(found, name) for name in ("st_mode", "st_size", "st_ino", "st_mtime", "st_ctime")}
        return SimpleNamespace(**seconds, **rest)


def test_a_second_write_within_the_same_second_is_seen(tmp_path):
    path = CoarsePath(tmp_path / "a.wav")
    for number in range(10, 20):
        path.write_text(str(number))
        assert file_hashes([path]) == {path: sha256(str(number))}


def test_the_same_name_elsewhere_is_another_file(tmp_path, reads, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.wav").write_text(name)
        monkeypatch.chdir(tmp_path / name)
        assert list(file_hashes([Path("a.wav")]).values()) == [sha256(name)]
    assert file_hashes([tmp_path / "one/a.wav", tmp_path / "two/a.wav"])[tmp_path / "one/a.wav"] == sha256("one")
    assert len(reads) == 2


@pytest.mark.parametrize("damage", [b"no database", b"SQLite format 3\0" + bytes(200)])
def test_a_damaged_memory_is_a_warning(tmp_path, home, reads, damage):
    paths = files(tmp_path)
    (home / "files.sqlite").write_bytes(damage)
    with pytest.warns(UserWarning, match=r"cannot use .*files.sqlite") as caught:
        assert file_hashes(paths) == {path: sha256(path.name) for path in paths}
    assert "remove it" in str(caught[0].message)


def test_no_flipped_bit_changes_a_hash(tmp_path, home, reads):
    """Neither in the rows nor anywhere else in the database: a row that does not fit its checksum is read anew."""
    paths = files(tmp_path, 3)
    expected = {path: sha256(path.name) for path in paths}
    file_hashes(paths)
    whole = (home / "files.sqlite").read_bytes()
    rows = [place for place, byte in enumerate(whole) if byte]
    draw = random.Random(0)
    for place in [*draw.sample(rows, 300), *draw.sample(range(len(whole)), 100)]:
        shutil.rmtree(home)
        home.mkdir()
        flipped = bytearray(whole)
        flipped[place] ^= 1 << draw.randrange(8)
        (home / "files.sqlite").write_bytes(flipped)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert file_hashes(paths) == expected, place
        assert all("cannot use" in str(warning.message) for warning in caught)


def test_a_damaged_row_costs_one_reading(tmp_path, home, reads):
    """Even where it is no text any more."""
    paths = files(tmp_path)
    file_hashes(paths)
    reads.clear()
    with sqlite3.connect(home / "files.sqlite") as database:
        database.execute("UPDATE file SET stamp = CAST(x'ff30' AS TEXT) WHERE path = ?", (str(paths[1]),))
    database.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert file_hashes(paths) == {path: sha256(path.name) for path in paths}
    assert reads == [paths[1]]


def test_a_memory_without_checksums_is_made_anew(tmp_path, home, reads):
    paths = files(tmp_path)
    with sqlite3.connect(home / "files.sqlite") as database:
        database.execute("CREATE TABLE file (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL)")
        database.execute("INSERT INTO file VALUES (?, ?, ?)", (str(paths[0]), "1 2 3 4", "0" * 64))
    database.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            assert file_hashes(paths) == {path: sha256(path.name) for path in paths}
    assert sorted(reads) == paths


def test_an_empty_memory_is_fine(tmp_path, home, reads):
    (home / "files.sqlite").touch()
    paths = files(tmp_path)
    file_hashes(paths)
    file_hashes(paths)
    assert len(reads) == 5


@pytest.mark.parametrize("kind", ["file", "nowhere"])
def test_a_home_that_cannot_be_written_is_a_warning(tmp_path, reads, monkeypatch, kind):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MARBLE_HOME", {"file": str(tmp_path / "file/home"), "nowhere": "/proc/nowhere"}[kind])
    paths = files(tmp_path)
    with pytest.warns(UserWarning, match="cannot use .*every file is read again"):
        assert file_hashes(paths)[paths[0]] == sha256("0.wav")


def test_files_that_cannot_be_read_are_told(tmp_path, reads):
    os.mkfifo(tmp_path / "pipe.wav")
    missing, folder, pipe = file_hashes([tmp_path / "none.wav", tmp_path, tmp_path / "pipe.wav"]).values()
    assert isinstance(missing, FileNotFoundError)
    assert isinstance(folder, OSError)
    assert isinstance(pipe, OSError)


def test_what_was_read_before_an_interrupt_is_remembered(tmp_path, reads):
    paths = files(tmp_path, 40)

    def interrupt():
        if len(reads) >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        file_hashes(paths, interrupt)
    before = set(reads)
    assert len(before) >= 3
    reads.clear()
    file_hashes(paths)
    assert set(reads) == set(paths) - before


def test_processes_share_the_memory(tmp_path, home, reads):
    paths = files(tmp_path, 300)
    script = (
        "import sys, time; from pathlib import Path; from types import SimpleNamespace;"
        "from marble.system import files as content;"
        "content.time = SimpleNamespace(time=lambda: time.time() + 10);"
        "found = content.file_hashes(sorted(Path(sys.argv[1]).iterdir())); assert len(found) == 300"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(run.communicate(timeout=60)[1], run.returncode) for run in running] == [("", 0)] * 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert file_hashes(paths) == {path: sha256(path.name) for path in paths}
    assert not reads


def stopped(path):
    path.write_text("half")
    raise KeyboardInterrupt


@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_is_written_whole_or_not_at_all(tmp_path, before):
    path = tmp_path / "deep/a.txt"
    if before:
        path.parent.mkdir()
        path.write_text(before)
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as beside:
        stopped(beside)
    assert [entry.read_text() for entry in path.parent.iterdir()] == ([before] if before else [])
    with atomic_write(path) as beside:
        beside.write_text("whole")
    assert [entry.read_text() for entry in path.parent.iterdir()] == ["whole"]


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep/a"
    (tmp_path / "deep/.a.partial").mkdir(parents=True)
    (tmp_path / "deep/.a.partial/stale.txt").write_text("of a killed run")
    with pytest.raises(KeyboardInterrupt), atomic_folder(path) as beside:
        stopped(beside / "half.txt")
    assert list(path.parent.iterdir()) == []
    with atomic_folder(path) as beside:
        (beside / "whole.txt").touch()
    assert [entry.name for entry in path.parent.rglob("*")] == ["a", "whole.txt"]  # and not the stale one
    with pytest.raises(MarbleError, match=r"Cannot write .*deep/a \(directory not empty\)"), atomic_folder(path) as beside:
        (beside / "other.txt").touch()
    assert [entry.name for entry in path.parent.rglob("*")] == ["a", "whole.txt"]


def test_a_rename_reaches_the_disk(tmp_path, monkeypatch):
    """A file that was renamed is lost with the power unless its folder is synchronised, after the rename."""
    synchronised = []

    def note(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synchronised.append((path.is_dir(), (tmp_path / "a.txt").exists()))

    monkeypatch.setattr(os, "fsync", note)
    with atomic_write(tmp_path / "a.txt") as beside:
        beside.write_text("text")
    assert synchronised == [(False, False), (True, True)]


def test_a_folder_that_cannot_be_synchronised_is_no_fault(tmp_path, monkeypatch):
    def refuse_folders(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_dir():
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse_folders)
    with atomic_write(tmp_path / "a.txt") as beside:
        beside.write_text("text")
    assert (tmp_path / "a.txt").read_text() == "text"
