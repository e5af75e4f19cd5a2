"""Figure: where the ERF lies, how wide it is, and how much of the impact lies near the unit.

For kernels that sum to one the map is the distribution of a sum of n independent offsets X: E[S_n] = n E[X] and
Var[S_n] = n Var[X] (section 2.3). Drift is the map's mean less the unit's position, and variance that about the map's
own mean. Also: the sizes at both thresholds over this standard deviation, and the share of impact against the distance.

Reads results of measure_network; takes seconds.
"""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from erf.result.contribution import radius_holding, share_within
from erf.result.field import ReceptiveField
from erf.size import E2, THRESHOLD
from erf.theory import gaussian_size
from replication.commands.cli import command, figure_arguments, read_table
from replication.drawing.plots import WIDTH, beside, drawn_fields, error_bars, letter, save, use_style
from replication.stacks.predictions import drifts
from replication.statistics.moments import map_moments, rf_radius

PALETTE = [colour for number, colour in enumerate(sns.color_palette("colorblind")) if number != 6]  # a pale pink
MARKS = "osDv^<>ph"
AVERAGED = {"abs": "|g|", "square": "g²"}
PLOTTED = {"drift": "drift of the mean / n (pixels)", "variance": "variance about the mean / n (px²)"}
THRESHOLDS = {"4.55 %": THRESHOLD, "e⁻²": E2}
RADII = np.linspace(0.02, 1, 50)  # shares of the receptive field's radius


def label_of(series: str, kernel: int, variant: str) -> str:
    """How the legend calls a network: "uniform, 5 × 5", "random, mean g²"."""
    if series.startswith("random"):
        return f"{series}, {kernel} × {kernel}, {AVERAGED[variant]}"
    return f"{series}, {kernel} × {kernel}"


def moments_table(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Drift and variance of every network, depth and variant over the number of layers: value, interval over runs, and
    the poster's formula."""
    rows = []
    for row in pd.concat(tables).query("variant in @AVERAGED").itertuples():
        random = row.series.startswith("random")
        if row.variant == "square" and not random:
            continue  # of fixed weights the square of the map is no distribution that theory speaks of
        label = label_of(row.series, row.kernel, row.variant)
        told = {"network": row.network, "label": label, "variant": row.variant, "depth": row.depth, "rf": row.rf}
        drift = {"value": row.drift, "low": row.drift_low, "high": row.drift_high, "theory": row.limit_drift}
        drift = {name: round(value, 6) + 0.0 for name, value in drift.items()}  # zero is rounding, in float32 1e-7
        spread = {"value": row.spread, "low": row.spread_low, "high": row.spread_high, "theory": row.limit_spread}
        drift["theory_exact"] = round(row.theory_drift, 6) + 0.0
        variance = {name: value**2 for name, value in spread.items()} | {"theory_exact": row.theory_spread**2}
        for panel, values in (("drift", drift), ("variance", variance)):
            rows.append({"panel": panel, **told, **{name: value / row.depth for name, value in values.items()}})
    return pd.DataFrame(rows)


def sizes_table(fields: list[ReceptiveField]) -> pd.DataFrame:
    """ERF size at each threshold over the map's own standard deviation, beside a Gaussian's."""
    rows = []
    for field in fields:
        settings, (_, spread) = field.settings, map_moments(field.map, field.position)
        spread = math.sqrt((spread**2).mean())
        told = {"panel": "size", "network": settings["network"], "depth": settings["depth"], "variant": "abs"}
        for name, threshold in THRESHOLDS.items():
            here = replace(field, threshold=threshold)
            row = {**told, "threshold": name, "value": here.size / spread, "theory": gaussian_size(1, threshold)}
            rows.append({**row, "size": here.size, "clipped": here.clipped})
    return pd.DataFrame(rows)


def even_share(part: float) -> float:
    """Share of a square's area within `part` of half its side of the middle, up to 1: impact that is spread evenly."""
    return math.pi * part**2 / 4


def shares_table(fields: list[ReceptiveField]) -> pd.DataFrame:
    """Share of the impact within each distance of the unit, beside that of a Gaussian with the map's moments."""
    tables = []
    for field in fields:
        impact, radius = np.abs(field.map), rf_radius(field.theoretical_rf)
        _, spread = map_moments(impact, field.position)
        within = RADII * radius
        told = {"panel": "share", "network": field.settings["network"], "depth": field.settings["depth"]}
        columns = {"radius": within, "part": RADII, "even": [even_share(part) for part in RADII]}
        columns["value"] = [share_within(impact, field.position, r) for r in within]
        columns["theory"] = 1 - np.exp(-(within**2) / (2 * (spread**2).mean()))
        half = radius_holding(impact, field.position, 0.5)
        tables.append(pd.DataFrame({**told, **columns, "radius_half": half, "rf": field.theoretical_rf[0]}))
    return pd.concat(tables)


def draw_moments(panel, table: pd.DataFrame, name: str, styles: dict) -> None:
    """A moment of each network over its number of layers, side by side, on the poster's formula as lines."""
    series = table[table["panel"] == name].groupby("label", sort=False)
    for number, (label, here) in enumerate(series):
        marker, colour, hollow = styles[label]
        style = {"marker": marker, "color": colour, "markersize": 3.5, "markerfacecolor": "white" if hollow else colour}
        places = here["depth"] * 2 ** beside(number, len(series), 0.8 / len(series))
        panel.plot(here["depth"], here["theory"], color=colour, linewidth=0.8, zorder=0)
        errors = error_bars(here["value"], here["low"], here["high"])
        panel.errorbar(places, here["value"], errors, **style, linestyle="none", elinewidth=0.8)
    panel.set(xscale="log", xlabel="layers n", ylabel=PLOTTED[name])


def draw_sizes(panel, table: pd.DataFrame, styles: dict) -> None:
    networks = list(table["network"].unique())
    for (network, _), here in table[~table["clipped"]].groupby(["network", "threshold"], sort=False):
        marker, colour, *_ = styles[network]
        places = here["depth"] * 2 ** beside(networks.index(network), len(networks), 0.8 / len(networks))
        panel.plot(places, here["value"], color=colour, marker=marker, linestyle="")
    for name, threshold in THRESHOLDS.items():
        level = gaussian_size(1, threshold)
        panel.axhline(level, color="0.3", linestyle="--", linewidth=0.8, zorder=0)
        above = {"va": "top", "xytext": (0, -14)} if threshold == THRESHOLD else {"va": "bottom", "xytext": (0, 14)}
        place = {
            "xy": (0.98, level),
            "xycoords": ("axes fraction", "data"),
            "textcoords": "offset points",
            "ha": "right",
        }
        panel.annotate(f"{name} contour; a Gaussian's: {level:.3f}", **place, **above, fontsize="small")
    panel.set(xscale="log", xlabel="layers n", ylabel="ERF size / σ")


def draw_shares(panel, table: pd.DataFrame) -> None:
    depths = sorted(table["depth"].unique())
    for depth, colour in zip(depths, sns.color_palette("viridis", len(depths)), strict=True):
        here = table[table["depth"] == depth]
        first = here.iloc[0]
        label = f"{depth}: {first['radius_half']:.1f} px"
        panel.plot(here["part"], here["value"], color=colour, label=label)
        panel.plot(here["part"], here["theory"], color=colour, linestyle=":", linewidth=0.9)
    panel.plot(here["part"], here["even"], color="0.5", linestyle="--", linewidth=0.9, label="even")
    panel.plot([], [], color="0.3", linestyle=":", linewidth=0.9, label="Gaussian")
    panel.set(xlabel="distance r from the unit / radius of the RF", ylabel="share of the impact within r")
    panel.set(xlim=(0, 1), ylim=(0, 1.02))
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.17), "ncols": 4, "columnspacing": 1}
    panel.legend(**below, handlelength=1.3, title="layers: radius within which half of the impact lies")


