"""The closed forms against other ways to the same numbers: torch's gradients, enumeration, counting, integration."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.nn.functional import conv1d, conv2d

from erf import theory
from erf.errors import InputError
from erf.result.field import ReceptiveField
from erf.theory import Layer, Residual

KERNELS = st.integers(1, 9)
DEPTHS = st.integers(1, 30)
SEEDS = st.integers(0, 2**32 - 1)


def uniform(depth: int, kernel: int = 3, axes: int = 2) -> list[Layer]:
    return [Layer(theory.uniform_taps(kernel, axes))] * depth


# Stacks that hypothesis draws.


@st.composite
def taps(draw, axes: int, sides: tuple[int, ...] = (1, 2, 3, 4), positive: bool = False) -> np.ndarray:
    rng = np.random.default_rng(draw(SEEDS))
    shape = tuple(draw(st.sampled_from(sides)) for _ in range(axes))
    return rng.uniform(0.1, 1, shape) if positive else rng.standard_normal(shape)


@st.composite
def layers(draw, axes: int, positive: bool = False) -> Layer:
    return Layer(draw(taps(axes, positive=positive)), draw(st.integers(1, 3)), draw(st.integers(1, 3)))


@st.composite
def residuals(draw, axes: int, positive: bool = False) -> Residual:
    """Branches of stride 1 with odd kernels, one of them perhaps with a residual block inside."""
    odd = taps(axes, (1, 3), positive)
    branch = [Layer(draw(odd), 1, draw(st.integers(1, 2))) for _ in range(draw(st.integers(1, 2)))]
    return Residual((*branch, Residual((Layer(draw(odd)),)))[: draw(st.integers(1, 3))])


def stacks(axes: int, positive: bool = False):
    parts = layers(axes, positive) | residuals(axes, positive)
    return st.lists(parts, max_size=3).flatmap(
        lambda few: layers(axes, positive).map(lambda one: [*few, one])  # at least one layer
    )


def forward(stack, x: torch.Tensor, axes: int) -> torch.Tensor:
    """What the stack computes, by torch's convolutions."""
    convolve = conv1d if axes == 1 else conv2d
    for part in stack:
        if isinstance(part, Layer):
            x = convolve(x, torch.tensor(part.taps)[None, None], stride=part.stride, dilation=part.dilation)
        else:
            y = forward(part.branch, x, axes)
            for axis in range(2, 2 + axes):
                margin = (x.shape[axis] - y.shape[axis]) // 2
                x = x.narrow(axis, margin, y.shape[axis])
            x = x + y
    return x


def gradient(stack, axes: int) -> np.ndarray:
    x = torch.randn(1, 1, *theory.stack_rf(stack), dtype=torch.float64, requires_grad=True)
    output = forward(stack, x, axes)
    assert output.numel() == 1  # the receptive field leaves one unit
    (found,) = torch.autograd.grad(output.sum(), x)
    return found[0, 0].numpy()


@settings(max_examples=150)
@given(stack=stacks(2))
def test_linear_map_is_the_gradient_of_torch(stack):
    found = theory.linear_map(stack)
    np.testing.assert_allclose(found, gradient(stack, 2), rtol=0, atol=1e-10 * np.abs(found).max())


@settings(max_examples=100)
@given(stack=stacks(1))
def test_linear_map_in_one_dimension(stack):
    found = theory.linear_map(stack)
    np.testing.assert_allclose(found, gradient(stack, 1), rtol=0, atol=1e-10 * np.abs(found).max())


@settings(max_examples=100)
@given(stack=stacks(2, positive=True))
def test_with_positive_taps_every_pixel_is_right_to_1e_10_relative(stack):
    np.testing.assert_allclose(theory.linear_map(stack), gradient(stack, 2), rtol=1e-10)


