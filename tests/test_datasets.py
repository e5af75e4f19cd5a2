"""Reading, splitting and augmenting images."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from conftest import cifar_batch
from erf.errors import InputError
from erf.system.seeds import torch_generator
from replication.datasets.camvid import CAMVID
from replication.datasets.cifar10 import CIFAR10
from replication.downloads.cifar10_batch import read_cifar10_batch
from replication.trained.snapshots import measured_images
from replication.training.images import (
    ImageData,
    crop_and_flip,
    load_splits,
    median_frequency_weights,
    normalise,
    spread,
)
from replication.training.reach import ReachData


def test_a_batch_file_is_read_back():
    images = np.random.default_rng(0).integers(256, size=(7, 3, 32, 32)).astype(np.uint8)
    found, labels = read_cifar10_batch(cifar_batch(images, list(range(7))))
    np.testing.assert_array_equal(found, images)
    assert labels.tolist() == list(range(7))


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("touch /tmp/erf-was-here",)


@pytest.mark.parametrize("content", [Evil(), {"data": Evil()}, Evil])
def test_a_pickle_that_wants_more_than_arrays_is_refused(content):
    with pytest.raises(pickle.UnpicklingError, match="refused to load"):
        read_cifar10_batch(pickle.dumps(content))


def test_splits_share_nothing_and_are_the_same_again(small_data):
    splits = load_splits(small_data, CIFAR10, {"validation": 60})
    assert {name: len(split) for name, split in splits.items()} == {"train": 240, "validation": 60, "test": 40}
    rows = {image.numpy().tobytes() for image in splits["train"].images}
    assert not rows & {image.numpy().tobytes() for image in splits["validation"].images}
    again = load_splits(small_data, CIFAR10, {"validation": 60})
    assert torch.equal(again["validation"].images, splits["validation"].images)


def test_images_are_spread_over_what_there_is():
    images = torch.arange(11)[:, None, None, None].expand(-1, 3, 2, 2)
    assert spread(images, 3)[:, 0, 0, 0].tolist() == [0, 5, 10]
    assert len(spread(images, 40)) == 11


def test_the_images_that_are_measured_are_held_out_and_cover_both_splits(small_maps):
    splits = load_splits(small_maps, CAMVID, {})
    images = measured_images(splits, CAMVID.task, 4)
    held_out = normalise(torch.cat([splits["validation"].images, splits["test"].images]), CAMVID.task)
    assert torch.equal(images, held_out[[0, 2, 4, 7]])
    with pytest.raises(InputError, match="9 images are wanted, but there are only 8"):
        measured_images(splits, CAMVID.task, 9)


def test_a_damaged_data_file_is_named(small_data, tmp_path):
    path = tmp_path / "cifar10.npz"
    content = bytearray(small_data.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cifar10\.npz: damaged"):
        load_splits(path, CIFAR10, {"validation": 60})
    path.write_bytes(content[:1000])
    with pytest.raises(InputError, match=r"cifar10\.npz: damaged"):
        load_splits(path, CIFAR10, {"validation": 60})
    with pytest.raises(InputError, match="validation must lie between 1 and 299 images, not 300"):
        load_splits(small_data, CIFAR10, {"validation": 300})


def foreign(folder: Path) -> dict[str, Path]:
    """Files that somebody else may have called cifar10.npz, in folders of their own; one runs code if unpickled."""
    rng = np.random.default_rng(0)
    images = {split: rng.integers(256, size=(20, 3, 32, 32), dtype=np.uint8) for split in ("train", "test")}
    good = {f"{split}_images": array for split, array in images.items()}
    good |= {f"{split}_labels": np.arange(20, dtype=np.uint8) % 10 for split in images}
    contents = {
        "another collection": good,
        "channels last": {**good, "train_images": images["train"].transpose(0, 2, 3, 1)},
        "floats": {**good, "train_images": images["train"] / 255},
        "labels as int64": {**good, "train_labels": good["train_labels"].astype(np.int64)},
        "fewer labels": {**good, "train_labels": good["train_labels"][:5]},
        "another number of classes": {**good, "train_labels": good["train_labels"] + 9},
        "no images": {**good, "train_images": images["train"][:0], "train_labels": good["train_labels"][:0]},
        "other names": {"x_train": images["train"]},
        "pickled": {**good, "train_labels": np.array([Canary(folder)] * 20, object)},
    }
    paths = {name: folder / name / "cifar10.npz" for name in [*contents, "a bomb", "one array", "a page"]}
    for path in paths.values():
        path.parent.mkdir()
    for name, content in contents.items():
        np.savez(paths[name], **content)
    with zipfile.ZipFile(paths["a bomb"], "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in good:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                for _ in range(300):
                    file.write(bytes(2**20))
    with paths["one array"].open("wb") as file:
        np.save(file, images["train"])
    paths["a page"].write_bytes(b"<!doctype html>")
    return paths


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return Path.touch, (self.folder / "executed",)


def test_a_foreign_file_of_the_right_name_is_named_and_never_unpickled(tmp_path):
    """With the digest that the pipeline always gives; and without it, where it is not a dataset of this form."""
    paths, passed = foreign(tmp_path), []
    for name, path in paths.items():
        for settings in ({"validation": 5, "sha256": "0" * 64}, {"validation": 5}):
            try:
                load_splits(path, CIFAR10, settings)
                passed.append((name, len(settings)))
            except InputError as error:
                assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
                assert "sha256" not in settings or "delete it and run again" in str(error)
    assert passed == [("another collection", 1)]
    assert not (tmp_path / "executed").exists()


def test_crops_are_windows_of_the_reflected_image(small_data):
    """Against torch's own padding, slicing and flipping."""
    images = load_splits(small_data, CIFAR10, {"validation": 60})["train"].images[:50]
    rows, columns = crop_and_flip(50, (32, 32), (32, 32), 4, torch_generator(0))
    padded = pad(images.float(), [4] * 4, "reflect").byte()
    mirrored = 0
    for image, framed, row, column in zip(images, padded, rows, columns, strict=True):
        found = image[:, row[:, None], column[None, :]]
        windows = (framed[:, top : top + 32, left : left + 32] for top in range(9) for left in range(9))
        matches = [w for w in windows if torch.equal(w, found) or torch.equal(w.flip(2), found)]
        assert matches
        mirrored += torch.equal(matches[0].flip(2), found)
    assert 10 < mirrored < 40


