"""Figure: the paper's initialisation, kernels that are light in their middle.

Left: the ERF before training against the strength, beside theory. Right: epochs of training to reach a validation
score, relative to He's initialisation with the same seed.

Reads results of measure_network and tables of measure_snapshots and of the trainings; takes seconds.
"""

import sys

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from erf.result.field import ReceptiveField
from erf.result.intervals import mean_interval
from replication.commands.cli import command, figure_arguments
from replication.datasets.table import DATASETS
from replication.drawing.plots import (
    AFTER,
    HORIZONTAL,
    SCORE,
    VERTICAL,
    WIDTH,
    drawn_fields,
    error_bars,
    legend_below,
    letter,
    save,
    seed_bars,
    use_style,
)
from replication.stacks.predictions import predicted_size
from replication.statistics.ratios import size_ratio
from replication.trained.tables import read_metrics, read_sizes

COLOURS = dict(zip(DATASETS, (AFTER, SCORE, VERTICAL, HORIZONTAL), strict=False))
MARKERS = dict(zip(DATASETS, "sD^v", strict=False))
CLAIM = -0.3  # the paper: about 30 % faster in some runs


def strengths_table(fields: list[ReceptiveField], sizes: pd.DataFrame) -> pd.DataFrame:
    """ERF sizes before training, and their ratio to that at strength 0: one row a strength, for the untrained stacks
    (bootstrap intervals over runs), theory, and each dataset's network (t intervals over seeds)."""
    (plain,) = (field for field in fields if field.settings["centre_light"] == 0)
    rows = []
    for field in sorted(fields, key=lambda field: field.settings["centre_light"]):
        strength = {"panel": "size", "strength": field.settings["centre_light"]}
        ratio, low, high = size_ratio(field, plain)
        rows.append({**strength, "series": "stack", "size": field.size, "ratio": ratio, "low": low, "high": high})
        size = predicted_size(field.settings)
        rows.append({**strength, "series": "theory", "size": size, "ratio": size / predicted_size(plain.settings)})
    before = sizes[sizes["snapshot"] == "epoch_000"]
    for dataset, group in before.groupby("dataset", sort=False):
        table = group.pivot_table(index="seed", columns="centre_light", values="size")
        for strength in table:
            mean, low, high = mean_interval(table[strength] / table[0.0])
            row = {"panel": "size", "strength": strength, "series": dataset, "size": table[strength].mean()}
            rows.append({**row, "ratio": mean, "low": low, "high": high, "seeds": len(table)})
    return pd.DataFrame(rows)


def epochs_to(score: float, run: pd.DataFrame) -> float:
    """Epochs until `run` first has the score, in a straight line from the epoch before. NaN if it never has, or has it
    before training."""
    scores = run.sort_values("epoch")["score"].to_numpy()
    above = np.flatnonzero(scores >= score)
    if not len(above) or above[0] == 0:
        return np.nan
    last = above[0]
    return float(np.interp(score, scores[last - 1 : last + 1], [last - 1, last]))


def epochs_table(metrics: pd.DataFrame, kinds: pd.DataFrame, scores: dict[str, list[float]]) -> pd.DataFrame:
    """Epochs to each score by dataset, strength and seed, and `change`: by how much they are more than with He's
    initialisation and the same seed.

    Rows of seed "mean" have the mean over seeds with its 95 % t interval, of the logarithm of the ratio; only where
    every run reached the score, since those that did not are the slow ones. `reached` counts them.
    """
    metrics = metrics.merge(kinds, on="training")
    rows = []
    for dataset, here in metrics.groupby("dataset", sort=False):
        for score in scores[dataset]:
            epochs = {key: epochs_to(score, run) for key, run in here.groupby(["centre_light", "seed"])}
            for strength in here["centre_light"].unique():
                label = {"panel": "epochs", "series": dataset, "score": score, "strength": strength}
                runs = pd.Series({seed: value for (found, seed), value in epochs.items() if found == strength})
                he = pd.Series({seed: value for (found, seed), value in epochs.items() if found == 0})
                change = runs / he - 1
                mean = {"seed": "mean", "epochs": runs.mean(skipna=False), "seeds": len(runs), "reached": runs.count()}
                if strength:
                    value = np.expm1(mean_interval(np.log1p(change)))  # NaN if one is
                    mean |= dict(zip(("change", "low", "high"), value, strict=True))
                for seed in runs.index:
                    own = {"change": change[seed]} if strength else {}
                    rows.append({**label, "seed": str(seed), "epochs": runs[seed], **own})
                rows.append({**label, **mean})
    return pd.DataFrame(rows)


