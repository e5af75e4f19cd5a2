"""How Gaussian and how square a mean map is, with bootstrap intervals over its runs. numpy and SciPy only."""

import math

import numpy as np

from erf.field import GaussianFit, redrawn_maps
from erf.intervals import positive_interval
from erf.theory import THRESHOLD, centre_impact, gaussian_map


def r2_interval(
    maps: np.ndarray, position: tuple[float, float], fit: GaussianFit, rng: np.random.Generator
) -> tuple[float, float]:
    """95 % basic bootstrap interval, (low, high), of a Gaussian fit's R^2 over the runs of `maps` (runs, H, W).

    `fit` is that of their mean. It is adapted to each mean of redrawn runs by one Gauss-Newton step, which is all it
    needs so near to its minimum. The interval is of log(1 - R^2), which noise raises in the mean map and as much again
    in its replicates. (NaN, NaN) with fewer than two runs, and where no Gaussian fits.
    """
    if len(maps) < 2 or not np.isfinite(fit.r2):
        return math.nan, math.nan
    model = fit.peak * gaussian_map(fit.sigma, maps.shape[1:], position).ravel()
    rows, columns = (
        ((axis - centre) ** 2 / sigma**3).ravel()
        for axis, centre, sigma in zip(np.indices(maps.shape[1:]), position, fit.sigma, strict=True)
    )
    jacobian = np.stack([model / fit.peak, model * rows, model * columns], 1)  # by peak, sigma of rows, of columns
    basis, _ = np.linalg.qr(jacobian)
    unexplained = []
    for means in redrawn_maps(maps, rng):
        flat = means.reshape(len(means), -1)
        residual = ((flat - model) ** 2).sum(1) - (((flat - model) @ basis) ** 2).sum(1)
        unexplained.append(residual / (flat.var(1) * flat.shape[1]))
    low, high = positive_interval(1 - fit.r2, np.concatenate(unexplained))
    return 1 - high, 1 - low


def box_share(maps: np.ndarray, position: tuple[float, float]) -> np.ndarray:
    """Area of the ERF over that of the box as high and wide as it is through the unit: 1 for a rectangle, pi / 4 for an
    ellipse. maps (..., H, W) of non-negative impacts; returns (...), NaN where the centre has none."""
    peak = centre_impact(maps, position)
    inside = maps > THRESHOLD * peak[..., None, None]
    row, column = (round(centre) for centre in position)
    box = inside[..., row, :].sum(-1) * inside[..., column].sum(-1)
    return np.divide(inside.sum((-2, -1)), box, out=np.full(box.shape, np.nan), where=peak > 0)


def box_share_interval(
    maps: np.ndarray, position: tuple[float, float], rng: np.random.Generator
) -> tuple[float, float]:
    """95 % basic bootstrap interval of the mean map's `box_share` over the runs of `maps` (runs, H, W)."""
    if len(maps) < 2:
        return math.nan, math.nan
    replicates = [box_share(means, position) for means in redrawn_maps(maps, rng)]
    return positive_interval(float(box_share(maps.mean(0), position)), np.concatenate(replicates))