@settings(max_examples=100)
@given(stack=stacks(2, positive=True))
def test_moments_of_a_stack_are_those_of_its_map(stack):
    total, mean, covariance = theory.stack_moments(stack)
    found = theory.moments(theory.linear_map(stack))
    assert total == pytest.approx(found[0], rel=1e-10)
    np.testing.assert_allclose(mean, found[1], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(covariance, found[2], rtol=1e-8, atol=1e-8)


@st.composite
def small_random_stacks(draw) -> list[Layer | Residual]:
    """Standard deviations of the weights; few enough of them to go through all their signs."""
    rng = np.random.default_rng(draw(SEEDS))
    first = Layer(rng.uniform(0.2, 1, (1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 3)))
    block = Residual((Layer(rng.uniform(0.2, 1, (3, 1)), 1, draw(st.integers(1, 2))),))
    last = Layer(rng.uniform(0.2, 1, (2, 2)), draw(st.integers(1, 2)))
    return draw(st.permutations([first, block, last]))


def with_taps(stack, change) -> list[Layer | Residual]:
    """The stack with `change` made to all taps."""
    return [
        Layer(change(part.taps), part.stride, part.dilation)
        if isinstance(part, Layer)
        else Residual(tuple(with_taps(part.branch, change)))
        for part in stack
    ]


@settings(max_examples=10)
@given(stack=small_random_stacks())
def test_variances_spread_as_theory_says_exactly(stack):
    """E[g^2] over all 2^10 signs of the weights, which are independent with zero mean, without any chance."""
    mean = 0.0
    for signs in product((-1, 1), repeat=10):
        remaining = iter(signs)
        signed = with_taps(
            stack, lambda taps, r=remaining: taps * np.array([next(r) for _ in taps.flat]).reshape(taps.shape)
        )
        mean = mean + theory.linear_map(signed) ** 2 / 2**10
    np.testing.assert_allclose(mean, theory.linear_map(with_taps(stack, np.square)), rtol=1e-10, atol=1e-14)


# Uniform kernels.


@given(depth=st.integers(0, 60))
def test_kernel_2_gives_the_binomial_coefficients(depth):
    assert theory.extended_binomial(2, depth) == [math.comb(depth, k) for k in range(depth + 1)]


@given(kernel=KERNELS, depth=DEPTHS)
def test_coefficients_count_the_paths(kernel, depth):
    coefficients = theory.extended_binomial(kernel, depth)
    assert sum(coefficients) == kernel**depth
    assert coefficients == coefficients[::-1]


@given(kernel=KERNELS, depth=DEPTHS)
def test_equation_1_by_fourier_transform_equals_the_exact_coefficients(kernel, depth):
    exact = np.array([coefficient / kernel**depth for coefficient in theory.extended_binomial(kernel, depth)])
    np.testing.assert_allclose(theory.fourier_map(theory.uniform_taps(kernel, 1), depth), exact, atol=1e-14)
    np.testing.assert_allclose(
        theory.fourier_map(theory.uniform_taps(kernel), depth), np.outer(exact, exact), atol=1e-14
    )


@given(kernel=KERNELS, depth=DEPTHS)
def test_uniform_map_is_the_stacks(kernel, depth):
    np.testing.assert_allclose(theory.uniform_map(depth, kernel), theory.linear_map(uniform(depth, kernel)), rtol=1e-12)


@given(kernel=taps(2, positive=True), depth=st.integers(1, 12))
def test_fourier_map_of_any_kernel(kernel, depth):
    exact = theory.linear_map([Layer(kernel)] * depth)
    np.testing.assert_allclose(theory.fourier_map(kernel, depth), exact, rtol=0, atol=1e-12 * exact.sum())


@given(kernel=KERNELS, depth=DEPTHS)
def test_sigma_of_uniform_kernels(kernel, depth):
    sigma = math.sqrt(depth * (kernel**2 - 1) / 12)
    assert theory.stack_sigma(uniform(depth, kernel)) == pytest.approx((sigma, sigma), rel=1e-12, abs=1e-9)


@given(sides=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=5))
def test_sigma_with_strides_and_dilations(sides):
    """PAPER: sigma^2 = sum of (k^2 - 1)/12 (dilation x product of the earlier strides)^2."""
    variance, jump = 0.0, 1
    for kernel, stride, dilation in sides:
        variance += (kernel**2 - 1) / 12 * (dilation * jump) ** 2
        jump *= stride
    stack = [Layer(theory.uniform_taps(kernel), stride, dilation) for kernel, stride, dilation in sides]
    assert theory.stack_sigma(stack) == pytest.approx((math.sqrt(variance),) * 2, rel=1e-9, abs=1e-6)


