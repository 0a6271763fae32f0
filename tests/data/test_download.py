"""Downloads against a real server on the loopback interface: whole files, or one sentence and nothing in their place."""

import hashlib
import resource
import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from http.server import ThreadingHTTPServer
from itertools import repeat

import numpy as np
import pytest

from marble.data import download as module
from marble.data.download import NotTheFileError, copy, download
from marble.errors import MarbleError

CONTENT = np.random.default_rng(0).bytes(1_000_003)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def offered(web):
    web.files["/data/file.bin"] = CONTENT
    return web


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def fetch(web, folder, checksum=SHA256):
    download(f"{web.address}/data/file.bin", folder / "deep/file.bin", checksum)
    return (folder / "deep/file.bin").read_bytes()


@pytest.mark.parametrize("checksum", [SHA256, hashlib.md5(CONTENT).hexdigest(), None])
def test_a_file_arrives_whole_and_alone(offered, tmp_path, checksum):
    assert fetch(offered, tmp_path, checksum) == CONTENT
    assert names(tmp_path) == ["file.bin"]


def test_an_interrupted_transfer_goes_on_where_it_ended(offered, tmp_path):
    offered.cut = 400_000
    with pytest.raises(MarbleError, match=r"file.bin ended after 400,000 of 1,000,003 bytes: run the same command again"):
        fetch(offered, tmp_path)
    assert names(tmp_path) == [".file.bin.partial", ".file.bin.version"]
    offered.cut = None
    assert fetch(offered, tmp_path) == CONTENT
    assert [begin for _, begin in offered.asked] == [None, "bytes=399999-"]
    assert names(tmp_path) == ["file.bin"]


