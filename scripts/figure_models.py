"""Figure: models compared. Impact maps on one scale, with the bound of the ERF and, where it fits, the theoretical
receptive field; and ERF sizes beside the theoretical ones. Hollow markers are cut off by either or by the image.

Reads results of measure_model; takes seconds.
"""

import sys

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullLocator

from erf.result.field import ReceptiveField, load_fields
from replication.commands.cli import command, figure_arguments
from replication.drawing.plots import (
    SCORE,
    WIDTH,
    draw_hollow,
    draw_map,
    error_bars,
    letter,
    on_map,
    relative_map,
    save,
    smoothing,
    use_style,
)

COLUMNS = (4, 6)  # maps side by side, at least and at most
SHOWN = ["size", "low", "high", "clipped", "rf_height", "rf_width", "ratio", "height", "width", "row", "column"]
SHOWN += ["images", "dead"]
RF_COLOUR = "#ff3030"  # shows on the map's dark and bright ends
FRAME = {"linestyle": "--", "linewidth": 0.8}


def tabulate(fields: list[ReceptiveField]) -> pd.DataFrame:
    """One row a model; lengths in pixels, infinite where the theoretical field is the whole image, or unknown."""
    rows = []
    for field in fields:
        numbers, model = field.summary(), field.settings["model"]
        labels = {"model": field.settings["name"], "weights": model["weights"], "layer": model["layer"]}
        rows.append(labels | {name: numbers[name] for name in SHOWN})
    return pd.DataFrame(rows)


def draw_model(axes: Axes, field: ReceptiveField, side: float):
    """The map, in the middle of a panel of `side` pixels; where the unit looks is marked."""
    relative = relative_map(field, field.fit_gaussian())
    image = draw_map(axes, relative, field.position, min(smoothing(relative), field.size / 50))
    axes.plot(0, 0, "+", color=RF_COLOUR, markersize=4, markeredgewidth=0.7)
    height, width = field.theoretical_rf
    if max(height, width) <= side:
        frame = {"fill": False, "edgecolor": RF_COLOUR, **FRAME}
        axes.add_patch(Rectangle((-width / 2, -height / 2), width, height, **frame))
    row, column = ((length - 1) / 2 - at for length, at in zip(field.map.shape, field.position, strict=True))
    axes.set(xlim=(column - side / 2, column + side / 2), ylim=(row + side / 2, row - side / 2), xticks=[], yticks=[])
    axes.set_title(field.settings["name"], fontsize="small", pad=2)
    return image


def draw_sizes(axes: Axes, table: pd.DataFrame) -> None:
    """One line a model, from top to bottom: its ERF size, and its theoretical receptive field."""
    places = np.arange(len(table))
    bars = error_bars(table["size"], table["low"], table["high"])
    axes.errorbar(table["size"], places, xerr=bars, fmt="o", color=SCORE, elinewidth=0.8, capsize=2, label="ERF size")
    clipped = table["clipped"].to_numpy(bool)
    draw_hollow(axes, table["size"][clipped], places[clipped], marker="o", color=SCORE)
    theoretical = np.sqrt(table["rf_height"] * table["rf_width"])
    finite = np.isfinite(theoretical)
    axes.plot(theoretical[finite], places[finite], "|", color="0.2", markersize=8, markeredgewidth=1.4)
    for place in places[~finite]:
        options = {"xycoords": ("axes fraction", "data"), "va": "center", "ha": "right", "color": "0.2"}
        axes.annotate("∞", (1, place), **options)
    sides = np.sqrt(table["height"] * table["width"])
    for side in sorted(set(sides)):
        axes.axvline(side, color="0.6", linewidth=0.7, linestyle=":", zorder=0)
    axes.grid(axis="y", color="0.92", linewidth=0.6)
    axes.set(xscale="log", xlabel="pixels", yticks=places, yticklabels=table["model"])
    lengths = [*table["size"].dropna(), *theoretical[finite], *sides]
    axes.set(xlim=(min(lengths) / 1.4, max(lengths) * 1.6), ylim=(len(table) - 0.4, -0.6))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.set_minor_locator(NullLocator())


def legend() -> list[Line2D]:
    """What the markers stand for."""
    theoretical = "theoretical receptive field (∞: the image, or unknown)"
    return [
        Line2D([], [], marker="o", color=SCORE, linewidth=0.8, label="ERF size"),
        Line2D([], [], marker="o", color=SCORE, linestyle="none", markerfacecolor="white", label="cut off"),
        Line2D([], [], marker="|", color="0.2", linestyle="none", markersize=8, markeredgewidth=1.4, label=theoretical),
        Line2D([], [], color="0.6", linewidth=0.7, linestyle=":", label="side of the image"),
    ]


def draw(fields: list[ReceptiveField]):
    table = tabulate(fields)
    columns = min(max(COLUMNS[0], len(fields)), COLUMNS[1])
    lines = -(-len(fields) // columns)
    heights = [(5.6 / columns + 0.2) * lines + 0.4, 0.17 * len(fields) + 1]
    figure = plt.figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    maps, sizes = figure.subfigures(2, 1, height_ratios=heights)
    panels = maps.subplots(lines, columns, squeeze=False).ravel()
    side = max(max(field.map.shape) for field in fields)
    for panel, field in zip(panels, fields, strict=False):
        image = draw_model(panel, field, side)
    for panel in panels[len(fields) :]:
        panel.set_axis_off()
    maps.colorbar(image, ax=panels, label="impact relative to\nthe fitted peak", shrink=0.8, aspect=20, extend="max")
    handles = [
        on_map("bound of the ERF", color="white", linewidth=0.8),
        on_map("theoretical receptive field", color=RF_COLOUR, **FRAME),
        on_map("where the unit looks", color=RF_COLOUR, marker="+", linestyle="", markersize=5),
    ]
    maps.legend(*zip(*handles, strict=True), loc="outside lower center", ncols=3)
    below = sizes.subplots()
    draw_sizes(below, table)
    letter(panels[0], below)
    sizes.legend(handles=legend(), loc="outside lower center", ncols=len(legend()))
    return figure, table


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, fields="results of measure_model, .npz")
    use_style()
    save(*draw([field for path in args.fields for field in load_fields(path)]), args.out)


if __name__ == "__main__":
    sys.exit(main())
