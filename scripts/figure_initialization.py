"""Figure: the paper's initialisation, kernels that are light in their middle.

Left: the ERF before training against the strength, beside theory. Right: epochs of training to reach a validation
score, relative to He's initialisation with the same seed.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from cli import command, json_object, new_parser
from erf.field import ReceptiveField
from erf.intervals import mean_interval, positive_interval
from erf.plots import (
    ACCURACY,
    AFTER,
    DATASETS,
    SCORES,
    WIDTH,
    drawn_fields,
    error_bars,
    legend_below,
    save,
    seed_bars,
    use_style,
)
from erf.stacks import predicted_size
from training_tables import read_metrics, read_sizes

COLOURS = {"cifar10": AFTER, "camvid": ACCURACY}
MARKERS = {"cifar10": "s", "camvid": "D"}
CLAIM = -0.3  # the paper: about 30 % faster in some runs


def strengths_table(fields: list[ReceptiveField], sizes: pd.DataFrame) -> pd.DataFrame:
    """ERF sizes before training, relative to strength 0: one row a strength, for the untrained stacks (bootstrap
    intervals over runs), theory, and each dataset's network (t intervals of the ratio over seeds)."""
    (plain,) = (field for field in fields if field.settings["centre_light"] == 0)
    rows = []
    for field in sorted(fields, key=lambda field: field.settings["centre_light"]):
        strength = {"panel": "size", "strength": field.settings["centre_light"]}
        ratio = field.size / plain.size
        low, high = (np.nan, np.nan) if field is plain else positive_interval(ratio, field.bootstrap / plain.bootstrap)
        rows.append({**strength, "series": "stack", "size": field.size, "value": ratio, "low": low, "high": high})
        size = predicted_size(field.settings)
        rows.append({**strength, "series": "theory", "size": size, "value": size / predicted_size(plain.settings)})
    before = sizes[sizes["snapshot"] == "epoch_000"]
    for dataset, group in before.groupby("dataset", sort=False):
        table = group.pivot_table(index="seed", columns="centre_light", values="size")
        for strength in table:
            mean, low, high = mean_interval(table[strength] / table[0.0])
            row = {"panel": "size", "strength": strength, "series": dataset, "size": table[strength].mean()}
            rows.append({**row, "value": mean, "low": low, "high": high, "seeds": len(table)})
    return pd.DataFrame(rows)


def epochs_to(score: float, run: pd.DataFrame) -> float:
    """Epochs until `run` first has the score, in a straight line from the epoch before; NaN if it never has."""
    scores = run.sort_values("epoch")["score"].to_numpy()
    above = np.flatnonzero(scores >= score)
    if not len(above):
        return np.nan
    last = above[0]
    return float(np.interp(score, scores[last - 1 : last + 1], [last - 1, last])) if last else 0.0


def epochs_table(metrics: pd.DataFrame, kinds: pd.DataFrame, scores: dict[str, list[float]]) -> pd.DataFrame:
    """Epochs to each score by dataset, strength and seed; and as strength-wise "mean" how many per cent more than with
    He's initialisation, paired by seed, with the 95 % t interval of the logarithm of their ratio."""
    metrics = metrics.merge(kinds, on="training")
    rows = []
    for dataset, here in metrics.groupby("dataset", sort=False):
        for score in scores[dataset]:
            runs = {key: epochs_to(score, run) for key, run in here.groupby(["centre_light", "seed"])}
            for (strength, seed), epochs in runs.items():
                row = {"panel": "epochs", "series": dataset, "score": score, "strength": strength}
                rows.append({**row, "seed": str(seed), "epochs": epochs})
                if strength:
                    rows[-1]["value"] = epochs / runs.get((0, seed), np.nan) - 1
    table = pd.DataFrame(rows)
    means = []
    for (dataset, score, strength), group in table[table["strength"] > 0].groupby(["series", "score", "strength"]):
        logarithms = np.log1p(group["value"].dropna())
        row = {"panel": "epochs", "series": dataset, "score": score, "strength": strength, "seed": "mean"}
        value, low, high = np.expm1(mean_interval(logarithms))
        means.append({**row, "value": value, "low": low, "high": high, "seeds": len(logarithms)})
    return pd.concat([table, pd.DataFrame(means)])


