"""Figure: the ERF before and after training.

One row a training: an image that the network sees, with the square of the theoretical receptive field and the contours
that bound the ERF; the unit's map before training and at the last epoch, each the mean over seeds of maps
relative to their peaks, with its contour, which is smoothed on large maps. The table has a row with the numbers of each
map, and then the map, a large one as the means of blocks of 4 x 4 pixels.

Reads results of measure_snapshots and the datasets; takes seconds.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from erf.errors import InputError
from erf.result.field import ReceptiveField, load_fields
from erf.result.intervals import mean_interval
from replication.commands.cli import command, figure_arguments
from replication.datasets.table import DATASETS
from replication.drawing.labels import over_seeds, training_title
from replication.drawing.plots import (
    AFTER,
    LARGE,
    WIDTH,
    draw_contour,
    draw_image,
    draw_map,
    letter,
    map_table,
    on_map,
    relative_map,
    save,
    smoothing,
    use_style,
)
from replication.training.images import load_splits

STAGES = {"before": ("before training", "white"), "after": ("after training", AFTER)}  # as contours
BLOCK = 4  # pixels: side of the blocks that a large map's table has
Stages = dict[str, list[ReceptiveField]]


def read_fields(paths: list[Path]) -> dict[str, Stages]:
    """Fields of all seeds by training and stage; a path is .../<training>/seed_<seed>.npz."""
    fields: dict[str, Stages] = {}
    for path in paths:
        epochs = sorted(
            (field for field in load_fields(path) if field.settings["snapshot"] != "best"),
            key=lambda field: field.settings["epoch"],
        )
        if len(epochs) < 2 or epochs[0].settings["epoch"]:
            raise InputError(f"{path}: has no snapshots of epoch 0 and of a later one; delete it and run again")
        stages = fields.setdefault(path.parent.name, {stage: [] for stage in STAGES})
        stages["before"].append(epochs[0])
        stages["after"].append(epochs[-1])
    return fields


def read_images(paths: list[Path], fields: dict[str, Stages]) -> dict[str, np.ndarray]:
    """The first validation image (H, W, 3) of each training's first seed; a path is .../<dataset>.npz."""
    images = {}
    for name, stages in fields.items():
        settings = stages["after"][0].settings
        (path,) = (path for path in paths if path.stem == settings["training"]["dataset"])
        splits = load_splits(path, DATASETS[path.stem], settings["training"])
        images[name] = splits["validation"].images[0].permute(1, 2, 0).numpy()
    return images


def draw(fields: dict[str, Stages], images: dict[str, np.ndarray]):
    size = (WIDTH, 2.25 * len(fields) + 0.7)
    figure, axes = plt.subplots(len(fields), 3, figsize=size, squeeze=False, layout="constrained")
    tables = []
    for panels, (training, stages) in zip(axes, fields.items(), strict=True):
        means = {stage: mean_map(group) for stage, group in stages.items()}
        draw_plane(panels[0], images[training], means, stages["after"][0])
        dataset = stages["after"][0].settings["training"]["dataset"]
        panels[0].set_ylabel(training_title(training, dataset, len(stages["after"])).replace(" (", "\n("))
        panels[0].text(0.04, 0.04, DATASETS[dataset].credit, transform=panels[0].transAxes, fontsize=5, color="0.3")
        for panel, (stage, group) in zip(panels[1:], stages.items(), strict=True):
            shown = draw_map(panel, means[stage], group[0].position, smoothing(means[stage]), STAGES[stage][1])
            diameter = mean_interval([field.diameter for field in group])
            panel.set_title(STAGES[stage][0])
            clipped = ", clipped" if any(field.clipped for field in group) else ""
            panel.set_xlabel(f"ERF diameter\n{over_seeds(diameter, len(group))} px{clipped}")
            labels = {"training": training, "stage": stage, "seeds": len(group)}
            numbers = {"theoretical_rf": group[0].theoretical_rf[0]}
            numbers |= dict(zip(("diameter", "low", "high"), diameter, strict=True))
            tables.append(pd.DataFrame([{**labels, **numbers}]))
            tables.append(table_of(means[stage], group[0].position, **labels))
    label = "impact relative to the fitted Gaussian's peak"
    figure.colorbar(shown, ax=axes, label=label, shrink=0.8, aspect=30, extend="max")
    handles = [
        *(on_map(f"bound of the ERF {name}", color=colour) for name, colour in STAGES.values()),
        (plt.Line2D([], [], color="0.2", linestyle="--"), "theoretical receptive field"),
    ]
    letter(*axes.ravel())
    title = "axes: pixels from where the unit looks; bounds are smoothed"
    figure.legend(*zip(*handles, strict=True), loc="outside lower center", ncols=3, title=title)
    return figure, pd.concat(tables)


def mean_map(fields: list[ReceptiveField]) -> np.ndarray:
    """Mean over seeds of maps (H, W) relative to their peaks."""
    return np.mean([relative_map(field, field.fit_gaussian()) for field in fields], 0)


def table_of(impact: np.ndarray, position: tuple[float, float], **labels) -> pd.DataFrame:
    """As `map_table`; a large map as the means of its blocks of 4 x 4 pixels."""
    if impact.shape[0] < LARGE or any(side % BLOCK for side in impact.shape):
        return map_table(impact, position, **labels)
    height, width = (side // BLOCK for side in impact.shape)
    blocks = impact.reshape(height, BLOCK, width, BLOCK).mean((1, 3))
    table = map_table(blocks, tuple((centre - (BLOCK - 1) / 2) / BLOCK for centre in position), **labels)
    table[["row", "column"]] *= BLOCK
    return table


def draw_plane(axes: Axes, image: np.ndarray, means: dict[str, np.ndarray], field: ReceptiveField) -> None:
    """The image, with all that a unit could see and what it does see."""
    draw_image(axes, image, field.position)
    for stage, mean in means.items():
        options = {
            "colors": [STAGES[stage][1]],
            "linewidths": 1.2,
            "path_effects": [withStroke(linewidth=2.2, foreground="black")],
        }
        draw_contour(axes, mean, field.position, smoothing(mean), **options)
    height, width = field.theoretical_rf
    corner = (-width / 2, -height / 2)
    axes.add_patch(Rectangle(corner, width, height, fill=False, color="0.2", linestyle="--", linewidth=0.8))
    margin = 1.04
    rows, columns = image.shape[0] - field.position[0], image.shape[1] - field.position[1]
    across, down = margin * max(width / 2, columns), margin * max(height / 2, rows)
    axes.set(xlim=(-across, across), ylim=(down, -down))
    axes.set_title(f"image of {image.shape[1]} by {image.shape[0]} px")
    axes.set_xlabel(f"theoretical receptive\nfield {height:.0f} px")


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(
        __doc__,
        argv,
        fields="results of measure_snapshots, one a seed, .npz",
        data="arrays of the trainings' datasets, .npz, for the images shown",
    )
    fields = read_fields(args.fields)
    use_style()
    save(*draw(fields, read_images(args.data, fields)), args.out)


if __name__ == "__main__":
    sys.exit(main())
