"""Figure: what the paper leaves open, and how much it matters.

Sizes and slopes of the same kinds of network under other variants: what is averaged, the number of channels, the unit
before or after its own activation, the threshold's reference, the range of depths; and the size of subsampled and
dilated networks with their special layers elsewhere. All with 95 % intervals over runs. Last, how far the slopes of
thin networks scatter if the whole experiment is repeated.

Reads tables of measure_network, growth_slopes and slope_samples; takes seconds.
"""

import json
import sys

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from replication.commands.cli import command, figure_arguments, read_table
from replication.drawing.plots import COLOURS, MARKERS, SLOPE_LINES, SLOPES, WIDTH, save, use_style

VARIANTS = {
    "abs": "mean of |g|",
    "per run": "mean of the runs' sizes",
    "square": "mean of g²",
    "signed": "|mean of g|",
    "equal": "|g|, runs made equal",
    "maximum": "|g|, threshold at maximum",
}
SPAN = 0.27  # how far from its limit a slope is shown; beyond, an arrow at the edge
SHOWN_DEPTH = 20  # at which sizes are compared, or the next that was measured
THEORY = {"marker": "|", "color": "0.2", "markersize": 6, "linestyle": "", "zorder": 4}


def row_places(slopes: pd.DataFrame) -> tuple[dict, dict]:
    """Height of each (network, variant), and of each network's heading with its text."""
    places, headings, y = {}, {}, 0.0
    for network, rows in slopes.groupby("network", sort=False):
        row = rows.iloc[0]
        name = row["weights"]
        if row["reading"] == "after":
            name = name.replace(" + ", ", unit after ")
        elif row["kernel"] != 3:
            name += f", {row['kernel']} × {row['kernel']} kernels"
        elif name != "uniform":
            name += f", {counted(row['width'])}"
        headings[y] = name
        for variant in sorted(rows["variant"].unique(), key=rank):
            y += 1
            places[network, variant] = y
        y += 1.6
    return places, headings


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


def draw_guides(axes, quantity: str) -> None:
    """The paper's slope, and the limit."""
    for slope, dashes in zip(SLOPES[quantity], SLOPE_LINES, strict=True):
        axes.axvline(slope, color="0.6", linestyle=dashes, linewidth=1, zorder=0)


def counted(channels: int) -> str:
    return f"{channels} channel" + ("s" if channels > 1 else "")


def draw_slopes(axes, slopes: pd.DataFrame, places: dict, quantity: str) -> None:
    draw_guides(axes, quantity)
    limit = SLOPES[quantity][1]
    axes.set_xlim(limit - SPAN, limit + SPAN)
    ranges = list(slopes["range"].unique())
    for row in slopes[slopes["quantity"] == quantity].itertuples():
        second = ranges.index(row.range) > 0
        y = places[row.network, row.variant] + (0.2 if second else -0.2)
        options = {"color": COLOURS[row.weights], "marker": MARKERS[row.weights]} | ({"mfc": "white"} if second else {})
        draw_interval(axes, row.slope, row.low, row.high, y, **options)
        axes.plot([row.theory], [y], **{**THEORY, "markersize": 4})
    axes.set_xlabel(f"slope of the {quantity}")
    axes.patch.set_visible(False)  # a heading of the first panel may run into it


def draw_sizes(axes, sizes: pd.DataFrame, places: dict) -> None:
    axes.set_xlim(0, 1.1 * sizes["size"].max())
    shown = [key in places for key in zip(sizes["network"], sizes["variant"], strict=True)]
    for row in sizes[shown].itertuples():
        options = {"color": COLOURS[row.series], "marker": MARKERS[row.series]}
        draw_interval(axes, row.size, row.low, row.high, places[row.network, row.variant], **options)
        axes.plot([row.theory_size], [places[row.network, row.variant]], **THEORY)
    axes.set_xlabel(f"ERF size, {sizes['depth'].iloc[0]} layers (pixels)")


def draw_dead(axes, variants: pd.DataFrame, places: dict) -> None:
    """How many runs were left out as dead, from depth to depth, where any were."""
    for network, rows in variants[variants["variant"] == "abs"].groupby("network"):
        if rows["dead"].any():
            text = f"{rows['dead'].min()} to {rows['dead'].max()}\nof {rows['runs'].max()} dead"
            axes.annotate(text, (0.3, places[network, "abs"] + 0.5), fontsize="small", va="center")


