"""Train the paper's CamVid network for one seed, with snapshots on the way.

Writes what train_classifier writes, the mean intersection over union beside the accuracy, which is that of pixels; the
best snapshot has the highest mean IoU on the validation split. Rare classes weigh more in the loss, as in SegNet.
"""

import sys
from pathlib import Path

import torch

import training_command
from cli import command
from erf.datasets import CAMVID, ImageData, load_splits, median_frequency_weights, normalise
from erf.networks import ResNetCamVid, calibrate_batch_norm
from erf.seeds import torch_generator
from erf.training import Recipe, Trainer

CALIBRATION = 16  # training images, whole, from which the untrained network's batch-norm statistics are taken


def build_trainer(settings: dict, data_path: Path, seed: int, device: torch.device) -> Trainer:
    """The network at its initialisation, its data on the device, and the recipe."""
    splits = load_splits(data_path, settings, seed)
    train = splits["train"]
    model = ResNetCamVid(**settings["network"], generator=torch_generator(seed, "weights"))
    some = torch.linspace(0, len(train) - 1, CALIBRATION).long()  # neighbours are frames of one video
    calibrate_batch_norm(model, normalise(train.images[some], CAMVID))
    weights = median_frequency_weights(train.labels, CAMVID.classes)
    data = ImageData(splits, CAMVID, settings["crop"], 0, settings["batch_size"], seed, device)
    return Trainer(model, data, Recipe(**settings["recipe"]), device, weights)


@command
def main(argv: list[str] | None = None) -> None:
    training_command.run(__doc__, argv, build_trainer)


if __name__ == "__main__":
    sys.exit(main())
