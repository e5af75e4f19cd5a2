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
    SLOPE_LINES,
    SLOPES,
    THEORY_LINES,
    WIDTH,
    drawn_fields,
    error_bars,
    save,
    use_style,
)
from replication.stacks.predictions import cut_off, series_name

QUANTITIES = {"size": "ERF size (pixels)", "ratio": "ERF size / RF size"}


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


def draw_panel(panel, points: pd.DataFrame, curves: pd.DataFrame, slopes: pd.DataFrame, quantity: str) -> None:
    for order, name in enumerate(points["series"].unique()):
        size = max(5.5 - 1.5 * order, 3)  # a later series hides none before it
        here = points[points["series"] == name]
        errors = error_bars(here["value"], here["low"], here["high"])
        fits = "\n".join(
            f"   slope {with_interval(fit.slope, fit.low, fit.high, 3)}, {fit.depths.replace('-', '–')} layers"
            for fit in slopes[slopes["weights"] == name].itertuples()
        )
        dead = f" (up to {here['dead'].max()} of {here['runs'].max()} runs dead)" if here["dead"].any() else ""
        style = {"fmt": MARKERS[name], "color": COLOURS[name], "markersize": size, "capsize": 2}
        panel.errorbar(here["depth"], here["value"], errors, **style, label=f"{name}{dead}\n{fits}")
        clipped = here[here["clipped"]]
        panel.plot(clipped["depth"], clipped["value"], MARKERS[name], color="white", markersize=1.8, zorder=5)
        theory = curves[curves["series"] == name]
        if name in THEORY_LINES:
            panel.plot(theory["depth"], theory["value"], THEORY_LINES[name], color="0.3", linewidth=0.8, zorder=0)
    depths = np.array(sorted(points["depth"].unique()))
    # Only the guides' slopes mean anything: they start beside the measurements.
    start = points["value"][points["depth"] == depths[0]].mean() * (0.66 if quantity == "size" else 0.6)
    for slope, dashes in zip(SLOPES[quantity], SLOPE_LINES, strict=True):
        panel.plot(depths, start * (depths / depths[0]) ** slope, color="0.55", linestyle=dashes)
    panel.set(xscale="log", yscale="log", xlabel="layers", ylabel=QUANTITIES[quantity])
    panel.set_xticks(depths, labels=map(str, depths))
    panel.minorticks_off()
    low, high = panel.get_ylim()
    ticks = [t for t in (0.1, 0.2, 0.3, 0.5, 0.7, 1, 5, 10, 20, 30, 50, 100) if low <= t <= high]
    panel.set_yticks(ticks, labels=[f"{t:g}" for t in ticks])
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize="small")


def draw(fields: list[ReceptiveField], slopes: pd.DataFrame):
    points = tabulate(fields)
    depths = sorted(points["depth"].unique())
    kinds = {series_name(field.settings): field.settings for field in fields}
    curves = pd.concat(theory_curve(settings, depths) for settings in kinds.values())
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 4.9), layout="constrained")
    networks = {field.settings["network"] for field in fields}
    shown = slopes[slopes["network"].isin(networks) & (slopes["variant"] == "abs")]
    for panel, quantity in zip(axes, QUANTITIES, strict=True):
        of_quantity = (table[table["quantity"] == quantity] for table in (points, curves, shown))
        draw_panel(panel, *of_quantity, quantity)
    lines = [
        Line2D([], [], color="0.3", linewidth=0.8, linestyle=THEORY_LINES[n], label=f"theory, {n}")
        for n in kinds
        if n in THEORY_LINES
    ]
    guides = zip(("the paper's slopes, 0.56 and −0.43", "limit, ±0.5"), SLOPE_LINES, strict=True)
    lines += [Line2D([], [], color="0.55", linestyle=dashes, label=name) for name, dashes in guides]
    if points["clipped"].any():
        lines.append(
            Line2D([], [], marker="s", color="0.35", mfc="white", mew=1.2, linestyle="", label="clipped by the RF")
        )
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), fontsize="small", columnspacing=1)
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
