"""Trained networks as their snapshots have them, and the images on which they are measured."""

from pathlib import Path

import torch
from torch import nn

from erf.errors import InputError
from erf.measuring.precision import full_precision
from erf.models.batch_norm import calibrate_batch_norm
from erf.system.seeds import torch_generator
from replication.datasets.dataset import Task
from replication.datasets.table import DATASETS
from replication.training import resnets
from replication.training.images import Split, normalise, spread
from replication.training.resume import check_settings, load_snapshot

BATCH = 2**20  # pixels of images in one backward pass, which bounds its memory


def load_network(path: Path, settings: dict, seed: int, calibration: torch.Tensor) -> tuple[nn.Module, int]:
    """The network of a snapshot, on the device of the `calibration` images, and its epoch.

    Its batch norms take their statistics from these images, (n, 3, H, W): in the same way before training and after
    it, so that what the statistics alone do to the ERF is no part of its growth. InputError for a snapshot of other
    settings or another seed.
    """
    snapshot = load_snapshot(path)
    check_settings(path, {**snapshot["settings"], "seed": snapshot["seed"]}, {**settings, "seed": seed})
    dataset, generator = DATASETS[settings["dataset"]], torch_generator(seed, "weights")
    network = getattr(resnets, dataset.network)
    model = network(**settings["network"], generator=generator, classes=dataset.task.classes)
    model.load_state_dict(snapshot["model"])
    model.to(calibration.device)
    with full_precision(calibration.device.type):
        calibrate_batch_norm(model, calibration)
    return model, snapshot["epoch"]


def measured_images(splits: dict[str, Split], task: Task, count: int) -> torch.Tensor:
    """`count` images that training does not learn from, normalised, (n, 3, H, W): the same for every seed, spread over
    the validation and the test split. On CamVid these hold three video sequences; validation alone holds one."""
    images = torch.cat([splits["validation"].images, splits["test"].images])
    if count > len(images):
        raise InputError(f"{count} images are wanted, but there are only {len(images)} for validation and test")
    return normalise(spread(images, count), task)


def batch_size(images: torch.Tensor) -> int:
    """Images (n, 3, H, W) that go into one backward pass."""
    return max(1, min(32, BATCH // images[0, 0].numel()))
