"""What theory says of linear stacks whose weights have a mean and a spread: between uniform and random ones.

Weights are independent, with mean mu and standard deviation s. Then E[w w'] is mu^2 for two different weights, and
mu^2 + s^2 for a weight and itself. E[g^2] sums over pairs of paths from the unit to one pixel. In some layers the two
paths step independently, and the pair carries mu^2; in the others both use the same weight, and it carries s^2. A pair
that steps independently in j of the n layers is at one pixel with u_j^2, where u_j is the uniform map of j layers.
So E[g^2] is exactly a sum over j of u_j^2, convolved with u_(n - j).
"""

import math

import numpy as np
from scipy.signal import fftconvolve
from scipy.special import ndtr

from erf.theory import uniform_map


def pair_shares(depth: int, kernel: int, channels: int, mean_share: float) -> np.ndarray:
    """Energy (depth + 1,) of pairs of paths that step independently in j layers, j = 0 ... depth; exact.

    Weights as in `replication.stacks.passes.with_mean`: fan-in s^2 = 1 - t, and (fan-in mu)^2 = t. Of one channel
    it is binomial. With more, a pair may also be in different channels: `same` holds pairs in one channel, `any_two`
    pairs in any two, both summed over paths, as polynomials in the number of independent steps.
    """
    same, any_two = np.zeros(depth + 1), np.zeros(depth + 1)
    same[0] = any_two[0] = 1.0  # the unit
    above = 1  # channels
    for _ in range(depth):  # from the unit down
        fan_in = channels * kernel**2
        pixels = kernel**2  # the taps of u_j and of u_(n - j) are 1 / pixels each
        apart = mean_share / fan_in**2 * pixels**2 * np.roll(any_two, 1)
        apart[0] = 0.0
        together = (1 - mean_share) / fan_in * pixels * above * same
        same, any_two = apart + together, channels**2 * apart + channels * together
        above = channels
    return same


def mean_square_map(depth: int, kernel: int, channels: int, mean_share: float) -> np.ndarray:
    """E[g^2], (H, W), of a linear stack, for any number of channels; exact."""
    side, total = 1 + depth * (kernel - 1), 0.0
    for apart, share in enumerate(pair_shares(depth, kernel, channels, mean_share)):
        if share:
            squared, stepped = uniform_map(apart, kernel) ** 2, uniform_map(depth - apart, kernel)
            total = total + share * np.maximum(fftconvolve(squared, stepped), 0.0)
    return np.broadcast_to(total, (side, side))


def mean_map(depth: int, kernel: int, channels: int, mean_share: float) -> np.ndarray:
    """E[g], (H, W), of a linear stack; exact."""
    return mean_share ** (depth / 2) / channels * uniform_map(depth, kernel)


def mean_abs_map(depth: int, kernel: int, channels: int, mean_share: float) -> np.ndarray:
    """E|g|, (H, W), of a linear stack, as far as g is normal: a folded normal with the exact E[g] and E[g^2]. The limit
    of many channels."""
    mean = mean_map(depth, kernel, channels, mean_share)
    spread = np.sqrt(np.maximum(mean_square_map(depth, kernel, channels, mean_share) - mean**2, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.where(spread > 1e-9 * mean, mean / spread, math.inf)
        folded = math.sqrt(2 / math.pi) * spread * np.exp(-(times**2) / 2) + mean * (2 * ndtr(times) - 1)
    return np.where(np.isinf(times), mean, folded)


def negative_share(kernel: int, channels: int, mean_share: float) -> float:
    """Share of the weights that are negative, of layers with `channels` inputs."""
    if mean_share == 1:
        return 0.0
    return float(ndtr(-math.sqrt(mean_share / (1 - mean_share) / (channels * kernel**2))))


def corner_ratio(depth: int, channels: int) -> float:
    """E|g| / sqrt(E[g^2]) at the corner of the receptive field of a linear random stack; exact.

    One path in space leads there, so g is a product of random matrices: each layer but the last multiplies its length
    by that of `channels` normal numbers, relative to their root mean square.
    """
    log_length = math.lgamma((channels + 1) / 2) - math.lgamma(channels / 2) - math.log(channels / 2) / 2
    return math.sqrt(2 / math.pi) * math.exp((depth - 1) * log_length)