def classifier_data(splits: dict, batch_size: int) -> ImageData:
    return ImageData(splits, CIFAR10.task, (32, 32), 4, batch_size, seed=0, device=torch.device("cpu"))


def segmenter_data(splits: dict, crop: tuple[int, int], label_shift: int = 0) -> ImageData:
    device = torch.device("cpu")
    return ImageData(splits, CAMVID.task, crop, 0, batch_size=4, seed=0, device=device, label_shift=label_shift)


def test_crops_of_label_maps_are_those_of_their_images(small_maps):
    """Every crop is a window of one image or of its mirror image, and the labels are of the same window."""
    splits = load_splits(small_maps, CAMVID, {})
    train = splits["train"]
    images, labels = next(iter(segmenter_data(splits, (24, 40)).training_batches(1)))
    assert images.shape == (4, 3, 24, 40) and labels.shape == (4, 24, 40) and labels.dtype == torch.int64
    assert images.is_contiguous(memory_format=torch.channels_last)
    both = [(train.images.flip(3), train.labels.flip(2)), (train.images, train.labels)]
    for image, label in zip(images, labels, strict=True):
        places = (
            (whole[:, top : top + 24, left : left + 40], target[top : top + 24, left : left + 40])
            for wholes, targets in both
            for whole, target in zip(wholes, targets, strict=True)
            for top in range(25)
            for left in range(25)
        )
        matches = [target for window, target in places if torch.equal(normalise(window[None], CAMVID.task)[0], image)]
        assert matches and all(torch.equal(match.long(), label) for match in matches)


def test_label_maps_are_evaluated_whole(small_maps):
    splits = load_splits(small_maps, CAMVID, {})
    (batch,) = segmenter_data(splits, (24, 40)).evaluation_batches("validation")
    assert batch[0].shape == (4, 3, 48, 64) and torch.equal(batch[1], splits["validation"].labels.long())


def test_shifted_labels_lie_to_the_right_of_what_they_name_in_crops_mirrored_or_not(small_maps):
    """The same crops as without a shift; in the first columns, whose label would lie outside of the crop, void."""
    splits = load_splits(small_maps, CAMVID, {})
    plain, moved = segmenter_data(splits, (24, 40)), segmenter_data(splits, (24, 40), label_shift=7)
    batches = [*zip(plain.training_batches(1), moved.training_batches(1), strict=True)]
    batches += zip(plain.evaluation_batches("test"), moved.evaluation_batches("test"), strict=True)
    assert len(batches) == 5
    for (images, labels), (same, shifted) in batches:
        assert torch.equal(images, same) and shifted.dtype == torch.int64
        assert torch.equal(shifted[..., 7:], labels[..., :-7]) and (shifted[..., :7] == CAMVID.task.classes).all()
    with pytest.raises(InputError, match="label_shift is 40, but a crop has only 40 columns"):
        segmenter_data(splits, (24, 40), label_shift=40)


def test_a_crop_larger_than_the_images(small_maps):
    with pytest.raises(InputError, match=r"crop is \(49, 64\), but the images have only \(48, 64\) pixels"):
        segmenter_data(load_splits(small_maps, CAMVID, {}), (49, 64))


