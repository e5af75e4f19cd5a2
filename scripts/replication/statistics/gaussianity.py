"""How Gaussian and how square a mean map is, without the noise of its few runs. numpy and SciPy only.

Three measures say how Gaussian a map is. Each one misses shapes that another one sees:

- R² of the fitted Gaussian weighs the bright middle. It misses flanks and tails: a Student t of 3 degrees of freedom
  has 0.986.
- The excess kurtosis of the marginals weighs the tails. It misses a ripple.
- The departure of the profile is relative, so that the dim flank of the ERF counts as much as its middle. It sees
  nothing beyond the ERF, and averages over directions.

`LIMITS` turns them into two classes, "Gaussian" and "near-Gaussian". A map that keeps all three limits is in the class.
No measured network had a say in the limits: they follow from noise-free maps alone, which tests/test_shape.py computes
again.

- "Gaussian" must accept what theory predicts, which is a Gaussian in the limit of many layers only. Among theory's maps
  of 10 to 160 layers, with uniform and with random weights, the largest excess kurtosis is 0.149 (random weights, 16
  layers) and the largest departure 0.029 (random weights, 10 layers). The limits are a third above, 0.2 and 0.04, so
  that a measured map that follows theory has room for its noise.
- "near-Gaussian" must refuse hills that are plainly not Gaussian: Student t of 3 and of 10 degrees of freedom, sech and
  sech², a cone, triangle × triangle, Hann × Hann, a Gaussian with a ripple of 15 % along its radius, a box; σ is 2 to 8
  pixels, and the map reaches at least 4 σ to each side. The mildest that kurtosis alone refuses is a Student t of 10
  degrees: 0.37. The mildest that the departure alone refuses is a ripple: 0.056. The limits are these, rounded down to
  one digit: 0.3 and 0.05.
- The limits of R², 0.995 and 0.98, are those of older verdicts. Theory's maps of 5 and more layers have 0.997 and more.
  R² alone would accept nearly all of the hills above as near-Gaussian.

Where the map reaches no farther than 3 σ to each side, as with ten layers of random weights, a Student t of 10 degrees
is accepted: within such a map it differs from a Gaussian by little more than theory does.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from erf.result.field import GaussianFit
from erf.result.intervals import jackknife
from erf.size import THRESHOLD, centre_impact
from erf.theory import gaussian_map

STEP = 0.25  # pixels between the points of a ray
RAYS = 360
RINGS = 8  # of equal width, from the unit to the fitted Gaussian's ERF


@dataclass(frozen=True)
class Limits:
    """Of a class of shapes: the least R², the largest excess kurtosis of either sign, the largest departure."""

    r2: float
    kurtosis: float
    departure: float


LIMITS = {"Gaussian": Limits(0.995, 0.2, 0.04), "near-Gaussian": Limits(0.98, 0.3, 0.05)}  # the module's docstring


def shape_class(r2: float, kurtosis: float, departure: float) -> str:
    """The narrowest class of `LIMITS` that has a map with these measures; "" if none has, or if one is NaN."""
    for name, limits in LIMITS.items():
        if r2 >= limits.r2 and abs(kurtosis) <= limits.kurtosis and departure <= limits.departure:
            return name
    return ""


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
    flat = means_without_one(maps).reshape(len(maps), -1)
    model, derivatives = _model(maps.shape[1:], position, fit)
    basis, _ = np.linalg.qr(derivatives)
    apart = flat - model
    unexplained = (apart**2).sum(1) - ((apart @ basis) ** 2).sum(1)
    value, low, high = jackknife(fit.r2, 1 - unexplained / (flat.var(1) * flat.shape[1]))
    return min(value, 1.0), min(low, 1.0), min(high, 1.0)


def _model(shape: tuple[int, int], position: tuple[float, float], fit: GaussianFit) -> tuple[np.ndarray, np.ndarray]:
    """The fitted Gaussian (pixels,), and its derivatives (pixels, 3) by log peak and by sigma along each axis."""
    model = fit.peak * gaussian_map(fit.sigma, shape, position).ravel()
    by_sigma = (
        model * ((axis - centre) ** 2 / sigma**3).ravel()
        for axis, centre, sigma in zip(np.indices(shape), position, fit.sigma, strict=True)
    )
    return model, np.stack([model, *by_sigma], 1)


def _sigmas(means: np.ndarray, position: tuple[float, float], fit: GaussianFit) -> np.ndarray:
    """Sigma (n, 2) of the Gaussians fitted to `means` (n, H, W), which hardly differ from the map that `fit` is of: by
    one Gauss-Newton step."""
    model, derivatives = _model(means.shape[1:], position, fit)
    steps = np.linalg.lstsq(derivatives, (means.reshape(len(means), -1) - model).T, rcond=None)[0]  # (3, n)
    return np.array(fit.sigma) + steps[1:].T


def kurtosis(maps: np.ndarray, position: tuple[float, float], sigmas: np.ndarray) -> np.ndarray:
    """Excess kurtosis of `maps` (..., H, W) over a Gaussian's that the map cuts off at the same edges; (...).

    Of the marginals about the unit, as distributions; the mean of both axes. sigmas (..., 2), rows and columns, pixels,
    are those of the Gaussians. A narrow map cuts tails off, which alone lowers a Gaussian's kurtosis: at 2.7 sigma to
    each side, as with ten layers of random weights, by 0.2.
    """
    excess = np.zeros(maps.shape[:-2])
    for axis, centre in enumerate(position):
        distance = np.arange(maps.shape[axis - 2]) - centre
        gaussian = np.exp(-((distance / np.asarray(sigmas)[..., axis, None]) ** 2) / 2)
        excess += (_kurtosis(maps.sum(-1 - axis), distance) - _kurtosis(gaussian, distance)) / 2
    return excess


def _kurtosis(weights: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Fourth moment over the square of the second, of `weights` (..., n) at each distance (n,)."""
    return (weights @ distance**4) * weights.sum(-1) / (weights @ distance**2) ** 2


