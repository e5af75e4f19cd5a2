"""Figure: nonlinear activations leave the ERF near-Gaussian.

Impact maps of random stacks of one depth with several activations; what is left of their sections when theory's exact
map of the network without an activation is subtracted; and by how much each one's ERF size differs from that network's,
with 95 % bootstrap intervals over runs.

Reads results of measure_network; takes seconds.
"""

import sys

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from erf.result.field import ReceptiveField
from replication.commands.cli import command, figure_arguments
from replication.drawing.labels import with_interval
from replication.drawing.plots import (
    COLOURS,
    MARKERS,
    WIDTH,
    beside_rows,
    draw_map,
    drawn_fields,
    letter,
    map_table,
    on_map,
    relative_map,
    save,
    shape_label,
    use_style,
)
from replication.stacks.predictions import predicted_fit, predicted_map, predicted_sigma, series_name
from replication.statistics.ratios import size_ratio


def cross_section(relative: np.ndarray) -> np.ndarray:
    """Mean of the four half-lines through the unit, mirrored: less noise, and the expected map is symmetric."""
    middle = len(relative) // 2
    row, column = relative[middle], relative[:, middle]
    return (row + row[::-1] + column + column[::-1]) / 4


def short_name(series: str) -> str:
    """The activation alone."""
    return series.removeprefix("random + ").replace("random", "no activation")


def sizes_table(fields: list[ReceptiveField]) -> pd.DataFrame:
    """One row per activation: its size, and its ratio to that of the network without an activation, if there is one."""
    linear = next((field for field in fields if field.settings["activation"] == "none"), None)
    rows = []
    for field in fields:
        row = {"series": series_name(field.settings), "runs": field.settings["runs"], "dead": field.dead}
        row |= {"size": field.size, "size_low": field.interval[0], "size_high": field.interval[1]}
        ratio = size_ratio(field, linear) if linear else (np.nan,) * 3
        rows.append(row | dict(zip(("ratio", "ratio_low", "ratio_high"), ratio, strict=True)))
    return pd.DataFrame(rows)


def draw_sections(panels, fields: list[ReceptiveField]) -> pd.DataFrame:
    """What is left of each map's section when the exact theory is subtracted, beside what is left of the Gaussian
    limit; one panel an activation. The table has a row for each distance."""
    settings = fields[0].settings
    radius = len(fields[0].map) // 2
    offset = np.arange(radius + 1)
    exact = predicted_map(settings)[radius, radius:] / predicted_fit(settings).peak  # over the fitted peak, as maps are
    limit = np.exp(-(offset**2) / (2 * predicted_sigma(settings)[1] ** 2)) - exact
    tables = []
    for panel, field in zip(panels, fields, strict=True):
        name = series_name(field.settings)
        left = cross_section(relative_map(field, field.fit_gaussian()))[radius:] - exact
        panel.axhline(0, color="0.6", linewidth=0.6)
        panel.plot(offset, limit, color="0.3", linewidth=0.8, linestyle="--")
        panel.plot(offset, left, color=COLOURS[name])
        panel.set(xlim=(0, radius), xlabel="pixels")
        columns = {"row": 0, "column": offset, "difference": left, "limit_difference": limit}
        tables.append(pd.DataFrame({"panel": "section", "series": name, **columns}))
    panels[0].set_ylabel("section less\nexact theory")
    return pd.concat(tables)


def draw_sizes(axes, table: pd.DataFrame) -> None:
    """By how much each size differs from that without an activation, one row an activation; the sizes beside them."""
    texts = {}
    for place, row in enumerate(table.itertuples()):
        value, low, high = (100 * (ratio - 1) for ratio in (row.ratio, row.ratio_low, row.ratio_high))
        if row.ratio != 1:  # of the network without an activation to itself
            axes.plot([low, high], [place] * 2, color=COLOURS[row.series], linewidth=0.8)
        axes.plot(value, place, MARKERS[row.series], color=COLOURS[row.series])
        texts[place] = with_interval(row.size, row.size_low, row.size_high, 2)
    beside_rows(axes, "ERF size, pixels [95 %]", texts)
    axes.axvline(0, color="0.6", linewidth=0.6, zorder=0)
    axes.set_yticks(range(len(table)), labels=map(short_name, table["series"]))
    axes.set(xlabel="difference of the ERF size from that without an activation (%)", ylim=(len(table) - 0.5, -0.5))


def draw(fields: list[ReceptiveField]):
    figure = plt.figure(figsize=(WIDTH, 5.0), layout="constrained")
    pictures, sizes = figure.subfigures(2, 1, height_ratios=[3.3, 1.7])
    maps, sections = pictures.subplots(2, len(fields), squeeze=False, sharey="row", height_ratios=[1, 0.8])
    settings, tables = fields[0].settings, []
    radius = len(fields[0].map) // 2
    for panel, field in zip(maps, fields, strict=True):
        fit, name = field.fit_gaussian(), series_name(field.settings)
        relative = relative_map(field, fit)
        image = draw_map(panel, relative, field.position)
        panel.set(xticks=[-radius, 0, radius], yticks=[], title=short_name(name))
        panel.set_xlabel(shape_label(field, fit), labelpad=1, fontsize="small")
        table = map_table(relative, field.position, series=name, runs=field.settings["runs"], dead=field.dead)
        tables.append(table.assign(panel="map"))
    tables.append(draw_sections(sections, fields))
    handles = [on_map("bound of the ERF", color="white", linewidth=0.8)]
    handles.append((plt.Line2D([], [], color="0.3", linewidth=0.8, linestyle="--"), "Gaussian limit less exact theory"))
    options = {"loc": "outside lower center", "ncols": 2}
    title = f"{settings['depth']} layers, RF {len(fields[0].map)} pixels, {settings['runs']} runs"
    pictures.legend(*zip(*handles, strict=True), title=title, **options)
    pictures.colorbar(image, ax=maps, label="impact / peak", shrink=0.8, aspect=12)
    table = sizes_table(fields)
    below = sizes.subplots()
    draw_sizes(below, table)
    letter(maps[0], sections[0], below)
    return figure, pd.concat([table.assign(panel="size"), *tables])


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, fields="results of measure_network, .npz")
    use_style()
    save(*draw(drawn_fields(args.fields)), args.out)


if __name__ == "__main__":
    sys.exit(main())
