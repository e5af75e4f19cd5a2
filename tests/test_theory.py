"""The closed forms against other ways to the same numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erf import theory
from erf.errors import InputError
from erf.field import erf_size

KERNELS = st.integers(1, 9)
DEPTHS = st.integers(1, 30)


@given(depth=st.integers(0, 60))
def test_kernel_2_gives_the_binomial_coefficients(depth):
    assert theory.extended_binomial(2, depth) == [math.comb(depth, k) for k in range(depth + 1)]


@given(kernel=KERNELS, depth=DEPTHS)
def test_coefficients_count_the_paths(kernel, depth):
    coefficients = theory.extended_binomial(kernel, depth)
    assert sum(coefficients) == kernel**depth
    assert coefficients == coefficients[::-1]


@given(kernel=KERNELS, depth=DEPTHS)
def test_equation_1_by_fourier_transform(kernel, depth):
    length = depth * (kernel - 1) + 1
    spectrum = np.fft.fft(np.ones(kernel), length) ** depth  # (sum over m < k of exp(-j w m)) ^ n
    row = np.fft.ifft(spectrum).real / kernel**depth
    np.testing.assert_allclose(theory.uniform_map(depth, kernel), np.outer(row, row), atol=1e-12)


@given(kernel=KERNELS, depth=DEPTHS)
def test_sigma_of_the_map_is_the_sum_of_the_layers_variances(kernel, depth):
    impact = theory.uniform_map(depth, kernel)
    offset = np.arange(len(impact)) - (len(impact) - 1) / 2
    sigma = math.sqrt((impact.sum(1) * offset**2).sum())
    assert sigma == pytest.approx(theory.stack_sigma([(kernel, 1, 1)] * depth), rel=1e-12, abs=1e-12)


@given(layers=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=5))
def test_sigma_with_strides_and_dilations_by_convolving_offsets(layers):
    distribution, jump = np.ones(1), 1
    for kernel, stride, dilation in layers:
        taps = np.zeros((kernel - 1) * dilation * jump + 1)
        taps[:: dilation * jump] = 1 / kernel
        distribution, jump = np.convolve(distribution, taps), jump * stride
    offset = np.arange(len(distribution))
    variance = (distribution * offset**2).sum() - (distribution * offset).sum() ** 2
    assert theory.stack_sigma(layers) == pytest.approx(math.sqrt(max(variance, 0)), rel=1e-6, abs=1e-5)


def test_size_of_a_gaussian_in_sigmas():
    assert theory.gaussian_size(1.0) == pytest.approx(4.406, abs=5e-4)


@pytest.mark.parametrize(("weights", "size", "ratio"), [("uniform", 0.482, -0.478), ("random", 0.539, -0.421)])
def test_finite_depth_slopes(weights, size, ratio):
    depths = np.array([5, 10, 20, 40])
    sizes = []
    for depth in depths:
        impact = theory.expected_map(depth, 3, weights)
        sizes.append(float(erf_size(impact, (depth, depth))))
    assert theory.log_log_slope(depths, np.array(sizes)) == pytest.approx(size, abs=5e-4)
    assert theory.log_log_slope(depths, np.array(sizes) / (2 * depths + 1)) == pytest.approx(ratio, abs=5e-4)


@given(slope=st.floats(-3, 3), factor=st.floats(0.1, 10))
def test_slope_of_a_power_law(slope, factor):
    x = np.array([1.0, 2.0, 5.0, 7.0])
    assert theory.log_log_slope(x, factor * x**slope) == pytest.approx(slope, abs=1e-9)


def test_impossible_arguments():
    with pytest.raises(InputError, match="kernel must be at least 1"):
        theory.extended_binomial(0, 3)
    with pytest.raises(InputError, match="no expected map"):
        theory.expected_map(3, 3, "random", "signed")
