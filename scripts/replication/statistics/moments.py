"""Where the ERF lies, how wide it is, and how much of the impact is near the unit. numpy and SciPy only."""

import math

import numpy as np

from erf import theory
from erf.result.contribution import disc_coverage
from erf.result.intervals import jackknife

PARTS = {"quarter": 0.25, "half": 0.5}  # of the receptive field's radius, within which the share of impact is told


def map_moments(impact: np.ndarray, position: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Drift, the mean of a map (H, W) less the unit's position, and spread, sigma about that mean, each (rows, columns)
    in pixels: E[S_n] and sqrt(Var[S_n]) of section 2.3. NaN for an empty map."""
    if not impact.any():
        return np.full(2, math.nan), np.full(2, math.nan)
    _, mean, covariance = theory.moments(np.abs(impact))
    return mean - position, np.sqrt(np.diag(covariance).clip(0))


def rf_radius(theoretical_rf: tuple[float, float]) -> float:
    """Half the side (pixels) of the theoretical receptive field, the geometric mean of both axes."""
    return math.sqrt(math.prod(theoretical_rf)) / 2


def moment_statistics(
    maps: np.ndarray, position: tuple[float, float], theoretical_rf: tuple[float, float]
) -> dict[str, tuple[float, float, float]]:
    """Of the mean of maps (runs, H, W), not negative, each as (value, low, high) with a 95 % jackknife over runs:

    drift : mean over both axes of the map's mean less the unit's position, pixels
    spread : sigma about the map's own mean, root mean square over both axes, pixels
    share_quarter, share_half : share of the impact within a quarter and half of the receptive field's radius

    NaN without a live run, and the interval with fewer than two.
    """
    axes = [np.arange(side) - centre for side, centre in zip(maps.shape[1:], position, strict=True)]
    marginals = [maps.sum(2), maps.sum(1)]
    kernels = {
        name: disc_coverage(maps.shape[1:], position, rf_radius(theoretical_rf) * p) for name, p in PARTS.items()
    }
    sums = {
        "total": maps.sum((1, 2)),
        "first": np.stack([marginal @ axis for marginal, axis in zip(marginals, axes, strict=True)]),
        "second": np.stack([marginal @ axis**2 for marginal, axis in zip(marginals, axes, strict=True)]),
        **{name: np.tensordot(maps, kernel) for name, kernel in kernels.items()},
    }

    def statistics(kept: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore"):
            mean, square = kept["first"] / kept["total"], kept["second"] / kept["total"]
            shares = {f"share_{name}": kept[name] / kept["total"] for name in PARTS}
        return {"drift": mean.mean(0) + 0.0, "spread": np.sqrt((square - mean**2).mean(0)), **shares}

    whole = {name: value.sum(-1) for name, value in sums.items()}
    without_one = {name: whole[name][..., None] - value for name, value in sums.items()}
    values, replicates = statistics(whole), statistics(without_one)
    several = len(maps) > 1
    return {
        name: jackknife(float(value), replicates[name]) if several else (float(value), math.nan, math.nan)
        for name, value in values.items()
    }
