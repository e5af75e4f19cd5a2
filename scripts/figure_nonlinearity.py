"""Figure: nonlinear activations leave the ERF near-Gaussian.

Impact maps of random stacks of one depth with several activations, and their cross-sections beside the Gaussian that
theory predicts for the network without an activation.
"""

import sys

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from cli import command, figure_arguments
from erf.field import ReceptiveField, load_fields
from erf.plots import COLOURS, WIDTH, draw_map, map_table, relative_map, save, shape_label, use_style
from erf.stacks import predicted_map, predicted_sigma, series_name


def cross_section(relative: np.ndarray) -> np.ndarray:
    """Mean of the four half-lines through the unit, mirrored: less noise, and the expected map is symmetric."""
    middle = len(relative) // 2
    row, column = relative[middle], relative[:, middle]
    return (row + row[::-1] + column + column[::-1]) / 4


def draw(fields: list[ReceptiveField]):
    figure = plt.figure(figsize=(WIDTH, 4.2), layout="constrained")
    maps, curves = figure.subfigures(2, 1, height_ratios=[0.95, 1.2])
    panels = maps.subplots(1, len(fields), squeeze=False)[0]
    linear, logarithmic = curves.subplots(1, 2)
    settings, tables = fields[0].settings, []
    for panel, field in zip(panels, fields, strict=True):
        fit, name = field.fit_gaussian(), series_name(field.settings)
        short = name.removeprefix("random + ").replace("random", "no activation")
        relative = relative_map(field, fit)
        image = draw_map(panel, relative, field.position)
        radius = len(relative) // 2
        panel.set(xticks=[-radius, 0, radius], yticks=[], title=short)
        panel.set_xlabel(shape_label(field, fit), labelpad=1, fontsize="small")
        for axes in (linear, logarithmic):
            axes.plot(np.arange(-radius, radius + 1), cross_section(relative), "-", color=COLOURS[name], label=short)
        tables.append(map_table(relative, field.position, series=name, runs=field.settings["runs"], dead=field.dead))
    offset, sigma = np.arange(-radius, radius + 1), predicted_sigma(settings)[1]
    exact = predicted_map(settings)[radius]
    gaussian = np.exp(-(offset**2) / (2 * sigma**2))
    for axes in (linear, logarithmic):
        axes.plot(offset, exact / exact.max(), color="black", linewidth=0.9, linestyle=":", label="theory, exact")
        axes.plot(offset, gaussian, color="0.2", linewidth=0.9, linestyle="--", label="theory, Gaussian")
        axes.set(xlabel="pixels from the unit", xlim=(-radius, radius))
    linear.set(ylabel="cross-section", ylim=(0, None))
    logarithmic.set(yscale="log", ylim=(3e-4, 1.5), ylabel="the same, logarithmic")
    handles, labels = linear.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), columnspacing=1, handlelength=1.5)
    maps.colorbar(image, ax=panels, label="impact / peak", shrink=0.6, aspect=12)
    theory = pd.DataFrame({"series": "theory", "row": 0, "column": offset, "impact": exact / exact.max()})
    return figure, pd.concat([*tables, theory.assign(gaussian=gaussian)])


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, fields="results of measure_network, .npz")
    use_style()
    fields = [field for path in args.fields for field in load_fields(path) if field.settings["reading"] == "abs"]
    save(*draw(fields), args.out)


if __name__ == "__main__":
    sys.exit(main())
