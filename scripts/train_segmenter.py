"""Train the paper's CamVid network for one seed, with snapshots on the way.

Writes what train_classifier writes, the mean intersection over union beside the accuracy, which is that of pixels; the
best snapshot has the highest mean IoU on the validation split. Rare classes weigh more in the loss: their weight is
SegNet's median-frequency weight to the power `class_balance`, of the labels where they lie in the dataset. Labels that
are shifted (`label_shift`) are so in training, validation and test.

Reads the dataset; takes hours on a processor, and minutes on a GPU.
"""

import sys
from pathlib import Path

import torch

from erf.models.batch_norm import calibrate_batch_norm
from erf.system.seeds import torch_generator
from replication.commands.cli import command
from replication.datasets.camvid import CAMVID
from replication.training import command as training_command
from replication.training.images import ImageData, calibration_images, load_splits, median_frequency_weights
from replication.training.resnets import ResNetCamVid
from replication.training.trainer import Recipe, Trainer


def build_trainer(settings: dict, data_path: Path, seed: int, device: torch.device) -> Trainer:
    """The network at its initialisation, its data on the device, and the recipe."""
    splits = load_splits(data_path, CAMVID, settings)
    train = splits["train"]
    model = ResNetCamVid(**settings["network"], generator=torch_generator(seed, "weights"))
    calibrate_batch_norm(model, calibration_images(train, CAMVID))
    weights = median_frequency_weights(train.labels, CAMVID.task.classes) ** settings["class_balance"]
    shift = settings.get("label_shift", 0)
    data = ImageData(splits, CAMVID.task, settings["crop"], 0, settings["batch_size"], seed, device, shift)
    return Trainer(model, data, Recipe(**settings["recipe"]), device, weights)


@command
def main(argv: list[str] | None = None) -> None:
    training_command.run(__doc__, argv, build_trainer)


if __name__ == "__main__":
    sys.exit(main())
