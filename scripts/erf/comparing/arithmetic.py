"""The arithmetic by which published scripts turn an averaged map (H, W) into a picture and numbers. numpy and SciPy.

Some of it is carried over to maps of one and of three axes.

Every step is that of the script that `erf.comparing.conventions` names, with its choices and its mistakes.
"""

import math

import numpy as np
from scipy.optimize import curve_fit

SHARES = (0.2, 0.3, 0.5, 0.99)  # RepLKNet's
RADII = (5, 10, 20, 30, 40, 60, 80)  # pixels; OpenERF's
MEGAPIXEL = 1024**2  # pixels of RepLKNet's images
SIDES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}  # by the number of axes
NETHARN_SHARE = 0.95  # of netharn's documentation; its default is 1


def over_maximum(impact: np.ndarray) -> np.ndarray:
    return impact / impact.max()


def logged(impact: np.ndarray) -> np.ndarray:
    """log10(x + 1) over its maximum. It is nearly linear for small values and nearly flat for large ones."""
    return over_maximum(np.log10(impact + 1))


def fifth_root(impact: np.ndarray) -> np.ndarray:
    return over_maximum(impact**0.2)


def stretched(impact: np.ndarray) -> np.ndarray:
    """From 0 at the minimum to 1 at the maximum."""
    return (impact - impact.min()) / np.ptp(impact)


def brightened(impact: np.ndarray) -> np.ndarray:
    """`stretched`, ten times brighter: all above a tenth of the range is 1."""
    return np.clip(10 * stretched(impact), 0, 1)


def high_contribution(shown: np.ndarray, whole: float | None = None) -> dict[str, float]:
    """Side (pixels) and area ratio of the first centred square with more than each of `SHARES` of the map's sum.

    The square is centred on pixel (H // 2, W // 2), has an odd side of at least 3, and is at most 2 (H // 2) - 1 high.
    For one axis it is an interval, and for three a cube; the ratio is then that of lengths, or of volumes. Both numbers
    are NaN where no square holds enough. In an image that is higher than wide, a square that is wider than the image
    begins at a negative column, which numpy counts from the right: the sum is then too small.

    whole : the area that the ratio is of; the map's own if None
    """
    middle = [side // 2 for side in shown.shape]
    halves = range(1, middle[0])
    held = np.array([shown[tuple(slice(place - i, place + 1 + i) for place in middle)].sum() for i in halves])
    numbers = {}
    for share in SHARES:
        enough = np.flatnonzero(held / shown.sum() > share)
        side = 2 * halves[enough[0]] + 1 if len(enough) else math.nan
        numbers |= {f"side_{100 * share:g}": side, f"area_{100 * share:g}": side**shown.ndim / (whole or shown.size)}
    return numbers


def bounds(impact: np.ndarray) -> dict[str, float]:
    """Sides (pixels) of the box around all pixels that are not zero, and around the strongest of them.

    The strongest are those above the value at which the sum of all larger values passes `NETHARN_SHARE` of the whole.
    NaN if no pixel is: of equal values none is larger.
    """
    falling = np.sort(impact, axis=None)[::-1]
    sums = falling.cumsum()
    level = falling[np.argmax(sums > NETHARN_SHARE * falling.sum())]
    numbers = {}
    for suffix, inside in (("", impact != 0), (f"_{100 * NETHARN_SHARE:g}", impact > level)):
        for name, hits in zip(SIDES[impact.ndim], np.nonzero(inside), strict=True):
            numbers[name + suffix] = float(np.ptp(hits) + 1) if len(hits) else math.nan
    return numbers


def mass_and_gaussian(impact: np.ndarray) -> dict[str, float]:
    """Shares of the map within `RADII` of pixel (H // 2, W // 2), its centre of mass, and a fitted Gaussian.

    The Gaussian is free to move; its sigmas are in pixels and `amplitude` is its share of the map's sum.
    """
    mass = impact / impact.sum()
    rows, columns = np.indices(mass.shape)
    distance = np.hypot(rows - mass.shape[0] // 2, columns - mass.shape[1] // 2)
    numbers = {f"mass_{radius}": float(mass[distance <= radius].sum()) for radius in RADII}
    numbers |= {"mass_row": float((rows * mass).sum()), "mass_column": float((columns * mass).sum())}
    return numbers | _gaussian(mass, rows, columns)


def _gaussian(mass: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> dict[str, float]:
    """Least squares over all pixels from the script's start; NaN where no minimum is found.

    The script's own fit stops when the sum of squares changes by less than 1.5e-8 of it, up to 1e-4 pixels earlier.
    """
    height, width = mass.shape

    def model(_, amplitude, column, row, sigma_columns, sigma_rows):
        exponent = ((columns - column) / sigma_columns) ** 2 / 2 + ((rows - row) / sigma_rows) ** 2 / 2
        return (amplitude * np.exp(-exponent) / (2 * np.pi * sigma_columns * sigma_rows)).ravel()

    start = [2, 0.8 * (width - 1) / 2, 0.8 * (height - 1) / 2, width / 10 / 1.5, height / 6 / 1.5]
    limits = ([0, 0, 0, 1e-6, 1e-6], [np.inf, width - 1, height - 1, np.inf, np.inf])
    names = ("amplitude", "column", "row", "sigma_columns", "sigma_rows", "r2")
    try:  # gtol is absolute, and a map that sums to one has small gradients
        found, _ = curve_fit(
            model, None, mass.ravel(), start, bounds=limits, gtol=None, ftol=1e-15, xtol=1e-12, x_scale="jac"
        )
    except RuntimeError:
        return dict.fromkeys(names, math.nan)
    r2 = 1 - (mass.ravel() - model(None, *found)).var() / mass.var()
    return dict(zip(names, [*found.tolist(), float(r2)], strict=True))