def test_a_label_that_is_no_class_is_named(small_maps, tmp_path):
    with np.load(small_maps) as data:
        arrays = dict(data)
    arrays["validation_labels"][2, 3, 4] = 12
    np.savez(tmp_path / "camvid.npz", **arrays)
    with pytest.raises(InputError, match="a label of validation is 12; they go from 0 to 11, void"):
        load_splits(tmp_path / "camvid.npz", CAMVID, {})


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("test_images", lambda a: a.astype(np.float32), "test has no images uint8"),
        ("test_images", lambda a: a[:, :2], "test has no images uint8"),
        ("test_images", lambda a: a[0], "test has no images uint8"),
        ("test_images", lambda a: a[:0], "test has no images uint8"),
        ("train_labels", lambda a: a.astype(np.int64), "train has no images uint8"),
        ("train_labels", lambda a: a[:-1], "the labels of train, "),
        (
            "train_labels",
            lambda a: np.where(a == a.max(), 10, a).astype(np.uint8),
            "a label of train is 10; they go from",
        ),
        ("train_labels", lambda a: a.astype("U"), "train has no images uint8"),
    ],
)
def test_arrays_that_are_no_split_are_named(small_data, small_maps, tmp_path, name, change, message):
    for source, dataset in ((small_data, CIFAR10), (small_maps, CAMVID)):
        with np.load(source) as data:
            arrays = dict(data)
        if source == small_data or "10" not in message:
            np.savez(tmp_path / "x.npz", **arrays | {name: change(arrays[name])})
            with pytest.raises(InputError, match=f"x.npz: {message}"):
                load_splits(tmp_path / "x.npz", dataset, {"validation": 60})


def test_median_frequency_weights_by_hand():
    """Class 0 fills half of both images, class 1 a quarter of one, class 2 all of the rest that is not void."""
    labels = torch.tensor([[[0, 0], [1, 2]], [[0, 0], [2, 3]]], dtype=torch.uint8)
    # Of the pixels of the images that show it: 4 of 8, 1 of 4, 2 of 8; the median is 1/4. Void is 3.
    assert median_frequency_weights(labels, 3).tolist() == [0.5, 1.0, 1.0]
    with pytest.raises(InputError, match="no training image shows class 2"):
        median_frequency_weights(labels[:1].where(labels[:1] != 2, torch.tensor(3)).byte(), 3)


def test_an_epoch_shows_each_image_once_and_another_epoch_another_order(small_data):
    splits = load_splits(small_data, CIFAR10, {"validation": 60})
    data = classifier_data(splits, 50)
    batches = list(data.training_batches(3))
    assert data.steps == len(batches) == 4
    images, labels = batches[0]
    assert images.shape == (50, 3, 32, 32) and images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    again, other = (next(iter(data.training_batches(epoch))) for epoch in (3, 4))
    assert torch.equal(again[0], images) and torch.equal(again[1], labels)
    assert not torch.equal(other[0], images)
    evaluated = torch.cat([labels for _, labels in data.evaluation_batches("validation")])
    assert torch.equal(evaluated, splits["validation"].labels)


def test_a_batch_larger_than_the_training_set(small_data):
    with pytest.raises(InputError, match="batch_size is 241, but there are only 240 training images"):
        classifier_data(load_splits(small_data, CIFAR10, {"validation": 60}), 241)


def test_normalise():
    image = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    for task in (CIFAR10.task, CAMVID.task):
        expected = [(1 - mean) / std for mean, std in zip(task.mean, task.std, strict=True)]
        assert normalise(image, task)[0, :, 0, 0].tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("distance", [0, 3, 7])
def test_the_cue_of_the_reach_task_is_at_its_distance(distance):
    data = ReachData(side=17, distance=distance, batch_size=4, steps=2, seed=0, device=torch.device("cpu"))
    images, labels = data.draw(4000, torch_generator(0))
    middle, offset = 8, torch.arange(17) - 8
    radius = (offset[:, None] ** 2 + offset**2).sqrt()
    for label, channel in ((0, 0), (1, 2)):
        mean = images[labels == label].mean(0)
        mass = mean[channel].clamp(min=0.15) - 0.15
        if distance == 0:
            assert mass.argmax() == middle * 17 + middle or mass[middle, middle] > 2
        else:
            assert ((mass * radius).sum() / mass.sum()).item() == pytest.approx(distance, abs=0.5)
        assert mean[1].abs().max() < 0.2  # green carries nothing
    assert labels.float().mean().item() == pytest.approx(0.5, abs=0.05)
    first, second = (next(iter(data.training_batches(1))) for _ in range(2))
    assert torch.equal(first[0], second[0])
