"""The real CIFAR-10 and CamVid, where ERF_DATA_MIRROR has them."""

import numpy as np
import pytest
import torch
import yaml

import download_camvid
import download_cifar10
import erf
import train_classifier
import train_segmenter
from conftest import ROOT, dataset_arguments, real_dataset
from replication.datasets.camvid import CAMVID
from replication.datasets.cifar10 import CIFAR10
from replication.training.images import (
    Split,
    load_splits,
    median_frequency_weights,
    normalise,
)

CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text())


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory):
    """The real arrays, by the script and the registry that users have."""
    real_dataset("cifar-10-batches-py")
    path = tmp_path_factory.mktemp("real") / "cifar10.npz"
    assert download_cifar10.main([*dataset_arguments(CONFIG["datasets"]["cifar10"]), "--out", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    real_dataset("CamVid")
    path = tmp_path_factory.mktemp("real") / "camvid.npz"
    assert download_camvid.main([*dataset_arguments(CONFIG["datasets"]["camvid"]), "--out", str(path)]) == 0
    return path


def test_the_registry_has_the_official_checksums():
    """The table that torchvision has, too."""
    from erf.models.torchvision_import import import_torchvision

    official = import_torchvision().datasets.CIFAR10
    expected = dict(official.train_list + official.test_list) | {official.meta["filename"]: official.meta["md5"]}
    assert CONFIG["datasets"]["cifar10"]["members"] == expected
    assert CONFIG["datasets"]["cifar10"]["sources"][0] == official.url


def test_counts_and_statistics(cifar10):
    with np.load(cifar10) as data:
        assert data["train_images"].shape == (50000, 3, 32, 32) and data["test_images"].shape == (10000, 3, 32, 32)
        assert np.bincount(data["train_labels"]).tolist() == [5000] * 10
        assert np.bincount(data["test_labels"]).tolist() == [1000] * 10
        pixels = data["train_images"] / np.float32(255)
    np.testing.assert_allclose(pixels.mean((0, 2, 3), dtype=np.float64), CIFAR10.task.mean, atol=5e-5)
    np.testing.assert_allclose(pixels.std((0, 2, 3), dtype=np.float64), CIFAR10.task.std, atol=6e-5)


def test_camvids_counts_statistics_and_weights(camvid):
    splits = load_splits(camvid, CAMVID, {})
    assert {name: len(split) for name, split in splits.items()} == {"train": 367, "validation": 101, "test": 233}
    train = splits["train"]
    pixels = train.images.numpy() / np.float32(255)
    np.testing.assert_allclose(pixels.mean((0, 2, 3), dtype=np.float64), CAMVID.task.mean, atol=5e-5)
    np.testing.assert_allclose(pixels.std((0, 2, 3), dtype=np.float64), CAMVID.task.std, atol=6e-5)
    share = np.bincount(train.labels.numpy().ravel(), minlength=12) / train.labels.numel()
    np.testing.assert_allclose(100 * share[[0, 3, 11]], [16.8, 31.7, 3.9], atol=0.06)
    weights = [0.279, 0.202, 4.787, 0.149, 1.000, 0.422, 3.847, 1.974, 0.789, 6.375, 8.859]
    np.testing.assert_allclose(median_frequency_weights(train.labels, 11), weights, atol=6e-4)


def test_the_papers_segmenter_learns_from_real_images(camvid):
    """A few steps of a narrow one, whose ERF begins near the paper's 100 pixels and stays in its receptive field."""
    settings = {**CONFIG["training_defaults"]["camvid"], "batch_size": 4, "snapshots": [0], "dataset": "camvid"}
    settings["network"] = {**settings["network"], "width": 8, "residual_scale": 0.2}
    settings["recipe"] = {**settings["recipe"], "epochs": 2}
    trainer = train_segmenter.build_trainer(settings, camvid, 0, torch.device("cpu"))
    images = normalise(load_splits(camvid, CAMVID, {})["validation"].images[::20], CAMVID.task)
    field = erf.measure(trainer.model, images, layer="stages.3.4.sum", batch_size=1)
    assert field.theoretical_rf == (505, 505) and field.position == (176, 240) and field.dead == 0
    assert 60 < field.diameter < 160
    splits = trainer.data.splits
    splits["train"] = splits["train"].take(torch.arange(0, 360, 9))
    splits["validation"] = Split(splits["validation"].images[::20], splits["validation"].labels[::20])
    first, second = trainer.train_epoch(1), trainer.train_epoch(2)
    assert second["train_loss"] < first["train_loss"] < 3 and second["train_mean_iou"] > first["train_mean_iou"]
    assert 0 < trainer.evaluate("validation")["validation_mean_iou"] < 1


def test_the_papers_network_learns_from_real_images(cifar10):
    """Sixty steps of a narrow one: the loss falls well below that of guessing, ln 10."""
    settings = {**CONFIG["training_defaults"]["cifar10"], "batch_size": 64, "snapshots": [0], "dataset": "cifar10"}
    settings["network"] = {**settings["network"], "width": 8}
    settings["recipe"] = {**settings["recipe"], "epochs": 1, "learning_rate": 0.1, "label_smoothing": 0.0}
    trainer = train_classifier.build_trainer(settings, cifar10, 0, torch.device("cpu"))
    data = trainer.data
    data.splits["train"] = data.splits["train"].take(torch.arange(60 * 64))
    data.splits["validation"] = data.splits["validation"].take(torch.arange(500))
    before = trainer.evaluate("validation")
    trainer.train_epoch(1)
    after = trainer.evaluate("validation")
    assert after["validation_loss"] < 2.15 < before["validation_loss"]
    assert after["validation_accuracy"] > 0.2

    images = normalise(load_splits(cifar10, CIFAR10, {"validation": 5000})["validation"].images[:8], CIFAR10.task)
    field = erf.measure(trainer.model, images, layer="top")
    assert field.theoretical_rf == (73, 73) and field.position == (16, 16)
    assert 3 < field.size < 32 and field.dead == 0