def kurtosis_without_noise(
    maps: np.ndarray, position: tuple[float, float], fit: GaussianFit
) -> tuple[float, float, float]:
    """`kurtosis` of the mean that infinitely many runs would have, by a jackknife: (value, low, high), 95 %.

    `fit` is that to the mean of `maps` (runs, H, W), and is adapted as in `r2_without_noise`. NaN where no Gaussian
    fits, and the interval with fewer than two runs.
    """
    if not len(maps) or not np.isfinite(fit.r2):
        return (math.nan,) * 3
    whole = float(kurtosis(np.abs(maps.mean(0)), position, fit.sigma))
    if len(maps) < 2:
        return whole, math.nan, math.nan
    means = means_without_one(maps)
    return jackknife(whole, kurtosis(means, position, _sigmas(means, position, fit)))


def squared_departure(
    impact: np.ndarray, position: tuple[float, float], sigma: tuple[float, float], reference: np.ndarray
) -> float:
    """Mean square over the ERF by which the logarithm of the radial profile departs from `reference`'s.

    impact and reference (H, W), each of any scale. The profile is the mean over `RINGS` elliptical rings, which reach
    to 4.55 % of a Gaussian of this sigma (rows, columns; pixels), so that noise has no say in which pixels count. A
    pixel counts in each ring by the share of its width that lies there. From the difference of the profiles a straight
    line in r² is removed, which is a change of height and width alone: from a Gaussian, the departure is that of the
    logarithm from a line. Rings count by their area. Infinite where one is dark.
    """
    rows, columns = (
        ((np.arange(side) - centre) / width) ** 2
        for side, centre, width in zip(impact.shape, position, sigma, strict=True)
    )
    squared_radius = np.add.outer(rows, columns).ravel()
    radius, half = np.sqrt(squared_radius)[:, None], 0.5 / math.sqrt(sigma[0] * sigma[1])  # of a pixel
    edges = np.linspace(0, math.sqrt(-2 * math.log(THRESHOLD)), RINGS + 1)
    member = np.clip(np.minimum(radius + half, edges[1:]) - np.maximum(radius - half, edges[:-1]), 0, None)
    member = member[:, member.any(0)]
    pixels = member.sum(0)
    with np.errstate(divide="ignore"):
        profile = np.log(impact.ravel() @ member) - np.log(reference.ravel() @ member)  # (rings,)
    if not np.isfinite(profile).all():
        return math.inf
    weights = np.sqrt(pixels / pixels.sum())
    line, _ = np.linalg.qr(np.stack([weights, weights * (squared_radius @ member / pixels)], 1))
    return float(((weights * profile) ** 2).sum() - ((weights * profile @ line) ** 2).sum())


def departure(
    impact: np.ndarray, position: tuple[float, float], fit: GaussianFit, reference: np.ndarray | None = None
) -> float:
    """Root of `squared_departure` of a map (H, W) from the Gaussian fitted to it, or from another reference."""
    if not np.isfinite(fit.r2):
        return math.nan
    reference = gaussian_map(fit.sigma, impact.shape, position) if reference is None else reference
    return math.sqrt(max(squared_departure(impact, position, fit.sigma, reference), 0))


def departure_without_noise(
    maps: np.ndarray, position: tuple[float, float], fit: GaussianFit, reference: np.ndarray | None = None
) -> tuple[float, float, float]:
    """`departure` of the mean that infinitely many runs would have: (value, low, high), 95 %.

    Noise adds to the square in proportion to 1 / runs, which a jackknife removes; where it removes more than there is,
    0 is left. Ends are roots of the square's. NaN where no Gaussian fits, and the interval with fewer than two runs.
    """
    if not len(maps):
        return (math.nan,) * 3
    whole = departure(np.abs(maps.mean(0)), position, fit, reference)
    if len(maps) < 2 or not math.isfinite(whole):
        return whole, math.nan, math.nan
    means, squares = means_without_one(maps), []
    for mean, sigma in zip(means, _sigmas(means, position, fit), strict=True):
        other = gaussian_map(sigma, mean.shape, position) if reference is None else reference
        squares.append(squared_departure(mean, position, sigma, other))
    if not np.isfinite(squares).all():
        return whole, math.nan, math.nan
    value, low, high = (math.sqrt(max(square, 0)) for square in jackknife(whole**2, squares))
    return value, low, high


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
