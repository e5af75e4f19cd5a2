"""Figure: the ERF is Gaussian.

Impact maps of plain stacks at several depths with uniform weights, random weights, and random weights with ReLU; below
them the cross-sections through the unit, beside the Gaussian that theory predicts.
"""

import sys

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from cli import command, figure_arguments
from erf.field import ReceptiveField
from erf.plots import SERIES, WIDTH, draw_map, map_table, relative_map, save, use_style
from erf.theory import gaussian_map, stack_sigma

LINES = {"uniform": "-", "random": "--"}  # of theory's curves


def predicted_sigma(settings: dict) -> float:
    """Theory's sigma (pixels): the uniform stack's, which a root of its map widens and a square narrows."""
    width = {("random", "abs"): np.sqrt(2), ("uniform", "square"): np.sqrt(0.5)}
    sigma = stack_sigma([(settings["kernel"], 1, 1)] * settings["depth"])
    return sigma * width.get((settings["weights"], settings["mode"]), 1)


def draw(fields: list[ReceptiveField]):
    panels = {(f.settings["depth"], (f.settings["weights"], f.settings["activation"])): f for f in fields}
    panels = dict(sorted(panels.items(), key=lambda item: list(SERIES).index(item[0][1])))  # the legend's order
    depths = sorted({depth for depth, _ in panels})
    series = [key for key in SERIES if any(key == other for _, other in panels)]
    figure, axes = plt.subplots(
        len(series) + 1, len(depths), figsize=(WIDTH, 1.72 * (len(series) + 1)), squeeze=False, layout="constrained"
    )
    tables = []
    for (depth, key), field in panels.items():
        column, row = depths.index(depth), series.index(key)
        fit, sigma = field.fit_gaussian(), predicted_sigma(field.settings)
        relative = relative_map(field, fit)
        predicted = gaussian_map(sigma, relative.shape, field.position)
        image = draw_map(axes[row, column], relative, field.position)
        radius = relative.shape[0] // 2
        axes[row, column].set(xticks=[-radius, 0, radius], yticks=[])
        axes[row, column].set_xlabel(f"ERF {field.size:.1f} px, R² {fit.r2:.3f}", labelpad=1)
        name, colour = SERIES[key]
        middle = round(field.position[0])
        offset = np.arange(relative.shape[1]) - field.position[1]
        below = axes[-1, column]
        below.plot(offset, relative[middle], "o", color=colour, markersize=2, label=name)
        if key[1] == "none":  # theory has no ReLU of its own
            fine = np.linspace(-radius, radius, 400)
            curve = np.exp(-(fine**2) / (2 * sigma**2))
            below.plot(
                fine, curve, color="0.2", linewidth=0.8, zorder=0, label=f"theory, {name}", linestyle=LINES[name]
            )
        table = map_table(relative, field.position, series=name, depth=depth)
        tables.append(table.assign(theory=predicted.ravel()))
    for column, depth in enumerate(depths):
        shown = [field for (other, _), field in panels.items() if other == depth]
        side = shown[0].map.shape[0]
        axes[0, column].set_title(f"{depth} layers, RF {side} px")
        reach = min((side - 1) / 2, 3.3 * max(predicted_sigma(field.settings) for field in shown))
        axes[-1, column].set(xlim=(-reach - 0.5, reach + 0.5), ylim=(0, 1.15), xlabel="pixels from the unit")
    for row, key in enumerate(series):
        axes[row, 0].set_ylabel(SERIES[key][0])
    axes[-1, 0].set_ylabel("cross-section")
    for other in axes[-1, 1:]:
        other.set_yticklabels([])
    handles, labels = axes[-1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), markerscale=1.5)
    figure.colorbar(image, ax=axes[:-1], label="impact relative to the peak", shrink=0.6, aspect=30)
    return figure, pd.concat(tables)


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, fields="results of measure_network, .npz")
    use_style()
    save(*draw([ReceptiveField.load(path) for path in args.fields]), args.out)


if __name__ == "__main__":
    sys.exit(main())
