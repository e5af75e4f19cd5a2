"""Figure: the ERF is Gaussian.

Impact maps of plain stacks at several depths with uniform weights, random weights, and random weights with ReLU; below
them the cross-sections through the unit, beside the Gaussian that theory predicts.

Reads results of measure_network; takes seconds.
"""

import sys

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from erf.result.field import ReceptiveField
from erf.theory import gaussian_map
from replication.commands.cli import command, figure_arguments
from replication.drawing.plots import (
    COLOURS,
    MARKERS,
    THEORY_LINES,
    WIDTH,
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
from replication.stacks.predictions import predicted_sigma, series_name


def draw(fields: list[ReceptiveField]):
    panels = {(f.settings["depth"], series_name(f.settings)): f for f in fields}
    depths = sorted({depth for depth, _ in panels})
    series = list(dict.fromkeys(name for _, name in panels))
    figure, axes = plt.subplots(
        len(series) + 1, len(depths), figsize=(WIDTH, 1.95 * (len(series) + 1)), squeeze=False, layout="constrained"
    )
    tables, highest = [], 1.0
    for (depth, name), field in panels.items():
        column, row = depths.index(depth), series.index(name)
        fit, sigma = field.fit_gaussian(), predicted_sigma(field.settings)
        relative = relative_map(field, fit)
        predicted = gaussian_map(sigma, relative.shape, field.position)
        image = draw_map(axes[row, column], relative, field.position)
        radius = relative.shape[0] // 2
        axes[row, column].set(xticks=[-radius, 0, radius], yticks=[])
        axes[row, column].set_xlabel(shape_label(field, fit), labelpad=1, fontsize="small")
        middle = round(field.position[0])
        highest = max(highest, relative[middle].max())
        offset = np.arange(relative.shape[1]) - field.position[1]
        below = axes[-1, column]
        hollow = {"markerfacecolor": "white" if row else COLOURS[name], "markeredgewidth": 0.6}  # or one hides another
        style = {"color": COLOURS[name], "markersize": 3, "linestyle": "", **hollow}
        below.plot(offset, relative[middle], MARKERS[name], **style, label=name)
        if name in THEORY_LINES:
            fine = np.linspace(-radius, radius, 400)
            curve = np.exp(-(fine**2) / (2 * sigma[1] ** 2))
            below.plot(
                fine, curve, color="0.2", linewidth=0.8, zorder=0, label=f"theory, {name}", linestyle=THEORY_LINES[name]
            )
        table = map_table(relative, field.position, series=name, depth=depth, runs=field.settings["runs"])
        tables.append(table.assign(theory=predicted.ravel(), dead=field.dead, gaussian_r2=fit.r2))
    for column, depth in enumerate(depths):
        shown = [field for (other, _), field in panels.items() if other == depth]
        side = shown[0].map.shape[0]
        axes[0, column].set_title(f"{depth} layers, RF {side} px")
        reach = min((side - 1) / 2, 3.3 * max(predicted_sigma(field.settings)[1] for field in shown))
        axes[-1, column].set(xlim=(-reach - 0.5, reach + 0.5), ylim=(0, 1.05 * highest), xlabel="pixels from the unit")
    for row, name in enumerate(series):
        runs = sorted({field.settings["runs"] for (_, other), field in panels.items() if other == name})
        axes[row, 0].set_ylabel(f"{name}\n{' or '.join(map(str, runs))} run{'s' if runs[-1] > 1 else ''}")
    axes[-1, 0].set_ylabel("section / fitted peak")
    for other in axes[-1, 1:]:
        other.set_yticklabels([])
    handles, labels = axes[-1, 0].get_legend_handles_labels()
    bound, name = on_map("bound of the ERF", color="white", linewidth=0.8)
    figure.legend([*handles, bound], [*labels, name], loc="outside lower center", ncols=len(labels) + 1)
    letter(*axes[:, 0])
    figure.colorbar(image, ax=axes[:-1], label="impact relative to the fitted peak", shrink=0.6, aspect=30)
    return figure, pd.concat(tables)


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, "depths of the maps", fields="results of measure_network, .npz")
    use_style()
    save(*draw(drawn_fields(args.fields, args.settings["depths"])), args.out)


if __name__ == "__main__":
    sys.exit(main())
