"""The paper's idea of an initialisation that enlarges the ERF: kernels that are light in their middle."""

import numpy as np

from erf.errors import InputError


def centre_light_variances(kernel: int, strength: float) -> np.ndarray:
    """Variances (kernel, kernel) of a kernel's random weights, of mean one, small in its middle and large at its rim.

    1 - strength * (1 - (r / R)^2) at distance r from the middle, where R is a corner's distance, then scaled to a mean
    of one, so that a layer keeps its gradient's energy. Strength 0 is He's initialisation; at 1 the weight in the
    middle of an odd kernel is zero. Luo et al. 2016 propose weights of this kind, but do not say by how much they
    differ. InputError for a strength that is not between 0 and 1.
    """
    if not 0 <= strength <= 1:
        raise InputError(f"the strength of a centre-light initialisation lies between 0 and 1, not at {strength}")
    square = (np.arange(kernel) - (kernel - 1) / 2) ** 2
    radius = square[:, None] + square
    if kernel == 1:
        return np.ones((1, 1))
    variances = 1 - strength * (1 - radius / radius.max())
    return variances / variances.mean()
