"""Figure: the ERF grows like the root of the depth, and shrinks relative to the theoretical RF.

ERF size and its ratio to the theoretical RF against depth on logarithmic axes, with theory's finite-depth curve; slopes
over each range of depths, without those that the RF cuts off, with 95 % bootstrap intervals over runs, beside the
paper's and the limit of +-0.5.

Reads results of measure_network and the table of growth_slopes; takes seconds.
"""

import sys

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from erf.result.field import ReceptiveField
from erf.theory import plain_size
from replication.commands.cli import command, figure_arguments, read_table
from replication.drawing.labels import with_interval
from replication.drawing.plots import (
    COLOURS,
    MARKERS,
    THEORY_LINES,
    THEORY_TICK,
    WIDTH,
    beside_rows,
    draw_hollow,
    drawn_fields,
    error_bars,
    letter,
    save,
    slope_guides,
    use_style,
)
from replication.stacks.predictions import cut_off, series_name

QUANTITIES = {"size": "ERF size (pixels)", "ratio": "ERF size / RF size"}
NAMES = {"size": "the ERF size", "ratio": "the ratio"}


def tabulate(fields: list[ReceptiveField]) -> pd.DataFrame:
    """One row per network, depth and quantity; `low` and `high` are its 95 % interval over runs."""
    rows = []
    for field in fields:
        settings, side = field.settings, field.theoretical_rf[0]
        row = {"kind": "network", "series": series_name(settings), "depth": settings["depth"], "rf": side}
        row |= {"runs": settings["runs"], "dead": field.dead, "clipped": cut_off(field)}
        expected = plain_size(settings["depth"], settings["kernel"], settings["weights"], settings["mode"])
        for quantity, scale in (("size", 1), ("ratio", 1 / side)):
            value, (low, high) = field.size * scale, np.multiply(field.interval, scale)
            rows.append({**row, "quantity": quantity, "value": value, "low": low, "high": high})
            rows[-1]["theory"] = expected * scale
    return pd.DataFrame(rows).sort_values(["quantity", "series", "depth"], ascending=[False, True, True])


def theory_curve(settings: dict, depths: list[int]) -> pd.DataFrame:
    """Theory's finite-depth sizes and ratios between the first and the last depth, `settings` being any network's."""
    rows = []
    for depth in np.unique(np.geomspace(depths[0], depths[-1], 40).round().astype(int)):
        size = plain_size(int(depth), settings["kernel"], settings["weights"], settings["mode"])
        side = 1 + depth * (settings["kernel"] - 1)
        for quantity, value in (("size", size), ("ratio", size / side)):
            rows.append({"kind": "theory", "series": series_name(settings), "depth": depth, "quantity": quantity})
            rows[-1]["value"] = value
    return pd.DataFrame(rows)


def draw_depths(panel, points: pd.DataFrame, curves: pd.DataFrame, quantity: str) -> None:
    """A quantity against depth, on logarithmic axes; of series that coincide, the later markers are smaller."""
    names = [name for name in COLOURS if name in set(points["series"])]
    for order, name in enumerate(names):
        here = points[points["series"] == name]
        dead = f" (up to {here['dead'].max()} of {here['runs'].max()} runs dead)" if here["dead"].any() else ""
        style = {"color": COLOURS[name], "marker": MARKERS[name], "markersize": 6.5 - 1.5 * order}
        errors = error_bars(here["value"], here["low"], here["high"])
        panel.errorbar(here["depth"], here["value"], errors, **style, linestyle="", elinewidth=0.8, label=name + dead)
        draw_hollow(panel, here["depth"][here["clipped"]], here["value"][here["clipped"]], **style)
        theory = curves[curves["series"] == name]
        if name in THEORY_LINES:
            panel.plot(theory["depth"], theory["value"], THEORY_LINES[name], color="0.3", linewidth=0.8, zorder=0)
    depths = sorted(points["depth"].unique())
    panel.set(xscale="log", yscale="log", xlabel="layers", ylabel=QUANTITIES[quantity])
    panel.set_xticks(depths, labels=map(str, depths))
    panel.minorticks_off()
    low, high = panel.get_ylim()
    ticks = [t for t in (0.1, 0.2, 0.3, 0.5, 0.7, 1, 5, 10, 20, 30, 50, 100) if low <= t <= high]
    panel.set_yticks(ticks, labels=[f"{t:g}" for t in ticks])


