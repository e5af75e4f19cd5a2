"""Tables of several trainings and seeds, read as one. A path is .../<training>/seed_<seed>..."""

from pathlib import Path

import pandas as pd

from replication.commands.cli import read_table


def read_sizes(paths: list[Path]) -> pd.DataFrame:
    """Tables of measure_snapshots, .../<training>/seed_<seed>.csv: their columns, and `training`."""
    columns = ("dataset", "residual_scale", "centre_light", "seed", "snapshot", "epoch", "size")
    return pd.concat(
        [read_table(path, *columns).assign(training=path.parent.name) for path in paths], ignore_index=True
    )


def read_metrics(paths: list[Path]) -> pd.DataFrame:
    """Tables of trainings, .../<training>/seed_<seed>/metrics.csv: `training`, `seed`, `epoch` and the validation
    split's `score`."""
    tables = [scored(labelled(path, "epoch", "validation_accuracy"), "validation") for path in paths]
    return pd.concat(tables, ignore_index=True)[["epoch", "seed", "training", "score"]]


def read_scores(paths: list[Path]) -> pd.DataFrame:
    """Tables of trainings, .../<training>/seed_<seed>/test.csv: their columns, `training`, `seed` and `score`."""
    return pd.concat([scored(labelled(path, "test_accuracy"), "test") for path in paths], ignore_index=True)


def scored(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """A table with the `score` of a split: its mean IoU, or its accuracy where there is none."""
    accuracy = table[f"{split}_accuracy"]
    return table.assign(score=table.get(f"{split}_mean_iou", accuracy).fillna(accuracy))


def labelled(path: Path, *columns: str) -> pd.DataFrame:
    """A table of a training, with the training and the seed that its path names."""
    seed = int(path.parent.name.removeprefix("seed_"))
    return read_table(path, *columns).assign(training=path.parent.parent.name, seed=seed)
