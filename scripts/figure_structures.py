"""Figure: subsampling and dilation enlarge the ERF, skip connections shrink it, dropout leaves it as it is.

Impact maps, with theory's sigma ellipse and the outline of the plain stack's ERF over each; and each structure's ERF
size as a multiple of the plain stack's, with 95 % bootstrap intervals over runs, beside theory's.

Reads results of measure_network; takes seconds.
"""

import sys

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse

from erf.errors import InputError
from erf.result.field import ReceptiveField
from replication.commands.cli import command, figure_arguments
from replication.drawing.labels import with_interval
from replication.drawing.plots import (
    COLOURS,
    MARKERS,
    WIDTH,
    beside,
    beside_rows,
    draw_contour,
    draw_map,
    drawn_fields,
    error_bars,
    letter,
    on_map,
    relative_map,
    save,
    shape_label,
    use_style,
)
from replication.stacks.predictions import predicted_fit, predicted_sigma, predicted_size, series_name
from replication.statistics.ratios import size_ratio

PLAIN = {"color": "#ff3030", "linestyle": (0, (1, 1)), "linewidth": 1.1}  # shows on the map's dark and bright ends
THEORY = {"color": "black", "linestyle": (0, (3, 2)), "linewidth": 1}


def tabulate(fields: list[ReceptiveField]) -> pd.DataFrame:
    """One row per network: its size, and its ratio to that of the plain network with the same activation."""
    plain = {f.settings["activation"]: f for f in fields if f.settings["structure"] == "plain"}
    if not plain.keys() >= {f.settings["activation"] for f in fields}:
        raise InputError("each activation needs a plain network to hold the others against")
    rows = []
    for field in fields:
        settings, base = field.settings, plain[field.settings["activation"]]
        ratio, low, high = size_ratio(field, base)
        fit, sigma = field.fit_gaussian(), predicted_sigma(settings)
        row = {"structure": settings["structure"], "series": series_name(settings), "rf": field.theoretical_rf[0]}
        row |= {"size": field.size, "size_low": field.interval[0], "size_high": field.interval[1]}
        row |= {"theory_size": predicted_size(settings), "ratio": ratio, "ratio_low": low, "ratio_high": high}
        row |= {"theory_ratio": predicted_size(settings) / predicted_size(base.settings)}
        row |= {"fit_sigma": np.mean(fit.sigma), "theory_fit_sigma": np.mean(predicted_fit(settings).sigma)}
        row |= {"limit_sigma": np.mean(sigma), "gaussian_r2": fit.r2}
        row |= {"excess_kurtosis": np.mean(field.kurtosis), "clipped": field.clipped}
        rows.append(row | {"runs": settings["runs"], "dead": field.dead})
    return pd.DataFrame(rows)


def draw_structure(axes, field: ReceptiveField, plain: ReceptiveField):
    """The map over the whole receptive field, theory's ellipse at one sigma, and where the plain stack's ERF ends."""
    fit, (rows, columns) = field.fit_gaussian(), predicted_fit(field.settings).sigma
    image = draw_map(axes, relative_map(field, fit), field.position)
    ellipse = {"fill": False, "edgecolor": THEORY["color"], "linestyle": THEORY["linestyle"], "linewidth": 1}
    axes.add_patch(Ellipse((0, 0), 2 * columns, 2 * rows, **ellipse))
    if field is not plain:
        style = {"colors": PLAIN["color"], "linewidths": PLAIN["linewidth"], "linestyles": [PLAIN["linestyle"]]}
        draw_contour(axes, plain.map, plain.position, **style)
    radius = int(field.theoretical_rf[0]) // 2
    axes.set(xticks=[-radius, 0, radius], yticks=[])
    axes.set_title(f"{field.settings['structure'].replace('_', ' ')}, RF {field.theoretical_rf[0]:.0f} px")
    measured = f"fitted σ {np.mean(fit.sigma):.2f} px, theory {np.mean(predicted_fit(field.settings).sigma):.2f}"
    axes.set_xlabel(f"{measured}\n{shape_label(field, fit)}", labelpad=1, fontsize="small")
    return image


def draw_ratios(axes, table: pd.DataFrame) -> None:
    """Ratios to the plain stack, one row a structure, one colour an activation."""
    structures = [name for name in table["structure"].unique() if name != "plain"]
    places = {name: index for index, name in enumerate(structures)}
    series, texts = list(table["series"].unique()), {}
    for index, name in enumerate(series):
        here = table[(table["series"] == name) & (table["structure"] != "plain")]
        y = here["structure"].map(places) + beside(index, len(series), 0.4)
        errors = error_bars(here["ratio"], here["ratio_low"], here["ratio_high"])
        style = {"marker": MARKERS[name], "color": COLOURS[name], "linestyle": "", "elinewidth": 0.8}
        axes.errorbar(here["ratio"], y, xerr=errors, **style, label=name)
        intervals = zip(here["ratio"], here["ratio_low"], here["ratio_high"], strict=True)
        texts |= {place: with_interval(*found, 3) for place, found in zip(y, intervals, strict=True)}
    beside_rows(axes, "ratio [95 %]", texts)
    theory = table[table["structure"] != "plain"].drop_duplicates("structure")  # the same for all activations
    lines = {"colors": "0.25", "linewidth": 1, "zorder": 0, "label": "theory, no activation"}
    y = theory["structure"].map(places)
    axes.vlines(theory["theory_ratio"], y - 0.4, y + 0.4, **lines)
    axes.axvline(1, color="0.6", linewidth=0.8)
    axes.set(xscale="log", xlabel="ERF size / ERF size of the plain stack", ylim=(len(structures) - 0.4, -0.6))
    ticks = [
        tick for tick in (0.25, 0.5, 0.7, 1, 1.5, 2, 3, 4, 6, 8) if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]
    ]
    axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks(list(places.values()), labels=[name.replace("_", " ") for name in places])
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=len(series) + 1)


def draw(fields: list[ReceptiveField]):
    table = tabulate(fields)
    shown = [field for field in fields if field.settings["activation"] == fields[0].settings["activation"]]
    plain = next(field for field in shown if field.settings["structure"] == "plain")
    columns = 3
    lines = -(-len(shown) // columns)
    heights = [2.3 * lines + 0.4, 2.4]
    figure = plt.figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    maps, ratios = figure.subfigures(2, 1, height_ratios=heights)
    panels = maps.subplots(lines, columns, squeeze=False).ravel()
    for panel, field in zip(panels, shown, strict=False):
        image = draw_structure(panel, field, plain)
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    maps.colorbar(image, ax=panels, label="impact relative to the fitted peak", shrink=0.6, aspect=30)
    outlines = [
        on_map("bound of the ERF", color="white", linewidth=0.8),
        on_map("bound of the plain stack's ERF", **PLAIN),
        (Line2D([], [], **THEORY), "theory, one σ"),
    ]
    settings = shown[0].settings
    title = f"{settings['depth']} layers, {series_name(settings)}, {settings['runs']} runs"
    maps.legend(*zip(*outlines, strict=True), title=title, loc="outside lower center", ncols=3)
    below = ratios.subplots()
    draw_ratios(below, table)
    letter(panels[0], below)
    return figure, table


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, fields="results of measure_network, .npz")
    use_style()
    save(*draw(drawn_fields(args.fields)), args.out)


if __name__ == "__main__":
    sys.exit(main())
