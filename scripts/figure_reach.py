"""Figure: how far can a unit use what it sees?

Accuracy of a unit whose only cue lies at a distance from it, beside the theoretical radius and the ERF's radius before
training; and the ERF's radius after training on each distance.
"""

import sys

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.ticker import MultipleLocator

from cli import command, figure_arguments, read_table
from erf.intervals import mean_interval
from erf.plots import ACCURACY, AFTER, BEFORE, WIDTH, draw_seeds, legend_below, save, use_style


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds at each distance, with its 95 % t interval."""
    rows = []
    for distance, group in runs.groupby("distance"):
        for quantity in ("accuracy", "erf_radius_before", "erf_radius_after"):
            mean, low, high = mean_interval(group[quantity])
            if quantity == "accuracy":
                low, high = max(low, 0.0), min(high, 1.0)
            rows.append({"seed": "mean", "distance": distance, "quantity": quantity, "value": mean})
            rows[-1] |= {"low": low, "high": high}
    return pd.DataFrame(rows)


def draw(runs: pd.DataFrame):
    means = summarise(runs)
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.7), layout="constrained")
    limit = runs["theoretical_radius"].iloc[0]

    def panel(axes, quantity, colour, label):
        draw_seeds(axes, runs, means[means["quantity"] == quantity], "distance", quantity, colour, label)

    panel(
        left,
        "accuracy",
        ACCURACY,
        f"accuracy after {runs['steps'].iloc[0]} steps, mean of {runs['seed'].nunique()} seeds",
    )
    left.axhline(0.5, color="0.6", linewidth=0.7, linestyle=":", label="chance")
    left.axvline(runs["erf_radius_before"].mean(), color=BEFORE, label="ERF radius before training")
    left.axvline(limit, color="0.2", linestyle="--", label="theoretical radius")
    left.set(xlabel="distance of the cue (pixels)", ylabel="test accuracy", ylim=(0.4, 1.03), xlim=(0, limit + 1))
    legend_below(left)
    panel(right, "erf_radius_before", BEFORE, "before training")
    panel(right, "erf_radius_after", AFTER, "after training on that distance")
    right.plot([0, limit], [0, limit], color="0.6", linewidth=0.7, linestyle=":", label="the cue's distance")
    right.axhline(limit, color="0.2", linestyle="--", label="theoretical radius")
    right.set(xlabel="distance of the cue (pixels)", ylabel="ERF radius (pixels)", ylim=(0, limit + 1))
    right.set_xlim(0, limit + 1)
    legend_below(right)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MultipleLocator(4))
    long = runs.melt(["seed", "distance"], ["accuracy", "erf_radius_before", "erf_radius_after"], "quantity", "value")
    return figure, pd.concat([long.astype({"seed": str}), means])


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, tables="results of train_reach, one a seed, .csv")
    use_style()
    save(*draw(pd.concat([read_table(path) for path in args.tables])), args.out)


if __name__ == "__main__":
    sys.exit(main())
