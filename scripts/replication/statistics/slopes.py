"""The paper's pair of slopes: what counts as met, and at which depths it can occur at all."""

from collections.abc import Sequence

import numpy as np

from erf.theory import log_log_slope

BOX = {"size": (0.555, 0.565), "ratio": (-0.435, -0.425)}  # what is printed as 0.56 and -0.43


def is_pair(size: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Whether both slopes are the paper's to its two printed digits. Arrays of one shape; False where one is NaN."""
    (low, high), (steep, flat) = BOX["size"], BOX["ratio"]
    return (low <= size) & (size < high) & (steep < ratio) & (ratio <= flat)


def rf_slope(depths: Sequence[int], kernel: int) -> float:
    """Slope of log RF side, 1 + n (k - 1), against log depth n for plain stacks: the size's slope less the ratio's."""
    depth = np.array(depths, float)
    return float(log_log_slope(depth, 1 + depth * (kernel - 1)))


def pair_is_possible(rf: float) -> bool:
    """Whether networks with this slope of the RF can have the pair: the line ratio = size - rf meets the box."""
    (low, high), (steep, flat) = BOX["size"], BOX["ratio"]
    return low - flat <= rf < high - steep
