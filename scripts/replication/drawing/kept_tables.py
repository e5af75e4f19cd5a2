"""Tables of the results that are kept in figures/reference, as printed: a heading and rows of cells."""

from pathlib import Path

import numpy as np

from erf.result.intervals import mean_interval
from replication.commands.cli import read_table
from replication.datasets.table import DATASETS
from replication.drawing.labels import over_seeds, with_interval

Table = tuple[list[str], list[list[str]]]


def slope_table(kept: Path) -> Table:
    """Slopes by weights, quantity and range of depths, with theory's."""
    slopes = read_table(kept / "growth_slopes.csv").query("variant == 'abs'")
    if "range" not in slopes:  # older tables leave no depths out
        slopes["range"] = slopes["depths"]
    slopes = slopes.set_index(["network", "quantity", "range"])
    ranges = slopes.index.unique("range")
    header = ["slope against depth of", "weights"]
    for depths in ranges:
        header += [f"{depths.replace('-', '–')} layers [95 %]", "theory"]
    rows = []
    for quantity, name, paper in (("size", "ERF size", "0.56"), ("ratio", "ERF size / RF size", "−0.43")):
        for network in ("uniform", "random", "relu"):
            row = [name, slopes.loc[(network, quantity, ranges[0]), "weights"]]
            for depths in ranges:
                found = slopes.loc[(network, quantity, depths)]
                used = "" if found["depths"] == depths else f", {found['depths'].replace('-', '–')} layers"
                row.append(with_interval(found["slope"], found["low"], found["high"], 3) + used)
                row.append(with_interval(found["theory"], np.nan, np.nan, 3))
            rows.append([*row, paper])
    return [*header, "paper"], rows


def growth_table(kept: Path) -> Table:
    """σ and ERF size before training and at the last epoch, by start, over the seeds of docs/protocol.md."""
    erf, scores = (read_table(kept / f"short/{name}.csv") for name in ("erf", "test"))
    erf["sigma"] = np.hypot(erf["sigma_rows"], erf["sigma_columns"]) / np.sqrt(2)
    rows = []
    for name, here in erf[erf["snapshot"] != "best"].groupby("name", sort=False):
        row = [DATASETS[here["dataset"].iloc[0]].title, f"{here['residual_scale'].iloc[0]:g}"]
        for quantity in ("sigma", "size"):
            by_seed = here.pivot_table(index="seed", columns="epoch", values=quantity)
            before, after = by_seed[by_seed.columns.min()], by_seed[by_seed.columns.max()]
            ratio = np.exp(mean_interval(np.log(after / before)))
            row += [f"{before.mean():.1f} → {after.mean():.1f}", over_seeds(tuple(ratio), len(by_seed), 3)]
        own = scores[scores["name"] == name]
        score = 100 * own["test_mean_iou"].fillna(own["test_accuracy"])
        rows.append([*row, f"{over_seeds(mean_interval(score), len(own))} %", str(len(own))])
    header = ["", "γ", "σ, pixels", "after / before", "ERF size, pixels", "after / before", "test score", "seeds"]
    return header, rows
