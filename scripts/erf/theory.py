"""Closed forms of the effective receptive field. numpy only.

Equation and section numbers are those of Luo et al. (NIPS 2016). Maps are float64 (H, W), sum to one unless said
otherwise, and have the unit at their middle; lengths are in pixels of the input.
"""

import math
from collections.abc import Iterable

import numpy as np

from erf.errors import InputError

THRESHOLD = 0.0455  # 1 - 95.45 %
"""A pixel is in the effective receptive field when its impact is above this share of the centre pixel's."""


def extended_binomial(kernel: int, depth: int) -> list[int]:
    """Coefficients of (1 + z + ... + z^(kernel-1))^depth, exactly: binomial for kernel 2 (section 2.1, uniform kernel).

    Returns depth (kernel - 1) + 1 integers that sum to kernel^depth.
    """
    if kernel < 1 or depth < 0:
        raise InputError(f"kernel must be at least 1 and depth at least 0, not {kernel} and {depth}")
    row = [1]
    for _ in range(depth):
        # Multiplying by 1 + z + ... is a running sum over a window of `kernel` coefficients.
        padded = [0] * (kernel - 1) + row + [0] * (kernel - 1)
        row = [sum(padded[i : i + kernel]) for i in range(len(row) + kernel - 1)]
    return row


def uniform_map(depth: int, kernel: int) -> np.ndarray:
    """Impact of each pixel in a stack of `depth` uniform square kernels: the outer product of Eq. 1's coefficients.

    Each value is right to rounding: the integers are divided before they become floats.
    """
    total = kernel**depth
    row = np.array([coefficient / total for coefficient in extended_binomial(kernel, depth)])
    return np.outer(row, row)


def expected_map(depth: int, kernel: int, weights: str, mode: str = "abs") -> np.ndarray:
    """Expected impact map of a plain stack of stride 1 without activations, up to a factor.

    weights "uniform": `uniform_map`, squared for mode "square" (the network is the same in each run).
    weights "random" (independent, zero mean): E[g^2] spreads as if every kernel were uniform (section 2.2), so mode
    "square" gives `uniform_map`; "abs" gives its root, the limit of many channels, in which g is normal.
    InputError for their "signed" mean, which is zero.
    """
    impact = uniform_map(depth, kernel)
    if (weights, mode) in {("uniform", "abs"), ("uniform", "signed"), ("random", "square")}:
        return impact
    if (weights, mode) == ("uniform", "square"):
        return impact**2
    if (weights, mode) == ("random", "abs"):
        return np.sqrt(impact)
    raise InputError(f"no expected map for weights {weights!r} in mode {mode!r}")


def stack_sigma(layers: Iterable[tuple[int, int, int]]) -> float:
    """Standard deviation (pixels, per axis) of a uniform stack's map; layers (kernel, stride, dilation), input first.

    sigma^2 = sum over layers of (k^2 - 1)/12 (dilation x product of the earlier strides)^2. A random stack's |g| is
    sqrt(2) wider (`expected_map`).
    """
    variance, jump = 0.0, 1
    for kernel, stride, dilation in layers:
        variance += (kernel**2 - 1) / 12 * (dilation * jump) ** 2
        jump *= stride
    return math.sqrt(variance)


def gaussian_map(
    sigma: float | tuple[float, float], shape: tuple[int, int], position: tuple[float, float]
) -> np.ndarray:
    """Gaussian of peak one over a map of `shape`, centred on `position`; all in pixels, rows before columns."""
    sigmas = np.broadcast_to(sigma, 2)
    rows, columns = (
        np.exp(-((np.arange(length) - centre) ** 2) / (2 * s**2))
        for length, centre, s in zip(shape, position, sigmas, strict=True)
    )
    return np.outer(rows, columns)


def gaussian_size(sigma: float, threshold: float = THRESHOLD) -> float:
    """ERF size (pixels) of a round Gaussian: sqrt of the area above `threshold` of its peak, 4.406 sigma at 4.55 %."""
    return math.sqrt(math.pi) * sigma * math.sqrt(-2 * math.log(threshold))


def log_log_slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least-squares slope of log y against log x. `y` may be (..., n), one fit per row of n points; x is (n,)."""
    log_x = np.log(x) - np.log(x).mean()
    return (np.log(y) * log_x).sum(-1) / (log_x**2).sum()
