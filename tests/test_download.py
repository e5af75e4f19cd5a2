"""download_cifar10 from folders and archives; test_hostile_server has those that do not mean well."""

import io
import json
import tarfile

import numpy as np
import pytest

import download_cifar10
from conftest import dataset_arguments


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch):
    monkeypatch.delenv("ERF_DATA_MIRROR", raising=False)


def run(dataset: dict, out) -> int:
    return download_cifar10.main([*dataset_arguments(dataset), "--out", str(out)])


def error_of(capsys) -> str:
    """The last line on stderr, which is the only one that begins with "error"."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line.startswith("error: ") for line in lines].count(True) == 1
    return lines[-1]


def archive(path, members: dict[str, bytes]):
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
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


def test_no_source_at_all(dataset, tmp_path, capsys):
    assert run(dataset, tmp_path / "cifar10.npz") == 1
    assert "ERF_DATA_MIRROR" in error_of(capsys)
