"""Figure: how far can a unit use what it sees?

Accuracy of a unit whose only cue lies at a distance from it, by network; the same after more training; and for each
network the distance up to which cues are learnt, beside the radii of its theoretical and its effective receptive field.
Both radii are of squares: of a side of s pixels the radius is (s - 1) / 2, how far off its last pixel lies. The
theoretical receptive field is such a square, and the ERF size is the side of the square with the ERF's area, which is
never larger.

Reads tables of train_reach; takes seconds.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from erf.result.intervals import mean_interval
from replication.commands.cli import command, figure_arguments, read_table
from replication.drawing.labels import counted
from replication.drawing.plots import (
    AFTER,
    BEFORE,
    WIDTH,
    beside,
    draw_hollow,
    draw_seeds,
    letter,
    save,
    seed_bars,
    use_style,
)

NAMES = {"plain": "plain", "skip": "residual", "dilation": "dilated", "subsample": "subsampled"}
CENTRE_LIGHT = "centre-light"
COLOURS = dict(zip([*NAMES.values(), CENTRE_LIGHT], sns.color_palette("colorblind"), strict=False))
MARKERS = dict(zip(COLOURS, "osD^v", strict=True))
LEARNT = 0.75  # accuracy halfway between chance and certainty: up to there a cue is said to be learnt
RADII = {  # of one run, whatever the distance: label, colour and marker
    "theoretical_radius": ("theoretical radius", "0.2", ""),
    "erf_radius_untrained": ("ERF radius before training", BEFORE, "o"),
    "erf_radius_learnt": ("ERF radius after training on the farthest cue learnt", AFTER, "s"),
    "frontier": ("farthest cue learnt (hollow: at an end of the distances tried)", "0.2", ">"),
}


def radius(side):
    """How far the last pixel of a square of this side lies from its middle, along an axis (pixels)."""
    return (side - 1) / 2


def read_runs(paths: list[Path]) -> pd.DataFrame:
    """Tables of train_reach, one a seed, as one: their columns, and `network`, as the figure calls it."""
    runs = pd.concat([read_table(path, "structure", "centre_light", "steps", "theoretical_rf") for path in paths])
    return runs.assign(network=runs["structure"].map(NAMES).where(runs["centre_light"] == 0, CENTRE_LIGHT))


def summary(run: pd.DataFrame) -> dict[str, dict]:
    """Value of each of `RADII` for one run, and of the frontier between which distances it lies, `nearest` and
    `farthest`, and whether it is censored.

    The frontier is the distance (pixels) at which the accuracy first falls below `LEARNT`, in a straight line between
    two distances. It is censored where it does so before the first distance, which then stands for it, or nowhere: then
    the last does.
    """
    run = run.sort_values("distance")
    distance, accuracy = run["distance"].to_numpy(float), run["accuracy"].to_numpy()
    below = np.flatnonzero(accuracy < LEARNT)
    first = below[0] if len(below) else len(run)  # learnt are those in front of it
    nearest, farthest = distance[max(first - 1, 0)], distance[min(first, len(run) - 1)]
    frontier = farthest
    if nearest < farthest:
        frontier = float(np.interp(LEARNT, accuracy[[first, first - 1]], [farthest, nearest]))
    return {
        "theoretical_radius": {"value": radius(run["theoretical_rf"].iloc[0])},
        "erf_radius_untrained": {"value": radius(run["size_before"].mean())},  # of the same weights at every distance
        "erf_radius_learnt": {"value": radius(run["size_after"].iloc[first - 1]) if first else np.nan},
        "frontier": {
            "value": frontier,
            "nearest": nearest,
            "farthest": farthest,
            "censored": bool(nearest == farthest),
        },
    }


def tabulate(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per network, steps, seed, quantity and, where it has one, distance; seed "mean" with the 95 % t interval
    over seeds, but of accuracies, which no t distribution fits. The frontier's interval reaches farther by half of the
    distance between its neighbours, as the distances tried are a coarse grid, but not out of the theoretical receptive
    field."""
    keys = ["network", "steps", "seed"]
    long = runs.melt([*keys, "distance"], ["accuracy"], "quantity", "value")
    rows = [
        dict(zip(keys, key, strict=True)) | {"quantity": quantity, "censored": False} | found
        for key, run in runs.groupby(keys, sort=False)
        for quantity, found in summary(run).items()
    ]
    table = pd.concat([long.assign(censored=False), pd.DataFrame(rows)], ignore_index=True)
    farthest = radius(runs.groupby(["network", "steps"])["theoretical_rf"].first())
    means = []
    for key, group in table.groupby(["network", "steps", "quantity", "distance"], sort=False, dropna=False):
        mean, low, high = mean_interval(group["value"].dropna())
        if key[2] == "accuracy":  # near chance or near certainty, with little between
            low = high = np.nan
        if key[2] == "frontier" and len(group) > 1:
            half = (group["farthest"] - group["nearest"]).mean() / 2
            low, high = max(low - half, 0.0), min(high + half, farthest[key[:2]])
        means.append(dict(zip(("network", "steps", "quantity", "distance"), key, strict=True)) | {"seed": "mean"})
        means[-1] |= {"value": mean, "low": low, "high": high, "seeds": group["value"].count()}
        means[-1] |= {"censored": group["censored"].any()}
    return pd.concat([table.astype({"seed": str}), pd.DataFrame(means)], ignore_index=True)


