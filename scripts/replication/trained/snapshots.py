"""Trained networks as their snapshots have them: which layers are measured, and on which images."""

from pathlib import Path

import torch
from torch import nn

from erf.errors import InputError
from erf.measuring.precision import full_precision
from erf.models.batch_norm import calibrate_batch_norm
from erf.system.seeds import torch_generator
from replication.training.datasets import TASKS, Split, normalise, spread
from replication.training.resnets import NETWORKS, ResNetCifar
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
    model = NETWORKS[settings["dataset"]](**settings["network"], generator=torch_generator(seed, "weights"))
    model.load_state_dict(snapshot["model"])
    model.to(calibration.device)
    with full_precision(calibration.device.type):
        calibrate_batch_norm(model, calibration)
    return model, snapshot["epoch"]


def measured_images(splits: dict[str, Split], dataset: str, count: int) -> torch.Tensor:
    """`count` images that training does not learn from, normalised, (n, 3, H, W): the same for every seed, spread over
    the validation and the test split. On CamVid these hold three video sequences; validation alone holds one."""
    images = torch.cat([splits["validation"].images, splits["test"].images])
    if count > len(images):
        raise InputError(f"{count} images are wanted, but there are only {len(images)} for validation and test")
    return normalise(spread(images, count), TASKS[dataset])


def batch_size(images: torch.Tensor) -> int:
    """Images (n, 3, H, W) that go into one backward pass."""
    return max(1, min(32, BATCH // images[0, 0].numel()))


def stage_layers(model: nn.Module) -> list[str]:
    """Layers from bottom to top, each read before its activation: the stem, then the end of every stage, or of every
    quarter of the CIFAR-10 network, which has no stages; on top of it its last convolution."""
    if isinstance(model, ResNetCifar):
        count = len(model.blocks)
        ends = sorted({round(quarter * count / 4) - 1 for quarter in range(1, 5)} - {-1})
        return ["stem", *(f"blocks.{end}.sum" for end in ends), "top"]
    return ["stem", *(f"stages.{number}.{len(stage) - 1}.sum" for number, stage in enumerate(model.stages))]


def unit_layer(model: nn.Module) -> str:
    """The layer whose middle unit is the paper's."""
    return stage_layers(model)[-1]


ROAD = 3  # CamVid's most frequent class


def readings(model: nn.Module) -> dict[str, tuple[str, str | int]]:
    """Other ways to read the top's unit, by what they are: layer and channels, as `measure` takes them.

    Of logits one is read: their sum is what cross-entropy never changes.
    """
    if isinstance(model, ResNetCifar):
        return {"after normalisation": ("top_norm", "sum"), "after activation": ("top_relu", "sum")}
    after = unit_layer(model).removesuffix(".sum")
    return {"after activation": (after, "sum"), "logit of road": ("head", ROAD)}
