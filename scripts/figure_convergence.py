"""Figure: does training lead the ERF to one size, wherever it starts?

ERF diameter against epoch for the same network begun with a small, the paper's and a large ERF, set by the scale of the
residual branches, for CamVid beside the paper's diameters before and after training; and the ratio of the diameters
from the largest and the smallest start. Hollow dots are cut off by the receptive field or the image.

Reads tables of measure_snapshots; takes seconds.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

from erf.result.intervals import mean_interval
from replication.commands.cli import command, figure_arguments
from replication.datasets.table import DATASETS
from replication.drawing.labels import training_title
from replication.drawing.plots import WIDTH, draw_seeds, letter, save, use_style
from replication.trained.tables import read_sizes

PAPER = {"camvid": {"the paper, before training": 100, "the paper, after training": 150}}  # diameters, pixels
LINES = ("--", ":")


def tabulate(paths: list[Path]) -> pd.DataFrame:
    """One row per dataset, start (residual_scale), seed and epoch; seed "mean" with the 95 % t interval over seeds.

    quantity "diameter" is in pixels; quantity "ratio", in rows without a start, is the diameter from the largest start
    over that from the smallest with the same seed, and its mean is that of the logarithm.
    """
    runs = (
        read_sizes(paths).query("snapshot != 'best'").rename(columns={"residual_scale": "start", "diameter": "value"})
    )
    runs = runs[["dataset", "start", "seed", "epoch", "value", "clipped"]].assign(quantity="diameter")
    ratios = []
    for dataset, group in runs.groupby("dataset", sort=False):
        by_start = group.pivot_table(index=["seed", "epoch"], columns="start", values="value")
        ratio = (by_start[by_start.columns.max()] / by_start[by_start.columns.min()]).dropna()
        ratios.append(ratio.rename("value").reset_index().assign(dataset=dataset, quantity="ratio", clipped=False))
    runs = pd.concat([runs, *ratios])
    means = []
    for key, group in runs.groupby(["dataset", "quantity", "start", "epoch"], sort=False, dropna=False):
        values = group["value"]
        mean = np.exp(mean_interval(np.log(values))) if key[1] == "ratio" else mean_interval(values)
        means.append(dict(zip(("dataset", "quantity", "start", "epoch"), key, strict=True)) | {"seed": "mean"})
        means[-1] |= dict(zip(("value", "low", "high"), mean, strict=True))
        means[-1] |= {"seeds": len(group), "clipped": group["clipped"].any()}
    return pd.concat([runs.astype({"seed": str}), pd.DataFrame(means)], ignore_index=True)


def draw(table: pd.DataFrame):
    names = [name for name in DATASETS if name in set(table["dataset"])]
    starts = sorted(table["start"].dropna().unique())
    styles = dict(zip(starts, zip(sns.color_palette("flare", len(starts)), "o^sDvph", strict=False), strict=True))
    size = (WIDTH * max(len(names), 1.2) / 2, 4.6)
    figure, axes = plt.subplots(
        2, len(names), figsize=size, squeeze=False, sharex="col", layout="constrained", height_ratios=(5, 3)
    )
    for (top, bottom), name in zip(axes.T, names, strict=True):
        here = table[table["dataset"] == name]
        diameters, ratio = here[here["quantity"] == "diameter"], here[here["quantity"] == "ratio"]
        for start, runs in diameters.groupby("start"):
            colour, marker = styles[start]
            draw_seeds(top, runs, "epoch", colour, f"branches begin at γ = {start:g}", marker)
        for (label, diameter), line in zip(PAPER.get(name, {}).items(), LINES, strict=False):
            top.axhline(diameter, color="0.3", linewidth=0.8, linestyle=line, label=label)
        seeds = diameters.loc[diameters["seed"] != "mean", "seed"].nunique()
        top.set(title=training_title(name, name, seeds), ylim=(0, None), ylabel="ERF diameter (pixels)")
        draw_seeds(bottom, ratio, "epoch", "0.3", "from the largest start over from the smallest")
        bottom.axhline(1, color="0.6", linewidth=0.7, linestyle=":")
        bottom.set(xlabel="epoch", ylabel="diameter, largest start\n/ smallest start", ylim=(0, None))
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    letter(*axes.ravel())
    found = dict(zip(*reversed(axes[0, -1].get_legend_handles_labels()), strict=True))
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=len(names) + 1)
    return figure, table


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, sizes="tables of measure_snapshots, one a seed")
    use_style()
    save(*draw(tabulate(args.sizes)), args.out)


if __name__ == "__main__":
    sys.exit(main())