def draw_slopes(panel, slopes: pd.DataFrame, quantity: str) -> None:
    """Fitted slopes, a row for each series and range of depths, beside theory's, the paper's and the limit."""
    names, texts = [], {}
    for height, row in enumerate(slopes.itertuples()):
        panel.plot([row.low, row.high], [height] * 2, color=COLOURS[row.weights], linewidth=0.8)
        panel.plot(row.slope, height, MARKERS[row.weights], color=COLOURS[row.weights])
        panel.plot(row.theory, height, **THEORY_TICK)
        texts[height] = with_interval(row.slope, row.low, row.high, 3)
        names.append(f"{row.weights}, {row.depths.replace('-', '–')} layers")
    slope_guides(panel, quantity)
    beside_rows(panel, "slope [95 %]", texts)
    panel.set_yticks(range(len(names)), labels=names)
    panel.set(ylim=(len(names) - 0.5, -0.5), xlabel=f"slope of {NAMES[quantity]}")
    low, high = panel.get_xlim()
    panel.set_xlim(low, high + 0.25 * (high - low))  # for the name of the line at the right
    panel.locator_params(axis="x", nbins=4)


def draw(fields: list[ReceptiveField], slopes: pd.DataFrame):
    points = tabulate(fields)
    depths = sorted(points["depth"].unique())
    kinds = {series_name(field.settings): field.settings for field in fields}
    curves = pd.concat(theory_curve(settings, depths) for settings in kinds.values())
    networks = {field.settings["network"] for field in fields}
    shown = slopes[slopes["network"].isin(networks) & (slopes["variant"] == "abs")]
    rows = 0.17 * len(shown) / 2 + 0.6
    figure = plt.figure(figsize=(WIDTH, 3.2 + rows), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[3.2, rows])
    panels, fitted = above.subplots(1, 2), below.subplots(1, 2, sharey=True)
    for panel, under, quantity in zip(panels, fitted, QUANTITIES, strict=True):
        draw_depths(panel, *(table[table["quantity"] == quantity] for table in (points, curves)), quantity)
        draw_slopes(under, shown[shown["quantity"] == quantity], quantity)
    letter(*panels, *fitted)
    lines = panels[0].get_legend_handles_labels()[0]
    for name in kinds:
        if name in THEORY_LINES:
            style = {"color": "0.3", "linewidth": 0.8, "linestyle": THEORY_LINES[name]}
            lines.append(Line2D([], [], **style, label=f"theory, {name}"))
    lines.append(Line2D([], [], **THEORY_TICK, label="slope of theory's sizes"))
    if points["clipped"].any():
        style = {"marker": "s", "color": "0.35", "markerfacecolor": "white", "linestyle": ""}
        lines.append(Line2D([], [], **style, label="cut off by the RF"))
    above.legend(handles=lines, loc="outside lower center", ncols=4)
    fits = shown.rename(columns={"weights": "series", "slope": "value"}).assign(kind="slope")
    columns = ["kind", "series", "depths", "quantity", "value", "low", "high", "theory"]
    return figure, pd.concat([points, curves, fits[columns]])


@command
def main(argv: list[str] | None = None) -> None:
    inputs = {"fields": "results of measure_network, .npz", "slopes": "table of growth_slopes, .csv"}
    args = figure_arguments(__doc__, argv, **inputs)
    use_style()
    save(
        *draw(
            drawn_fields(args.fields), pd.concat(read_table(path, "slope", "variant", "depths") for path in args.slopes)
        ),
        args.out,
    )


if __name__ == "__main__":
    sys.exit(main())
