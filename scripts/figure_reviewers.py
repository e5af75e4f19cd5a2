"""Figure: what the paper's reviewers asked of untrained networks, and what the measurements say.

What maps of random networks show, as the mean gradient is zero; weights of either sign; whether gates depend on
gradients; batch norms. All with 95 % intervals over runs, and with theory's values where there are any.

Reads tables of measure_question; takes seconds.
"""

import sys

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from replication.commands.cli import command, figure_arguments, read_table
from replication.drawing.labels import counted
from replication.drawing.plots import WIDTH, beside, error_bars, letter, save, use_style

COLOURS = [f"C{number}" for number in range(10)]  # of widths, in ascending order
LINES = {"none": "-", "relu": (0, (4, 1.5))}
MARKERS = {"none": "o", "relu": "s"}
READ = {"abs": "|g|", "square": "g²"}
GATES = {"coin": "fair coins", "permuted": "permuted gates", "another run's": "another run's"}
BATCH_NORM = {"on": "batch norm"}
THEORY = {"color": "0.35", "linewidth": 0.9, "zorder": 0}


def points(axes, rows: pd.DataFrame, x, **style) -> None:
    """Values with their intervals; the intervals alone are thin."""
    bars = error_bars(rows["value"], rows["low"], rows["high"])
    axes.errorbar(x, rows["value"], np.nan_to_num(bars), linestyle="", elinewidth=0.8, **style)


def draw_ratio(axes, table: pd.DataFrame, colours: dict) -> None:
    """E|g| / sqrt(E[g^2]) by distance from the unit."""
    shown = table[table["condition"] == "distance"]
    for (width, activation), rows in shown.groupby(["width", "activation"]):
        axes.plot(rows["place"], rows["value"], color=colours[width], linestyle=LINES[activation])
        axes.fill_between(rows["place"], rows["low"], rows["high"], color=colours[width], alpha=0.15, linewidth=0)
    axes.axhline(np.sqrt(2 / np.pi), **THEORY, linestyle=":")
    place = {"xycoords": ("axes fraction", "data"), "xytext": (3, 0), "textcoords": "offset points"}
    axes.annotate("normal", (1, np.sqrt(2 / np.pi)), **place, va="center", fontsize="small", color="0.35")
    axes.set(xlabel="pixels from the unit", ylabel="E|g| / √E[g²]", ylim=(0, 1))


def draw_mean(axes, table: pd.DataFrame, colours: dict) -> None:
    """How the mean gradient shrinks with the number of runs."""
    shown = table[table["condition"] == "runs averaged"]
    series = shown.groupby(["width", "activation"])
    for number, ((width, activation), rows) in enumerate(series):
        spread = 1.08 ** beside(number, len(series), 1)  # points of several networks lie side by side
        style = {"color": colours[width], "marker": MARKERS[activation], "markersize": 2.5}
        points(axes, rows, rows["place"] * spread, **style, mfc="white" if activation == "relu" else None)
    runs = np.array([shown["place"].min(), shown["place"].max()])
    axes.plot(runs, runs**-0.5, **THEORY, label="1 / √runs")
    axes.set(xscale="log", yscale="log", xlabel="runs averaged, m", ylabel="rms of the mean of g")
    axes.legend()


def draw_signed(axes, table: pd.DataFrame, colours: dict, quantity: str, label: str) -> None:
    """Size or sigma of |g| and g^2 from random to uniform weights, with theory."""
    widths = sorted(table["width"].unique())
    for (width, condition), rows in table[table["quantity"] == quantity].groupby(["width", "condition"]):
        rows = rows.sort_values("place")
        solid, moved = condition == "abs", beside(widths.index(width), len(widths), 0.025)
        points(axes, rows, rows["place"] + moved, color=colours[width], marker="o" if solid else "v", markersize=3)
        axes.plot(rows["place"], rows["theory"], color=colours[width], linewidth=0.9, linestyle="-" if solid else ":")
    axes.set(xlabel="share of the mean in the gain\n0: random, 1: uniform weights", ylabel=label)
    axes.set_ylim(0, 1.25 * table.loc[table["quantity"] == quantity, "value"].max())  # for the words above
    if quantity == "size":
        weights = table[(table["quantity"] == "negative share") & (table["place"] < 1)]
        last = weights.sort_values(["place", "width"]).iloc[-1]
        here = table[(table["quantity"] == quantity) & (table["condition"] == "abs")]
        here = here[(here["place"] == last["place"]) & (here["width"] == last["width"])]
        text = f"{100 * last['value']:.0f} % of the\nweights negative"
        arrow = {"arrowstyle": "-", "color": "0.35", "linewidth": 0.7, "shrinkB": 4, "relpos": (0.5, 0)}
        place = (last["place"], here["value"].item())
        options = {"xytext": (1, 1), "textcoords": "axes fraction", "arrowprops": arrow, "color": "0.35"}
        axes.annotate(text, place, **options, fontsize="small", ha="right", va="top")


