"""Arguments and images of the scripts that measure snapshots."""

import argparse
from pathlib import Path

import torch

from erf.system.devices import choose_device
from replication.commands.cli import add_settings, new_parser
from replication.datasets.table import DATASETS
from replication.trained.snapshots import measured_images
from replication.training.images import calibration_images, load_splits
from replication.training.speed import keep_freed_memory


def arguments(
    description: str, argv: list[str] | None, out: str
) -> tuple[argparse.Namespace, torch.Tensor, torch.Tensor]:
    """The arguments, `device` as torch has it; the images to measure on, (n, 3, H, W), and those that set batch norm's
    statistics, both on that device.

    `out` is the help of --out.
    """
    parser = new_parser(description)
    parser.add_argument("--snapshots", type=Path, nargs="+", required=True, help="snapshots of one training, .pt")
    parser.add_argument("--data", type=Path, required=True, help="arrays of the training's dataset, .npz")
    add_settings(parser, "the training's settings")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--images", type=int, required=True, help="validation and test images to average over")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help=out)
    args = parser.parse_args(argv)
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    args.device = choose_device(args.device)
    dataset = DATASETS[args.settings["dataset"]]
    splits = load_splits(args.data, dataset, args.settings)
    images = measured_images(splits, dataset.task, args.images)
    calibration = calibration_images(splits["train"], dataset)
    return args, images.to(args.device), calibration.to(args.device)
