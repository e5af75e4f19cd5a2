"""How far impact reaches from the unit: the square that holds a share of it, and its mean by distance. numpy only.

Maps have 1, 2 or 3 axes, and positions one entry an axis. For one axis a square or a disc is an interval, for three a
cube or a ball.

Both are read from the linear map: of a logarithm or a power of it, as heat maps show, they depend on its scale.
"""

import math
from functools import reduce

import numpy as np

from erf.errors import InputError

SHARES = (0.2, 0.3, 0.5, 0.99)  # for which RepLKNet reports the area


def contribution_square(impact: np.ndarray, position: tuple[float, ...], share: float) -> tuple[float, float]:
    """Smallest square centred on the unit that holds `share` of the summed impact: (side, ratio of areas).

    The high-contribution area of Ding et al., Scaling Up Your Kernels to 31x31 (RepLKNet, CVPR 2022), here of the
    linear map: their script's numbers are those of log10(impact + 1).

    impact (H, W) is not negative; position (row, column). The side, in pixels, is that of the square around whole
    pixels: odd where the unit lies on a pixel, even where it lies between pixels on all axes. Where the square leaves
    the map, it holds what lies in it, and the ratio is that of the area in it to the map's H x W: at most 1. NaN for an
    empty map. InputError for a share that is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise InputError(f"the share of the impact must be above 0 and at most 1, not {share}")
    if not impact.any():
        return math.nan, math.nan
    distances, ring = np.unique(reduce(np.maximum.outer, _offsets(impact.shape, position)), return_inverse=True)
    held = np.bincount(ring.ravel(), impact.ravel()).cumsum()
    enough = share * held[-1] * (1 - 1e-12)  # the rounding of sums must not cost a ring
    half = float(distances[np.searchsorted(held, enough)]) + 0.5
    within = [
        min(centre + half, side - 0.5) - max(centre - half, -0.5)
        for centre, side in zip(position, impact.shape, strict=True)
    ]
    return 2 * half, math.prod(within) / impact.size


def radial_profile(
    impact: np.ndarray, position: tuple[float, ...], spacing: tuple[float, ...] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean impact by distance from the unit: (distances, means), each (n,).

    impact (H, W), position (row, column). `spacing` is the length of a pixel along each axis; 1 if None. A bin is as
    wide as a pixel's shortest side, and the first is up to half of that from the unit. A bin's distance is the mean
    over its pixels. Bins without a pixel are left out; beyond the map's nearest edge a bin has only the pixels that the
    map has.
    """
    spacing = spacing or (1.0,) * impact.ndim
    offsets = _offsets(impact.shape, position)
    distance = _hypot([offset * length for offset, length in zip(offsets, spacing, strict=True)])
    _, ring = np.unique(np.floor(distance / min(spacing) + 0.5), return_inverse=True)
    pixels = np.bincount(ring.ravel())
    distances, means = (np.bincount(ring.ravel(), values.ravel()) / pixels for values in (distance, impact))
    return distances, means


def disc_coverage(shape: tuple[int, ...], position: tuple[float, ...], radius: float) -> np.ndarray:
    """Share of each pixel of a map of `shape` (H, W) that lies within `radius` pixels of the unit: (H, W), from 0 to 1.

    A pixel at the disc's edge counts by how far its middle lies inside, one pixel wide: the share of a Gaussian's
    impact is right to 1 / (24 sigma^2).
    """
    distance = _hypot(_offsets(shape, position))
    return (radius - distance + 0.5).clip(0, 1)


def share_within(impact: np.ndarray, position: tuple[float, ...], radius: float) -> float:
    """Share of the summed impact (H, W) within `radius` pixels of the unit; NaN for an empty map.

    Of a Gaussian it is 1 - exp(-radius^2 / (2 sigma^2)). Of impact spread evenly over a square receptive field it is
    pi/64 within a quarter of half the square's side, and pi/16 within half of it.
    """
    total = impact.sum()
    return float((impact * disc_coverage(impact.shape, position, radius)).sum() / total) if total > 0 else math.nan


def radius_holding(impact: np.ndarray, position: tuple[float, ...], share: float) -> float:
    """Radius (pixels) of the disc around the unit that holds `share` of the summed impact (H, W); NaN for an empty map.

    The impact of a pixel counts half at its own distance, between which the share is interpolated. Of a Gaussian half
    of the impact lies within 1.177 sigma. InputError for a share that is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise InputError(f"the share of the impact must lie between 0 and 1, not {share}")
    if not impact.any():
        return math.nan
    distances, ring = np.unique(_hypot(_offsets(impact.shape, position)), return_inverse=True)
    held = np.bincount(ring.ravel(), impact.ravel())
    middle = held.cumsum() - held / 2
    return float(np.interp(share * held.sum(), middle, distances))


def _offsets(shape: tuple[int, ...], position: tuple[float, ...]) -> list[np.ndarray]:
    """Distances (pixels) from the unit along each axis."""
    return [np.abs(np.arange(side) - centre) for side, centre in zip(shape, position, strict=True)]


def _hypot(offsets: list[np.ndarray]) -> np.ndarray:
    """Distance of each pixel from the unit, of its offsets along each axis."""
    return reduce(np.hypot.outer, offsets)
