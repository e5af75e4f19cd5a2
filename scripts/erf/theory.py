"""Closed forms of the effective receptive field. numpy only.

The network of the theory is linear, with one channel: a list of `Layer` and `Residual`, input first. Its impact map is
what `linear_map` computes. Everything here follows from that one rule, for two kinds of weights:

- given weights (uniform ones, say): the taps are the weights, and the map is the gradient itself;
- random weights, independent and with zero mean: the taps are the weights' variances, and the map is E[g^2], since all
  products of different weights vanish in the mean (section 2.2 of the paper).

Equations and sections are those of Luo et al. (NIPS 2016). Maps are float64, (T,) or (H, W); lengths are in pixels of
the input; a map's middle is where the unit looks.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product

import numpy as np

from erf.errors import InputError
from erf.size import THRESHOLD, erf_size

__all__ = [
    "Layer",
    "Residual",
    "Stack",
    "clt_error",
    "clt_map",
    "expected_map",
    "expected_sigma",
    "expected_size",
    "extended_binomial",
    "finite_depth_slopes",
    "fourier_map",
    "gaussian_map",
    "gaussian_size",
    "linear_map",
    "log_log_slope",
    "moments",
    "plain_map",
    "plain_size",
    "stack_moments",
    "stack_rf",
    "stack_sigma",
    "stack_stride",
    "uniform_map",
    "uniform_taps",
]


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution with `taps`, (k,) or (rows, columns); or anything like it, such as a pooling.

    Output t reads the inputs stride * t + dilation * m with weight taps[m], as in torch: unpadded, and not flipped.
    """

    taps: np.ndarray
    stride: int = 1
    dilation: int = 1

    def __post_init__(self):
        object.__setattr__(self, "taps", np.asarray(self.taps, float))
        if self.taps.ndim not in (1, 2) or not self.taps.size:
            raise InputError(f"taps are (k,) or (rows, columns), not of shape {self.taps.shape}")
        if self.stride < 1 or self.dilation < 1:
            raise InputError(f"stride and dilation are at least 1, not {self.stride} and {self.dilation}")


@dataclass(frozen=True, eq=False)
class Residual:
    """y = x + f(x) with f given by `branch`; x is cropped in its middle to the plane of f(x)."""

    branch: tuple["Layer | Residual", ...]


Stack = Sequence[Layer | Residual]  # input first; all of one dimension


# Uniform kernels (section 2.1): Eq. 1, in two independent ways.


def extended_binomial(kernel: int, depth: int) -> list[int]:
    """Coefficients of (1 + z + ... + z^(kernel-1))^depth, exactly: binomial for kernel 2 (section 2.1).

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
    """Impact (H, W) of each pixel in a stack of uniform square kernels: the outer product of Eq. 1's coefficients.

    Sums to one. Each value is right to rounding: the integers are divided before they become floats.
    """
    total = kernel**depth
    row = np.array([coefficient / total for coefficient in extended_binomial(kernel, depth)])
    return np.outer(row, row)


def fourier_map(taps: np.ndarray, depth: int) -> np.ndarray:
    """The map of `depth` equal layers by Eq. 1: the inverse Fourier transform of the kernel's, to the power `depth`.

    taps (k,) or (rows, columns). Errors are absolute, about 1e-16 of the map's sum: far tails are rounding.
    """
    shape = tuple(depth * (side - 1) + 1 for side in taps.shape)
    axes = tuple(range(taps.ndim))
    return np.fft.irfftn(np.fft.rfftn(taps, shape, axes) ** depth, shape, axes)


# Any linear stack, and its moments.


def uniform_taps(kernel: int, axes: int = 2) -> np.ndarray:
    """The uniform kernel that sums to one."""
    return np.full((kernel,) * axes, 1 / kernel**axes)


def linear_map(stack: Stack) -> np.ndarray:
    """Gradient of the stack's one output with respect to each input pixel; exact, for taps of any sign.

    The output's gradient, 1, is carried back layer by layer: spread out by the stride, then convolved with the taps.
    """
    impact = np.ones((1,) * _axes(stack))
    for part in reversed(stack):
        impact = _carried_back(impact, part)
    return impact


def _axes(stack: Stack) -> int:
    for part in stack:
        return part.taps.ndim if isinstance(part, Layer) else _axes(part.branch)
    raise InputError("a stack needs at least one layer")


def _carried_back(impact: np.ndarray, part: Layer | Residual) -> np.ndarray:
    if isinstance(part, Residual):
        through = impact
        for inner in reversed(part.branch):
            through = _carried_back(through, inner)
        margins = [(a - b) / 2 for a, b in zip(through.shape, impact.shape, strict=True)]
        if stack_stride(part.branch) != 1 or any(margin % 1 for margin in margins):
            raise InputError(
                "a residual branch must have stride 1 and an odd receptive field, to be added to its input"
            )
        return through + np.pad(impact, [(int(margin),) * 2 for margin in margins])
    spread = np.zeros([(side - 1) * part.stride + 1 for side in impact.shape])
    spread[(slice(None, None, part.stride),) * impact.ndim] = impact
    shape = [side + part.dilation * (k - 1) for side, k in zip(spread.shape, part.taps.shape, strict=True)]
    carried = np.zeros(shape)
    for index in product(*map(range, part.taps.shape)):
        place = (slice(part.dilation * m, part.dilation * m + n) for m, n in zip(index, spread.shape, strict=True))
        carried[tuple(place)] += part.taps[index] * spread
    return carried


def stack_stride(stack: Stack) -> int:
    """Pixels of the input between neighbouring units of the output."""
    return math.prod(part.stride for part in stack if isinstance(part, Layer))


def stack_rf(stack: Stack) -> tuple[int, ...]:
    """Theoretical receptive field along each axis (pixels): 1 + sum of (k - 1) dilation x the earlier strides."""
    reach, jump = np.zeros(_axes(stack), int), 1
    for part in stack:
        sides = np.array(part.taps.shape if isinstance(part, Layer) else stack_rf(part.branch))
        reach += (sides - 1) * jump * (part.dilation if isinstance(part, Layer) else 1)
        jump *= part.stride if isinstance(part, Layer) else 1
    return tuple((1 + reach).tolist())


def moments(taps: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Sum, mean (axes,) and covariance (axes, axes) of a kernel or map, as a distribution over its indices.

    Section 2.3: with P(X = m) = w(m), E[X] = sum of m w(m) and Var[X] = sum of m^2 w(m) - E[X]^2.
    """
    total = taps.sum()
    if total == 0:
        raise InputError("weights that sum to zero are no distribution: they have no moments")
    offsets = np.indices(taps.shape).reshape(taps.ndim, -1)  # (axes, pixels)
    shares = taps.ravel() / total
    mean = offsets @ shares
    centred = offsets - mean[:, None]
    return float(total), mean, (shares * centred) @ centred.T


