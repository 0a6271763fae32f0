"""Archives: what is right comes out whole, what is wrong leaves nothing anywhere."""

import gzip
import io
import resource
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marble.data import archives
from marble.data.archives import copy_folder, unpack
from marble.errors import MarbleError

FILES = {"set/a/1.wav": b"one", "set/a/2.wav": b"two" * 50_000, "set/readme.txt": b"words"}


def zipped(path: Path, members) -> Path:
    """Write a zip of (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def tarred(path: Path, members) -> Path:
    """Write a tar.gz of (name or TarInfo, content)."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


WRITERS = {"x.zip": zipped, "x.tar.gz": tarred}


def below(folder: Path) -> dict[str, bytes]:
    """Return everything below a folder: content by name, folders and links too."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {name: path.read_bytes() if path.is_file() else b"" for name, path in found.items()}


@pytest.fixture(params=WRITERS)
def written(request, tmp_path):
    """Write an archive of some members and return its path; outside of the folder `out`."""
    return lambda members: WRITERS[request.param](tmp_path / request.param, list(members))


def refused(archive: Path, tmp_path: Path, message: str) -> None:
    (tmp_path / "out").mkdir()
    before = below(tmp_path)
    with pytest.raises(MarbleError, match=message) as caught:
        unpack(archive, tmp_path / "out/a", "*.wav")
    assert str(archive) in str(caught.value)
    assert below(tmp_path) == before


def test_the_wanted_folder_comes_out_and_nothing_else(written, tmp_path):
    unpack(written([*FILES.items(), ("./other/3.wav", b"x"), ("set/empty/", b"")]), tmp_path / "out/a", "*.wav")
    assert below(tmp_path / "out") == {"a": b"", "a/1.wav": b"one", "a/2.wav": b"two" * 50_000}


def test_a_folder_is_known_by_what_it_holds_where_its_name_is_another(written, tmp_path):
    archive = written([("deep/er/1.wav", b"1"), ("top/2.wav", b"2"), ("top/more/3.txt", b"3")])
    (tmp_path / "out/mp3").mkdir(parents=True)  # an empty one may stand there
    unpack(archive, tmp_path / "out/mp3", "*.wav")
    assert below(tmp_path / "out/mp3") == {"2.wav": b"2", "more": b"", "more/3.txt": b"3"}


def test_a_folder_is_repaired_before_it_is_there(written, tmp_path):
    def repair(folder):
        assert not (tmp_path / "out/a").exists()
        (folder / "1.wav").rename(folder / "f1_1.wav")

    unpack(written(FILES.items()), tmp_path / "out/a", "*.wav", repair)
    assert set(below(tmp_path / "out/a")) == {"f1_1.wav", "2.wav"}
    copy_folder(tmp_path / "out/a", tmp_path / "out/b", "f1_*")
    assert below(tmp_path / "out/b") == below(tmp_path / "out/a")


@pytest.mark.parametrize("name", ["../x.wav", "/x.wav", "a/../../x.wav", "..", "a\\..\\x.wav"])
def test_no_name_leads_out(written, tmp_path, name):
    refused(written([*FILES.items(), (name, b"evil")]), tmp_path, "which leads out of its folder")


def test_a_name_twice_is_refused(written, tmp_path, recwarn):
    refused(written([*FILES.items(), ("set/a/1.wav", b"other")]), tmp_path, r"holds 'set/a/1.wav' twice, or below a file")


@pytest.mark.parametrize("name", ["set/a/1.wav/x", "set/a/1.wav/x/y", "set/a"])
def test_a_file_below_a_file_is_refused(written, tmp_path, name):
    refused(written([*FILES.items(), (name, b"x")]), tmp_path, "twice, or below a file")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_links_and_devices_of_a_tar_are_refused(tmp_path, kind):
    link = tarfile.TarInfo("set/a/3.wav")
    link.type, link.linkname = kind, "/etc/hosts" if kind == tarfile.SYMTYPE else "set/a/1.wav"
    refused(tarred(tmp_path / "x.tar.gz", [*FILES.items(), (link, b"")]), tmp_path, "which is a link or a device")


@pytest.mark.parametrize("kind", [0o120000, 0o020000, 0o010000])
def test_links_and_devices_of_a_zip_are_refused(tmp_path, kind):
    link = zipfile.ZipInfo("set/a/3.wav")
    link.create_system, link.external_attr = 3, (kind | 0o777) << 16
    refused(zipped(tmp_path / "x.zip", [*FILES.items(), (link, b"/etc/hosts")]), tmp_path, "which is a link or a device")


def test_a_bomb_is_defused(written, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SLACK", 2**20)
    refused(written([("a/1.wav", bytes(4 * 2**20))]), tmp_path, "bytes unpacks to more than 20 times as much")


def test_a_header_that_lies_about_the_length_is_no_way_around(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SLACK", 2**20)
    archive = zipped(tmp_path / "x.zip", [("a/1.wav", bytes(4 * 2**20))])
    content = bytearray(archive.read_bytes())
    for place in (content.find(b"PK\x03\x04") + 22, content.find(b"PK\x01\x02") + 24):
        content[place : place + 4] = (100).to_bytes(4, "little")
    archive.write_bytes(content)
    refused(archive, tmp_path, "damaged|unpacks to more than")


def test_too_many_files_are_refused(written, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_FILES", 2)
    refused(written(FILES.items()), tmp_path, "holds more than 2 files")


def test_an_archive_of_something_else_is_refused(written, tmp_path):
    refused(written([("set/a/readme.txt", b"words")]), tmp_path, r"holds no folder with \*.wav")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_archive_is_refused(written, tmp_path, share):
    archive = written(FILES.items())
    archive.write_bytes(archive.read_bytes()[: int(share * archive.stat().st_size)])
    refused(archive, tmp_path, "is damaged .*: remove it and fetch it again")


def test_an_encrypted_archive_is_refused(tmp_path):
    archive = zipped(tmp_path / "x.zip", FILES.items())
    content = bytearray(archive.read_bytes())
    content[content.find(b"PK\x03\x04") + 6] |= 1
    content[content.find(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    refused(archive, tmp_path, "is damaged .*encrypted")


def test_a_folder_that_stands_there_is_not_touched(written, tmp_path):
    (tmp_path / "out/a").mkdir(parents=True)
    (tmp_path / "out/a/mine.txt").write_text("mine")
    with pytest.raises(MarbleError, match=r"Cannot write .*out/a \(directory not empty\)"):
        unpack(written(FILES.items()), tmp_path / "out/a", "*.wav")
    assert below(tmp_path / "out") == {"a": b"", "a/mine.txt": b"mine"}


def test_a_full_disk_leaves_nothing(written, tmp_path):
    archive = written(FILES.items())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(MarbleError, match=r"Cannot write .*2.wav \(file too large\): make room"):
            unpack(archive, tmp_path / "out/a", "*.wav")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert below(tmp_path / "out") == {}


def test_what_a_killed_run_left_is_cleared(written, tmp_path):
    (tmp_path / "out/.a.partial/a").mkdir(parents=True)
    (tmp_path / "out/.a.partial/a/0.wav").write_text("stale")
    unpack(written(FILES.items()), tmp_path / "out/a", "*.wav")
    assert set(below(tmp_path / "out")) == {"a", "a/1.wav", "a/2.wav"}


@pytest.mark.parametrize("kind", WRITERS)
@given(data=st.data())
def test_whatever_is_damaged_comes_out_whole_or_not_at_all(tmp_path_factory, kind, data):
    folder = tmp_path_factory.mktemp("fuzz")
    archive = WRITERS[kind](folder / kind, [("a/1.wav", b"one" * 40), ("a/b/2.wav", b"two" * 40)])
    content = bytearray(archive.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    archive.write_bytes(content)
    try:
        unpack(archive, folder / "out/a", "*.wav")
    except MarbleError:
        assert below(folder / "out") == {}
    else:
        contents = [path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()]
        assert set(contents) <= {b"one" * 40, b"two" * 40}
    assert {path.name for path in folder.iterdir()} == {kind, "out"}


@given(content=st.binary(max_size=200), head=st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06", gzip.compress(b"")[:10]]))
def test_noise_is_no_archive(tmp_path_factory, content, head):
    folder = tmp_path_factory.mktemp("noise")
    (folder / "x").write_bytes(head + content)
    with pytest.raises(MarbleError, match=r"is damaged|holds no folder"):
        unpack(folder / "x", folder / "out/a", "*.wav")
    assert below(folder / "out") == {}
