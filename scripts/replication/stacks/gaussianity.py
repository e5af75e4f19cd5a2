"""How Gaussian and how square a mean map is, without the noise of its few runs. numpy and SciPy only."""

import math

import numpy as np
from scipy.ndimage import map_coordinates

from erf.result.field import GaussianFit
from erf.result.intervals import jackknife
from erf.size import THRESHOLD, centre_impact
from erf.theory import gaussian_map

STEP = 0.25  # pixels between the points of a ray
RAYS = 360


def means_without_one(maps: np.ndarray) -> np.ndarray:
    """Magnitudes of the means of all runs but one, (runs, H, W), for `maps` (runs, H, W)."""
    return np.abs(maps.sum(0) - maps) / (len(maps) - 1)


def r2_without_noise(maps: np.ndarray, position: tuple[float, float], fit: GaussianFit) -> tuple[float, float, float]:
    """R^2 of a Gaussian fitted to the mean that infinitely many runs would have: (value, low, high), 95 %.

    `fit` is that to the mean of `maps` (runs, H, W). Noise lowers its R^2 in proportion to 1 / runs, which a jackknife
    removes. The fit is adapted to each mean of all runs but one by one Gauss-Newton step, which is all it needs so near
    to its minimum. NaN where no Gaussian fits, and the interval with fewer than two runs.
    """
    if len(maps) < 2 or not np.isfinite(fit.r2):
        return fit.r2, math.nan, math.nan
    model = fit.peak * gaussian_map(fit.sigma, maps.shape[1:], position).ravel()
    by_sigma = (
        model * ((axis - centre) ** 2 / sigma**3).ravel()
        for axis, centre, sigma in zip(np.indices(maps.shape[1:]), position, fit.sigma, strict=True)
    )
    basis, _ = np.linalg.qr(np.stack([model, *by_sigma], 1))  # of the model's derivatives
    flat = means_without_one(maps).reshape(len(maps), -1)
    apart = flat - model
    unexplained = (apart**2).sum(1) - ((apart @ basis) ** 2).sum(1)
    value, low, high = jackknife(fit.r2, 1 - unexplained / (flat.var(1) * flat.shape[1]))
    return min(value, 1.0), min(low, 1.0), min(high, 1.0)


def box_share(impact: np.ndarray, position: tuple[float, float]) -> float:
    """Area within the ERF's bound over that of the box as high and wide as it is through the unit: 1 for a rectangle,
    pi / 4 for an ellipse.

    The bound of a map (H, W) is found on rays from the unit, between whose points the logarithm of the impact is
    interpolated. NaN where it leaves the map, or the unit's own pixel has no impact.
    """
    peak = centre_impact(impact, position)
    if not peak > 0:
        return math.nan
    angles = np.arange(RAYS) * (2 * math.pi / RAYS)
    reach = min(min(centre, side - 1 - centre) for centre, side in zip(position, impact.shape, strict=True))
    radii = np.arange(0, math.sqrt(2) * reach + STEP, STEP)
    rows, columns = (
        centre + np.outer(along, radii)
        for centre, along in zip(position, (np.sin(angles), np.cos(angles)), strict=True)
    )
    log_impact = np.log(np.maximum(impact / peak, 1e-30))
    sampled = map_coordinates(log_impact, [rows, columns], order=1, cval=-math.inf)  # (rays, points)
    below = sampled < math.log(THRESHOLD)
    first = below.argmax(1)
    ray = np.arange(RAYS)
    inner, outer = sampled[ray, first - 1], sampled[ray, first]
    if not below.any(1).all() or np.isneginf(outer).any():
        return math.nan
    bound = radii[first - 1] + STEP * (inner - math.log(THRESHOLD)) / (inner - outer)
    right, down, left, up = bound[:: RAYS // 4]
    return float((bound**2).mean() * math.pi / ((up + down) * (left + right)))


def box_share_without_noise(maps: np.ndarray, position: tuple[float, float]) -> tuple[float, float, float]:
    """`box_share` of the mean that infinitely many runs would have, by a jackknife: (value, low, high), 95 %."""
    whole = box_share(np.abs(maps.mean(0)), position) if len(maps) else math.nan
    if len(maps) < 2:
        return whole, math.nan, math.nan
    return jackknife(whole, np.array([box_share(mean, position) for mean in means_without_one(maps)]))