def draw_accuracy(axes: Axes, table: pd.DataFrame, series: str, styles: dict, label: str = "{}") -> None:
    """Accuracy against distance, one line for each value of the column `series`, by its colour and marker. Lines lie
    side by side, so that no marker hides another."""
    table = table[table["quantity"] == "accuracy"].drop(columns=["low", "high"])
    apart = 0.008 * table["distance"].max()
    for number, (value, (colour, marker)) in enumerate(styles.items()):
        here = table[table[series] == value]
        here = here.assign(distance=here["distance"] + beside(number, len(styles), apart))
        draw_seeds(axes, here, "distance", colour, label.format(value), marker)
    axes.axhline(0.5, color="0.6", linewidth=0.7, linestyle=":")
    axes.set(xlabel="distance of the cue (pixels)", ylabel="test accuracy", ylim=(0.4, 1.03), xlim=(0, None))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.19), ncols=3)


def draw_radii(axes: Axes, table: pd.DataFrame, names: list[str]) -> None:
    """For each network how far cues are learnt, and its radii, side by side."""
    means = table[table["seed"] == "mean"]
    for number, (quantity, (label, colour, marker)) in enumerate(RADII.items()):
        found = means[(means["quantity"] == quantity) & means["value"].notna()]
        style = {"marker": marker, "color": colour, "markersize": 4}
        if quantity == "theoretical_radius":
            ends = {"ymin": found["network"].map(names.index) - 0.4, "ymax": found["network"].map(names.index) + 0.4}
            axes.vlines(found["value"], **ends, color=colour, linewidth=1.4, label=label)
            continue
        heights = found["network"].map(names.index) + beside(number - 1, len(RADII) - 1, 0.22)
        bars = seed_bars(found["value"], found["low"], found["high"], found["seeds"])
        axes.errorbar(found["value"], heights, xerr=bars, elinewidth=0.8, label=label, linestyle="none", **style)
        censored = found["censored"].astype(bool)
        draw_hollow(axes, found["value"][censored], heights[censored], **style)
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel="pixels from the unit", xlim=(0, None))
    axes.set_ylim(len(names) - 0.5, -0.5)


def draw(runs: pd.DataFrame):
    table = tabulate(runs)
    steps = runs["steps"].min()
    usual = table[table["steps"] == steps]
    names = [name for name in COLOURS if name in set(usual["network"])]
    longer = table[table["network"] == names[0]]
    amounts = sorted(longer["steps"].unique())
    figure, axes = plt.subplot_mosaic(
        [["networks", "longer"], ["radii", "radii"]], figsize=(WIDTH, 5.4), layout="constrained", height_ratios=(5, 4)
    )
    draw_accuracy(axes["networks"], usual, "network", {name: (COLOURS[name], MARKERS[name]) for name in names})
    axes["networks"].set_title(f"{steps} steps, {counted(runs['seed'].nunique(), 'seed')}")
    shades = zip(sns.color_palette("flare", len(amounts)), "o^sDv", strict=False)
    draw_accuracy(axes["longer"], longer, "steps", dict(zip(amounts, shades, strict=True)), "{} steps")
    limit = radius(runs[runs["network"] == names[0]]["theoretical_rf"].iloc[0])
    axes["longer"].axvline(limit, color="0.2", linewidth=1.4)
    axes["longer"].set_xlim(0, 1.05 * limit)
    axes["longer"].set_title(f"{names[0]}{', more training' if len(amounts) > 1 else ''}")
    draw_radii(axes["radii"], usual, names)
    letter(*axes.values())
    figure.legend(*axes["radii"].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure, table


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, tables="results of train_reach, one a seed, .csv")
    use_style()
    save(*draw(read_runs(args.tables)), args.out)


if __name__ == "__main__":
    sys.exit(main())
