"""Where the ERF goes: other units, other layers and other images than the paper's, before and after training.

Around the reference (the middle unit of the top, before its activation, on images that the network did not learn from)
one thing at a time is varied: the unit, at the quarter points of the plane; the layer, at the end of each stage; the
images, which are also noise; and on which side of the activation the unit is read. Writes one row a measurement.

Reads two snapshots of a training and its dataset; takes some minutes on CamVid, on one core.
"""

import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from torch import nn

from erf.measuring.layer import evaluating, layer_output
from erf.measuring.measure import measure
from erf.system.seeds import seed_for, torch_generator
from replication.commands.cli import command, write_table
from replication.trained import command as measuring_command
from replication.trained.snapshots import batch_size, load_network


def variations(model: nn.Module, images: torch.Tensor) -> Iterator[dict]:
    """What is measured: `varied` and `choice` name it, `layer`, `unit` and `channels` say where, `noise` on what."""
    *lower, top = model.layers()
    reference = {"layer": top, "unit": "center", "channels": "sum", "noise": False}
    yield {"varied": "reference", "choice": "reference", **reference}
    with evaluating(model), torch.no_grad():
        height, width = layer_output(model, images[:1], top).shape[2:]
    for row, vertical in ((1, "upper"), (3, "lower")):
        for column, side in ((1, "left"), (3, "right")):
            unit = (round(row * (height - 1) / 4), round(column * (width - 1) / 4))
            yield {"varied": "unit", "choice": f"{vertical} {side}", **reference, "unit": unit}
    for layer in lower:
        yield {"varied": "layer", "choice": layer, **reference, "layer": layer}
    yield {"varied": "images", "choice": "noise", **reference, "noise": True}
    for choice, (layer, channels) in model.readings().items():
        yield {"varied": "reading", "choice": choice, **reference, "layer": layer, "channels": channels}


def measure_network(model: nn.Module, images: torch.Tensor, noise: torch.Tensor, seed: int, stem: str) -> list[dict]:
    """One row for each variation; lengths in pixels."""
    rows = []
    for what in variations(model, images):
        rng = np.random.default_rng(seed_for(seed, "bootstrap", stem, what["varied"], what["choice"]))
        shown = noise if what["noise"] else images
        field = measure(
            model, shown, what["layer"], what["unit"], what["channels"], batch_size=batch_size(images), rng=rng
        )
        low, high = field.interval
        rows.append({"varied": what["varied"], "choice": what["choice"], "layer": what["layer"]})
        rows[-1] |= {"unit_row": field.settings["unit"][0], "unit_column": field.settings["unit"][1]}
        rows[-1] |= {"row": field.position[0], "column": field.position[1], "theoretical_rf": field.theoretical_rf[0]}
        rows[-1] |= {"size": field.size, "low": low, "high": high, "diameter": field.diameter}
        rows[-1] |= {"sigma_rows": field.sigma[0], "sigma_columns": field.sigma[1]}
        rows[-1] |= {"gaussian_r2": field.fit_gaussian().r2, "clipped": field.clipped}
        rows[-1] |= {"images": len(shown), "dead": field.dead}
    return rows


@command
def main(argv: list[str] | None = None) -> None:
    args, images, calibration = measuring_command.arguments(__doc__, argv, out="table, .csv")
    noise = torch.randn(images.shape, generator=torch_generator(args.seed, "noise images")).to(args.device)
    tables = []
    for path in args.snapshots:
        model, epoch = load_network(path, args.settings, args.seed, calibration)
        rows = measure_network(model, images, noise, args.seed, path.stem)
        labels = {"dataset": args.settings["dataset"], "seed": args.seed, "snapshot": path.stem, "epoch": epoch}
        tables.append(pd.DataFrame([{**labels, **row} for row in rows]))
    write_table(pd.concat(tables), args.out)


if __name__ == "__main__":
    sys.exit(main())