def test_a_partial_file_that_is_complete_is_not_fetched_again(offered, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/.file.bin.partial").write_bytes(CONTENT)
    (tmp_path / "deep/.file.bin.version").write_text(offered.version)
    assert fetch(offered, tmp_path) == CONTENT
    assert offered.asked == [("/data/file.bin", "bytes=1000002-")]


def test_a_partial_file_longer_than_the_offered_one_is_forgotten(offered, tmp_path):
    """The answer 416: the range lies behind the end, and would be asked for again for ever."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/.file.bin.partial").write_bytes(CONTENT + b"more")
    (tmp_path / "deep/.file.bin.version").write_text(offered.version)
    with pytest.raises(NotTheFileError, match="answers 416"):
        fetch(offered, tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("stamp", [b"\xff\xfe", b'"1"\nX-Header: y'])
def test_a_damaged_note_of_the_version_is_passed_over(offered, tmp_path, stamp):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/.file.bin.partial").write_bytes(CONTENT[:1000])
    (tmp_path / "deep/.file.bin.version").write_bytes(stamp)
    assert fetch(offered, tmp_path) == CONTENT
    assert offered.asked == [("/data/file.bin", None)]


@pytest.mark.parametrize("trouble", ["no ranges", "no version", "changed"])
def test_what_cannot_be_continued_begins_anew(offered, tmp_path, trouble):
    offered.cut, offered.version = 400_000, "" if trouble == "no version" else '"1"'
    with pytest.raises(MarbleError, match="ended after"):
        fetch(offered, tmp_path)
    offered.cut, offered.ranges = None, trouble != "no ranges"
    if trouble == "changed":
        offered.version, offered.files["/data/file.bin"] = '"2"', CONTENT[::-1]
        assert fetch(offered, tmp_path, None) == CONTENT[::-1]
    else:
        assert fetch(offered, tmp_path, None) == CONTENT
    assert names(tmp_path) == ["file.bin"]


def test_a_change_that_the_server_does_not_look_for_is_seen(offered, tmp_path):
    offered.cut = 400_000
    with pytest.raises(MarbleError, match="ended after"):
        fetch(offered, tmp_path, None)
    offered.cut, offered.careful, offered.version, offered.files["/data/file.bin"] = None, False, '"2"', CONTENT[::-1]
    with pytest.raises(NotTheFileError, match="has changed since its transfer began: run the same command again"):
        fetch(offered, tmp_path, None)
    assert names(tmp_path) == []
    assert fetch(offered, tmp_path, None) == CONTENT[::-1]


def test_a_wrong_file_leaves_what_was_there(offered, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/file.bin").write_text("before")
    offered.files["/data/file.bin"] = CONTENT[:-1] + b"?"
    with pytest.raises(NotTheFileError, match=rf"is not the published file \(its checksum is not {SHA256}\)"):
        fetch(offered, tmp_path)
    assert names(tmp_path) == ["file.bin"]
    assert (tmp_path / "deep/file.bin").read_text() == "before"


def test_a_missing_file_is_said(web, tmp_path):
    with pytest.raises(NotTheFileError, match=r"/data/file.bin answers 404 \(Not Found\): .*--mirror"):
        fetch(web, tmp_path)
    assert names(tmp_path) == []


def test_a_server_that_is_not_there_is_said(web, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        web.address = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(MarbleError, match=r"cannot be read \(.*refused\): check the connection .*--mirror"):
            fetch(web, tmp_path)


def test_a_server_that_says_nothing_is_given_up(web, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        web.address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(MarbleError, match=r"cannot be read \(no answer in 0.05 s\)"):
            fetch(web, tmp_path)


TRICKLES = {
    "status": ((b"HTTP/1.1 200 ", *[b"O"] * 99), "no answer in 0.3 s"),
    "headers": ((b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 99), "no answer in 0.3 s"),
    "content": ((b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *[b"x"] * 99), "fewer than 30,000 bytes in 0.3 s"),
    "length of a chunk": (
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"0"] * 99), "fewer than 30,000 bytes in 0.3 s",
    ),
}  # fmt: skip
ENDLESS = {
    "continuation": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "end of chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", b"X: y\r\n"),
}


@contextmanager
def server_of(parts, pause=0.0):
    """Yield the address of a server that answers one request with these parts."""

    def serve():
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            connection.recv(2**16)
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/x"
        thread.join()


@pytest.mark.parametrize("what", TRICKLES)
def test_an_answer_that_trickles_is_given_up_as_a_whole(tmp_path, monkeypatch, what):
    """Though each byte comes in time."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    parts, reason = TRICKLES[what]
    with server_of(parts, pause=0.03) as url, pytest.raises(MarbleError, match=rf"{url} cannot be read \({reason}\): .*again"):
        download(url, tmp_path / "x")


@pytest.mark.parametrize("what", ENDLESS)
def test_what_brings_no_content_is_bounded_in_bytes(tmp_path, monkeypatch, what):
    monkeypatch.setenv("no_proxy", "*")
    begin, more = ENDLESS[what]
    endless = (part for part in (begin, *repeat(more * (2**16 // len(more)), 64)))
    with server_of(endless) as url, pytest.raises(MarbleError, match=rf"{url} cannot be read \(its answer has no end\)"):
        download(url, tmp_path / "x")


def test_the_body_of_a_redirect_is_not_read(offered, tmp_path):
    head = f"HTTP/1.1 302 Found\r\nLocation: {offered.address}/data/file.bin\r\n\r\n".encode()
    with server_of((head, *[bytes(2**16)] * 64)) as url:
        download(url, tmp_path / "x", SHA256)
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_slow_link_is_waited_for(tmp_path, monkeypatch):
    """Though all of it takes longer than the patience for a part."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 225000\r\n\r\n"
    with server_of((head, *[bytes(15_000)] * 15), pause=0.1) as url:
        download(url, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == bytes(225_000)


@pytest.mark.parametrize("address", ["file:///etc/hosts", "ftp://127.0.0.1/x"])
def test_other_addresses_are_refused(web, tmp_path, address):
    with pytest.raises(MarbleError, match="is no http or https address"):
        download(address, tmp_path / "x")
    web.redirects["/x"] = address
    with pytest.raises(NotTheFileError, match=rf"{web.address}/x (leads to {address}, which is no http|answers 302)"):
        download(f"{web.address}/x", tmp_path / "x")
    assert names(tmp_path) == []


def test_a_redirect_is_followed(offered, tmp_path):
    offered.redirects["/elsewhere"] = f"{offered.address}/data/file.bin"
    download(f"{offered.address}/elsewhere", tmp_path / "x", SHA256)
    assert (tmp_path / "x").read_bytes() == CONTENT


@pytest.mark.parametrize("size", [None, 3_000_000])
def test_a_file_without_end_is_given_up(offered, tmp_path, monkeypatch, size):
    monkeypatch.setattr(module, "MOST_UNKNOWN", 2_000_000)
    offered.endless = True
    limit, fault = ("3,000,000", "its published size") if size else ("2,000,000", "without saying how many")
    with pytest.raises(NotTheFileError, match=rf"gives more than {limit} bytes, {fault}: fetch it by hand"):
        download(f"{offered.address}/data/file.bin", tmp_path / "x", size=size)
    assert names(tmp_path) == []


def test_a_file_larger_than_the_published_one_is_not_fetched(offered, tmp_path):
    with pytest.raises(NotTheFileError, match="gives more than 1,000,002 bytes, its published size"):
        download(f"{offered.address}/data/file.bin", tmp_path / "x", size=len(CONTENT) - 1)
    assert names(tmp_path) == []
    download(f"{offered.address}/data/file.bin", tmp_path / "x", size=len(CONTENT))
    assert names(tmp_path) == ["x"]


def test_a_server_that_trickles_is_given_up_and_what_arrived_is_kept(offered, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    offered.pause = 0.01
    with pytest.raises(MarbleError, match=r"cannot be read \(fewer than 30,000 bytes in 0.2 s\): .* goes on from there"):
        fetch(offered, tmp_path)
    assert names(tmp_path) == [".file.bin.partial", ".file.bin.version"]
    offered.pause = None
    assert fetch(offered, tmp_path) == CONTENT
    assert offered.asked[1][1] is not None


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_a_certificate_that_nobody_vouches_for_is_not_trusted(offered, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    secured = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secured.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), offered.handler()) as server:
        server.handle_error = lambda *_: None
        server.socket = secured.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"https://localhost:{server.server_port}/data/file.bin"
        with pytest.raises(MarbleError, match=r"The certificate of localhost cannot be trusted \(CERTIFICATE_VERIFY_FAILED\)"):
            download(url, tmp_path / "out/file.bin")
        server.shutdown()
    assert offered.asked == []
    assert names(tmp_path / "out") == []


def test_a_full_disk_is_said_and_what_arrived_is_kept(offered, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
    try:
        with pytest.raises(MarbleError, match=r"Cannot write .*file.bin.partial \(file too large\): make room"):
            fetch(offered, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == [".file.bin.partial", ".file.bin.version"]
    assert fetch(offered, tmp_path) == CONTENT
    assert offered.asked[1][1] is not None


def test_a_folder_that_cannot_be_made_is_said(offered, tmp_path):
    (tmp_path / "deep").write_text("a file")
    with pytest.raises(MarbleError, match=r"Cannot write .*file.bin"):
        fetch(offered, tmp_path)


def test_a_copy_is_checked_like_a_download(tmp_path):
    (tmp_path / "source").write_bytes(CONTENT)
    copy(tmp_path / "source", tmp_path / "out/file.bin", SHA256)
    assert (tmp_path / "out/file.bin").read_bytes() == CONTENT
    with pytest.raises(NotTheFileError, match=r"source is not the published file"):
        copy(tmp_path / "source", tmp_path / "out/other.bin", "0" * 64)
    assert names(tmp_path / "out") == ["file.bin"]