def draw(fields: list[ReceptiveField], tables: list[pd.DataFrame]):
    moments, sizes = moments_table(tables), sizes_table(fields)
    labels = moments.drop_duplicates("label")
    colours = dict(zip(labels["network"].unique(), PALETTE, strict=False))
    styles = {}
    for number, (network, found) in enumerate(labels.groupby("network", sort=False)):
        for label, variant in zip(found["label"], found["variant"], strict=True):
            styles[label] = MARKS[number % len(MARKS)], colours[network], variant == "square"
        styles[network] = MARKS[number % len(MARKS)], colours[network], False
    straight = [field for field in fields if not drifts(field.settings)]
    random = [field for field in straight if field.settings["weights"] == "random"]
    chosen = (random or straight or fields)[0].settings["network"]
    shares = shares_table([field for field in fields if field.settings["network"] == chosen])

    figure, panels = plt.subplots(2, 2, figsize=(WIDTH, 6.6), layout="constrained")
    (drift, variance), (size, share) = panels
    draw_moments(drift, moments, "drift", styles)
    draw_moments(variance, moments, "variance", styles)
    variance.set(yscale="log")
    variance.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    variance.yaxis.set_major_formatter("{x:g}")
    draw_sizes(size, sizes, styles)
    draw_shares(share, shares)
    share.set_title(labels.query("network == @chosen and variant == 'abs'")["label"].iloc[0])
    letter(*panels.ravel())
    depths = sorted(moments["depth"].unique())
    for panel in (drift, variance, size):
        panel.set_xticks(depths, labels=map(str, depths))
        panel.minorticks_off()
    handles = []
    for label in labels["label"]:
        marker, colour, hollow = styles[label]
        face = {"markerfacecolor": "white"} if hollow else {}
        handles.append(Line2D([], [], color=colour, marker=marker, linewidth=0.8, label=label, **face))
    title = "lines in a and b: E[X] − (k − 1)/2 and Var[X], for |g| of random weights twice that variance"
    figure.legend(handles=handles, loc="outside lower center", ncols=3, title=title)
    return figure, pd.concat([moments, sizes, shares])


@command
def main(argv: list[str] | None = None) -> None:
    inputs = {"fields": "results of measure_network, .npz", "tables": "their tables, .csv"}
    args = figure_arguments(__doc__, argv, **inputs)
    use_style()
    tables = [read_table(Path(path), "drift", "spread", "limit_spread") for path in args.tables]
    save(*draw(drawn_fields(args.fields), tables), args.out)


if __name__ == "__main__":
    sys.exit(main())
