"""Effective receptive field of one trained network at each of its snapshots, on validation images."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from cli import command, json_object, new_parser, write_table
from erf.datasets import load_cifar10, normalise
from erf.field import ReceptiveField
from erf.measure import measure
from erf.networks import ResNetCifar
from erf.seeds import seed_for, torch_generator
from erf.training import check_settings, choose_device, load_snapshot


def measure_snapshot(
    path: Path, settings: dict, seed: int, images: torch.Tensor, device: torch.device
) -> ReceptiveField:
    """The field of the unit in the middle of the top convolution, read before normalisation and activation."""
    snapshot = load_snapshot(path)
    check_settings(path, {**snapshot["settings"], "seed": snapshot["seed"]}, {**settings, "seed": seed})
    model = ResNetCifar(**settings["network"], generator=torch_generator(seed, "weights"))
    model.load_state_dict(snapshot["model"])
    rng = np.random.default_rng(seed_for(seed, "bootstrap", path.stem))
    field = measure(model.to(device), images.to(device), layer="top", rng=rng)
    field.settings.update(training=settings, seed=seed, epoch=snapshot["epoch"], snapshot=path.stem)
    return field


def table_row(field: ReceptiveField) -> dict:
    """The numbers of one snapshot; lengths in pixels."""
    low, high = field.interval
    return {
        "seed": field.settings["seed"],
        "snapshot": field.settings["snapshot"],
        "epoch": field.settings["epoch"],
        "size": field.size,
        "low": low,
        "high": high,
        "diameter": field.diameter,
        "sigma_rows": field.sigma[0],
        "sigma_columns": field.sigma[1],
        "gaussian_r2": field.fit_gaussian().r2,
        "clipped": field.clipped,
        "images": field.settings["images"],
        "dead": field.dead,
        "theoretical_rf": field.theoretical_rf[0],
    }


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--snapshots", type=Path, nargs="+", required=True, help="snapshots of one training, .pt")
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 arrays, .npz")
    parser.add_argument("--settings", type=json_object, required=True, help="the training's settings, JSON")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--images", type=int, required=True, help="validation images to average over")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="folder of the maps, one .npz a snapshot, and erf.csv")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    device = choose_device(args.device)
    validation = load_cifar10(args.data, args.settings["validation"], args.seed)["validation"]
    images = normalise(validation.images[: args.images])
    rows = []
    for path in args.snapshots:
        field = measure_snapshot(path, args.settings, args.seed, images, device)
        field.save(args.out / f"{path.stem}.npz")
        rows.append(table_row(field))
        print(f"{path.stem}: ERF size {field.size:.2f} px at epoch {field.settings['epoch']}")
    write_table(pd.DataFrame(rows), args.out / "erf.csv")


if __name__ == "__main__":
    sys.exit(main())
