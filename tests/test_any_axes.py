"""Fields of sound and of volumes: maps of one and three axes against closed forms, and lengths in other units."""

import dataclasses
import math
from functools import reduce
from itertools import permutations
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy.interpolate import make_interp_spline
from torch import nn

from erf import naive, theory
from erf.errors import InputError
from erf.result.contribution import SHARES, contribution_square, radial_profile
from erf.result.display import THEORY
from erf.result.field import ReceptiveField, load_fields, save_fields
from erf.size import E2, THRESHOLD, centre_impact, erf_size

BALL = {1: 2.0, 2: math.pi, 3: 4 / 3 * math.pi}  # measure of the ball of radius one
SEEDS = st.integers(0, 2**32 - 1)


def field_of(impact: np.ndarray, position=None, **kwargs) -> ReceptiveField:
    position = position or tuple((side - 1) / 2 for side in impact.shape)
    return ReceptiveField.from_runs(impact[None], position, impact.shape, **kwargs)


def gaussian_size(sigmas: tuple[float, ...], threshold: float = THRESHOLD) -> float:
    """Root of the measure of the ellipsoid in which a Gaussian is above a share of its peak."""
    axes = len(sigmas)
    return (BALL[axes] * math.prod(sigmas)) ** (1 / axes) * math.sqrt(-2 * math.log(threshold))


# Sizes.


@pytest.mark.parametrize("threshold", [THRESHOLD, E2, 0.01, 0.5])
@given(size=st.floats(8.0, 60.0), middle=st.floats(-0.5, 0.5))
def test_the_length_of_a_gaussian_is_its_formulas(threshold, size, middle):
    impact = theory.gaussian_map(size / gaussian_size((1.0,), threshold), (121,), (60 + middle,))
    impact[60] = 1.0  # the unit's own pixel: the size is of all that is above a share of it
    assert erf_size(impact, (60,), threshold) == pytest.approx(size, rel=0.001)


@pytest.mark.parametrize("threshold", [THRESHOLD, 0.5])
@settings(max_examples=15)
@given(
    size=st.floats(8.0, 16.0),
    ratios=st.tuples(*[st.floats(0.7, 1.4)] * 3),
    middle=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
)
def test_the_size_of_a_gaussian_of_three_axes_is_its_formulas(threshold, size, ratios, middle):
    scale = size / gaussian_size(ratios, threshold)
    sigmas = tuple(scale * ratio for ratio in ratios)
    impact = theory.gaussian_map(sigmas, (41, 41, 41), tuple(20 + part for part in middle))
    impact[20, 20, 20] = 1.0
    assert erf_size(impact, (20, 20, 20), threshold) == pytest.approx(size, rel=0.003)


@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize("side", [1, 2, 3, 8])
@pytest.mark.parametrize("threshold", [THRESHOLD, E2, 0.9])
def test_the_size_of_a_box_is_its_side(axes, side, threshold):
    impact = np.zeros((side + 4,) * axes)
    box = (slice(2, 2 + side),) * axes
    impact[box] = 1
    assert erf_size(impact, (2,) * axes, threshold) == side
    assert erf_size(impact[box], (0,) * axes, threshold) == side  # which the map cuts off


def test_lengths_by_hand():
    """Where the curvature is not known, at a step or at both ends, the logarithm is a line."""
    assert erf_size(np.array([math.e, 1 / math.e]), (0,), 1 / math.e) == pytest.approx(1)
    assert erf_size(np.array([1, 0.125]), (0,), 0.5) == pytest.approx(1)  # 0.125 counts as 0.25
    assert erf_size(np.exp([0.0, -1.0, -2.0, -3.0]), (0,), math.exp(-1.25)) == pytest.approx(1.75)
    assert erf_size(np.exp([-3.0, -2.0, -1.0, 0.0]), (3,), math.exp(-1.25)) == pytest.approx(1.75)
    two_hills = np.exp(-np.abs(np.abs(np.arange(-20, 21)) - 10.0))
    assert erf_size(two_hills, (10,), math.exp(-2.5)) == pytest.approx(10)


