"""Figure: what the paper leaves open, and how much it matters.

Slopes of the size of one kind of network under several readings of the impact, and of several kinds of network under
the paper's; the size of subsampled and dilated networks with their special layers elsewhere. All with 95 % intervals
over runs. Last, how far the slopes of thin networks scatter if the whole experiment is repeated. The table has all
readings of all kinds of network, with their sizes and both slopes.

Reads tables of measure_network, growth_slopes and slope_samples; takes seconds.
"""

import json
import sys

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from replication.commands.cli import command, figure_arguments, read_table
from replication.drawing.labels import counted
from replication.drawing.plots import (
    COLOURS,
    MARKERS,
    THEORY_TICK,
    WIDTH,
    beside,
    beside_rows,
    letter,
    save,
    slope_guides,
    use_style,
)

VARIANTS = {
    "abs": "mean of |g|",
    "per run": "mean of the runs' sizes",
    "square": "mean of g²",
    "signed": "|mean of g|",
    "equal": "|g|, runs made equal",
    "maximum": "|g|, threshold at maximum",
}
SPAN = 0.23  # how far from its limit a slope is shown; beyond, an arrow at the edge
SHOWN_DEPTH = 20  # at which sizes are compared, or the next that was measured


def network_name(row: pd.Series) -> str:
    """How a row of a table of slopes calls its network: "random + ReLU, 4 channels"."""
    if row["reading"] == "after":
        return row["weights"].replace(" + ", ", unit after ")
    if row["kernel"] != 3:
        return f"{row['weights']}, {row['kernel']} × {row['kernel']} kernels"
    return row["weights"] if row["weights"] == "uniform" else f"{row['weights']}, {counted(row['width'], 'channel')}"


def rank(variant: str) -> tuple:
    """Its place among the variants: those of other thresholds follow the paper's."""
    base, _, above = variant.partition(" above ")
    return (list(VARIANTS).index(base), above)


def label(variant: str) -> str:
    base, _, above = variant.partition(" above ")
    return VARIANTS[base] + (f", threshold {above}" if above else "")


def draw_interval(axes, value: float, low: float, high: float, y: float, **options) -> None:
    """A point with its interval; an arrow at the edge for what lies outside of the panel. Nothing for NaN."""
    if np.isnan(value):
        return
    first, last = axes.get_xlim()
    axes.plot(np.clip([low, high], first, last), [y, y], color=options["color"], linewidth=0.8)
    if first < value < last:
        axes.plot([value], [y], linestyle="", markersize=2.8, **options)
    arrow = {**options, "markersize": 2.8, "clip_on": False, "linestyle": ""}
    if min(low, value) < first:
        axes.plot([first], [y], **{**arrow, "marker": "<"})
    if max(high, value) > last:
        axes.plot([last], [y], **{**arrow, "marker": ">"})


def draw_slopes(axes, slopes: pd.DataFrame, key: str, names: dict[str, str], what: str) -> None:
    """Slopes of the size, one row for each value of the column `key` by its name, each with all ranges of depths."""
    slope_guides(axes, "size")
    axes.set_xlim(0.5 - SPAN, 0.5 + SPAN)
    ranges = list(slopes["range"].unique())
    for row in slopes.itertuples():
        place = ranges.index(row.range)
        y = list(names).index(getattr(row, key)) + beside(place, len(ranges), 0.36)
        options = {"color": COLOURS[row.weights], "marker": MARKERS[row.weights]} | ({"mfc": "white"} if place else {})
        axes.plot([row.theory], [y], **THEORY_TICK)
        draw_interval(axes, row.slope, row.low, row.high, y, **options)
    axes.set_yticks(range(len(names)), labels=names.values())
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel=f"slope of the ERF size\n({what})")


def dead_runs(variants: pd.DataFrame, networks: list[str]) -> dict[int, str]:
    """How many runs were left out as dead, from depth to depth, by the place of the network, where any were."""
    texts = {}
    for network, rows in variants[variants["variant"] == "abs"].groupby("network"):
        if network in networks and rows["dead"].any():
            texts[networks.index(network)] = f"{rows['dead'].min()}–{rows['dead'].max()} of {rows['runs'].max()}"
    return texts


def draw_positions(axes, table: pd.DataFrame) -> None:
    axes.set_xlim(0, 1.2 * table["size"].max())
    names = []
    for y, row in enumerate(table.itertuples()):
        special = json.loads(row.special_layers)
        layers = f" {', '.join(map(str, special))}" if special else ""
        names.append(row.structure.replace("_", " ") + layers)
        axes.plot([row.theory_size], [y], **THEORY_TICK)
        draw_interval(axes, row.size, row.low, row.high, y, color=COLOURS[row.series], marker=MARKERS[row.series])
    beside_rows(axes, "RF (pixels)", {y: f"{side:.0f}" for y, side in enumerate(table["rf"])})
    axes.set_yticks(range(len(table)), labels=names)
    axes.set(ylim=(len(table) - 0.5, -0.5), xlabel=f"ERF size, {table['depth'].iloc[0]} layers (pixels)")


