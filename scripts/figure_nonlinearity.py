"""Figure: nonlinear activations leave the ERF near-Gaussian.

Impact maps of random stacks of one depth with several activations, and their cross-sections beside the Gaussian that
theory predicts for the network without an activation; and each one's ERF size as a multiple of the linear network's,
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
    draw_map,
    drawn_fields,
    error_bars,
    map_table,
    relative_map,
    save,
    shape_label,
    use_style,
)
from replication.stacks.predictions import predicted_fit, predicted_map, predicted_sigma, predicted_size, series_name
from replication.statistics.ratios import size_ratio


def cross_section(relative: np.ndarray) -> np.ndarray:
    """Mean of the four half-lines through the unit, mirrored: less noise, and the expected map is symmetric."""
    middle = len(relative) // 2
    row, column = relative[middle], relative[:, middle]
    return (row + row[::-1] + column + column[::-1]) / 4


def sizes_table(fields: list[ReceptiveField]) -> pd.DataFrame:
    """One row per activation: its size, and its ratio to that of the network without an activation, if there is one."""
    linear = next((field for field in fields if field.settings["activation"] == "none"), None)
    rows = []
    for field in fields:
        row = {"series": series_name(field.settings), "runs": field.settings["runs"], "dead": field.dead}
        row |= {"size": field.size, "size_low": field.interval[0], "size_high": field.interval[1]}
        row |= {
            "theory_size": predicted_size(field.settings),
            "ratio": np.nan,
            "ratio_low": np.nan,
            "ratio_high": np.nan,
        }
        if linear:
            row["ratio"], row["ratio_low"], row["ratio_high"] = size_ratio(field, linear)
        rows.append(row)
    return pd.DataFrame(rows)


def draw_sizes(axes, table: pd.DataFrame) -> None:
    """Sizes, one line an activation, beside theory's without an activation; the ratios in words."""
    places = np.arange(len(table))[::-1]
    for row, place in zip(table.itertuples(), places, strict=True):
        errors = error_bars(*(pd.Series([value]) for value in (row.size, row.size_low, row.size_high)))
        axes.errorbar(row.size, place, xerr=errors, fmt=MARKERS[row.series], color=COLOURS[row.series], capsize=2)
        ratio = f"; {with_interval(row.ratio, row.ratio_low, row.ratio_high, 3)} of linear" if row.ratio != 1 else ""
        text = f"{with_interval(row.size, row.size_low, row.size_high, 2)} px{'' if np.isnan(row.ratio) else ratio}"
        axes.annotate(text, (1.02, place), xycoords=("axes fraction", "data"), fontsize="small", va="center")
    axes.axvline(table["theory_size"].iloc[0], color="0.3", linestyle=":", linewidth=0.9, zorder=0)
    names = [name.removeprefix("random + ").replace("random", "no activation") for name in table["series"]]
    axes.set_yticks(places, labels=names)
    axes.set(xlabel="ERF size (pixels); dotted: theory, no activation", ylim=(-0.6, len(table) - 0.4))


def draw(fields: list[ReceptiveField]):
    figure = plt.figure(figsize=(WIDTH, 5.8), layout="constrained")
    maps, curves, sizes = figure.subfigures(3, 1, height_ratios=[1, 1.1, 0.85])
    panels = maps.subplots(1, len(fields), squeeze=False)[0]
    linear, logarithmic, difference = curves.subplots(1, 3)
    settings, tables = fields[0].settings, []
    radius = len(fields[0].map) // 2
    offset, limit = np.arange(-radius, radius + 1), predicted_sigma(settings)[1]
    exact = predicted_map(settings)[radius] / predicted_fit(settings).peak  # as the measured ones: over the fitted peak
    gaussian = np.exp(-(offset**2) / (2 * limit**2))
    for panel, field in zip(panels, fields, strict=True):
        fit, name = field.fit_gaussian(), series_name(field.settings)
        short = name.removeprefix("random + ").replace("random", "no activation")
        relative = relative_map(field, fit)
        image = draw_map(panel, relative, field.position)
        panel.set(xticks=[-radius, 0, radius], yticks=[], title=short)
        panel.set_xlabel(shape_label(field, fit), labelpad=1, fontsize="small")
        cross = cross_section(relative)
        for axes, values in ((linear, cross), (logarithmic, cross), (difference, cross - exact)):
            axes.plot(offset, values, color=COLOURS[name], label=short)
        tables.append(map_table(relative, field.position, series=name, runs=field.settings["runs"], dead=field.dead))
    for axes in (linear, logarithmic):
        axes.plot(offset, exact, color="black", linewidth=0.9, linestyle=":", label="theory, exact")
        axes.plot(offset, gaussian, color="0.2", linewidth=0.9, linestyle="--", label="theory, limit")
    difference.plot(offset, gaussian - exact, color="0.2", linewidth=0.9, linestyle="--")
    difference.axhline(0, color="black", linewidth=0.9, linestyle=":")
    for axes in (linear, logarithmic, difference):
        axes.set(xlabel="pixels from the unit", xlim=(-radius, radius))
    linear.set(ylabel="cross-section", ylim=(0, None))
    logarithmic.set(yscale="log", ylim=(3e-4, 1.5), ylabel="the same, logarithmic")
    difference.set(ylabel="the same, less exact theory")
    handles, labels = linear.get_legend_handles_labels()
    curves.legend(handles, labels, loc="outside lower center", ncols=len(labels), columnspacing=1, handlelength=1.5)
    maps.colorbar(image, ax=panels, label="impact / peak", shrink=0.6, aspect=12)
    maps.suptitle(f"{settings['depth']} layers, RF {len(fields[0].map)} px, {settings['runs']} runs", fontsize="medium")
    table = sizes_table(fields)
    draw_sizes(sizes.subplots(), table)
    theory = pd.DataFrame({"series": "theory", "row": 0, "column": offset, "impact": exact})
    return figure, pd.concat([table, *tables, theory.assign(gaussian=gaussian)])


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, fields="results of measure_network, .npz")
    use_style()
    save(*draw(drawn_fields(args.fields)), args.out)


if __name__ == "__main__":
    sys.exit(main())