def draw_strengths(axes: Axes, table: pd.DataFrame) -> None:
    theory = table[table["series"] == "theory"]
    axes.plot(theory["strength"], theory["value"], "--", color="0.3", label="theory, plain stack without activation")
    stack = table[table["series"] == "stack"]
    bars = error_bars(stack["value"], stack["low"], stack["high"])
    axes.errorbar(
        stack["strength"], stack["value"], bars, fmt="o", color="0.3", elinewidth=0.8, label="plain stack + ReLU"
    )
    for number, dataset in enumerate(DATASETS):
        here = table[table["series"] == dataset]
        if here.empty:
            continue
        bars = seed_bars(here["value"], here["low"], here["high"], here["seeds"])
        options = {"fmt": MARKERS[dataset], "color": COLOURS[dataset], "elinewidth": 0.8, "capsize": 2}
        label = f"{DATASETS[dataset]} network, {here['seeds'].iloc[0]:.0f} seeds"
        axes.errorbar(here["strength"] + 0.02 * (number + 1), here["value"], bars, label=label, **options)
    axes.set(xlabel="strength of the centre-light initialisation", ylabel="ERF size before training,\nHe's being 1")
    legend_below(axes)


def draw_epochs(axes: Axes, table: pd.DataFrame) -> None:
    axes.axhline(0, color="0.6", linewidth=0.7)
    axes.axhline(CLAIM, color="0.3", linewidth=0.8, linestyle=":", label="the paper: 30 % fewer, in some runs")
    for dataset in DATASETS:
        here = table[(table["series"] == dataset) & (table["strength"] > 0)]
        if here.empty:
            continue
        runs, means = here[here["seed"] != "mean"], here[here["seed"] == "mean"]
        options = {"color": COLOURS[dataset], "marker": MARKERS[dataset], "linestyle": "none"}
        axes.plot(runs["score"], runs["value"], markersize=2.5, alpha=0.6, **options)
        bars = seed_bars(means["value"], means["low"], means["high"], means["seeds"])
        label = f"{DATASETS[dataset]}, mean of {means['seeds'].max():.0f} seeds"
        axes.errorbar(means["score"] + 0.006, means["value"], bars, elinewidth=0.8, capsize=2, label=label, **options)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    scores = " or ".join(SCORES.values())
    axes.set(xlabel=f"validation {scores} to be reached", ylabel="epochs more or less than\nwith He's initialisation")
    legend_below(axes)


def draw(table: pd.DataFrame):
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.7), layout="constrained")
    draw_strengths(left, table[table["panel"] == "size"])
    draw_epochs(right, table[table["panel"] == "epochs"])
    return figure, table


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--fields", type=Path, nargs="+", required=True, help="results of measure_network, .npz")
    parser.add_argument("--sizes", type=Path, nargs="+", required=True, help="tables of measure_snapshots, one a seed")
    parser.add_argument("--metrics", type=Path, nargs="+", required=True, help="tables of the trainings, one a seed")
    parser.add_argument("--scores", type=json_object, required=True, help="scores to be reached, by dataset; JSON")
    parser.add_argument("--out", type=Path, required=True, help=".png; the .pdf and .csv come beside it")
    args = parser.parse_args(argv)
    sizes = read_sizes(args.sizes)
    kinds = sizes[["training", "dataset", "centre_light"]].drop_duplicates()
    tables = [
        strengths_table(drawn_fields(args.fields), sizes),
        epochs_table(read_metrics(args.metrics), kinds, args.scores),
    ]
    use_style()
    save(*draw(pd.concat(tables)), args.out)


if __name__ == "__main__":
    sys.exit(main())
