"""The square that holds a share of the impact, and the mean by distance, against what is known."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erf import theory
from erf.errors import InputError
from erf.result.contribution import SHARES, contribution_square, radial_profile

MAPS = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random((7, 11)) + 0.01)
POSITIONS = st.tuples(st.sampled_from([0, 2.5, 3, 6]), st.sampled_from([0, 4, 5.5, 10]))
SOME_SHARE = st.floats(0.01, 1)


def test_a_square_of_ones_by_hand():
    ones = np.ones((5, 5))
    for share, side in ((0.04, 1), (0.05, 3), (0.36, 3), (0.37, 5), (1, 5)):
        assert contribution_square(ones, (2, 2), share) == pytest.approx((side, side**2 / 25))
    assert contribution_square(0.1 * ones, (2, 2), 0.36)[0] == 3  # 0.9 of 2.5, but for rounding


def test_it_is_the_largest_distance_along_an_axis_that_counts():
    impact = np.zeros((9, 9))
    impact[4, 4], impact[2, 4], impact[7, 7] = 5, 3, 2
    for share, side in ((0.5, 1), (0.51, 5), (0.8, 5), (0.81, 7)):
        assert contribution_square(impact, (4, 4), share) == pytest.approx((side, side**2 / 81))


def test_a_unit_between_pixels_has_an_even_square():
    ones = np.ones((4, 6))
    assert contribution_square(ones, (1.5, 2.5), 1 / 6) == pytest.approx((2, 4 / 24))
    assert contribution_square(ones, (1.5, 2.5), 0.5) == pytest.approx((4, 16 / 24))
    # Between pixels on one axis alone: two rows of three whole pixels lie in a square of three.
    assert contribution_square(ones, (1.5, 3), 0.25) == pytest.approx((3, 9 / 24))


def test_a_square_that_leaves_the_map_counts_what_lies_in_it():
    ones = np.ones((4, 8))
    assert contribution_square(ones, (0, 0), 1 / 32) == pytest.approx((1, 1 / 32))
    assert contribution_square(ones, (0, 0), 4 / 32) == pytest.approx((3, 4 / 32))
    assert contribution_square(ones, (0, 0), 1) == pytest.approx((15, 1))
    assert contribution_square(ones, (1.5, 3.5), 1) == pytest.approx((8, 1))  # wider than the map is high


def test_the_square_of_a_gaussian():
    """Of a Gaussian the share within half a side h is erf(h / (sqrt 2 sigma))^2."""
    sigma, side = 20.0, 301
    impact = theory.gaussian_map(sigma, (side, side), (150, 150))
    for share in SHARES:
        half = sigma * NormalDist().inv_cdf((1 + math.sqrt(share)) / 2)
        found, ratio = contribution_square(impact, (150, 150), share)
        assert 2 * half <= found < 2 * half + 2  # the next odd number
        assert found % 2 == 1 and ratio == pytest.approx((found / side) ** 2)


@given(impact=MAPS, share=SOME_SHARE)
def test_the_side_is_that_of_squares_tried_one_by_one(impact, share):
    for half in range(12):
        rows, columns = slice(max(3 - half, 0), 3 + half + 1), slice(max(5 - half, 0), 5 + half + 1)
        if impact[rows, columns].sum() >= share * impact.sum() * (1 - 1e-12):
            break
    assert contribution_square(impact, (3, 5), share)[0] == 2 * half + 1


@given(impact=MAPS, position=POSITIONS, share=SOME_SHARE, factor=st.floats(1e-30, 1e30))
def test_the_square_ignores_the_scale_and_turns_with_the_map(impact, position, share, factor):
    side, ratio = contribution_square(impact, position, share)
    assert contribution_square(impact * factor, position, share) == (side, ratio)
    assert contribution_square(impact.T, position[::-1], share) == pytest.approx((side, ratio))
    assert 0 < ratio <= 1


@given(impact=MAPS, position=POSITIONS, shares=st.tuples(SOME_SHARE, SOME_SHARE).map(sorted))
def test_a_larger_share_never_needs_a_smaller_square(impact, position, shares):
    (small, low), (large, high) = (contribution_square(impact, position, share) for share in shares)
    assert small <= large and low <= high


def test_an_empty_map_has_no_square():
    assert np.isnan(contribution_square(np.zeros((3, 3)), (1, 1), 0.5)).all()


@pytest.mark.parametrize("share", [0, -0.5, 1.01, 20, math.nan])
def test_shares_that_are_none_are_refused(share):
    with pytest.raises(InputError, match=f"must be above 0 and at most 1, not {share}"):
        contribution_square(np.zeros((3, 3)), (1, 1), share)


def test_the_profile_of_a_small_map_by_hand():
    impact = np.array([[1.0, 2.0, 3.0], [4.0, 10.0, 6.0], [7.0, 8.0, 9.0]])
    distances, means = radial_profile(impact, (1, 1))  # a diagonal neighbour is 1.41 away
    assert distances == pytest.approx([0, (4 + 4 * math.sqrt(2)) / 8])
    assert means == pytest.approx([10, (45 - 5) / 8])
    distances, means = radial_profile(impact, (0, 0))
    assert distances == pytest.approx([0, (2 + math.sqrt(2)) / 3, (4 + 2 * math.sqrt(5)) / 4, math.sqrt(8)])
    assert means == pytest.approx([1, (2 + 4 + 10) / 3, (3 + 7 + 6 + 8) / 4, 9])


def test_bins_without_a_pixel_are_left_out():
    distances, means = radial_profile(np.array([[1.0, 2.0], [3.0, 4.0]]), (0.5, 0.5))
    assert (distances, means) == (pytest.approx([math.sqrt(0.5)]), pytest.approx([2.5]))


@pytest.mark.parametrize("position", [(60, 70), (60.5, 70.5), (3, 100)])
@pytest.mark.parametrize("sigma", [4.0, 15.0])
def test_the_profile_of_a_gaussian_is_its_section(sigma, position):
    """A mean over a bin differs from the value at its mean distance by at most f'' / 2 times the variance in the bin,
    which is 1 / 4 at most; and a Gaussian of peak one has |f''| <= 1 / sigma^2."""
    distances, means = radial_profile(theory.gaussian_map(sigma, (131, 141), position), position)
    assert np.abs(means - np.exp(-(distances**2) / (2 * sigma**2))).max() < 1 / (8 * sigma**2)
    assert (np.diff(distances) > 0).all()


@given(impact=MAPS, position=POSITIONS, factor=st.floats(1e-30, 1e30))
def test_the_profile_scales_and_turns_with_the_map(impact, position, factor):
    distances, means = radial_profile(impact, position)
    for changed, place, scale in ((impact * factor, position, factor), (impact.T, position[::-1], 1)):
        found = radial_profile(changed, place)
        np.testing.assert_allclose(found[0], distances)
        np.testing.assert_allclose(found[1], scale * means)
    assert impact.min() <= means.min() * (1 + 1e-12) and means.max() <= impact.max() * (1 + 1e-12)
