"""Figure: the ERF during training. Diameter and sigma at every snapshot, what the kernels do, and the validation score.

Beside the measured sigma stands the one that follows from the energies of the kernels alone. Where the two part, the
ERF changes by how channels align or gates open, and not by how far kernels spread.

Hollow dots are cut off by the receptive field or the image.

Reads tables of measure_snapshots and of the trainings; takes seconds.
"""

import itertools
import sys
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from erf.result.intervals import mean_interval
from replication.commands.cli import command, figure_arguments
from replication.datasets.table import DATASETS
from replication.drawing.labels import training_title
from replication.drawing.plots import (
    AFTER,
    HORIZONTAL,
    SCORE,
    VERTICAL,
    WIDTH,
    draw_seeds,
    error_bars,
    letter,
    save,
    use_style,
)
from replication.trained.tables import read_metrics, read_sizes

BRANCHES = "#8b1a1a"
OF_KERNELS = ["kernel_spread", "branch_share"]
QUANTITIES = {
    "diameter": ("ERF diameter", AFTER, "o"),
    "sigma_rows": ("vertical σ", VERTICAL, "^"),
    "sigma_columns": ("horizontal σ", HORIZONTAL, "s"),
    "sigma_kernels": ("σ by the kernels alone", "0.35", "D"),
    "kernel_spread": ("spread of a kernel's energy (1: even)", "0.6", "P"),
    "branch_share": ("share of the energy through a residual branch", BRANCHES, "v"),
    "score": ("validation score", SCORE, "o"),
}


def tabulate(sizes: list[Path], metrics: list[Path]) -> pd.DataFrame:
    """One row per training, seed, epoch and quantity; seed "mean" with the 95 % t interval over seeds.

    A seed's own interval of the diameter is over redrawn images, as if they were independent, which frames of one video
    are not.
    """
    erf = read_sizes(sizes).query("snapshot != 'best'")
    keys = ["training", "dataset", "seed", "epoch"]
    measured = [name for name in QUANTITIES if name in erf]  # tables of older code have none of the kernels
    runs = erf.melt([*keys, "clipped"], measured, "quantity", "value")
    scale = erf["diameter"] / erf["size"]  # of which the tables have the interval
    own = erf[keys].assign(quantity="diameter", low=erf["low"] * scale, high=erf["high"] * scale)
    runs = runs.merge(own, "left", [*keys, "quantity"])
    scores = read_metrics(metrics).rename(columns={"score": "value"}).assign(quantity="score", clipped=False)
    scores["dataset"] = scores["training"].map(dict(zip(erf["training"], erf["dataset"], strict=True)))
    runs = pd.concat([runs, scores])
    means = [
        dict(zip(("training", "dataset", "quantity", "epoch"), key, strict=True), seed="mean")
        | dict(zip(("value", "low", "high"), mean_interval(group["value"]), strict=True))
        for key, group in runs.groupby(["training", "dataset", "quantity", "epoch"], sort=False)
    ]
    return pd.concat([runs.astype({"seed": str}), pd.DataFrame(means)])


def draw_quantities(axes: Axes, table: pd.DataFrame, names: list[str]) -> None:
    """One line with its seeds for each quantity."""
    for name in names:
        label, colour, marker = QUANTITIES[name]
        here = table[table["quantity"] == name]
        if here.empty:
            continue
        runs = here[here["seed"] != "mean"]
        bars = error_bars(runs["value"], runs["low"], runs["high"])  # NaN where a run has no interval of its own
        axes.errorbar(runs["epoch"], runs["value"], bars, fmt="none", ecolor=colour, elinewidth=0.6)
        draw_seeds(axes, here, "epoch", colour, label, marker)


def draw(table: pd.DataFrame):
    names = list(table["training"].unique())
    rows = 4 if table["quantity"].isin(OF_KERNELS).any() else 3
    size = (max(WIDTH * len(names) / 2, WIDTH / 2), 1.7 * rows + 0.1)
    figure, axes = plt.subplots(rows, len(names), figsize=size, sharex="col", squeeze=False, layout="constrained")
    for column, name in enumerate(names):
        here = table[table["training"] == name]
        dataset = here["dataset"].iloc[0]
        top, middle, *kernels, bottom = axes[:, column]
        draw_quantities(top, here, ["diameter"])
        draw_quantities(middle, here, ["sigma_rows", "sigma_columns", "sigma_kernels"])
        for panel in kernels:
            draw_quantities(panel, here, OF_KERNELS)
            panel.set(ylabel="kernels and branches", ylim=(0, None))
        draw_quantities(bottom, here, ["score"])
        seeds = here[here["seed"] != "mean"]["seed"].nunique()
        top.set(title=training_title(name, dataset, seeds), ylabel="ERF diameter (pixels)")
        middle.set(ylabel="σ of the map (pixels)")
        bottom.set(ylabel=f"validation {DATASETS[dataset].score_title}", xlabel="epoch", ylim=(0, 1))
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    letter(*axes.ravel())
    found = [panel.get_legend_handles_labels() for panel in axes[1:-1, 0]]
    entries = [[*itertools.chain(*parts)] for parts in zip(*found, strict=True)]
    figure.legend(*entries, loc="outside lower center", ncols=min(3, 1 + len(names)))
    return figure, table


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(
        __doc__, argv, sizes="tables of measure_snapshots, one a seed", metrics="tables of the training, one a seed"
    )
    use_style()
    save(*draw(tabulate(args.sizes, args.metrics)), args.out)


if __name__ == "__main__":
    sys.exit(main())
