"""The size at which training neither enlarges nor shrinks the ERF, from runs of several starts. numpy and SciPy only.

A run is one point: the logarithm of its size early in training, and how much it grows from there to late in training,
per epoch (`growth`). If training drives every size to a fixed point, large ones grow less than small ones, and the line
through the points crosses zero at it. The share of the distance that is lost per epoch is the pull.

One point a run, since the epochs of a run are one series: what another seed draws anew is the run. All runs have seeds
of their own, and so are independent of each other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from erf.result.intervals import LEVEL

Estimate = tuple[float, float, float]  # value, low, high


def growth(
    epochs: Sequence[float], values: Sequence[float], early: Sequence[float], late: Sequence[float]
) -> tuple[float, float]:
    """Mean of a series in its early epochs, and how much its mean in the late ones is above that, per epoch between
    their middles: (level, rate).

    early, late : first and last epoch of either. ValueError where one holds no epoch of the series.
    """
    epochs, values = np.asarray(epochs, float), np.asarray(values, float)
    parts = [(first <= epochs) & (epochs <= last) for first, last in (early, late)]
    if not all(part.any() for part in parts):
        raise ValueError(f"no epoch of {epochs.tolist()} lies in {list(early)} or in {list(late)}")
    (start, begun), (end, ended) = ((epochs[part].mean(), values[part].mean()) for part in parts)
    return float(begun), float((ended - begun) / (end - start))


@dataclass(frozen=True)
class Lines:
    """Parallel lines through the points of runs, one line for each task, rate = pull (fixed point - level).

    pull : per epoch, that of all tasks; of `spread` is its squared standard error, `variance` / spread
    levels, rates, runs : by task, the means and the number of its runs
    variance : of the runs about the lines, with `freedom` degrees of freedom
    """

    pull: float
    spread: float
    variance: float
    freedom: int
    levels: dict
    rates: dict
    runs: dict

    @property
    def quantile(self) -> float:
        return float(stdtrit(self.freedom, (1 + LEVEL) / 2))

    def pull_interval(self) -> Estimate:
        """The pull with its 95 % interval. Below zero training drives runs apart."""
        half = self.quantile * math.sqrt(self.variance / self.spread)
        return self.pull, self.pull - half, self.pull + half

    def fixed_point(self, task) -> Estimate:
        """Where a task's line crosses zero, with its 95 % interval; its ends are infinite where the pull may be zero,
        since there may then be no fixed point."""
        return self._from(self.levels[task], self.rates[task], 1 / self.runs[task])

    def displacement(self, task, other) -> Estimate:
        """By how much a task's fixed point lies above another's, with its 95 % interval, which may have no ends."""
        apart, faster = self.levels[task] - self.levels[other], self.rates[task] - self.rates[other]
        return self._from(apart, faster, 1 / self.runs[task] + 1 / self.runs[other])

    def _from(self, level: float, rate: float, share: float) -> Estimate:
        """level + rate / pull. The rate is a mean, of which the pull is independent: Fieller's interval (1954)."""
        rate_error, pull_error = (self.quantile**2 * self.variance * part for part in (share, 1 / self.spread))
        value = level + (rate / self.pull if self.pull else math.copysign(math.inf, rate))
        square = self.pull**2 - pull_error
        if not square > 0:
            return value, -math.inf, math.inf
        root = math.sqrt(max(rate**2 * pull_error + rate_error * square, 0.0))
        return value, level + (rate * self.pull - root) / square, level + (rate * self.pull + root) / square


def parallel_lines(tasks: Sequence, starts: Sequence, levels: Sequence[float], rates: Sequence[float]) -> Lines | None:
    """The lines through runs (n,), each with its task and its start; None where runs or starts are too few for them.

    They go through the mean points of the starts, weighted by runs: two-stage least squares with the starts as
    instrument. A run that is by chance small early grows more afterwards, and one whose own fixed point lies high is
    larger and grows more; either would tilt a line through single runs. A start is set from outside.
    """
    tasks, starts = np.asarray(tasks), np.asarray(starts)
    levels, rates = np.asarray(levels, float), np.asarray(rates, float)
    own = {task: tasks == task for task in dict.fromkeys(tasks.tolist())}
    freedom = len(rates) - len(own) - 1
    away, faster, expected = (np.zeros(len(rates)) for _ in range(3))
    for here in own.values():
        away[here], faster[here] = levels[here] - levels[here].mean(), rates[here] - rates[here].mean()
        for start in set(starts[here].tolist()):
            group = here & (starts == start)
            expected[group] = levels[group].mean() - levels[here].mean()
    spread = float(expected @ expected)
    if freedom < 1 or not spread > 0:
        return None
    pull = -float(expected @ faster) / spread
    variance = float(((faster + pull * away) ** 2).sum()) / freedom
    means = [{task: float(part[here].mean()) for task, here in own.items()} for part in (levels, rates)]
    return Lines(pull, spread, variance, freedom, *means, {task: int(here.sum()) for task, here in own.items()})
