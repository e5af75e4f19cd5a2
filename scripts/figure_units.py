"""Figure: where the ERF goes. Sizes at other units, other layers, on noise and behind the activation, before and after
training, beside the paper's choice. Hollow markers are cut off by the image or the receptive field in some run.

Reads tables of measure_units; takes seconds.
"""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from erf.result.intervals import mean_interval
from replication.commands.cli import command, figure_arguments, read_table
from replication.drawing.labels import training_title
from replication.drawing.plots import AFTER, BEFORE, WIDTH, beside, draw_hollow, letter, save, seed_bars, use_style

SNAPSHOTS = {"epoch_000": ("before training", BEFORE, "o"), "best": ("after training", AFTER, "s")}
TITLES = {
    "reference": "middle unit, top layer",
    "unit": "unit",
    "layer": "layer",
    "images": "images",
    "reading": "read",
}


def layer_name(layer: str) -> str:
    """The stem, a block or a stage, counted from 1, in whose end the layer is."""
    return re.sub(r"^(block|stage)s\.(\d+)\..*", lambda found: f"{found[1]} {int(found[2]) + 1}", layer)


def summarise(paths: list[Path]) -> pd.DataFrame:
    """One row per training, snapshot and variation: the mean size over seeds with its 95 % t interval, and its ratio to
    the reference's, over seeds too. Paths are .../<training>/seed_<seed>.csv."""
    runs = pd.concat([read_table(path, "varied", "size").assign(training=path.parent.name) for path in paths])
    keys = ["training", "snapshot", "seed"]
    reference = runs[runs["varied"] == "reference"].set_index(keys)["size"].rename("reference")
    runs = runs.join(reference, on=keys)
    rows = []
    for (training, snapshot, varied, choice), group in runs.groupby(
        ["training", "snapshot", "varied", "choice"], sort=False
    ):
        first = group.iloc[0]
        size, ratio = mean_interval(group["size"]), mean_interval(group["size"] / group["reference"])
        rows.append({"training": training, "dataset": first["dataset"], "snapshot": snapshot})
        rows[-1] |= {"varied": varied, "choice": layer_name(choice), "layer": first["layer"]}
        rows[-1] |= {name: first[name] for name in ("row", "column", "theoretical_rf")}
        rows[-1] |= dict(zip(("size", "low", "high"), size, strict=True))
        rows[-1] |= dict(zip(("ratio", "ratio_low", "ratio_high"), ratio, strict=True))
        rows[-1] |= {"clipped": group["clipped"].any(), "dead": group["dead"].sum(), "seeds": len(group)}
    return pd.DataFrame(rows)


def draw_training(axes: Axes, table: pd.DataFrame) -> None:
    """One line a variation, from top to bottom."""
    order = table.drop_duplicates(["varied", "choice"])
    labels = [
        TITLES["reference"] if varied == "reference" else f"{TITLES[varied]}: {choice}"
        for varied, choice in zip(order["varied"], order["choice"], strict=True)
    ]
    for number, (snapshot, (label, colour, marker)) in enumerate(SNAPSHOTS.items()):
        here = table[table["snapshot"] == snapshot]
        heights = np.arange(len(here)) + beside(number, len(SNAPSHOTS), 0.3)
        bars = seed_bars(here["size"], here["low"], here["high"], here["seeds"])
        axes.errorbar(here["size"], heights, xerr=bars, fmt=marker, color=colour, elinewidth=0.8, label=label)
        clipped = here["clipped"].to_numpy(bool)
        draw_hollow(axes, here["size"].to_numpy()[clipped], heights[clipped], marker=marker, color=colour)
        axes.axvline(here.loc[here["varied"] == "reference", "size"].item(), color=colour, linewidth=0.5, zorder=0)
    starts = np.flatnonzero(order["varied"].to_numpy()[1:] != order["varied"].to_numpy()[:-1])
    for start in starts:
        axes.axhline(start + 0.5, color="0.85", linewidth=0.6, zorder=0)
    axes.set(yticks=range(len(labels)), yticklabels=labels, xlabel="ERF size (pixels)", xlim=(0, None))
    axes.invert_yaxis()


def draw(table: pd.DataFrame):
    names = list(table["training"].unique())
    figure, axes = plt.subplots(1, len(names), figsize=(WIDTH, 3.6), squeeze=False, layout="constrained")
    for panel, name in zip(axes[0], names, strict=True):
        here = table[table["training"] == name]
        draw_training(panel, here)
        panel.set_title(training_title(name, here["dataset"].iloc[0], here["seeds"].iloc[0]))
    letter(*axes[0])
    handles, labels = axes[0, -1].get_legend_handles_labels()
    if table["clipped"].any():
        labels[-1] += " (hollow: cut off by the image or the receptive field)"
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure, table


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, tables="tables of measure_units, one a seed")
    use_style()
    save(*draw(summarise(args.tables)), args.out)


if __name__ == "__main__":
    sys.exit(main())
