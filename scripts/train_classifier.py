"""Train the paper's CIFAR-10 network for one seed, with snapshots on the way.

Writes, all at the end: epoch_NNN.pt for each declared epoch (0 is before training), best.pt at the highest validation
accuracy, metrics.csv (one row an epoch), speed.csv (time, and the share of the machine's peak) and test.csv (the best
snapshot on the test set, which nothing else sees). Until then everything lies in the resume folder, from which a killed
run goes on.

Reads the dataset; takes hours on a processor, and minutes on a GPU.
"""

import sys
from pathlib import Path

import torch

from erf.models.batch_norm import calibrate_batch_norm
from erf.system.seeds import torch_generator
from replication.commands.cli import command
from replication.datasets.cifar10 import CIFAR10
from replication.datasets.dataset import Dataset
from replication.training import command as training_command
from replication.training.images import ImageData, calibration_images, load_splits
from replication.training.resnets import ResNetCifar
from replication.training.trainer import Recipe, Trainer

SIDE = 32  # of the images, pixels
PADDING = 4  # by which a random crop may leave the image, whose reflection it then shows


def build_trainer(
    settings: dict, data_path: Path, seed: int, device: torch.device, dataset: Dataset = CIFAR10
) -> Trainer:
    """The network at its initialisation, its data on the device, and the recipe."""
    splits = load_splits(data_path, dataset, settings)
    generator = torch_generator(seed, "weights")
    model = ResNetCifar(**settings["network"], generator=generator, classes=dataset.task.classes)
    calibrate_batch_norm(model, calibration_images(splits["train"], dataset))
    data = ImageData(splits, dataset.task, (SIDE, SIDE), PADDING, settings["batch_size"], seed, device)
    return Trainer(model, data, Recipe(**settings["recipe"]), device)


@command
def main(argv: list[str] | None = None) -> None:
    training_command.run(__doc__, argv, build_trainer)


if __name__ == "__main__":
    sys.exit(main())
