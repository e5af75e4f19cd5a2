"""The size of an effective receptive field: the root of the area where the impact is above a share of the unit's own.

Luo et al. (NIPS 2016) count pixels. A count moves in steps: where a map grows smoothly, a whole ring of pixels crosses
the threshold at once, which makes slopes against depth jump and intervals too narrow. So the pixels on the contour
count here by the share of them that lies inside.

Maps are (..., T), (..., H, W) or (..., D, H, W) of non-negative impacts. The unit's position has one entry an axis, and
so tells how many axes a map has. A pixel is one entry of a map, of sound and of volumes too; lengths are in pixels.
"""

import math

import numpy as np

from erf.errors import InputError

__all__ = ["E2", "THRESHOLD", "centre_impact", "erf_size", "reference_impact", "side_of"]

THRESHOLD = 0.0455  # 1 - 95.45 %: a pixel is in the ERF when its impact is above this share of the centre pixel's
E2 = math.exp(-2)  # the same share, where a Gaussian is two standard deviations from its middle


def centre_impact(maps: np.ndarray, position: tuple[float, ...]) -> np.ndarray:
    """Impact at the unit's position; where that lies between pixels, the mean of the nearest two along each axis.

    maps (..., *axes), position with one entry an axis; returns (...). A position outside of the map counts as at its
    edge.
    """
    axes = len(position)
    for axis, (place, side) in enumerate(zip(position, maps.shape[-axes:], strict=True)):
        nearest = sorted({min(max(index, 0), side - 1) for index in (math.floor(place), math.ceil(place))})
        maps = maps[(..., nearest, *[slice(None)] * (axes - 1 - axis))]
    return maps.mean(tuple(range(-axes, 0)))


def reference_impact(maps: np.ndarray, position: tuple[float, ...], reference: str) -> np.ndarray:
    """The impact that a threshold is a share of: at the "centre", the unit's position, or at the "maximum".

    maps (..., *axes), position with one entry an axis; returns (...). InputError for another reference.
    """
    if reference not in ("centre", "maximum"):
        raise InputError(f"unknown reference {reference!r}: choose 'centre' or 'maximum'")
    return centre_impact(maps, position) if reference == "centre" else maps.max(tuple(range(-len(position), 0)))


def side_of(measure: np.ndarray | float, axes: int) -> np.ndarray:
    """Side of the interval, square or cube of this length, area or volume: its root for 1, 2 or 3 axes."""
    return (np.positive, np.sqrt, np.cbrt)[axes - 1](measure)


def erf_size(
    maps: np.ndarray, position: tuple[float, ...], threshold: float = THRESHOLD, reference: str = "centre"
) -> np.ndarray:
    """ERF size (pixels): square root of the area with more than `threshold` of the centre's impact.

    For one axis it is the length, and for three the cube root of the volume.

    maps (..., *axes) of non-negative impacts, position with one entry an axis; returns (...), NaN where the centre has
    no impact. reference "maximum" takes the strongest pixel's impact in place of the centre's. InputError for a
    threshold that is not between 0 and 1.

    From 8 pixels on, a Gaussian's size is right to 0.1 %, for three axes to 0.3 %; a box's is its side.

    >>> from erf.theory import gaussian_map, gaussian_size
    >>> impact = gaussian_map(sigma=2.5, shape=(31, 31), position=(15, 15))
    >>> [round(float(size), 2) for size in (erf_size(impact, (15, 15)), gaussian_size(2.5))]
    [11.01, 11.02]
    """
    if not 0 < threshold < 1:
        raise InputError(f"the threshold must lie between 0 and 1, not {threshold}: it is a share of an impact")
    if len(position) not in (1, 2, 3):
        raise InputError(f"a map has 1, 2 or 3 axes, not {len(position)}")
    maps = np.asarray(maps, float)
    peak = reference_impact(maps, position, reference)
    known = peak > 0
    sizes = np.full(peak.shape, np.nan)
    measure_above = _lengths_above if len(position) == 1 else _contents_above
    contents = measure_above(_chosen(maps, known), threshold * peak[known], threshold)
    sizes[known] = side_of(contents, len(position))
    return sizes


def _chosen(maps: np.ndarray, which: np.ndarray) -> np.ndarray:
    """maps[which], for truth values; the maps themselves, without a copy, if all are chosen."""
    return maps.reshape(-1, *maps.shape[which.ndim :]) if which.all() else maps[which]


# The logarithm of a Gaussian is a parabola, of which differences between pixels are exact. Impacts beyond threshold² or
# 1, as shares of the reference, count as these, so that a step's contour lies on the edge of its pixels.


def _logs_over(values: np.ndarray, levels: np.ndarray, threshold: float) -> np.ndarray:
    """Logarithm of impacts over their levels: positive inside the contour, and alike on both sides of a step."""
    return np.log(np.clip(values / levels, threshold, 1 / threshold))


def _step_log(threshold: float) -> float:
    """The magnitude from which a logarithm counts as that of a step: the largest possible, but for rounding."""
    return -(1 - 1e-9) * math.log(threshold)