def draw_strengths(axes: Axes, table: pd.DataFrame) -> None:
    theory = table[table["series"] == "theory"]
    axes.plot(theory["strength"], theory["ratio"], "--", color="0.3", label="theory, plain stack without activation")
    stack = table[table["series"] == "stack"]
    bars = error_bars(stack["ratio"], stack["low"], stack["high"])
    options = {"fmt": "o", "color": "0.3", "elinewidth": 0.8, "label": "plain stack + ReLU"}
    axes.errorbar(stack["strength"], stack["ratio"], bars, **options)
    datasets = [name for name in DATASETS if name in set(table["series"])]
    for dataset, aside in zip(datasets, np.linspace(-0.05, 0.05, len(datasets)), strict=True):  # or one hides another
        here = table[table["series"] == dataset]
        bars = seed_bars(here["ratio"], here["low"], here["high"], here["seeds"])
        label = f"{DATASETS[dataset].title} network, {here['seeds'].iloc[0]:.0f} seeds"
        options = {"fmt": MARKERS[dataset], "color": COLOURS[dataset], "elinewidth": 0.8, "capsize": 2}
        axes.errorbar(here["strength"] + aside, here["ratio"], bars, label=label, **options)
    axes.set(xlabel="strength of the initialisation", ylabel="ERF size before training / He's")
    legend_below(axes)


def draw_epochs(axes: Axes, table: pd.DataFrame, dataset: str) -> None:
    axes.axhline(0, color="0.6", linewidth=0.7)
    axes.axhline(CLAIM, color="0.3", linewidth=0.8, linestyle=":", label="paper: 30 % fewer, in some runs")
    here = table[table["strength"] > 0]
    runs, means = here[here["seed"] != "mean"], here[here["seed"] == "mean"]
    options = {"color": COLOURS[dataset], "marker": MARKERS[dataset], "linestyle": "none"}
    axes.plot(runs["score"], runs["change"], markersize=2.5, alpha=0.6, label="a seed", **options)
    bars = seed_bars(means["change"], means["low"], means["high"], means["seeds"])
    label = f"mean of {means['seeds'].max():.0f} seeds"
    axes.errorbar(means["score"], means["change"], bars, elinewidth=0.8, capsize=2, label=label, **options)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    scores = sorted(table["score"].unique())
    aside = 0.15 * (scores[-1] - scores[0]) or 0.05
    axes.set(xticks=scores, xlim=(scores[0] - aside, scores[-1] + aside))
    axes.set(title=DATASETS[dataset].title, xlabel=f"validation {DATASETS[dataset].score_title} to be reached")
    axes.set_ylabel("change in epochs from He's")
    for score in means.loc[means["change"].isna(), "score"]:
        axes.annotate("not\nreached\nby all", (score, 0), ha="center", va="bottom", fontsize="small")
    legend_below(axes)


def draw(table: pd.DataFrame):
    epochs = table[table["panel"] == "epochs"]
    datasets = [name for name in DATASETS if name in set(epochs["series"])]
    figure, axes = plt.subplots(1, 1 + len(datasets), figsize=(WIDTH, 3.3), layout="constrained")
    draw_strengths(axes[0], table[table["panel"] == "size"])
    letter(*axes)
    for panel, dataset in zip(axes[1:], datasets, strict=True):
        draw_epochs(panel, epochs[epochs["series"] == dataset], dataset)
    return figure, table


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(
        __doc__,
        argv,
        settings="scores to be reached, by dataset",
        fields="results of measure_network, .npz",
        sizes="tables of measure_snapshots, one a seed",
        metrics="tables of the trainings, one a seed",
    )
    sizes = read_sizes(args.sizes)
    kinds = sizes[["training", "dataset", "centre_light"]].drop_duplicates()
    tables = [
        strengths_table(drawn_fields(args.fields), sizes),
        epochs_table(read_metrics(args.metrics), kinds, args.settings["scores"]),
    ]
    use_style()
    save(*draw(pd.concat(tables)), args.out)


if __name__ == "__main__":
    sys.exit(main())