def test_a_residual_block_is_a_mixture_in_proportion_to_energy():
    """Half of the energy passes by, half through two 3x3 kernels: sigma^2 = (0 + 2 * 2/3) / 2 per block."""
    block = Residual(tuple(uniform(2)))
    assert theory.stack_sigma([block] * 7) == pytest.approx((math.sqrt(7 * 2 / 3),) * 2)
    louder = Residual((Layer(3 * theory.uniform_taps(3)), Layer(theory.uniform_taps(3))))
    assert theory.stack_sigma([louder]) == pytest.approx((math.sqrt(3 / 4 * 4 / 3),) * 2)


# Any kernel: sums of independent offsets.


@given(kernel=taps(1, positive=True), depth=st.integers(1, 8))
def test_distribution_of_a_sum_of_offsets_by_enumeration(kernel, depth):
    weights = kernel / kernel.sum()
    mean = (np.arange(len(weights)) * weights).sum()
    variance = (np.arange(len(weights)) ** 2 * weights).sum() - mean**2
    exact = theory.linear_map([Layer(weights)] * depth)
    if len(weights) ** depth < 5000:
        counted = np.zeros(len(exact))
        for offsets in product(range(len(weights)), repeat=depth):
            counted[sum(offsets)] += np.prod(weights[list(offsets)])
        np.testing.assert_allclose(exact, counted, rtol=1e-10)
    total, found_mean, found_variance = theory.moments(exact)
    assert (total, found_mean[0]) == pytest.approx((1, depth * mean), abs=1e-10)
    assert found_variance[0, 0] == pytest.approx(depth * variance, abs=1e-9)


@pytest.mark.parametrize("weights, rate", [([0.25, 0.5, 0.25], -1), ([1 / 3] * 3, -1), ([0.7, 0.2, 0.1], -0.5)])
def test_the_distance_from_the_gaussian_falls_as_theory_says(weights, rate):
    """1/n for symmetric kernels, 1/sqrt(n) for skewed ones (Berry and Esseen's rate)."""
    errors = [theory.clt_error(np.array(weights), depth) for depth in (50, 200)]
    assert math.log(errors[1] / errors[0]) / math.log(4) == pytest.approx(rate, abs=0.02)


@pytest.mark.parametrize("depth", [1, 5])
def test_the_distance_counts_what_the_sum_cannot_reach(depth):
    taps, far = np.array([0.7, 0.2, 0.1]), 60
    exact = np.pad(theory.linear_map([Layer(taps)] * depth), far)
    pixels = np.arange(len(exact)) - far
    density = stats.norm.pdf(pixels, depth * 0.4, math.sqrt(depth * 0.44))  # mean 0.4, variance 0.6 - 0.16
    assert theory.clt_error(taps, depth) == pytest.approx(np.abs(exact - density).sum() / 2, rel=1e-9)


def test_the_gaussian_of_a_tilted_kernel_in_two_dimensions():
    tilted = np.array([[0.2, 0.1, 0.0], [0.1, 0.2, 0.1], [0.0, 0.1, 0.2]])
    exact, gaussian = theory.linear_map([Layer(tilted)] * 60), theory.clt_map(tilted, 60)
    assert np.abs(exact - gaussian).sum() / 2 < 0.01
    assert gaussian.sum() == pytest.approx(1, abs=1e-3)


# Expectations of the experiments.


