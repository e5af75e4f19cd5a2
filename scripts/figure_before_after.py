"""Figure: the ERF before and after training.

One row a training: an image that the network sees, its unit's map before training and at the best validation accuracy,
each the mean over seeds of maps relative to their peaks, with the contour that bounds the ERF.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from cli import command, figure_arguments
from erf.datasets import load_cifar10
from erf.field import ReceptiveField
from erf.intervals import mean_interval
from erf.plots import draw_image, draw_map, map_table, relative_map, save, use_style, with_interval

STAGES = {"epoch_000": "before training", "best": "after training"}


def read_fields(paths: list[Path]) -> dict[str, dict[str, list[ReceptiveField]]]:
    """Fields by training and stage; a path is .../<training>/seed_<seed>/<stage>.npz."""
    fields: dict[str, dict[str, list[ReceptiveField]]] = {}
    for path in paths:
        stages = fields.setdefault(path.parent.parent.name, {stage: [] for stage in STAGES})
        stages[path.stem].append(ReceptiveField.load(path))
    return fields


def draw(fields: dict[str, dict[str, list[ReceptiveField]]], image: np.ndarray):
    """`image` is uint8 (H, W, 3)."""
    figure, axes = plt.subplots(len(fields), 3, figsize=(5.6, 1.9 * len(fields)), squeeze=False, layout="constrained")
    tables = []
    for row, (training, stages) in enumerate(fields.items()):
        draw_image(axes[row, 0], image, stages["best"][0].position)
        axes[row, 0].plot(0, 0, "+", color="white", markersize=6)
        side = stages["best"][0].theoretical_rf[0]
        axes[row, 0].set_title(f"{training}: image of {image.shape[0]} px")
        axes[row, 0].set_xlabel(f"theoretical RF {side:.0f} px")
        for column, (stage, title) in enumerate(STAGES.items(), 1):
            group = stages[stage]
            relative = np.mean([relative_map(field, field.fit_gaussian()) for field in group], 0)
            shown = draw_map(axes[row, column], relative, group[0].position)
            size = mean_interval([field.size for field in group])
            axes[row, column].set_title(title)
            axes[row, column].set_xlabel(f"ERF {with_interval(*size)} px")
            table = map_table(relative, group[0].position, training=training, stage=stage, seeds=len(group))
            tables.append(table)
    ticks = [-(image.shape[0] // 2), 0, image.shape[0] // 2 - 1]
    for panel in axes.flat:
        panel.set(xticks=ticks, yticks=ticks)
    figure.colorbar(shown, ax=axes, label="impact relative to the peak", shrink=0.8, aspect=25)
    return figure, pd.concat(tables)


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(
        __doc__, argv, fields="results of measure_snapshots, .npz", data="CIFAR-10 arrays, .npz, for the image shown"
    )
    fields = read_fields(args.fields)
    settings = next(iter(fields.values()))["best"][0].settings
    validation = load_cifar10(args.data[0], settings["training"]["validation"], settings["seed"])["validation"]
    use_style()
    save(*draw(fields, validation.images[0].permute(1, 2, 0).numpy()), args.out)


if __name__ == "__main__":
    sys.exit(main())
