"""Effective receptive field of one trained network at each of its snapshots, on images that it did not learn from.

Writes the fields of all snapshots as one .npz, and beside it a table of their numbers, .csv, and of kernels, .tsv.

Reads a training's snapshots and its dataset; takes about four minutes on CamVid, on one core.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from erf.measuring.measure import measure
from erf.result.contribution import radius_holding, share_within
from erf.result.field import ReceptiveField, save_fields
from erf.size import E2
from erf.system.seeds import seed_for, torch_generator
from replication.commands.cli import command, write_table
from replication.statistics.moments import PARTS, map_moments, rf_radius
from replication.trained import command as measuring_command
from replication.trained.gates import maps_with_drawn_gates
from replication.trained.kernels import kernel_profile, predicted_sigma
from replication.trained.snapshots import batch_size, load_network

OF_KERNELS = ("sigma_kernels", "sigma_drawn_gates", "kernel_spread", "branch_share")


def measure_snapshot(
    path: Path, settings: dict, seed: int, images: torch.Tensor, calibration: torch.Tensor, draws_gates: bool
) -> tuple[ReceptiveField, pd.DataFrame]:
    """The field of the middle unit of the layer that the paper's figure is about, read before its activation; and the
    kernels of all layers below it. `draws_gates`: the σ with gates drawn anew is measured too."""
    model, epoch = load_network(path, settings, seed, calibration)
    rng = np.random.default_rng(seed_for(seed, "bootstrap", path.stem))
    field = measure(model, images, model.layers()[-1], batch_size=batch_size(images), rng=rng)
    told = {"training": settings, "seed": seed, "epoch": epoch, "snapshot": path.stem}
    kernels = kernel_profile(model)
    means = kernels[["kernel_spread", "branch_share"]].mean().to_dict()
    drawn = sigma_with_drawn_gates(model, field, images, seed) if draws_gates else np.nan
    field.settings.update(told, sigma_kernels=predicted_sigma(model), sigma_drawn_gates=drawn, **means)
    return field, kernels.assign(snapshot=path.stem, epoch=epoch)


def sigma_with_drawn_gates(model: torch.nn.Module, field: ReceptiveField, images: torch.Tensor, seed: int) -> float:
    """σ (pixels), the root mean square over rows and columns, of the same unit with all ReLUs' gates drawn anew."""
    generator = torch_generator(seed, "gates")
    batches = images.split(batch_size(images))
    maps = [maps_with_drawn_gates(model, batch, model.layers()[-1], generator) for batch in batches]
    drawn = ReceptiveField.from_runs(np.concatenate(maps), field.position, field.theoretical_rf)
    return float(np.sqrt(np.mean(np.square(drawn.sigma))))


def table_row(field: ReceptiveField) -> dict:
    """The numbers of one snapshot; lengths in pixels."""
    low, high = field.interval
    training = field.settings["training"]
    return {
        "dataset": training["dataset"],
        "residual_scale": training["network"]["residual_scale"],
        "centre_light": training["network"]["centre_light"],
        "label_shift": training.get("label_shift", 0),
        "seed": field.settings["seed"],
        "snapshot": field.settings["snapshot"],
        "epoch": field.settings["epoch"],
        "size": field.size,
        "low": low,
        "high": high,
        "diameter": field.diameter,
        "size_maximum": field.size_at(reference="maximum"),
        "size_e2": field.size_at(E2),
        "sigma_rows": field.sigma[0],
        "sigma_columns": field.sigma[1],
        **{name: field.settings[name] for name in OF_KERNELS},
        **drift(field),
        "gaussian_r2": field.fit_gaussian().r2,
        "clipped": field.clipped,
        "extent": extent(field),
        "theoretical_rf": field.theoretical_rf[0],
        "images": field.settings["images"],
        "dead": field.dead,
        **near_the_unit(field),
    }


def near_the_unit(field: ReceptiveField) -> dict[str, float]:
    """Shares of the impact within parts of the receptive field's radius, and the radius (pixels) that holds half."""
    impact, radius = np.abs(field.map), rf_radius(field.theoretical_rf)
    shares = {f"share_{name}": share_within(impact, field.position, part * radius) for name, part in PARTS.items()}
    return {**shares, "radius_half": radius_holding(impact, field.position, 0.5)}


def drift(field: ReceptiveField) -> dict[str, float]:
    """How far the mean of the impact lies below the unit and to its right, pixels."""
    mean, _ = map_moments(field.map, field.position)
    return dict(zip(("drift_rows", "drift_columns"), mean.tolist(), strict=True))


def extent(field: ReceptiveField) -> float:
    """Side of the smallest square, centred on the unit, outside of which there is no impact at all."""
    positions = zip(field.map.nonzero(), field.position, strict=True)
    return 2 * max(np.abs(found - centre).max() for found, centre in positions) + 1


@command
def main(argv: list[str] | None = None) -> None:
    args, images, calibration = measuring_command.arguments(__doc__, argv, out="fields, .npz; tables beside it")
    fields, kernels = [], []
    for path in args.snapshots:
        is_end = path.stem in (f"epoch_{epoch:03d}" for epoch in (0, args.settings["recipe"]["epochs"]))
        field, profile = measure_snapshot(path, args.settings, args.seed, images, calibration, is_end)
        fields.append(field)
        kernels.append(profile)
        print(f"{path.stem}: ERF size {fields[-1].size:.2f} px at epoch {fields[-1].settings['epoch']}", flush=True)
    save_fields(fields, args.out)
    write_table(pd.DataFrame([table_row(field) for field in fields]), args.out.with_suffix(".csv"))
    write_table(pd.concat(kernels), args.out.with_suffix(".tsv"))


if __name__ == "__main__":
    sys.exit(main())
