"""The real CIFAR-10, where ERF_DATA_MIRROR has it."""

import numpy as np
import pytest
import torch
import yaml

import download_cifar10
import erf
import train_classifier
from conftest import ROOT
from erf.datasets import CIFAR10_MEAN, CIFAR10_STD, load_cifar10, normalise

CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text())


@pytest.fixture(scope="module")
def cifar10(real_mirror, tmp_path_factory):
    """The real arrays, by the script and the registry that users have."""
    import json

    path = tmp_path_factory.mktemp("real") / "cifar10.npz"
    dataset = json.dumps(CONFIG["datasets"]["cifar10"])
    assert download_cifar10.main(["--dataset", dataset, "--out", str(path)]) == 0
    return path


def test_the_registry_has_the_official_checksums():
    """The table that torchvision has, too."""
    from erf.vision import import_torchvision

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
    np.testing.assert_allclose(pixels.mean((0, 2, 3), dtype=np.float64), CIFAR10_MEAN, atol=5e-5)
    np.testing.assert_allclose(pixels.std((0, 2, 3), dtype=np.float64), CIFAR10_STD, atol=6e-5)


def test_the_papers_network_learns_from_real_images(cifar10):
    """Sixty steps of a narrow one: the loss falls well below that of guessing, ln 10."""
    settings = {**CONFIG["trainings"]["cifar10"], "batch_size": 64, "snapshots": [0]}
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

    images = normalise(load_cifar10(cifar10, 5000, 0)["validation"].images[:8])
    field = erf.measure(trainer.model, images, layer="top")
    assert field.theoretical_rf == (73, 73) and field.position == (16, 16)
    assert 3 < field.size < 32 and field.dead == 0
