"""download_cifar10 against folders, archives, and a server that does not mean well."""

import functools
import http.server
import io
import json
import tarfile
import threading

import numpy as np
import pytest

import download_archive
import download_cifar10
import download_command


@pytest.fixture(autouse=True)
def no_mirror_and_no_patience(monkeypatch):
    monkeypatch.delenv("ERF_DATA_MIRROR", raising=False)
    monkeypatch.setattr(download_command.time, "sleep", lambda seconds: None)


def run(dataset: dict, out) -> int:
    return download_cifar10.main(["--dataset", json.dumps(dataset), "--out", str(out)])


def error_of(capsys) -> str:
    """The last line on stderr, which is the only one that begins with "error"."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line.startswith("error: ") for line in lines].count(True) == 1
    return lines[-1]


def archive(path, members: dict[str, bytes], links: dict[str, str] | None = None):
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return path


@pytest.fixture
def official(small_cifar) -> dict[str, bytes]:
    """The members as they are named in the official archive."""
    folder = small_cifar["mirror"] / "cifar-10-batches-py"
    return {f"{folder.name}/{path.name}": path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def dataset(small_cifar) -> dict:
    return json.loads(json.dumps(small_cifar["dataset"]))


def assert_complete(out, small_cifar):
    with np.load(out, allow_pickle=False) as data:
        assert {name: data[name].shape for name in data.files} == {
            "train_images": (300, 3, 32, 32),
            "train_labels": (300,),
            "test_images": (40, 3, 32, 32),
            "test_labels": (40,),
        }
        import pickle

        first = (small_cifar["mirror"] / "cifar-10-batches-py" / "data_batch_1").read_bytes()
        batch = pickle.loads(first.replace(b"numpy.core", b"numpy._core"))  # our own file
        np.testing.assert_array_equal(data["train_images"][:60].reshape(60, -1), batch["data"])
        assert data["train_labels"][:60].tolist() == batch["labels"]
    assert not list(out.parent.glob("downloads/*"))


def test_the_mirrors_folder(dataset, small_cifar, tmp_path, monkeypatch):
    monkeypatch.setenv("ERF_DATA_MIRROR", str(small_cifar["mirror"]))
    assert run(dataset, tmp_path / "cifar10.npz") == 0
    assert_complete(tmp_path / "cifar10.npz", small_cifar)


def test_the_mirrors_archive(dataset, official, small_cifar, tmp_path, monkeypatch):
    (tmp_path / "mirror").mkdir()
    archive(tmp_path / "mirror" / dataset["archive"], official)
    monkeypatch.setenv("ERF_DATA_MIRROR", str(tmp_path / "mirror"))
    assert run(dataset, tmp_path / "cifar10.npz") == 0
    assert_complete(tmp_path / "cifar10.npz", small_cifar)


def test_sources_are_tried_in_order_until_one_is_good(dataset, official, small_cifar, tmp_path, monkeypatch):
    broken = dict(official)
    broken["cifar-10-batches-py/data_batch_3"] = broken["cifar-10-batches-py/data_batch_2"]
    sources = [
        tmp_path / "nowhere",
        archive(tmp_path / "broken.tar.gz", broken),
        archive(tmp_path / "good.tar.gz", official),
    ]
    dataset["sources"] = [str(source) for source in sources]
    assert run(dataset, tmp_path / "out" / "cifar10.npz") == 0
    assert_complete(tmp_path / "out" / "cifar10.npz", small_cifar)


@pytest.mark.parametrize(
    "name, message",
    [
        ("../data_batch_1", "lies outside of cifar-10-batches-py/; archive refused"),
        ("/etc/passwd", "lies outside of cifar-10-batches-py/; archive refused"),
        ("cifar-10-batches-py/../../x", "lies outside of cifar-10-batches-py/; archive refused"),
    ],
)
def test_members_that_leave_the_folder_are_refused(dataset, official, tmp_path, capsys, name, message):
    dataset["sources"] = [str(archive(tmp_path / "evil.tar.gz", {**official, name: b"x"}))]
    before = sorted(tmp_path.rglob("*"))
    assert run(dataset, tmp_path / "cifar10.npz") == 1
    assert message in error_of(capsys)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_in_place_of_a_member_is_not_followed(dataset, official, tmp_path, capsys):
    official.pop("cifar-10-batches-py/test_batch")
    path = archive(tmp_path / "links.tar.gz", official, {"cifar-10-batches-py/test_batch": "/etc/passwd"})
    dataset["sources"] = [str(path)]
    assert run(dataset, tmp_path / "cifar10.npz") == 1
    assert "test_batch not in it" in error_of(capsys)


def test_a_member_too_large_is_not_read(dataset, official, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(download_archive, "MEMBER_LIMIT", 1000)
    dataset["sources"] = [str(archive(tmp_path / "bomb.tar.gz", official))]
    assert run(dataset, tmp_path / "cifar10.npz") == 1
    assert "is too large" in error_of(capsys)


def test_a_wrong_checksum_is_named_and_nothing_is_written(dataset, small_cifar, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ERF_DATA_MIRROR", str(small_cifar["mirror"]))
    dataset["members"]["data_batch_4"] = "0" * 32
    assert run(dataset, tmp_path / "cifar10.npz") == 1
    error = error_of(capsys)
    assert "data_batch_4 has MD5" in error and "the official one has 00000000" in error
    assert not (tmp_path / "cifar10.npz").exists()


def test_nothing_is_unpickled_before_its_checksum(dataset, small_cifar, tmp_path, monkeypatch):
    monkeypatch.setenv("ERF_DATA_MIRROR", str(small_cifar["mirror"]))
    dataset["members"]["test_batch"] = "0" * 32
    monkeypatch.setattr(download_cifar10, "read_cifar10_batch", lambda data: pytest.fail("unpickled"))
    assert run(dataset, tmp_path / "cifar10.npz") == 1


@pytest.fixture
def server(tmp_path):
    """A local web server over a folder; its address and the folder."""
    folder = tmp_path / "www"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}", folder
        httpd.shutdown()


def test_a_download(dataset, official, small_cifar, tmp_path, server):
    address, folder = server
    archive(folder / "c.tar.gz", official)
    dataset["sources"] = [f"{address}/missing.tar.gz", f"{address}/c.tar.gz"]
    assert run(dataset, tmp_path / "cifar10.npz") == 0
    assert_complete(tmp_path / "cifar10.npz", small_cifar)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"<!DOCTYPE html><html>Sign in</html>", "not a .tar.gz but an HTML page"),
        (b"\x1f\x8b\x08\x00 cut", "not a .tar.gz but damaged or incomplete"),
        (b"", "not a .tar.gz but damaged or incomplete"),
        (None, "404"),
    ],
)
def test_what_a_server_may_give_instead(dataset, tmp_path, server, capsys, content, message):
    address, folder = server
    if content is not None:
        (folder / "c.tar.gz").write_bytes(content)
    dataset["sources"] = [f"{address}/c.tar.gz"]
    assert run(dataset, tmp_path / "cifar10.npz") == 1
    error = error_of(capsys)
    assert message in error and "set ERF_DATA_MIRROR to a folder that holds cifar-10-python.tar.gz" in error
    assert not list(tmp_path.glob("*.npz")) and not list(tmp_path.glob("downloads/*"))


def test_an_archive_cut_short(dataset, official, tmp_path, server, capsys):
    address, folder = server
    whole = archive(tmp_path / "whole.tar.gz", official).read_bytes()
    (folder / "c.tar.gz").write_bytes(whole[: len(whole) // 2])
    dataset["sources"] = [f"{address}/c.tar.gz"]
    assert run(dataset, tmp_path / "cifar10.npz") == 1
    assert "not a .tar.gz but damaged or incomplete" in error_of(capsys)


def test_no_network(dataset, tmp_path, capsys):
    dataset["sources"] = ["http://127.0.0.1:9/cifar-10-python.tar.gz"]
    assert run(dataset, tmp_path / "cifar10.npz") == 1
    error = error_of(capsys)
    assert "no connection to 127.0.0.1" in error and "ERF_DATA_MIRROR" in error


def test_no_source_at_all(dataset, tmp_path, capsys):
    assert run(dataset, tmp_path / "cifar10.npz") == 1
    assert "ERF_DATA_MIRROR" in error_of(capsys)
