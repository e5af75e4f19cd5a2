"""Tables of several trainings and seeds, read as one. A path is .../<training>/seed_<seed>..."""

from pathlib import Path

import pandas as pd

from cli import read_table


def read_sizes(paths: list[Path]) -> pd.DataFrame:
    """Tables of measure_snapshots, .../<training>/seed_<seed>.csv: their columns, and `training`."""
    columns = ("dataset", "residual_scale", "centre_light", "seed", "snapshot", "epoch", "size")
    return pd.concat(
        [read_table(path, *columns).assign(training=path.parent.name) for path in paths], ignore_index=True
    )


def read_metrics(paths: list[Path]) -> pd.DataFrame:
    """Tables of trainings, .../<training>/seed_<seed>/metrics.csv: `training`, `seed`, `epoch` and `score`, the
    mean IoU of the validation split, or its accuracy where there is none."""
    tables = []
    for path in paths:
        table = labelled(path, "epoch", "validation_accuracy")
        score = table.get("validation_mean_iou", table["validation_accuracy"])
        tables.append(table[["epoch", "seed", "training"]].assign(score=score))
    return pd.concat(tables, ignore_index=True)


def read_scores(paths: list[Path]) -> pd.DataFrame:
    """Tables of trainings, .../<training>/seed_<seed>/test.csv: their columns, `training` and `seed`."""
    return pd.concat([labelled(path, "test_accuracy") for path in paths], ignore_index=True)


def labelled(path: Path, *columns: str) -> pd.DataFrame:
    """A table of a training, with the training and the seed that its path names."""
    seed = int(path.parent.name.removeprefix("seed_"))
    return read_table(path, *columns).assign(training=path.parent.parent.name, seed=seed)
