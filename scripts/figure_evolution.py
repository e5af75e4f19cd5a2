"""Figure: ERF size at every snapshot of a training, beside its validation accuracy."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt

from cli import command, figure_arguments, read_table
from erf.intervals import mean_interval
from erf.plots import draw_seeds, save, use_style

LABELS = {"size": "ERF size (pixels)", "accuracy": "validation accuracy"}


def tabulate(sizes: list[Path], metrics: list[Path]) -> pd.DataFrame:
    """One row per training, seed, epoch and quantity; seed "mean" with the 95 % t interval over seeds.

    A seed's own interval of the size is over redrawn images. Paths are .../<training>/seed_<seed>/<table>.csv.
    """
    parts = []
    for path in sizes:
        table = read_table(path).query("snapshot != 'best'").rename(columns={"size": "value"})
        parts.append(table[["seed", "epoch", "value", "low", "high"]].assign(quantity="size", training=training(path)))
    for path in metrics:
        table = read_table(path).rename(columns={"validation_accuracy": "value"})[["epoch", "value"]]
        seed = int(path.parent.name.removeprefix("seed_"))
        parts.append(table.assign(seed=seed, quantity="accuracy", training=training(path)))
    runs = pd.concat(parts)
    means = [
        dict(zip(("training", "quantity", "epoch"), key, strict=True), seed="mean")
        | dict(zip(("value", "low", "high"), mean_interval(group["value"]), strict=True))
        for key, group in runs.groupby(["training", "quantity", "epoch"])
    ]
    return pd.concat([runs.astype({"seed": str}), pd.DataFrame(means)])


def training(path: Path) -> str:
    return path.parent.parent.name


def draw(table: pd.DataFrame):
    figure, axes = plt.subplots(2, 1, figsize=(3.5, 4.2), sharex=True, layout="constrained")
    names = sorted(table["training"].unique())
    for panel, (quantity, label) in zip(axes, LABELS.items(), strict=True):
        for name, colour in zip(names, sns.color_palette("colorblind"), strict=False):
            here = table[(table["quantity"] == quantity) & (table["training"] == name)]
            runs, mean = here[here["seed"] != "mean"], here[here["seed"] == "mean"]
            bars = np.array([runs["value"] - runs["low"], runs["high"] - runs["value"]])  # NaN for the accuracy
            panel.errorbar(runs["epoch"], runs["value"], bars, fmt="none", ecolor=colour, elinewidth=0.6)
            label_of_line = f"{name}, mean of {runs['seed'].nunique()} seeds"
            draw_seeds(panel, runs, mean, "epoch", "value", colour, label_of_line)
        panel.set_ylabel(label)
    axes[1].set(xlabel="epoch", ylim=(0, 1))
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center")
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