@given(
    impact=SEEDS.map(lambda seed: np.exp(np.random.default_rng(seed).uniform(-8, 2, 50))),
    threshold=st.floats(1e-3, 0.99),
)
def test_a_length_is_the_count_of_pixels_but_for_half_a_pixel_a_crossing(impact, threshold):
    inside = impact > threshold * impact[20]
    crossings = (inside[1:] != inside[:-1]).sum()
    assert abs(erf_size(impact, (20,), threshold) - inside.sum()) <= crossings / 2 + 1e-9


@given(impact=SEEDS.map(lambda seed: np.random.default_rng(seed).random((7, 11))), layers=st.integers(1, 5))
def test_a_volume_of_equal_layers_has_the_volume_of_its_layer(impact, layers):
    area = erf_size(impact, (3, 5)) ** 2
    for axis in range(3):
        position = (*(3, 5)[:axis], layers // 2, *(3, 5)[axis:])
        volume = np.stack([impact] * layers, axis)
        assert erf_size(volume, position) ** 3 == pytest.approx(layers * area)


@pytest.mark.parametrize("shape, position", [((31,), (14,)), ((11, 13, 15), (5, 6, 7))])
def test_sizes_of_many_maps_are_those_of_each(shape, position):
    rng = np.random.default_rng(0)
    maps = np.abs(rng.standard_normal((2, 3, *shape))) * theory.gaussian_map(3, shape, position)
    maps[1, 2] = 0
    together = erf_size(maps, position)
    assert together.shape == (2, 3) and np.isnan(together[1, 2])
    for index in np.ndindex(2, 3):
        np.testing.assert_equal(together[index], erf_size(maps[index], position))


def test_maps_of_no_or_four_axes_are_refused():
    for position in ((), (0, 0, 0, 0)):
        with pytest.raises(InputError, match=f"1, 2 or 3 axes, not {len(position)}"):
            erf_size(np.ones((1, 1, 1, 1)), position)


def test_a_unit_between_pixels_takes_their_mean():
    impact = np.arange(8.0).reshape(2, 2, 2)
    assert centre_impact(impact.ravel(), (2.5,)) == 2.5
    assert centre_impact(impact, (0.5, 0.5, 0.5)) == 3.5
    assert centre_impact(impact, (1, 0.5, -3)) == 5


# Numbers of fields.


@pytest.mark.parametrize("depth", [5, 10, 40])
def test_a_stack_of_uniform_kernels_along_one_axis(depth):
    """Extended binomial coefficients: the size is that of a spline of their logarithm, and cumulants add."""
    impact = theory.linear_map([theory.Layer(theory.uniform_taps(3, 1))] * depth)
    field = field_of(impact)
    assert field.sigma == pytest.approx((math.sqrt(depth * 8 / 12),))
    assert field.kurtosis == pytest.approx((-1.5 / depth,))
    spline = make_interp_spline(np.arange(len(impact)), np.log(impact / (THRESHOLD * impact.max())), k=5)
    places = np.linspace(-0.5, len(impact) - 0.5, 200_001)
    assert field.size == pytest.approx(np.ptp(places[spline(places) > 0]), rel=0.002)
    assert field.ratio == pytest.approx(field.size / (2 * depth + 1))
    assert field.diameter == field.size


FACTORS = [np.random.default_rng(seed).random(side) + 0.1 for seed, side in enumerate((5, 8, 11))]
PLACE = (2, 3.5, 7)


def test_a_product_has_the_numbers_of_its_factors_in_their_order():
    field = field_of(reduce(np.multiply.outer, FACTORS), PLACE)
    factors = [field_of(factor, (place,)) for factor, place in zip(FACTORS, PLACE, strict=True)]
    for name in ("sigma", "kurtosis"):
        assert getattr(field, name) == pytest.approx([getattr(one, name)[0] for one in factors])


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_permuted_axes_have_permuted_numbers(order):
    rng = np.random.default_rng(0)
    runs = rng.random((3, 7, 9, 11)) * theory.gaussian_map((1.5, 2, 3), (7, 9, 11), (3, 4, 5))
    place, reach, spacing = (3, 4, 5), (5, np.inf, 7), (0.5, 2, 1)
    field = ReceptiveField.from_runs(runs, place, reach).with_spacing(spacing, "mm")

    def turned(values):
        return tuple(values[axis] for axis in order)

    other = ReceptiveField.from_runs(runs.transpose(0, *(axis + 1 for axis in order)), turned(place), turned(reach))
    other = other.with_spacing(turned(spacing), "mm")
    assert other.size == pytest.approx(field.size)
    assert other.sigma == pytest.approx(turned(field.sigma))
    assert other.kurtosis == pytest.approx(turned(field.kurtosis))
    assert other.fit_gaussian().sigma == pytest.approx(turned(field.fit_gaussian().sigma), rel=1e-4)
    assert other.clipped == field.clipped
    np.testing.assert_allclose(other.radial_profile(), field.radial_profile())
    for share in SHARES:
        assert other.contribution_area(share) == pytest.approx(field.contribution_area(share))


def test_diameter_ratio_and_fit_of_a_gaussian_of_three_axes():
    impact = theory.gaussian_map((3.0, 4.0, 5.0), (31, 41, 51), (15, 20, 25))
    field = ReceptiveField.from_runs(3e-20 * impact[None], (15, 20, 25), (20, 30, 45))
    assert field.size == pytest.approx(gaussian_size((3, 4, 5)), rel=0.001)
    assert field.diameter == pytest.approx(2 * 2.486 * 60 ** (1 / 3), rel=0.001)
    assert field.ratio == pytest.approx(field.size / 30)
    fit = field.fit_gaussian()
    assert fit.sigma == pytest.approx((3, 4, 5), rel=1e-6) and fit.peak == pytest.approx(3e-20, rel=1e-6)
    assert field.sigma == pytest.approx((3, 4, 5), rel=1e-3)


@pytest.mark.parametrize("axis", range(3))
def test_any_axis_may_clip(axis):
    impact = theory.gaussian_map(2.0, (25, 25, 25), (12, 12, 12))
    reach = tuple(7 if other == axis else 25 for other in range(3))
    assert not ReceptiveField.from_runs(impact[None], (12,) * 3, (25,) * 3).clipped
    assert ReceptiveField.from_runs(impact[None], (12,) * 3, reach).clipped
    whole = [slice(None)] * 3
    whole[axis] = slice(9, 16)
    place = tuple(3 if other == axis else 12 for other in range(3))
    assert ReceptiveField.from_runs(impact[tuple(whole)][None], place, (25,) * 3).clipped


@pytest.mark.parametrize("axes, sigma, side", [(1, 20.0, 301), (3, 4.0, 41)])
def test_the_interval_and_the_cube_of_a_gaussian(axes, sigma, side):
    """Of a Gaussian the share within half a side h is erf(h / (sqrt 2 sigma)) to the power of the axes."""
    middle = (side // 2,) * axes
    impact = theory.gaussian_map(sigma, (side,) * axes, middle)
    for share in SHARES:
        half = sigma * NormalDist().inv_cdf((1 + share ** (1 / axes)) / 2)
        found, ratio = contribution_square(impact, middle, share)
        assert 2 * half <= found < 2 * half + 2  # the next odd number
        assert found % 2 == 1 and ratio == pytest.approx((found / side) ** axes)


@pytest.mark.parametrize("shape, sigma", [((131,), 15.0), ((31, 41, 35), 6.0)])
def test_the_profile_of_a_gaussian_is_its_section(shape, sigma):
    middle = tuple(side // 2 for side in shape)
    distances, means = radial_profile(theory.gaussian_map(sigma, shape, middle), middle)
    assert np.abs(means - np.exp(-(distances**2) / (2 * sigma**2))).max() < 1 / (8 * sigma**2)
    assert (np.diff(distances) > 0).all()


@pytest.mark.parametrize("shape", [(41,), (11, 13, 15)])
def test_runs_are_bootstrapped_and_counted(shape):
    rng = np.random.default_rng(0)
    middle = tuple(side // 2 for side in shape)
    runs = (1 + rng.random((6, *shape))) * theory.gaussian_map(2.0, shape, middle)
    runs[1] = 0
    field = ReceptiveField.from_runs(runs, middle, shape, rng=rng)
    low, high = field.interval
    assert low < field.size < high and field.dead == 1
    assert np.isnan(field.run_sizes).tolist() == [False, True, *[False] * 4]
    empty = field_of(np.zeros(shape))
    assert np.isnan([empty.size, empty.diameter, *empty.sigma, *empty.kurtosis, *empty.fit_gaussian().sigma]).all()


def test_summaries_name_their_axes():
    sound = field_of(theory.gaussian_map(3.0, (31,), (14,)), (14,)).summary()
    assert [sound[f"{name}_time"] for name in ("position", "length", "rf")] == [14, 31, 31]
    volume = field_of(theory.gaussian_map((1.0, 2.0, 3.0), (9, 21, 31), (4, 10, 15))).summary()
    for name in ("sigma", "fit_sigma"):
        found = [volume[f"{name}_{axis}"] for axis in ("depth", "rows", "columns")]
        assert found == pytest.approx([1, 2, 3], rel=1e-3)
    assert [volume[f"length_{axis}"] for axis in ("depth", "rows", "columns")] == [9, 21, 31]
    image = field_of(theory.gaussian_map(2.0, (21, 21), (10, 10))).summary()
    per_axis = {"row", "column", "height", "width", "rf_height", "rf_width"} | {
        f"{name}_{axis}" for name in ("sigma", "fit_sigma", "excess_kurtosis") for axis in ("rows", "columns")
    }
    for other, axes in ((sound, ("time",)), (volume, ("depth", "rows", "columns"))):
        own = {
            f"{name}_{axis}"
            for name in ("position", "length", "rf", "sigma", "fit_sigma", "excess_kurtosis")
            for axis in axes
        }
        assert set(other) - own == set(image) - per_axis


def test_fields_in_words():
    sound = field_of(theory.gaussian_map(10.0, (101,), (50,)))
    assert str(sound) == (
        "ERF size 49.7 px, 49 % of its theoretical field's length; unit at time 50 of 101 px; images: 1, dead: 0"
    )
    assert str(sound.with_spacing(1 / 8000, "s")) == (
        "ERF size 0.006215 s, 49 % of its theoretical field's length; unit at time 0.00625 of 0.012625 s; images: 1,"
        " dead: 0"
    )
    volume = field_of(theory.gaussian_map(2.0, (7, 21, 31), (3, 10, 15)))
    assert "cut off by that field or the volume; unit at depth 3, row 10, column 15 of 7 x 21 x 31 px" in str(volume)


# Lengths in another unit.

SPACING = (2.0, 0.5, 0.8)
ROUND = theory.gaussian_map(tuple(3 / length for length in SPACING), (13, 45, 29), (6, 22, 14))  # 3 mm


def test_a_round_gaussian_is_round_in_pixels_that_are_not_cubes():
    rng = np.random.default_rng(0)
    runs = ROUND * rng.lognormal(0, 0.1, (3, 1, 1, 1))
    pixels = ReceptiveField.from_runs(runs, (6, 22, 14), (9, 31, 21), rng=rng)
    field = pixels.with_spacing(SPACING, "mm")
    assert field.size == pytest.approx(gaussian_size((3, 3, 3)), rel=0.003)
    assert field.diameter == pytest.approx(2 * 2.486 * 3, rel=0.003)
    assert field.sigma == pytest.approx((3, 3, 3), rel=0.01)
    assert field.fit_gaussian().sigma == pytest.approx((3, 3, 3))
    assert field.size_at(E2) == pytest.approx(gaussian_size((3, 3, 3), E2), rel=0.003)
    factor = (2 * 0.5 * 0.8) ** (1 / 3)
    assert field.interval == pytest.approx([factor * end for end in pixels.interval])
    assert field.mean_run_size == pytest.approx([factor * value for value in pixels.mean_run_size])
    distances, means = field.radial_profile()
    assert np.abs(means / field.map.max() - np.exp(-(distances**2) / 18)).max() < 0.5**2 / (8 * 3**2)
    assert (field.ratio, field.clipped, field.kurtosis) == (
        pytest.approx(pixels.ratio),
        pixels.clipped,
        pixels.kurtosis,
    )
    assert field.contribution_areas == pixels.contribution_areas  # of whole pixels
    for name in ("position", "theoretical_rf", "largest_share"):
        assert getattr(field, name) == getattr(pixels, name)
    np.testing.assert_array_equal(field.run_sizes, pixels.run_sizes)


@pytest.mark.parametrize(
    "shape, spacing, root", [((31,), (0.25,), 0.25), ((31, 31), (0.5, 2.0), 1), ((15,) * 3, (8, 1, 1), 2)]
)
def test_a_size_scales_by_the_root_of_a_pixels_content(shape, spacing, root):
    field = field_of(theory.gaussian_map(2.0, shape, tuple(side // 2 for side in shape)))
    spaced = field.with_spacing(spacing, "mm")
    assert spaced.size == pytest.approx(root * field.size)
    assert spaced.sigma == pytest.approx([a * b for a, b in zip(spacing, field.sigma, strict=True)])
    one = field.with_spacing(3.0, "mm")
    assert one.spacing == (3.0,) * len(shape) and one.size == pytest.approx(3 * field.size)


def test_a_summary_in_another_unit_has_all_lengths_in_it():
    field = ReceptiveField.from_runs(ROUND[None], (6, 22, 14), (9, 31, np.inf))
    pixels, summary = field.summary(), field.with_spacing(SPACING, "mm").summary()
    assert summary["lengths_in"] == "mm"
    assert set(pixels) - set(summary) == {f"contribution_side_{share}" for share in (20, 30, 50, 99)}
    for name in ("position", "length", "rf", "sigma", "fit_sigma"):
        for axis, length in zip(("depth", "rows", "columns"), SPACING, strict=True):
            assert summary[f"{name}_{axis}"] == pytest.approx(length * pixels[f"{name}_{axis}"])


@pytest.mark.parametrize("spacing", [(1,), (1, 2, 3), 0, (1, -1), (1, math.nan), (1, math.inf), "x", None, ("1", "x")])
def test_a_spacing_that_is_none_is_refused(spacing):
    with pytest.raises(InputError, match="spacing must be"):
        field_of(np.ones((3, 3))).with_spacing(spacing, "mm")


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_spacing_needs_the_name_of_its_unit(name):
    with pytest.raises(InputError, match="lengths_in must name the unit of the spacing"):
        field_of(np.ones((3, 3))).with_spacing(1, name)


# Files.


def test_fields_of_all_axes_come_back_from_one_file(tmp_path):
    rng = np.random.default_rng(0)
    fields = [
        ReceptiveField.from_runs(rng.random((4, *shape)), (1,) * len(shape), (np.inf,) * len(shape), {"n": 1}, rng)
        for shape in ((5,), (4, 5), (3, 4, 5))
    ]
    fields.append(fields[2].with_spacing((0.5, 1.0, 2.0), "mm"))
    save_fields(fields, tmp_path / "a.npz")
    save_fields(fields, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    for field, loaded in zip(fields, load_fields(tmp_path / "a.npz"), strict=True):
        np.testing.assert_array_equal(loaded.map, field.map)
        for name in ("position", "theoretical_rf", "settings", "spacing", "lengths_in", "size", "interval"):
            assert getattr(loaded, name) == getattr(field, name)


def test_a_file_knows_of_spacing_only_if_the_field_has_one(tmp_path):
    field = field_of(np.ones((3, 4)))
    field.save(tmp_path / "a.npz")
    field.with_spacing(2, "mm").save(tmp_path / "b.npz")
    with np.load(tmp_path / "a.npz") as old, np.load(tmp_path / "b.npz") as new:
        assert set(new) - set(old) == {"0_spacing", "0_lengths_in"}
        assert len(old) == 11


def test_a_unit_may_be_far_along_a_long_sound(tmp_path):
    sound = np.zeros(2**20 + 10)
    sound[-3] = 1
    field = field_of(sound, (2**20 + 7,))
    field.save(tmp_path / "long.npz")
    assert ReceptiveField.load(tmp_path / "long.npz").size == field.size


WRONG = {
    "map": [np.ones(9), np.ones((3, 3)), np.ones((2,) * 4), np.float64(1), np.empty((0, 3, 3)), np.ones((3,) * 3, int)],
    "position": [np.ones(2), np.ones((3, 1)), np.array([np.nan, 1, 1]), np.array([1e15, 1, 1])],
    "theoretical_rf": [np.ones(2), np.array([0, 3, 3]), 5],
    "spacing": [np.ones(2), np.zeros(3), np.array([1, np.inf, 1]), np.array([1, np.nan, 1]), np.ones(3, int), "x", 1.0],
    "lengths_in": ["", 3, ["mm", "mm"], b"mm"],
}


@pytest.mark.parametrize(
    "name, value", [(name, value) for name, values in WRONG.items() for value in values], ids=lambda one: str(one)[:20]
)
def test_a_field_that_no_measurement_gives_is_refused_by_name(tmp_path, name, value):
    path = tmp_path / "x.npz"
    field_of(np.ones((3, 4, 5))).with_spacing((1, 2, 3), "mm").save(path)
    with np.load(path) as data:
        arrays = dict(data)
    np.savez(path, **arrays)
    assert ReceptiveField.load(path).lengths_in == "mm"
    np.savez(path, **arrays | {f"0_{name}": np.asarray(value)})
    with pytest.raises(InputError, match=r"x\.npz: damaged, or something else"):
        ReceptiveField.load(path)
    for changed in (arrays.keys() - {f"0_{name}"}, [*arrays, "1_spacing"], [*arrays, "1_spacing", "1_lengths_in"]):
        np.savez(path, **{key: arrays.get(key, np.ones(3)) for key in changed})
        with pytest.raises(InputError, match=r"x\.npz: damaged, or something else"):
            load_fields(path)


# Pictures.


def labels(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_sound_is_a_line_with_its_erf_filled():
    field = field_of(theory.gaussian_map(8.0, (101,), (40,)), (40,))
    field = dataclasses.replace(field, theoretical_rf=(61.0,)).with_spacing(0.5, "ms")
    axes = Figure().subplots()
    assert field.plot(axes) is axes
    assert labels(axes) == [f"ERF, size {field.size:.4g} ms", "theoretical field, 30.5 ms", "unit"]
    assert axes.get_xlim() == (-0.25, 50.25) and axes.get_xlabel() == "time (ms)"
    first, last = (line for line in axes.lines if to_hex(line.get_color()) == THEORY)
    assert (first.get_xdata()[0], last.get_xdata()[0]) == (0.5 * (40 - 30.5), 0.5 * (40 + 30.5))
    times, impacts = axes.collections[0].get_paths()[0].vertices.T
    assert np.ptp(times) == pytest.approx(field.size, rel=0.01)
    assert impacts.min() == pytest.approx(THRESHOLD)
    axes.figure.canvas.draw()


@pytest.mark.parametrize("impact", [np.zeros(7), np.ones(7), np.ones(1)])
def test_lines_without_a_bound_are_drawn_without_one(impact):
    axes = field_of(impact, (0,)).plot(Figure().subplots())
    assert not axes.collections and labels(axes)[-1] == "unit"
    axes.figure.canvas.draw()


def test_a_volume_is_three_slices_through_the_unit():
    impact = theory.gaussian_map((2.0, 4.0, 6.0), (21, 41, 61), (8, 18, 30))
    field = ReceptiveField.from_runs(impact[None], (8, 18, 30), (15, np.inf, 41)).with_spacing((2, 1, 0.5), "mm")
    axes = field.plot(Figure(figsize=(7.2, 3.3), layout="constrained").subplots())
    assert labels(axes) == [f"ERF, size {field.size:.4g} mm", "theoretical field, 30 × ∞ × 20.5 mm", "unit"]
    *slices, _ = axes.child_axes  # and the colours
    assert [one.get_title() for one in slices] == [
        "slice at depth 16 mm",
        "slice at row 18 mm",
        "slice at column 15 mm",
    ]
    shown = [np.asarray(one.images[0].get_array()) for one in slices]
    for found, expected in zip(shown, (impact[8], impact[:, 18], impact[:, :, 30]), strict=True):
        np.testing.assert_array_equal(found, np.maximum(expected / impact.max(), 1e-3))
    assert [(one.get_xlabel(), one.get_ylabel()) for one in slices] == [
        ("column (mm)", "row (mm)"),
        ("column (mm)", "depth (mm)"),
        ("row (mm)", "depth (mm)"),
    ]
    assert [len(one.patches) for one in slices] == [0, 1, 0]  # the field is infinite along the rows
    axes.figure.canvas.draw()


@pytest.mark.parametrize("impact", [np.zeros((3, 4, 5)), np.ones((1, 4, 5)), np.ones((1, 1, 1))])
def test_volumes_without_a_bound_are_drawn_without_one(impact):
    axes = field_of(impact).plot(Figure().subplots())
    assert labels(axes) == ["unit"]
    axes.figure.canvas.draw()


# The definition.


@pytest.mark.parametrize("axes", [1, 3])
def test_the_definition_gives_theorys_map(axes):
    """Two layers of given weights, which are outer products: the map is the product of those along each axis."""
    convolution, shape = {1: (nn.Conv1d, (17,)), 3: (nn.Conv3d, (7, 9, 8))}[axes]
    rng = np.random.default_rng(0)
    kernels = [rng.standard_normal((2, 3)) for _ in range(axes)]  # (layers, taps) along each axis
    model = nn.Sequential(*[convolution(1, 1, 3, padding=1, bias=False) for _ in range(2)]).double()
    for number, layer in enumerate(model):
        layer.weight.data[0, 0] = torch.from_numpy(reduce(np.multiply.outer, [one[number] for one in kernels]))
    found = naive.impact_map(model, torch.randn(2, 1, *shape, dtype=torch.float64))
    expected = reduce(np.multiply.outer, [np.abs(theory.linear_map([*map(theory.Layer, one)])) for one in kernels])
    window = tuple(slice(side // 2 - 2, side // 2 + 3) for side in shape)
    np.testing.assert_allclose(found[window], expected, rtol=1e-12)
    assert found.shape == shape and found.sum() == pytest.approx(expected.sum())
    corner = naive.impact_map(model, torch.randn(1, 1, *shape, dtype=torch.float64), unit=(2,) * axes)
    np.testing.assert_allclose(corner[(slice(0, 5),) * axes], expected, rtol=1e-12)