def _lengths_above(maps: np.ndarray, levels: np.ndarray, threshold: float) -> np.ndarray:
    """Length (pixels) over which each of `maps` (n, T) is above its level (n,): whole pixels, moved to the crossings.

    Between a pixel inside and its neighbour outside, the logarithm of the impact is taken as a parabola with the mean
    curvature of both.
    """
    inside = maps > levels[:, None]
    which, first = np.nonzero(inside[:, 1:] != inside[:, :-1])  # a crossing lies between `first` and the next pixel
    places = first + np.array([[-1], [0], [1], [2]])
    known = (places >= 0) & (places < maps.shape[1])
    logs = _logs_over(maps[which, places.clip(0, maps.shape[1] - 1)], levels[which], threshold)
    step = _step_log(threshold)
    logs = logs.clip(-step, step)
    known &= np.abs(logs) < step
    known = known[:-2] & known[1:-1] & known[2:]  # whether the curvature is, of each of the two pixels
    bend = (known * np.diff(logs, 2, axis=0)).sum(0) / np.maximum(2 * known.sum(0), 1)
    # From the pixel inside, where it is at `height`, the parabola falls to -depth outside, and is zero at `reach`.
    height, depth = logs[1:3].max(0), -logs[1:3].min(0)
    bend = bend.clip(-height - depth, height + depth)  # so that it only falls, in noise too
    fall = height + depth + bend
    root = np.sqrt(np.maximum(fall**2 - 4 * bend * height, 0))
    reach = 2 * height / np.maximum(fall + root, np.finfo(float).tiny)
    return inside.sum(1) + np.bincount(which, reach - 0.5, len(maps))


def _contents_above(maps: np.ndarray, levels: np.ndarray, threshold: float) -> np.ndarray:
    """Area or volume (pixels) in which each of `maps` (n, *axes) is above its level (n,): whole pixels, and parts of
    those on the contour."""
    axes = range(maps.ndim - 1)
    inside = maps > levels.reshape(-1, *[1] * len(axes))
    counts = inside.sum(tuple(axis + 1 for axis in axes))
    somewhere = inside.any(0)
    if not somewhere.any():
        return counts.astype(float)
    crop = []  # with the pixels around, which the contour may run through
    for axis in axes:
        (hits,) = np.nonzero(somewhere.any(tuple(other for other in axes if other != axis)))
        crop.append(slice(max(hits[0] - 1, 0), hits[-1] + 2))
    which, *place = np.nonzero(_on_contour(inside[:, *crop]))
    place = [index + part.start for index, part in zip(place, crop, strict=True)]
    pixels = np.ravel_multi_index((which, *place), maps.shape)  # one index each, which is quicker
    shares = _shares_inside(maps, levels[which], threshold, pixels, place)
    return counts + np.bincount(which, shares - inside.take(pixels), len(maps))


def _on_contour(inside: np.ndarray) -> np.ndarray:
    """Pixels of `inside` (n, *axes) of which some neighbour lies on the other side."""
    some = every = np.pad(inside, [(0, 0), *[(1, 1)] * (inside.ndim - 1)], mode="edge")
    for axis in range(1, inside.ndim):
        ahead = (slice(None),) * axis
        before, here, after = ((*ahead, part) for part in (slice(None, -2), slice(1, -1), slice(2, None)))
        some = some[before] | some[here] | some[after]
        every = every[before] & every[here] & every[after]
    return some & ~every


def _shares_inside(maps, levels, threshold, pixels, place) -> np.ndarray:
    """Share inside the contour of each of the `pixels`, which are given by their levels and indices along each axis.

    Within a pixel the logarithm of the impact is taken as a plane, through the pixel's mean and with slopes from its
    neighbours. Of a Gaussian both are exact.
    """

    def logs(index: np.ndarray) -> np.ndarray:
        return _logs_over(maps.take(index), levels, threshold)

    middle, sides = logs(pixels), []  # sides: along each axis the two neighbours; at the map's edge the pixel itself
    for axis, index in enumerate(place, 1):
        ahead = math.prod(maps.shape[axis + 1 :])
        sides.append([logs(pixels - ahead * (index > 0)), logs(pixels + ahead * (index < maps.shape[axis] - 1))])
    sides = np.array(sides)  # (axes, 2, pixels)
    neighbours = sides.reshape(2 * len(place), -1)
    step = _step_log(threshold)
    at_step = np.abs(middle) >= step
    smooth = ~at_step & (np.abs(neighbours).max(0) < step)
    mean = middle + smooth * (sum(neighbours) - len(neighbours) * middle) / 24
    shares = _shares_above_zero(mean, np.abs(sides[:, 1] - sides[:, 0]) / 2)
    return np.where(at_step, middle > 0, shares)  # a box keeps its corners


# Of thin slices of a pixel: places from -0.5 to 0.5, and shares.
_SLICES = [half.tolist() for half in np.array(np.polynomial.legendre.leggauss(3)) / 2]


def _shares_above_zero(mean: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Of each pixel the share in which a plane of this mean (pixels,) is above zero.

    slopes (2 or 3, pixels), along each axis, are not negative. Of three axes the flattest is integrated over slices.
    """
    if len(slopes) == 3:
        flattest, *others = np.sort(slopes, 0)
        return sum(
            part * _shares_above_zero(mean + place * flattest, np.array(others))
            for place, part in zip(*_SLICES, strict=True)
        )
    steep, flat = slopes.max(0), slopes.min(0)
    # The plane is above zero in a part of the pixel that a straight line cuts off: across it, or only a corner.
    distance = np.abs(mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        across = distance / steep
        corner = 0.5 - ((steep + flat) / 2 - distance) ** 2 / (2 * steep * flat)
    beyond_half = np.where(distance <= (steep - flat) / 2, across, corner)
    beyond_half = np.where(distance >= (steep + flat) / 2, 0.5, beyond_half)
    return 0.5 + np.sign(mean) * beyond_half
