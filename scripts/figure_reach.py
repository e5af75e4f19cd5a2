"""Figure: how far can a unit use what it sees?

Accuracy of a unit whose only cue lies at a distance from it, by network; the same after more training; and for each
network the distance up to which cues are learnt, beside the radii of its theoretical and its effective receptive field.
"""

import sys

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from cli import command, figure_arguments, read_table
from erf.intervals import mean_interval
from erf.plots import AFTER, BEFORE, WIDTH, draw_seeds, error_bars, save, use_style

NAMES = {"plain": "plain", "skip": "residual", "dilation": "dilated", "subsample": "subsampled"}
CENTRE_LIGHT = "centre-light"
COLOURS = dict(zip([*NAMES.values(), CENTRE_LIGHT], sns.color_palette("colorblind"), strict=False))
MARKERS = dict(zip(COLOURS, "osD^v", strict=True))
LEARNT = 0.75  # accuracy halfway between chance and certainty: up to there a cue is said to be learnt


def frontier(run: pd.DataFrame) -> float:
    """Distance (pixels) at which the accuracy of one run first falls below `LEARNT`, in a straight line between two
    distances; the first distance if it is below there already, the last if it never is."""
    run = run.sort_values("distance")
    distance, accuracy = run["distance"].to_numpy(float), run["accuracy"].to_numpy()
    below = np.flatnonzero(accuracy < LEARNT)
    if not len(below):
        return distance[-1]
    first = below[0]
    return (
        float(np.interp(LEARNT, accuracy[[first, first - 1]], distance[[first, first - 1]])) if first else distance[0]
    )


def tabulate(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds with its 95 % t interval: of what was measured at each distance, and of the frontier."""
    quantities = ["accuracy", "erf_radius_before", "erf_radius_after"]
    long = runs.melt(["network", "steps", "seed", "distance"], quantities, "quantity", "value")
    keys = ["network", "steps"]
    frontiers = [
        dict(zip([*keys, "seed"], key, strict=True), quantity="frontier", value=frontier(run))
        for key, run in runs.groupby([*keys, "seed"], sort=False)
    ]
    # Before training the weights are the same at every distance; after it, the ERF of those that learnt the cue counts.
    learnt = runs[runs["accuracy"] >= LEARNT].groupby([*keys, "seed"], sort=False)["erf_radius_after"].mean()
    learnt = learnt.rename("value").reset_index().assign(quantity="erf_radius_learnt")
    before = runs.groupby([*keys, "seed"], sort=False)["erf_radius_before"].mean()
    before = before.rename("value").reset_index().assign(quantity="erf_radius_untrained")
    limits = runs.groupby([*keys, "seed"], sort=False)["theoretical_radius"].first()
    limits = limits.rename("value").reset_index().assign(quantity="theoretical_radius")
    table = pd.concat([long, pd.DataFrame(frontiers), learnt, before, limits])
    rows = []
    for key, group in table.groupby([*keys, "quantity", "distance"], sort=False, dropna=False):
        mean, low, high = mean_interval(group["value"])
        if key[2] == "accuracy":
            low, high = max(low, 0.0), min(high, 1.0)
        rows.append(dict(zip([*keys, "quantity", "distance"], key, strict=True), seed="mean", value=mean))
        rows[-1] |= {"low": low, "high": high}
    return pd.concat([table.astype({"seed": str}), pd.DataFrame(rows)])


def draw_accuracy(axes: Axes, table: pd.DataFrame, series: str, colours: dict, label: str = "{}") -> None:
    """Accuracy against distance, one line for each value of the column `series`."""
    table = table[table["quantity"] == "accuracy"]
    for value, colour in colours.items():
        here = table[table[series] == value]
        runs, mean = here[here["seed"] != "mean"], here[here["seed"] == "mean"].sort_values("distance")
        draw_seeds(axes, runs, mean, "distance", "value", colour, label.format(value))
    axes.axhline(0.5, color="0.6", linewidth=0.7, linestyle=":")
    axes.set(xlabel="distance of the cue (pixels)", ylabel="test accuracy", ylim=(0.4, 1.03), xlim=(0, None))
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 0.1))


def draw_radii(axes: Axes, table: pd.DataFrame, names: list[str]) -> None:
    """For each network how far cues are learnt, and its radii."""
    marks = {
        "theoretical_radius": ("theoretical radius", "0.2", "|"),
        "erf_radius_untrained": ("ERF radius before training", BEFORE, "o"),
        "erf_radius_learnt": ("ERF radius after training", AFTER, "s"),
        "frontier": ("cues are learnt up to here", "0.2", ">"),
    }
    means = table[table["seed"] == "mean"].set_index(["network", "quantity"])
    for number, (quantity, (label, colour, marker)) in enumerate(marks.items()):
        found = pd.DataFrame([means.loc[(name, quantity)] for name in names if (name, quantity) in means.index])
        heights = [names.index(name) + 0.13 * (number - 1.5) for name, _ in found.index]
        bars = error_bars(found["value"], found["low"], found["high"])
        size = 9 if marker == "|" else 4
        options = {"fmt": marker, "color": colour, "markersize": size, "elinewidth": 0.8, "label": label}
        axes.errorbar(found["value"], heights, xerr=bars, **options)
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
        [["networks", "longer"], ["radii", "radii"]], figsize=(WIDTH, 5.2), layout="constrained", height_ratios=(5, 4)
    )
    draw_accuracy(axes["networks"], usual, "network", {name: COLOURS[name] for name in names})
    axes["networks"].set_title(f"after {steps} steps, {runs['seed'].nunique()} seeds")
    shades = dict(zip(amounts, sns.color_palette("flare", len(amounts)), strict=True))
    draw_accuracy(axes["longer"], longer, "steps", shades, "{} steps")
    limit = runs[runs["network"] == names[0]]["theoretical_radius"].iloc[0]
    axes["longer"].axvline(limit, color="0.2", linestyle="--", linewidth=0.8)
    axes["longer"].set_title(f"{names[0]}, more training")
    draw_radii(axes["radii"], usual, names)
    axes["radii"].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, table


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, tables="results of train_reach, one a seed, .csv")
    runs = pd.concat([read_table(path, "structure", "centre_light", "steps") for path in args.tables])
    runs["network"] = runs["structure"].map(NAMES).where(runs["centre_light"] == 0, CENTRE_LIGHT)
    use_style()
    save(*draw(runs), args.out)


if __name__ == "__main__":
    sys.exit(main())