def draw_samples(axes, samples: pd.DataFrame) -> None:
    """Slopes of the size in repeated experiments, a dot each, and their mean; one row a network and variant."""
    names = []
    rng = np.random.default_rng(0)  # spreads the dots
    for y, ((weights, variant), rows) in enumerate(samples.groupby(["weights", "variant"], sort=False)):
        colour, slopes = COLOURS[weights], rows["size"].dropna()
        axes.plot(slopes, y + rng.uniform(-0.25, 0.25, len(slopes)), ".", color=colour, markersize=1.5)
        axes.plot([slopes.mean()] * 2, [y - 0.35, y + 0.35], color=colour)
        names.append(f"{weights}\n{VARIANTS[variant]}")
    slope_guides(axes, "size")
    layers, channels = samples["depths"].iloc[0].replace("-", "–"), samples["width"].unique()
    thin = counted(channels[0], "channel") if len(channels) == 1 else "the networks"
    axes.set_yticks(range(len(names)), labels=names)
    axes.set(ylim=(len(names) - 0.5, -0.5))
    experiments = f"{samples['sample'].max() + 1} experiments with\n{thin}, {layers} layers"
    axes.set_xlabel(f"slope of the ERF size\n({experiments})")


def with_run_means(sizes: pd.DataFrame) -> pd.DataFrame:
    """Rows for the variant "per run" beside those for "abs", which have its sizes."""
    several = sizes[(sizes["variant"] == "abs") & (sizes["runs"] > 1)]
    columns = {"mean_run_size": "size", "mean_run_low": "low", "mean_run_high": "high"}
    return pd.concat([sizes, several.drop(columns=columns.values()).rename(columns=columns).assign(variant="per run")])


def tabulate(slopes: pd.DataFrame, sizes: pd.DataFrame, positions: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """One row per measurement; `drawn` are those that the figure shows, the others are in its table alone."""
    shown = [slopes.rename(columns={"slope": "value"}).assign(panel="slopes")]
    for panel, table in (("sizes", sizes), ("positions", positions)):
        names = {"series": "weights", "size": "value", "theory_size": "theory", "depth": "depths"}
        drawn = panel == "positions"
        shown.append(table.rename(columns=names).assign(panel=panel, quantity="size", drawn=drawn))
    shown.append(samples.rename(columns={"size": "value"}).assign(panel="samples", quantity="size", drawn=True))
    columns = ["panel", "drawn", "network", "weights", "width", "reading", "special_layers", "variant", "range"]
    columns += ["depths", "sample", "quantity"]
    return pd.concat(shown)[[*columns, "value", "low", "high", "theory", "runs", "dead", "most_left_out"]]


def draw(slopes: pd.DataFrame, variants: pd.DataFrame, positions: pd.DataFrame, samples: pd.DataFrame):
    depths = sorted(variants["depth"].unique())
    sizes = variants[variants["depth"] == min((d for d in depths if d >= SHOWN_DEPTH), default=depths[-1])]
    names = {row["network"]: network_name(row) for _, row in slopes.drop_duplicates("network").iterrows()}
    random = slopes[slopes["weights"] == "random"]
    widest = (random if len(random) else slopes).sort_values("width", ascending=False, kind="stable")["network"].iloc[0]
    of_size = slopes["quantity"] == "size"
    readings = slopes[of_size & (slopes["network"] == widest)]
    kinds = slopes[of_size & (slopes["variant"] == "abs")]
    found = sorted(readings["variant"].unique(), key=rank)
    heights = [0.19 * max(len(found), len(names)), 0.17 * max(len(positions), 2 * 4)]
    figure, panels = plt.subplots(
        2,
        2,
        figsize=(WIDTH, sum(heights) + 1.9),
        layout="constrained",
        height_ratios=[height + 0.3 for height in heights],
    )
    draw_slopes(panels[0, 0], readings, "variant", {variant: label(variant) for variant in found}, names[widest])
    draw_slopes(panels[0, 1], kinds, "network", names, VARIANTS["abs"])
    if dead := dead_runs(variants, list(names)):
        beside_rows(panels[0, 1], "dead runs", dead)
    draw_positions(panels[1, 0], positions)
    draw_samples(panels[1, 1], samples)
    letter(*panels.ravel())
    ranges = [name.replace("-", "–") + " layers" for name in slopes["range"].unique()]
    points = {"marker": "o", "color": "0.3", "linestyle": ""}
    handles = [
        Line2D([], [], **points, mfc="white" if index else "0.3", label=name) for index, name in enumerate(ranges)
    ]
    handles += [Line2D([], [], color="0.3", linewidth=0.8, label="95 % interval")]
    handles += [Line2D([], [], **THEORY_TICK, label="theory, no activation")]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    drawn = slopes.index.isin(readings.index.union(kinds.index))
    return figure, tabulate(slopes.assign(drawn=drawn), with_run_means(sizes), positions, samples)


@command
def main(argv: list[str] | None = None) -> None:
    inputs = {
        "slopes": "table of growth_slopes, .csv",
        "variants": "tables of the networks whose slopes they are, .csv",
        "positions": "tables of networks that differ in their special layers, .csv",
        "samples": "tables of slope_samples, .csv",
    }
    args = figure_arguments(__doc__, argv, **inputs)
    use_style()
    slopes, variants, positions, samples = (
        pd.concat(read_table(path, *columns) for path in paths)
        for paths, columns in (
            (args.slopes, ["slope", "variant", "range"]),
            (args.variants, ["variant", "mean_run_size"]),
            (args.positions, ["variant", "special_layers"]),
            (args.samples, ["sample", "size"]),
        )
    )
    slopes = slopes.reset_index(drop=True)
    first = samples[samples["depths"] == samples["depths"].iloc[0]]  # slope_pair has all ranges of depths
    save(*draw(slopes, variants, positions[positions["variant"] == "abs"], first), args.out)


if __name__ == "__main__":
    sys.exit(main())