def stack_moments(stack: Stack) -> tuple[float, np.ndarray, np.ndarray]:
    """Sum, mean (axes,) and covariance (axes, axes) of `linear_map(stack)`, in closed form, without the map.

    Sums multiply; offsets are independent, so their means and covariances add (section 2.3: E[S_n] and Var[S_n]), each
    layer's in units of dilation x the product of the earlier strides. A residual block is a mixture of the identity and
    its branch, each with its share of the sum.
    """
    total, mean, covariance, jump = 1.0, 0.0, 0.0, 1
    for part in stack:
        if isinstance(part, Layer):
            factor, shift, spread = moments(part.taps)
            shift, spread = shift * part.dilation, spread * part.dilation**2
        else:
            through, branch_shift, branch_spread = stack_moments(part.branch)
            identity_shift = (np.array(stack_rf(part.branch)) - 1) / 2
            factor, share = 1 + through, through / (1 + through)
            shift = share * branch_shift + (1 - share) * identity_shift
            apart = branch_shift - identity_shift
            spread = share * branch_spread + share * (1 - share) * np.outer(apart, apart)
        total, mean, covariance = total * factor, mean + jump * shift, covariance + jump**2 * spread
        jump *= part.stride if isinstance(part, Layer) else 1
    return total, mean, covariance


def stack_sigma(stack: Stack) -> tuple[float, ...]:
    """Standard deviation of the stack's map along each axis (pixels): sqrt(n (k^2 - 1) / 12) for n uniform kernels.

    `expected_sigma` includes the mode of averaging.
    """
    return tuple(np.sqrt(np.diag(stack_moments(stack)[2])).tolist())


# The limit of many layers (section 2.3: central limit theorem).


def clt_map(taps: np.ndarray, depth: int, margin: int = 0) -> np.ndarray:
    """The Gaussian to which the map of `depth` equal layers converges, at the map's pixels: moments times n.

    taps >= 0 with a covariance that is not singular; the density is scaled to the map's sum, total^n. `margin` adds
    pixels around the map.
    """
    total, mean, covariance = moments(taps)
    shape = tuple(depth * (side - 1) + 1 + 2 * margin for side in taps.shape)
    centred = np.moveaxis(np.indices(shape), 0, -1) - margin - depth * mean  # (..., axes)
    precision = np.linalg.inv(depth * covariance)
    exponent = np.einsum("...i,ij,...j", centred, precision, centred) / 2
    return total**depth * math.sqrt(np.linalg.det(precision / (2 * math.pi))) * np.exp(-exponent)


def clt_error(taps: np.ndarray, depth: int) -> float:
    """Total variation distance between the exact distribution of S_n and the Gaussian: half the sum of |difference|.

    Over all pixels, those that S_n cannot reach included. Falls as 1/n for symmetric kernels and as 1/sqrt(n) for
    skewed ones.
    """
    normalised = taps / taps.sum()
    _, _, covariance = moments(normalised)
    margin = math.ceil(9 * math.sqrt(depth * np.diag(covariance).max()))  # beyond lies less than 1e-18
    exact = np.pad(linear_map([Layer(normalised)] * depth), margin)
    return float(np.abs(exact - clt_map(normalised, depth, margin)).sum() / 2)


# The results to expect of an experiment.