def test_size_of_a_gaussian_in_sigmas():
    assert theory.gaussian_size(1.0) == pytest.approx(4.406, abs=5e-4)


@pytest.mark.parametrize(
    "weights, mode", [("uniform", "abs"), ("uniform", "square"), ("random", "abs"), ("random", "square")]
)
def test_expected_sigma_is_that_of_a_gaussian_fitted_to_the_expected_map(weights, mode):
    impact = theory.expected_map(uniform(60), weights, mode)
    fit = ReceptiveField.from_runs(impact[None], (60, 60), impact.shape).fit_gaussian()
    assert fit.sigma == pytest.approx(theory.expected_sigma(uniform(60), weights, mode), rel=0.005)
    assert theory.expected_size(uniform(60), weights, mode) == pytest.approx(
        theory.gaussian_size(fit.sigma[0]), rel=0.01
    )


@given(depth=st.integers(1, 25), kernel=st.sampled_from([3, 5]), weights=st.sampled_from(["uniform", "random"]))
def test_the_short_way_to_a_plain_stacks_size(depth, kernel, weights):
    expected = theory.expected_size(uniform(depth, kernel), weights)
    assert theory.plain_size(depth, kernel, weights) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weights, size, ratio", [("uniform", 0.493, -0.467), ("random", 0.529, -0.431)])
def test_finite_depth_slopes(weights, size, ratio):
    assert theory.finite_depth_slopes([5, 10, 20, 40], 3, weights) == pytest.approx((size, ratio), abs=5e-4)


@pytest.mark.parametrize("depths, apart", [([5, 10, 20, 40], 0.96), ([20, 40, 80, 160], 0.99)])
def test_the_two_slopes_are_apart_by_that_of_the_receptive_field(depths, apart):
    """Whatever the network: the paper's 0.56 and -0.43 are 0.99 apart."""
    size, ratio = theory.finite_depth_slopes(depths)
    assert round(size - ratio, 2) == apart
    assert size - ratio == pytest.approx(theory.log_log_slope(np.array(depths), 1 + 2 * np.array(depths)))


def test_the_slopes_tend_to_a_half():
    size, ratio = theory.finite_depth_slopes([100, 200, 400], 3, "random")
    assert (size, ratio) == pytest.approx((0.5, -0.5), abs=0.005)


@given(slope=st.floats(-3, 3), factor=st.floats(0.1, 10))
def test_slope_of_a_power_law(slope, factor):
    x = np.array([1.0, 2.0, 5.0, 7.0])
    assert theory.log_log_slope(x, factor * x**slope) == pytest.approx(slope, abs=1e-9)


def test_impossible_arguments():
    with pytest.raises(InputError, match="kernel must be at least 1"):
        theory.extended_binomial(0, 3)
    with pytest.raises(InputError, match="no expected map"):
        theory.expected_map(uniform(3), "random", "signed")
    with pytest.raises(InputError, match="no expected map"):
        theory.expected_sigma(uniform(3), "ones")
    with pytest.raises(InputError, match="at least one layer"):
        theory.linear_map([])
    with pytest.raises(InputError, match="have no moments"):
        theory.moments(np.array([1.0, -1.0]))
    with pytest.raises(InputError, match="variances, and not negative"):
        theory.expected_map([Layer(-theory.uniform_taps(3))], "random")
    with pytest.raises(InputError, match="two or more depths"):
        theory.finite_depth_slopes([10])
    with pytest.raises(InputError, match=r"taps are \(k,\) or \(rows, columns\)"):
        Layer(np.ones((3, 3, 3)))
    with pytest.raises(InputError, match="at least 1, not 1 and 0"):
        Layer([1, 2, 1], dilation=0)
    for branch in (Layer(np.ones((2, 2))), Layer(np.ones((3, 3)), stride=2)):
        with pytest.raises(InputError, match="must have stride 1 and an odd receptive field"):
            theory.linear_map([Residual((branch,)), *uniform(1)])
