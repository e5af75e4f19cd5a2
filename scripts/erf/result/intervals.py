"""Confidence intervals. NaN where the data do not allow one."""

import numpy as np
from scipy.special import stdtrit

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


def basic_interval(estimate: float, replicates: np.ndarray) -> tuple[float, float]:
    """95 % basic bootstrap interval, (low, high): the percentiles of the replicates, reflected about the estimate.

    As far as the replicates lie above the estimate, the estimate is taken to lie above the truth (Davison and Hinkley,
    Bootstrap Methods and their Application, 1997, section 5.2.1).
    """
    if not np.isfinite(replicates).any():
        return np.nan, np.nan
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.nanpercentile(replicates, [tail, 100 - tail])
    return float(2 * estimate - high), float(2 * estimate - low)


def positive_interval(estimate: float, replicates: np.ndarray) -> tuple[float, float]:
    """`basic_interval` of a positive number (a size, a ratio) on a logarithmic scale: its ends are positive."""
    low, high = basic_interval(np.log(estimate), np.log(replicates))
    return float(np.exp(low)), float(np.exp(high))


def jackknife(estimate: float, without_one: np.ndarray) -> tuple[float, float, float]:
    """(value, low, high) of a statistic without its bias of order 1 / n, with a 95 % Student t interval.

    `estimate` is that of all n, `without_one` (n,) those of all but each (Tukey's pseudo-values; Efron and Tibshirani,
    An Introduction to the Bootstrap, 1993, chapter 11). NaN if any is.
    """
    return mean_interval(len(without_one) * estimate - (len(without_one) - 1) * np.asarray(without_one))
