"""The size of an effective receptive field: the root of the area where the impact is above a share of the unit's own.

Luo et al. (NIPS 2016) count pixels. A count moves in steps: where a map grows smoothly, a whole ring of pixels crosses
the threshold at once, which makes slopes against depth jump and intervals too narrow. So the pixels on the contour
count here by the share of them that lies inside. Maps are (..., H, W) of non-negative impacts; lengths are in pixels.
"""

import math

import numpy as np

from erf.errors import InputError

__all__ = ["E2", "THRESHOLD", "centre_impact", "erf_size", "reference_impact"]

THRESHOLD = 0.0455  # 1 - 95.45 %: a pixel is in the ERF when its impact is above this share of the centre pixel's
E2 = math.exp(-2)  # the same share, where a Gaussian is two standard deviations from its middle


def centre_impact(maps: np.ndarray, position: tuple[float, float]) -> np.ndarray:
    """Impact at the unit's position; the mean of the nearest 2 or 4 pixels where that lies between pixels.

    maps (..., H, W), position (row, column); returns (...). A position outside of the map counts as at its edge.
    """
    rows, columns = (
        sorted({min(max(index, 0), side - 1) for index in (math.floor(p), math.ceil(p))})
        for p, side in zip(position, maps.shape[-2:], strict=True)
    )
    return maps[..., rows, :][..., columns].mean((-2, -1))


def reference_impact(maps: np.ndarray, position: tuple[float, float], reference: str) -> np.ndarray:
    """The impact that a threshold is a share of: at the "centre", the unit's position, or at the "maximum".

    maps (..., H, W), position (row, column); returns (...). InputError for another reference.
    """
    if reference not in ("centre", "maximum"):
        raise InputError(f"unknown reference {reference!r}: choose 'centre' or 'maximum'")
    return centre_impact(maps, position) if reference == "centre" else maps.max((-2, -1))


def erf_size(
    maps: np.ndarray, position: tuple[float, float], threshold: float = THRESHOLD, reference: str = "centre"
) -> np.ndarray:
    """ERF size (pixels): square root of the area with more than `threshold` of the centre's impact.

    maps (..., H, W) of non-negative impacts; returns (...), NaN where the centre has none. reference "maximum" takes
    the strongest pixel's impact in place of the centre's. InputError for a threshold that is not between 0 and 1.

    From 8 pixels on, a Gaussian's size is right to 0.1 %; a box's is its side.

    >>> from erf.theory import gaussian_map, gaussian_size
    >>> impact = gaussian_map(sigma=2.5, shape=(31, 31), position=(15, 15))
    >>> [round(float(size), 2) for size in (erf_size(impact, (15, 15)), gaussian_size(2.5))]
    [11.01, 11.02]
    """
    if not 0 < threshold < 1:
        raise InputError(f"the threshold must lie between 0 and 1, not {threshold}: it is a share of an impact")
    maps = np.asarray(maps, float)
    peak = reference_impact(maps, position, reference)
    known = peak > 0
    sizes = np.full(peak.shape, np.nan)
    sizes[known] = np.sqrt(_areas_above(maps[known], threshold * peak[known], threshold))
    return sizes


def _areas_above(maps: np.ndarray, levels: np.ndarray, threshold: float) -> np.ndarray:
    """Area (pixels) in which each of `maps` (n, H, W) is above its level (n,): whole pixels, and parts of those on the
    contour."""
    inside = maps > levels[:, None, None]
    counts = inside.sum((1, 2))
    somewhere = inside.any(0)
    if not somewhere.any():
        return counts.astype(float)
    crop = []  # with the pixels around, which the contour may run through
    for axis in (1, 0):
        (hits,) = np.nonzero(somewhere.any(axis))
        crop.append(slice(max(hits[0] - 1, 0), hits[-1] + 2))
    which, rows, columns = np.nonzero(_on_contour(inside[:, *crop]))
    rows, columns = rows + crop[0].start, columns + crop[1].start
    shares = _shares_inside(maps, levels, threshold, which, rows, columns)
    return counts + np.bincount(which, shares - inside[which, rows, columns], len(maps))


def _on_contour(inside: np.ndarray) -> np.ndarray:
    """Pixels of `inside` (n, H, W) of which some neighbour lies on the other side."""
    padded = np.pad(inside, ((0, 0), (1, 1), (1, 1)), mode="edge")
    some = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
    some = some[:, :, :-2] | some[:, :, 1:-1] | some[:, :, 2:]
    every = padded[:, :-2] & padded[:, 1:-1] & padded[:, 2:]
    every = every[:, :, :-2] & every[:, :, 1:-1] & every[:, :, 2:]
    return some & ~every


def _shares_inside(maps, levels, threshold, which, rows, columns) -> np.ndarray:
    """Of each pixel, given by its map, row and column, the share of its area that lies inside the contour.

    Within a pixel the logarithm of the impact is taken as a plane, through the pixel's mean and with slopes from its
    neighbours. The logarithm of a Gaussian is a parabola, so that both are exact. Impacts beyond threshold² or 1,
    as shares of the reference, count as these, so that a step's contour lies on the edge of its pixels.
    """
    height, width = maps.shape[1:]

    def logs(down: int, right: int) -> np.ndarray:
        """Of the impact over the level, in the neighbour there; at the map's edge, in the pixel itself."""
        values = maps[which, np.clip(rows + down, 0, height - 1), np.clip(columns + right, 0, width - 1)]
        return np.log(np.clip(values / levels[which], threshold, 1 / threshold))

    middle, above, below, left, right = around = [logs(*step) for step in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))]
    smooth = np.abs(around).max(0) < -(1 - 1e-9) * math.log(threshold)  # there is no step
    mean = middle + smooth * (above + below + left + right - 4 * middle) / 24
    slopes = np.abs([below - above, right - left]) / 2
    steep, flat = slopes.max(0), slopes.min(0)
    # The plane is above zero in a part of the pixel that a straight line cuts off: across it, or only a corner.
    distance = np.abs(mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        across = distance / steep
        corner = 0.5 - ((steep + flat) / 2 - distance) ** 2 / (2 * steep * flat)
    beyond_half = np.where(distance <= (steep - flat) / 2, across, corner)
    beyond_half = np.where(distance >= (steep + flat) / 2, 0.5, beyond_half)
    return 0.5 + np.sign(mean) * beyond_half
