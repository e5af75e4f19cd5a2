"""Figure: does training lead the ERF to one size, wherever it starts?

ERF diameter against epoch for the same network begun with a small, the paper's and a large ERF, set by the scale of the
residual branches; for CamVid beside the paper's diameters before and after training.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cli import command, figure_arguments
from erf.intervals import mean_interval
from erf.plots import DATASETS, WIDTH, draw_seeds, save, use_style
from training_tables import read_sizes

PAPER = {"camvid": {"the paper, before training": 100, "the paper, after training": 150}}  # diameters, pixels
LINES = ("--", ":")


def tabulate(paths: list[Path]) -> pd.DataFrame:
    """One row per dataset, start (residual_scale), seed and epoch; seed "mean" with the 95 % t interval over seeds; and
    as start "ratio" the largest mean diameter of all starts over the smallest."""
    runs = read_sizes(paths).query("snapshot != 'best'").rename(columns={"residual_scale": "start"})
    runs = runs[["dataset", "start", "seed", "epoch", "diameter", "clipped"]]
    rows = []
    for (dataset, start, epoch), group in runs.groupby(["dataset", "start", "epoch"]):
        mean, low, high = mean_interval(group["diameter"])
        rows.append({"dataset": dataset, "start": start, "seed": "mean", "epoch": epoch, "diameter": mean})
        rows[-1] |= {"low": low, "high": high, "clipped": group["clipped"].any()}
    means = pd.DataFrame(rows)
    for (dataset, epoch), group in means.groupby(["dataset", "epoch"]):
        ratio = group["diameter"].max() / group["diameter"].min()
        rows.append({"dataset": dataset, "start": "ratio", "seed": "mean", "epoch": epoch, "diameter": ratio})
    return pd.concat([runs.astype({"seed": str}), pd.DataFrame(rows)], ignore_index=True)


def draw_starts(axes: Axes, table: pd.DataFrame) -> None:
    """One line with its seeds for each start."""
    starts = sorted(start for start in table["start"].unique() if start != "ratio")
    for start, colour in zip(starts, sns.color_palette("flare", len(starts)), strict=True):
        here = table[table["start"] == start]
        runs, mean = here[here["seed"] != "mean"], here[here["seed"] == "mean"].sort_values("epoch")
        label = f"branches begin at γ = {start:g}"
        draw_seeds(axes, runs, mean.assign(value=mean["diameter"]), "epoch", "diameter", colour, label)


def draw(table: pd.DataFrame):
    names = [name for name in DATASETS if name in set(table["dataset"])]
    size = (WIDTH * max(len(names), 1.2) / 2, 3.4)
    figure, axes = plt.subplots(1, len(names), figsize=size, squeeze=False, layout="constrained")
    for panel, name in zip(axes[0], names, strict=True):
        here = table[table["dataset"] == name]
        draw_starts(panel, here)
        for (label, diameter), line in zip(PAPER.get(name, {}).items(), LINES, strict=False):
            panel.axhline(diameter, color="0.3", linewidth=0.8, linestyle=line, label=label)
        seeds = here[here["seed"] != "mean"]["seed"].nunique()
        highest = np.nanmax(here[here["start"] != "ratio"]["diameter"])
        panel.set(title=f"{DATASETS[name]}, {seeds} seeds", xlabel="epoch", ylim=(0, 1.08 * highest))
        panel.set_ylabel("ERF diameter (pixels)")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = axes[0, -1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(names) + 1)
    return figure, table


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, sizes="tables of measure_snapshots, one a seed")
    use_style()
    save(*draw(tabulate(args.sizes)), args.out)


if __name__ == "__main__":
    sys.exit(main())