# How a mode of averaging changes `linear_map`, and by which factor it widens it: a Gaussian's root is sqrt(2) wider.
_MODES = {
    ("uniform", "abs"): (np.abs, 1.0),
    ("uniform", "signed"): (np.abs, 1.0),
    ("uniform", "square"): (np.square, math.sqrt(0.5)),
    ("random", "abs"): (np.sqrt, math.sqrt(2)),
    ("random", "square"): (np.abs, 1.0),
}


def _observed(weights: str, mode: str) -> tuple[Callable[[np.ndarray], np.ndarray], float]:
    if (weights, mode) not in _MODES:
        raise InputError(f"no expected map for weights {weights!r} in mode {mode!r}")
    return _MODES[weights, mode]


def expected_map(stack: Stack, weights: str, mode: str = "abs") -> np.ndarray:
    """Expected impact map of a linear network, up to a factor; `stack` has the weights, or the random ones' variances.

    expected_map([Layer(uniform_taps(3))] * 20, "random") is that of 20 layers of random 3x3 kernels.
    weights "uniform" (or any given ones): |g|, or g^2 for mode "square"; the same in each run.
    weights "random": E[g^2] for mode "square", exactly; its root for "abs", the limit of many channels, in which g is
    normal and E|g| = sqrt(2/pi E[g^2]). InputError for their "signed" mean, which is zero.
    """
    transform, _ = _observed(weights, mode)
    impact = linear_map(stack)
    if weights == "random" and (impact < 0).any():
        raise InputError("for random weights the taps are variances, and not negative")
    return transform(impact)


def expected_sigma(stack: Stack, weights: str, mode: str = "abs") -> tuple[float, ...]:
    """Sigma (pixels) along each axis of the Gaussian that the expected map tends to with depth."""
    _, width = _observed(weights, mode)
    return tuple(width * sigma for sigma in stack_sigma(stack))


def expected_size(
    stack: Stack, weights: str, mode: str = "abs", threshold: float = THRESHOLD, reference: str = "centre"
) -> float:
    """ERF size (pixels) of the expected map, finite depth and clipping by the receptive field included. Skewed kernels
    move the map away from its middle: take the "maximum" as the reference there."""
    return _middle_size(expected_map(stack, weights, mode), threshold, reference)


def plain_map(depth: int, kernel: int, weights: str, mode: str = "abs") -> np.ndarray:
    """`expected_map` of a plain stack of stride 1, up to a factor; quick, since it follows from `uniform_map`."""
    transform, _ = _observed(weights, mode)
    return transform(uniform_map(depth, kernel))


def plain_size(depth: int, kernel: int, weights: str, mode: str = "abs", threshold: float = THRESHOLD) -> float:
    """`expected_size` of a plain stack of stride 1; quick, as `plain_map` is."""
    return _middle_size(plain_map(depth, kernel, weights, mode), threshold)


def _middle_size(impact: np.ndarray, threshold: float, reference: str = "centre") -> float:
    return float(erf_size(impact, tuple((side - 1) / 2 for side in impact.shape), threshold, reference))


def finite_depth_slopes(
    depths: Sequence[int], kernel: int = 3, weights: str = "random", mode: str = "abs", threshold: float = THRESHOLD
) -> tuple[float, float]:
    """Slopes of log ERF size and log ERF ratio against log depth for plain stacks of these depths.

    weights and mode as in `expected_map`: ("random", "abs"), ("uniform", "abs"), ...
    They tend to 0.5 and -0.5 with depth; over a finite range the size differs from its limit through the
    Gaussian's cut tails, and the receptive field 1 + n (k - 1) from a multiple of n.
    """
    depth = np.array(depths)
    if len(set(depths)) < 2 or depth.min() < 1:
        raise InputError(f"a slope needs two or more depths of at least one layer, not {list(depths)}")
    sizes = np.array([plain_size(n, kernel, weights, mode, threshold) for n in depths])
    return float(log_log_slope(depth, sizes)), float(log_log_slope(depth, sizes / (1 + depth * (kernel - 1))))


# The Gaussian, and slopes.


def gaussian_map(sigma: float | tuple[float, ...], shape: tuple[int, ...], position: tuple[float, ...]) -> np.ndarray:
    """Gaussian of peak one over a map of `shape`, centred on `position`; all in pixels, in the order of the map's axes.

    sigma : one for all axes, or one for each
    """
    sigmas = np.broadcast_to(sigma, len(shape))
    sections = (
        np.exp(-((np.arange(length) - centre) ** 2) / (2 * s**2))
        for length, centre, s in zip(shape, position, sigmas, strict=True)
    )
    return reduce(np.multiply.outer, sections)


def gaussian_size(sigma: float, threshold: float = THRESHOLD) -> float:
    """ERF size (pixels) of a round Gaussian: sqrt of the area above `threshold` of its peak, 4.406 sigma at 4.55 %."""
    return math.sqrt(math.pi) * sigma * math.sqrt(-2 * math.log(threshold))


def log_log_slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least-squares slope of log y against log x. `y` may be (..., n), one fit per row of n points; x is (n,)."""
    log_x = np.log(x) - np.log(x).mean()
    return (np.log(y) * log_x).sum(-1) / (log_x**2).sum()