def draw_positions(axes, table: pd.DataFrame) -> None:
    axes.set_xlim(0, 1.2 * table["size"].max())
    names = []
    for y, row in enumerate(table.itertuples()):
        special = json.loads(row.special_layers)
        layers = f" {', '.join(map(str, special))}" if special else ""
        names.append(f"{row.structure.replace('_', ' ')}{layers} (RF {row.rf:.0f})")
        draw_interval(axes, row.size, row.low, row.high, y, color=COLOURS[row.series], marker=MARKERS[row.series])
        axes.plot([row.theory_size], [y], **THEORY)
    axes.set_yticks(range(len(table)), labels=names, fontsize="small")
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
    draw_guides(axes, "size")
    first = samples.iloc[0]
    layers, channels = first["depths"].replace("-", "–"), samples["width"].unique()
    thin = counted(channels[0]) if len(channels) == 1 else "the networks"
    axes.set_yticks(range(len(names)), labels=names, fontsize="small")
    axes.set(
        ylim=(len(names) - 0.5, -0.5),
        xlabel=f"slope of the size, {layers} layers\nof {thin}, {samples['sample'].max() + 1} experiments",
    )


def with_run_means(sizes: pd.DataFrame) -> pd.DataFrame:
    """Rows for the variant "per run" beside those for "abs", which have its sizes."""
    several = sizes[(sizes["variant"] == "abs") & (sizes["runs"] > 1)]
    columns = {"mean_run_size": "size", "mean_run_low": "low", "mean_run_high": "high"}
    return pd.concat([sizes, several.drop(columns=columns.values()).rename(columns=columns).assign(variant="per run")])


def tabulate(slopes: pd.DataFrame, sizes: pd.DataFrame, positions: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """One row per point of the figure."""
    shown = [slopes.rename(columns={"slope": "value"}).assign(panel="slopes")]
    for panel, table in (("sizes", sizes), ("positions", positions)):
        names = {"series": "weights", "size": "value", "theory_size": "theory", "depth": "depths"}
        shown.append(table.rename(columns=names).assign(panel=panel, quantity="size"))
    shown.append(samples.rename(columns={"size": "value"}).assign(panel="samples", quantity="size"))
    columns = [
        "panel",
        "network",
        "weights",
        "width",
        "reading",
        "special_layers",
        "variant",
        "range",
        "depths",
        "sample",
        "quantity",
    ]
    return pd.concat(shown)[[*columns, "value", "low", "high", "theory", "runs", "dead", "most_left_out"]]


def draw(slopes: pd.DataFrame, variants: pd.DataFrame, positions: pd.DataFrame, samples: pd.DataFrame):
    depths = sorted(variants["depth"].unique())
    sizes = variants[variants["depth"] == min((d for d in depths if d >= SHOWN_DEPTH), default=depths[-1])]
    places, headings = row_places(slopes)
    sizes = with_run_means(sizes)
    figure = plt.figure(figsize=(WIDTH, 9.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[4.6, 1])
    panels = above.subplots(1, 3, sharey=True, width_ratios=[0.9, 1, 1])
    draw_sizes(panels[0], sizes, places)
    draw_dead(panels[0], variants, places)
    for panel, quantity in zip(panels[1:], SLOPES, strict=True):
        draw_slopes(panel, slopes, places, quantity)
    panels[0].set_yticks(list(places.values()), labels=[label(variant) for _, variant in places], fontsize="small")
    panels[0].set_ylim(max(places.values()) + 0.8, -0.6)
    for y, text in headings.items():
        options = {"xycoords": ("axes fraction", "data"), "xytext": (4, 0), "textcoords": "offset points"}
        heading = panels[0].annotate(text, (0, y), **options, fontsize="small", weight="bold", va="center")
        heading.set_in_layout(False)  # it may run into the next panel, which is empty there
    ranges = [name.replace("-", "–") + " layers" for name in slopes["range"].unique()]
    points = {"marker": "o", "color": "0.3", "markersize": 3, "linestyle": ""}
    handles = [
        Line2D([], [], **points, mfc="white" if index else "0.3", label=name) for index, name in enumerate(ranges)
    ]
    handles += [Line2D([], [], color="0.3", linewidth=0.8, label="95 %")]
    handles += [Line2D([], [], **THEORY, label="theory, no activation")]
    guides = zip(("the paper's slope", "limit, ±0.5"), SLOPE_LINES, strict=True)
    handles += [Line2D([], [], color="0.6", linestyle=dashes, label=name) for name, dashes in guides]
    above.legend(handles=handles, loc="outside upper center", ncols=len(handles), columnspacing=1, handletextpad=0.4)
    elsewhere, repeated = below.subplots(1, 2)
    draw_positions(elsewhere, positions)
    draw_samples(repeated, samples)
    return figure, tabulate(slopes, sizes, positions, samples)


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
    first = samples[samples["depths"] == samples["depths"].iloc[0]]  # slope_pair has all ranges of depths
    save(*draw(slopes, variants, positions[positions["variant"] == "abs"], first), args.out)


if __name__ == "__main__":
    sys.exit(main())
