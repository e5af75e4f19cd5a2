"""Figure: the ERF during training. Diameter and sigma at every snapshot, what the kernels do, and the validation score.

Beside the measured sigma stand the one with each ReLU's gates drawn anew, which weights alone tell, and the one that
follows from the energies of the kernels alone. Where these two part, channels align. Kernels are shown as means over
all layers at every snapshot, and layer by layer before training and after it.

Hollow dots are cut off by the receptive field or the image.

Reads both tables of measure_snapshots and those of the trainings; takes seconds.
"""

import itertools
import sys
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from erf.result.intervals import mean_interval
from replication.commands.cli import command, figure_arguments, read_table
from replication.datasets.table import DATASETS
from replication.drawing.labels import ENOUGH_SEEDS, training_title
from replication.drawing.plots import (
    AFTER,
    BEFORE,
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
KEYS = ["training", "dataset", "quantity", "epoch", "layer"]
QUANTITIES = {
    "diameter": ("ERF diameter", AFTER, "o"),
    "sigma_rows": ("vertical σ", VERTICAL, "^"),
    "sigma_columns": ("horizontal σ", HORIZONTAL, "s"),
    "sigma_drawn_gates": ("σ with gates drawn anew", "black", "x"),
    "sigma_kernels": ("σ by the kernels alone", "0.35", "D"),
    "kernel_spread": ("spread of a kernel's energy (1: even)", "0.6", "P"),
    "branch_share": ("share of the energy through a residual branch", BRANCHES, "v"),
    "score": ("validation score", SCORE, "o"),
}


def read_kernels(paths: list[Path]) -> pd.DataFrame:
    """Profiles of kernels, .../<training>/seed_<seed>.tsv, before training and at the last epoch. `layer` counts the
    convolutions from the image, which is beside 1."""
    tables = []
    for path in paths:
        table = read_table(path, "snapshot", "epoch", *OF_KERNELS).query("snapshot != 'best'")
        table = table[table["epoch"].isin([0, table["epoch"].max()])]
        table = table.assign(layer=table.groupby("epoch").cumcount() + 1, training=path.parent.name)
        tables.append(table.assign(seed=int(path.stem.removeprefix("seed_"))))
    table = pd.concat(tables, ignore_index=True)
    return table.melt(["training", "seed", "epoch", "layer"], OF_KERNELS, "quantity").dropna(subset="value")


def tabulate(sizes: list[Path], metrics: list[Path], kernels: list[Path]) -> pd.DataFrame:
    """One row per training, seed, epoch, quantity and, of some, layer; seed "mean" with the 95 % t interval over seeds.

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
    layers = [read_kernels(kernels).assign(clipped=False)] if kernels else []
    runs = pd.concat([runs.assign(layer=pd.NA), scores.assign(layer=pd.NA), *layers])
    runs["dataset"] = runs["training"].map(dict(zip(erf["training"], erf["dataset"], strict=True)))
    runs = runs.dropna(subset="value")  # of older seeds
    means = [
        dict(zip(KEYS, key, strict=True), seed="mean")
        | dict(zip(("value", "low", "high"), mean_interval(group["value"]), strict=True))
        for key, group in runs.groupby(KEYS, sort=False, dropna=False)
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
        if name == "sigma_drawn_gates":  # of the first and the last epoch alone
            axes.plot(runs["epoch"], runs["value"], marker, color=colour, markersize=4, label=label, zorder=3)
            continue
        bars = error_bars(runs["value"], runs["low"], runs["high"])  # NaN where a run has no interval of its own
        axes.errorbar(runs["epoch"], runs["value"], bars, fmt="none", ecolor=colour, elinewidth=0.6)
        draw_seeds(axes, here, "epoch", colour, label, marker)


def draw_layers(axes: Axes, table: pd.DataFrame) -> None:
    """Spread of the kernels and share of the branches by layer, at the first and at the last epoch."""
    for quantity, line, words in zip(OF_KERNELS, ("-", ":"), ("spread", "branch"), strict=True):
        here = table[table["quantity"] == quantity]
        for epoch, group in here.groupby("epoch"):
            colour, when = (AFTER, "after") if epoch else (BEFORE, "before")
            kinds = {"layer": int, "low": float, "high": float}  # beside rows that have none, they are objects
            mean = group[group["seed"] == "mean"].astype(kinds).sort_values("layer")
            axes.plot(
                mean["layer"],
                mean["value"],
                line,
                color=colour,
                marker=QUANTITIES[quantity][2],
                label=f"{words} {when}",
            )
            if group["seed"].nunique() > ENOUGH_SEEDS:
                axes.fill_between(mean["layer"], mean["low"], mean["high"], color=colour, alpha=0.15, linewidth=0)


def draw(table: pd.DataFrame):
    names = list(table["training"].unique())
    by_layer, table = table[table["layer"].notna()], table[table["layer"].isna()]
    has_kernels = table["quantity"].isin(OF_KERNELS).any()
    rows = 3 + has_kernels + (not by_layer.empty)
    size = (max(WIDTH * len(names) / 2, WIDTH / 2), 1.7 * rows + 0.1)
    figure, axes = plt.subplots(rows, len(names), figsize=size, squeeze=False, layout="constrained")
    for column, name in enumerate(names):
        here = table[table["training"] == name]
        dataset = here["dataset"].iloc[0]
        top, middle, *kernels, bottom = axes[: 3 + has_kernels, column]
        draw_quantities(top, here, ["diameter"])
        draw_quantities(middle, here, ["sigma_rows", "sigma_columns", "sigma_drawn_gates", "sigma_kernels"])
        for panel in kernels:
            draw_quantities(panel, here, OF_KERNELS)
            panel.set(ylabel="kernels and branches", ylim=(0, None))
            panel.set_visible(bool(here["quantity"].isin(OF_KERNELS).any()))
        draw_quantities(bottom, here, ["score"])
        for panel in (middle, *kernels, bottom):
            panel.sharex(top)
        if not by_layer.empty:
            layers, own = axes[-1, column], by_layer[by_layer["training"] == name]
            draw_layers(layers, own)
            layers.set(
                ylabel="kernels and branches,\nby layer", xlabel="convolution, from the image up", ylim=(0, None)
            )
            layers.set_visible(not own.empty)
        seeds = here[here["seed"] != "mean"]["seed"].nunique()
        top.set(title=training_title(name, dataset, seeds), ylabel="ERF diameter (pixels)")
        middle.set(ylabel="σ of the map (pixels)")
        bottom.set(ylabel=f"validation {DATASETS[dataset].score_title}", xlabel="epoch", ylim=(0, 1))
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    letter(*(panel for panel in axes.ravel() if panel.get_visible()))
    found = [panel.get_legend_handles_labels() for panel in axes[1:, 0]]
    entries = [[*itertools.chain(*parts)] for parts in zip(*found, strict=True)]
    figure.legend(*entries, loc="outside lower center", ncols=min(3, 1 + len(names)))
    return figure, pd.concat([table, by_layer])


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(
        __doc__,
        argv,
        sizes="tables of measure_snapshots, one a seed",
        metrics="tables of the training, one a seed",
        kernels="profiles of kernels by measure_snapshots, one a seed",
    )
    use_style()
    save(*draw(tabulate(args.sizes, args.metrics, args.kernels)), args.out)


if __name__ == "__main__":
    sys.exit(main())
