"""Names and numbers as figures, tables and reports print them."""

import numpy as np

from replication.datasets.table import DATASETS

ENOUGH_SEEDS = 3  # for an interval to be shown: between two, a t interval is 13 standard errors either way


def with_interval(value: float, low: float, high: float, digits: int = 1) -> str:
    """ "12.8 [12.5, 13.1]", or the value alone where nothing varied or one run says nothing about others."""
    interval = "" if np.isnan(low) or low == high else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{value:.{digits}f}{interval}".replace("-", "\N{MINUS SIGN}")


def over_seeds(mean: tuple[float, float, float], seeds: int, digits: int = 1) -> str:
    """A mean over seeds, as (mean, low, high), with its interval if the seeds are enough for one."""
    return with_interval(mean[0], *(mean[1:] if seeds >= ENOUGH_SEEDS else (np.nan, np.nan)), digits)


def counted(count: int, thing: str) -> str:
    """ "1 seed", "3 seeds"."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def training_title(training: str, dataset: str, seeds: int) -> str:
    """Heading of a training: its dataset, its own name where that differs, and how often it was run."""
    own = training.removeprefix(f"{dataset}_").replace("_", " ")
    name = "" if training == dataset else f" ({own})"
    return f"{DATASETS[dataset].title}{name}, {counted(seeds, 'seed')}"
