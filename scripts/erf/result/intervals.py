"""Confidence intervals. NaN where the data do not allow one."""

import math

import numpy as np
from scipy.special import ndtr, stdtrit

LEVEL = 0.95


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of independent values (seeds) with its 95 % Student t interval: (mean, low, high)."""
    values = np.asarray(values, float)
    mean = float(values.mean()) if len(values) else np.nan
    if len(values) < 2:
        return mean, np.nan, np.nan
    error = values.std(ddof=1) / np.sqrt(len(values))
    half = error * stdtrit(len(values) - 1, (1 + LEVEL) / 2)  # as scipy.stats.t.ppf, which takes 0.4 s to import
    return mean, float(mean - half), float(mean + half)


def expanded_tail(runs: int) -> float:
    """Share of the replicates beyond either end of a 95 % bootstrap interval over `runs` values: 0.016 for 20 of them.

    Replicates of the mean of n values scatter less than such means do, by sqrt((n - 1) / n), and a normal quantile is
    smaller than Student's. The share is Phi(-sqrt(n / (n - 1)) t), which makes up for both and tends to 0.025
    (Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 69, 2015, section 5.2). NaN
    with fewer than two runs.
    """
    if runs < 2:
        return math.nan
    return float(ndtr(-math.sqrt(runs / (runs - 1)) * stdtrit(runs - 1, (1 + LEVEL) / 2)))


def percentile_interval(replicates: np.ndarray, runs: int) -> tuple[float, float]:
    """95 % bootstrap interval, (low, high): percentiles of the replicates, expanded for few runs (`expanded_tail`).

    `runs` is the number of values that were redrawn, of several independent groups the smallest. NaN with fewer than
    two; of fewer than about six the replicates do not reach as far as they should, and the interval is too narrow.

    Where one run may outweigh all others, percentiles hold the truth more often than replicates reflected about the
    estimate ("basic"). How often they do is measured: figures/reference/interval_coverage.csv.
    """
    tail = 100 * expanded_tail(runs)
    if not np.isfinite(replicates).any() or math.isnan(tail):
        return math.nan, math.nan
    low, high = np.nanpercentile(replicates, [tail, 100 - tail])
    return float(low), float(high)


def jackknife(estimate: float, without_one: np.ndarray) -> tuple[float, float, float]:
    """(value, low, high) of a statistic without its bias of order 1 / n, with a 95 % Student t interval.

    `estimate` is that of all n, `without_one` (n,) those of all but each (Tukey's pseudo-values; Efron and Tibshirani,
    An Introduction to the Bootstrap, 1993, chapter 11). NaN if any is.
    """
    return mean_interval(len(without_one) * estimate - (len(without_one) - 1) * np.asarray(without_one))