def draw_correlation(axes, table: pd.DataFrame, colours: dict) -> None:
    """Correlation of gate and squared gradient, layer by layer."""
    shown = table[(table["condition"] == "layer") & (table["quantity"] == "correlation")]
    for number, (width, rows) in enumerate(shown.groupby("width")):
        places = rows["place"] + beside(number, shown["width"].nunique(), 0.3)
        points(axes, rows, places, color=colours[width], marker="o", markersize=2.5)
    axes.axhline(0, **THEORY, linestyle=":")
    axes.set(xlabel="layer, from the input", ylabel="correlation of gate and g²")


def draw_ratios(axes, table: pd.DataFrame, colours: dict) -> None:
    """ERF size and sigma with other gates, or a batch norm, over those of the same runs as they are."""
    names, y = [], 0.0
    for question, conditions in (("gates", GATES), ("batch_norm", BATCH_NORM)):
        own = table[table["question"] == question]
        for condition, name in conditions.items() if len(own) else ():
            for quantity, sign in (("size ratio", "size"), ("sigma ratio", "σ")):
                rows = own[(own["condition"] == condition) & (own["quantity"] == quantity)]
                for number, row in enumerate(rows.sort_values("width").itertuples()):
                    place, colour = y + beside(number, len(rows), 0.3), colours[row.width]
                    axes.plot([row.low, row.high], [place, place], color=colour, linewidth=0.8)
                    axes.plot([row.value], [place], "o", color=colour, markersize=2.5)
                names.append((y, f"{name}, {sign}"))
                y += 1
            y += 0.4
    axes.axvline(1, **THEORY, linestyle=":")
    places, labels = zip(*names, strict=True)
    axes.set_yticks(places, labels=labels, fontsize="small")
    axes.locator_params(axis="x", nbins=4)
    axes.set(ylim=(y - 0.4, -0.6), xlabel="ratio to the unchanged")


def draw(table: pd.DataFrame):
    widths = sorted(table["width"].unique())
    colours = {width: COLOURS[number % len(COLOURS)] for number, width in enumerate(widths)}
    asked = {name: table[table["question"] == name] for name in table["question"].unique()}
    panels = []
    if "means" in asked:
        panels += [(draw_ratio, asked["means"], ()), (draw_mean, asked["means"], ())]
    if "signed_kernels" in asked:
        panels.append((draw_signed, asked["signed_kernels"], ("sigma", "σ (pixels)")))
        panels.append((draw_signed, asked["signed_kernels"], ("size", "ERF size (pixels)")))
    if "gates" in asked:
        panels.append((draw_correlation, asked["gates"], ()))
    if {"gates", "batch_norm"} & asked.keys():
        panels.append((draw_ratios, table, ()))
    columns = min(len(panels), 3)
    figure = plt.figure(figsize=(WIDTH, 5.0), layout="constrained")
    lines = figure.subfigures(-(-len(panels) // columns), 1, squeeze=False)[
        :, 0
    ]  # panels below each other need not align
    places = [place for line in lines for place in line.subplots(1, columns, squeeze=False)[0]]
    for place, (panel, rows, more) in zip(places, panels, strict=False):
        panel(place, rows, colours, *more)
    for place in places[len(panels) :]:
        place.set_axis_off()
    letter(*places[: len(panels)])
    handles = [Line2D([], [], color=colours[width], label=counted(width, "channel")) for width in widths]
    if "means" in asked:
        grey = {"color": "0.35", "markersize": 3}
        for activation, name in (("none", "linear"), ("relu", "ReLU")):
            filled = {"mfc": "white"} if activation == "relu" else {}
            handles.append(
                Line2D([], [], **grey, **filled, marker=MARKERS[activation], linestyle=LINES[activation], label=name)
            )
    if "signed_kernels" in asked:
        for marker, line, read in (("o", "-", "|g|"), ("v", ":", "g²")):
            handles.append(
                Line2D([], [], color="0.35", marker=marker, linestyle=line, markersize=3, label=f"{read}, line: theory")
            )
    figure.legend(handles=handles, loc="outside upper center", ncols=4, columnspacing=1.2, handlelength=2.4)
    return figure, table


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, tables="tables of measure_question, .csv")
    use_style()
    save(*draw(pd.concat(read_table(path, "question", "condition", "theory") for path in args.tables)), args.out)


if __name__ == "__main__":
    sys.exit(main())
