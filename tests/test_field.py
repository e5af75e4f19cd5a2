"""The numbers that are read from a map, and the file that holds it."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.ndimage import map_coordinates

from erf import theory
from erf.errors import InputError
from erf.result import field as erf_field
from erf.result.contribution import contribution_square, radial_profile
from erf.result.field import ReceptiveField, bootstrap_sizes, load_fields, save_fields
from erf.result.intervals import expanded_tail, mean_interval, percentile_interval
from erf.size import E2, THRESHOLD, centre_impact, erf_size
from erf.system import files


def field_of(impact: np.ndarray, position=None, **kwargs) -> ReceptiveField:
    position = position or tuple((side - 1) / 2 for side in impact.shape)
    return ReceptiveField.from_runs(impact[None], position, impact.shape, **kwargs)


@pytest.mark.parametrize("depth, within", [(5, 0.01), (10, 0.001), (20, 0.001), (40, 0.001)])
def test_sizes_of_uniform_stacks_are_those_of_a_map_with_pixels_a_sixteenth_as_wide(depth, within):
    """A spline of the logarithm; the count of whole pixels is up to 2.4 % off."""
    impact, parts = theory.uniform_map(depth, 3), 16
    places = (np.arange(parts * len(impact)) + 0.5) / parts - 0.5
    log = map_coordinates(np.log(impact), np.meshgrid(places, places, indexing="ij"), order=5, mode="nearest")
    fine = np.sqrt((log > np.log(THRESHOLD * impact.max())).sum()) / parts
    assert field_of(impact).size == pytest.approx(fine, rel=within)


@pytest.mark.parametrize("threshold", [THRESHOLD, E2, 0.01])
@given(size=st.floats(8.0, 60.0), middle=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)))
def test_the_size_of_a_gaussian_is_its_formulas(threshold, size, middle):
    sigma = size / theory.gaussian_size(1.0, threshold)
    impact = theory.gaussian_map(sigma, (121, 121), (60 + middle[0], 60 + middle[1]))
    impact[60, 60] = 1.0  # the unit's own pixel: the size is of all that is above a share of it
    assert erf_size(impact, (60, 60), threshold) == pytest.approx(size, rel=0.001)


@pytest.mark.parametrize("side", [1, 2, 3, 8])
def test_the_size_of_a_box_is_its_side(side):
    impact = np.zeros((side + 4, side + 4))
    impact[2 : 2 + side, 2 : 2 + side] = 1
    assert erf_size(impact, (2, 2)) == side
    assert erf_size(impact[2:-2, 2:-2], (0, 0)) == side  # which the map cuts off


def test_sizes_of_many_maps_are_those_of_each():
    rng = np.random.default_rng(0)
    maps = np.abs(rng.standard_normal((3, 4, 21, 31))) * theory.gaussian_map((3, 5), (21, 31), (9, 14))
    maps[1, 2] = 0
    together = erf_size(maps, (9, 14))
    assert together.shape == (3, 4) and np.isnan(together[1, 2])
    for index in np.ndindex(3, 4):
        np.testing.assert_equal(together[index], erf_size(maps[index], (9, 14)))


def test_diameter_and_ratio_of_a_gaussian():
    field = field_of(theory.gaussian_map(12.0, (151, 151), (75, 75)))
    assert field.diameter == pytest.approx(2 * 2.486 * 12, rel=0.001)  # twice the radius of the 4.55 % contour
    assert field.ratio == pytest.approx(field.size / 151)


def test_gaussian_fit_recovers_axes_in_order():
    field = field_of(3e-20 * theory.gaussian_map((4.0, 9.0), (81, 121), (40, 60)), (40, 60))
    fit = field.fit_gaussian()
    assert fit.sigma == pytest.approx((4.0, 9.0), rel=1e-6)
    assert fit.peak == pytest.approx(3e-20, rel=1e-6)
    assert fit.r2 == pytest.approx(1)
    assert field.sigma == pytest.approx((4.0, 9.0), rel=1e-3)


MAPS = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random((7, 11)) + 0.01)


@given(impact=MAPS, factor=st.floats(1e-30, 1e30))
def test_size_ignores_the_scale(impact, factor):
    assert field_of(impact * factor).size == pytest.approx(field_of(impact).size, rel=1e-12)


@given(impact=MAPS)
def test_transposing_swaps_the_axes(impact):
    field, turned = field_of(impact), field_of(impact.T)
    assert turned.size == pytest.approx(field.size, rel=1e-12)
    assert turned.sigma == pytest.approx(field.sigma[::-1])


def test_a_unit_between_pixels_takes_their_mean():
    impact = np.array([[1.0, 2.0], [3.0, 6.0]])
    assert centre_impact(impact, (0.5, 0.5)) == 3
    assert centre_impact(impact, (0.5, 1.0)) == 4
    assert centre_impact(impact, (1, 1)) == 6
    assert centre_impact(impact, (-0.5, 1.5)) == 2  # at the edge of the map


PLATEAUS = np.kron([[0.045, 0.046, 0.5], [0.0, 1.0, 0.0], [7.0, 0.0, 0.0455]], np.ones((20, 20)))  # 400 pixels each


def test_an_area_counts_when_above_the_threshold_of_the_centre():
    """Edges of plateaus that are near to the threshold run a little within them."""
    assert erf_size(PLATEAUS, (29, 29)) == pytest.approx(20 * np.sqrt(4), rel=0.02)
    assert erf_size(PLATEAUS, (29, 29), reference="maximum") == pytest.approx(20 * np.sqrt(3), rel=0.02)  # 0.5, 1, 7
    field = field_of(PLATEAUS, (29, 29), reference="maximum")
    assert field.size == field.run_sizes[0] == erf_size(PLATEAUS, (29, 29), reference="maximum")


@pytest.mark.parametrize("threshold", [0.01, 0.0455, math.exp(-2), 0.5])
def test_size_at_other_thresholds_is_the_gaussians(threshold):
    field = field_of(theory.gaussian_map(12.0, (151, 151), (75, 75)))
    assert field.size_at(threshold) == pytest.approx(theory.gaussian_size(12.0, threshold), rel=0.01)


def test_size_at_other_references():
    field = field_of(PLATEAUS, (29, 29))
    assert field.size_at() == field.size == erf_size(PLATEAUS, (29, 29))
    assert field.size_at(0.03) == pytest.approx(20 * np.sqrt(6), rel=0.02)
    assert field.size_at(reference="maximum") == erf_size(PLATEAUS, (29, 29), reference="maximum")
    assert field.size_at(0.6, "maximum") == pytest.approx(20, rel=0.02)
    by_maximum = dataclasses.replace(field, reference="maximum")
    assert by_maximum.size_at() == by_maximum.size == field.size_at(reference="maximum")
    assert np.isnan(field_of(np.zeros((3, 3))).size_at(0.5))


@given(impact=MAPS, thresholds=st.tuples(st.floats(1e-6, 0.999), st.floats(1e-6, 0.999)).map(sorted))
def test_a_higher_threshold_never_gives_a_larger_size(impact, thresholds):
    """But for a twentieth of a pixel: in noise, the plane through a pixel tilts as its threshold rises."""
    low, high = thresholds
    for reference in ("centre", "maximum"):
        assert field_of(impact).size_at(high, reference) <= field_of(impact).size_at(low, reference) + 0.05


@pytest.mark.parametrize("threshold", [0, 1, -0.1, 4.55, math.nan])
def test_thresholds_that_are_no_share_are_refused(threshold):
    with pytest.raises(InputError, match=f"threshold must lie between 0 and 1, not {threshold}"):
        field_of(np.ones((3, 3))).size_at(threshold)


def test_unknown_references_are_refused():
    with pytest.raises(InputError, match="unknown reference 'center': choose 'centre' or 'maximum'"):
        field_of(np.ones((3, 3))).size_at(reference="center")
    with pytest.raises(InputError, match="unknown reference 'max'"):
        field_of(np.ones((3, 3)), reference="max")


def test_kurtosis_of_known_shapes():
    gaussian = field_of(theory.gaussian_map((6.0, 9.0), (121, 121), (60, 60)))
    assert gaussian.kurtosis == pytest.approx((0, 0), abs=1e-3)
    assert field_of(np.ones((301, 501))).kurtosis == pytest.approx((-1.2, -1.2), abs=1e-3)
    # Three equal taps have -1.5; cumulants of independent offsets add, so n of them have -1.5 / n.
    assert field_of(theory.uniform_map(10, 3)).kurtosis == pytest.approx((-0.15, -0.15))


def test_contribution_and_profile_are_those_of_the_magnitude():
    impact = theory.gaussian_map((3.0, 5.0), (31, 41), (14, 22))
    field = field_of(-impact, (14, 22))
    assert field.contribution_area(0.5) == contribution_square(impact, (14, 22), 0.5)
    assert field.contribution_areas == {share: field.contribution_area(share) for share in (0.2, 0.3, 0.5, 0.99)}
    np.testing.assert_array_equal(field.radial_profile(), radial_profile(impact, (14, 22)))
    with pytest.raises(InputError, match="share of the impact must be above 0 and at most 1, not 50"):
        field.contribution_area(50)


def test_own_sizes_have_a_mean_with_an_interval():
    """Three runs of different sizes; one is dead, and one has no impact at the unit."""
    runs = np.zeros((5, 3, 3))
    runs[0, 1, 1] = runs[1, :2, :2] = runs[2] = runs[4, 0, 0] = 1
    field = ReceptiveField.from_runs(runs, (1, 1), (3, 3))
    assert field.mean_run_size == mean_interval(erf_size(runs[:3], (1, 1)))
    assert np.isnan(ReceptiveField.from_runs(runs[3:], (1, 1), (3, 3)).mean_run_size).all()


def test_the_summary_holds_plain_numbers_that_are_the_fields_own():
    rng = np.random.default_rng(0)
    runs = (1 + rng.random((6, 31, 41))) * theory.gaussian_map((3.0, 5.0), (31, 41), (14, 22))
    runs[1] = 0
    field = ReceptiveField.from_runs(runs, (14, 22), (29, 37), rng=rng)
    summary, fit = field.summary(), field.fit_gaussian()
    assert {type(value) for value in summary.values()} == {float, int, bool}
    assert json.loads(json.dumps(summary)) == summary
    assert [summary[name] for name in ("row", "column", "height", "width")] == [14, 22, 31, 41]
    assert [summary[name] for name in ("rf_height", "rf_width", "images", "dead")] == [29, 37, 6, 1]
    assert [summary[name] for name in ("size", "diameter", "ratio")] == [field.size, field.diameter, field.ratio]
    assert summary["size_maximum"] == field.size_at(reference="maximum")
    assert summary["size_e2"] == field.size_at(math.exp(-2))
    assert (summary["low"], summary["high"]) == field.interval
    assert (summary["mean_run_size"], summary["mean_run_low"], summary["mean_run_high"]) == field.mean_run_size
    for name, values in (("sigma", field.sigma), ("fit_sigma", fit.sigma), ("excess_kurtosis", field.kurtosis)):
        assert (summary[f"{name}_rows"], summary[f"{name}_columns"]) == values
    assert [summary[name] for name in ("gaussian_r2", "clipped", "without_centre")] == [fit.r2, field.clipped, 0]
    assert summary["largest_share"] == field.largest_share
    for share in (20, 30, 50, 99):
        found = summary[f"contribution_side_{share}"], summary[f"contribution_ratio_{share}"]
        assert found == field.contribution_area(share / 100)


def test_the_summary_names_its_numbers_as_the_tables_do():
    import measure_snapshots

    network = {"residual_scale": 1.0, "centre_light": 0}
    settings = {
        "training": {"dataset": "x", "network": network},
        "seed": 0,
        "snapshot": "best",
        "epoch": 1,
        "images": 1,
        **{"sigma_kernels": 4.0, "sigma_drawn_gates": 3.0, "kernel_spread": 1.0, "branch_share": 0.5},
    }
    field = field_of(theory.gaussian_map((3.0, 5.0), (31, 41), (14, 22)), (14, 22), settings=settings)
    row, summary = measure_snapshots.table_row(field), field.summary()
    shared = set(row) & set(summary)
    assert shared == set(row) - {"dataset", "residual_scale", "centre_light", "seed", "snapshot", "epoch"} - {
        "label_shift",
        "drift_rows",
        "drift_columns",
        "extent",
        *measure_snapshots.OF_KERNELS,
        "share_quarter",
        "share_half",
        "radius_half",
        "theoretical_rf",  # rf_height and rf_width
    }
    for name in shared:
        assert row[name] == pytest.approx(summary[name], nan_ok=True)


def test_the_summary_of_a_dead_unit_has_no_sizes():
    summary = field_of(np.zeros((5, 7))).summary()
    there = {name for name, value in summary.items() if not np.isnan(value)}
    assert there == {"row", "column", "height", "width", "rf_height", "rf_width", "clipped"} | {
        "images",
        "dead",
        "without_centre",
    }


def test_a_field_in_words():
    field = field_of(theory.uniform_map(20, 3))
    assert str(field) == (
        "ERF size 16.2 px, 39 % of its theoretical field's side; unit at row 20, column 20 of 41 x 41 px; images: 1,"
        " dead: 0"
    )
    clipped = field_of(np.sqrt(theory.uniform_map(5, 3)))
    assert str(clipped).startswith(f"ERF size {clipped.size:.1f} px, {100 * clipped.ratio:.0f} % of its theoretical")
    assert "cut off by that field or the image" in str(clipped)
    drawn = {"bootstrap": np.full(10, field.size), "run_sizes": np.full(2, field.size)}
    bootstrapped = dataclasses.replace(field, **drawn, theoretical_rf=(np.inf, np.inf))
    assert str(bootstrapped).startswith("ERF size 16.2 px (95 % interval 16.2 to 16.2); unit")
    assert str(field_of(np.zeros((3, 3)))).startswith("ERF size nan px; unit at row 1")


def test_dead_runs_are_counted_and_left_out():
    live = theory.uniform_map(4, 3)
    field = ReceptiveField.from_runs(np.stack([live, 0 * live, 3 * live]), (4, 4), (9, 9))
    assert field.dead == 1
    np.testing.assert_allclose(field.map, 2 * live)
    assert field.largest_share == pytest.approx(3 / 4)
    assert np.isnan(field.run_sizes).tolist() == [False, True, False]


def test_all_dead_gives_no_number():
    field = ReceptiveField.from_runs(np.zeros((3, 5, 5)), (2, 2), (5, 5), rng=np.random.default_rng(0))
    assert field.dead == 3
    assert np.isnan(field.size)
    assert np.isnan(field.interval).all()
    assert np.isnan([*field.sigma, *field.kurtosis]).all()
    assert np.isnan(field.fit_gaussian().r2)


def test_one_live_run_says_nothing_about_others():
    live = theory.uniform_map(4, 3)
    field = ReceptiveField.from_runs(np.stack([live, 0 * live]), (4, 4), (9, 9), rng=np.random.default_rng(0))
    assert field.size > 0
    assert np.isnan(field.interval).all() and "no bootstrap" in field.no_interval


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="not finite"):
        field_of(np.array([[1.0, np.nan]]))


def test_clipped():
    assert not field_of(theory.uniform_map(20, 3)).clipped
    wide = np.sqrt(theory.uniform_map(5, 3))  # predicted size 11.4, receptive field 11
    assert field_of(wide).clipped
    larger = np.pad(wide, 4)  # an image that holds the whole receptive field cuts nothing off; the field itself does
    assert ReceptiveField.from_runs(larger[None], (9, 9), (11, 11)).clipped
    assert not ReceptiveField.from_runs(np.pad(theory.uniform_map(20, 3), 3)[None], (23, 23), (41, 41)).clipped


def test_clipped_goes_by_the_fields_own_threshold():
    spiked = theory.gaussian_map(6.0, (21, 21), (10, 10))  # 0.2 at the edge
    spiked[12, 12] = 10.0
    centre, maximum = (field_of(spiked, reference=reference) for reference in ("centre", "maximum"))
    assert centre.clipped and not maximum.clipped


@pytest.mark.parametrize("impact", [np.ones((3, 3)), np.zeros((5, 5))])
def test_no_gaussian_fits_a_flat_map(impact):
    fit = field_of(impact).fit_gaussian()
    assert np.isnan([fit.peak, *fit.sigma, fit.r2]).all()


def test_bootstrap_of_equal_runs_has_no_spread_and_of_different_runs_some():
    live = theory.uniform_map(10, 3)
    rng = np.random.default_rng(0)
    equal = bootstrap_sizes(np.stack([live] * 5), (10, 10), rng, replicates=20)
    assert np.ptp(equal) == 0
    noisy = np.abs(rng.standard_normal((8, 21, 21))) * live
    field = ReceptiveField.from_runs(noisy, (10, 10), (21, 21), rng=rng)
    low, high = field.interval
    assert low < high
    assert len(field.bootstrap) == 1000


def test_bootstrap_intervals_of_noisy_maps_cover_the_size_without_noise():
    """Random weights: |normal| at each pixel, mean over 16 channels. Nominal 95 %; neither much less nor always."""
    truth, covered, repeats = theory.gaussian_map(5.0, (41, 41), (20, 20)), 0, 100
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        noise = np.abs(rng.standard_normal((20, 16, 41, 41))).mean(1)
        scale = rng.lognormal(0, 0.3, (20, 1, 1))  # networks differ in gain
        field = ReceptiveField.from_runs(noise * scale * truth, (20, 20), (41, 41), rng=rng)
        low, high = field.interval
        covered += low <= erf_size(truth, (20, 20)) <= high
    assert 0.88 * repeats <= covered < repeats


def test_percentiles_that_miss_the_size_are_no_interval():
    """Each run has an impact on a fifth of the pixels, as behind ReLUs, in a field that fills the image."""

    def sparse(runs):
        rng = np.random.default_rng(0)
        maps = np.abs(rng.standard_normal((runs, 32, 40))) * (rng.random((runs, 32, 40)) < 0.2)
        maps[:, 16, 20] = 1
        return maps * theory.gaussian_map(30.0, (32, 40), (16, 20))

    field = ReceptiveField.from_runs(sparse(12), (16, 20), (np.inf, np.inf), rng=np.random.default_rng(1))
    _, high = percentile_interval(field.bootstrap, 12)
    truth = erf_size(sparse(3000).mean(0), (16, 20))
    assert high < field.size < truth  # what the percentiles would claim is wrong
    assert field.clipped and np.isnan(field.interval).all() and np.isnan(field.summary()["high"])
    assert "no interval: means of redrawn images are nearly all smaller: measure more images" in str(field)
    more = ReceptiveField.from_runs(sparse(200), (16, 20), (np.inf, np.inf), rng=np.random.default_rng(1))
    drawn = dataclasses.replace(field, bootstrap=np.full(100, 0.9995 * field.size))
    assert drawn.interval == pytest.approx((0.9995 * field.size, field.size), rel=1e-9)  # a size's own error
    assert more.no_interval is None and more.interval[0] <= more.size <= more.interval[1]


@pytest.mark.parametrize("reference", ["centre", "maximum"])
@pytest.mark.parametrize(
    "shape, position", [((101,), (50,)), ((61, 60), (30, 29.5)), ((61, 61), (2, 58)), ((25,) * 3, (12,) * 3)]
)
def test_a_bootstrap_of_the_pixels_that_matter_is_that_of_whole_maps(shape, position, reference):
    """Means are drawn here one by one, whole."""
    rng = np.random.default_rng(3)
    maps = np.stack([theory.gaussian_map(rng.uniform(1, 2), shape, position) for _ in range(6)]) * rng.uniform(
        0.5, 2, (6, *shape)
    )
    found = bootstrap_sizes(maps, position, np.random.default_rng(4), 30, reference)
    assert math.prod(erf_field._where_sizes_vary(maps, position, THRESHOLD)[0].shape[1:]) < math.prod(shape) / 2
    weights = np.random.default_rng(4).multinomial(6, np.full(6, 1 / 6), size=30)
    whole = [erf_size(np.tensordot(one / 6, maps, 1), position, THRESHOLD, reference) for one in weights]
    assert found == pytest.approx(np.array(whole), rel=1e-12)


def test_signed_maps_are_bootstrapped_by_their_magnitude():
    live = theory.uniform_map(10, 3)
    plain, negative = (
        ReceptiveField.from_runs(sign * np.stack([live] * 4), (10, 10), (21, 21), rng=np.random.default_rng(0))
        for sign in (1, -1)
    )
    assert negative.size == plain.size
    assert negative.interval == plain.interval == pytest.approx((plain.size, plain.size))


def test_a_bootstrap_interval_ends_at_expanded_percentiles():
    replicates, tail = np.linspace(10, 14, 1001), 4 * expanded_tail(20)
    assert percentile_interval(replicates, 10**9) == pytest.approx((10.1, 13.9))
    assert percentile_interval(replicates, 20) == pytest.approx((10 + tail, 14 - tail))
    assert percentile_interval(np.append(replicates, np.nan), 20) == pytest.approx((10 + tail, 14 - tail))
    for unknown in (
        percentile_interval(np.array([np.nan]), 20),
        percentile_interval(np.array([]), 20),
        percentile_interval(replicates, 1),
    ):
        assert np.isnan(unknown).all()


@pytest.mark.parametrize("runs", [2, 5, 20, 100])
def test_percentiles_are_expanded_by_students_quantile(runs):
    """Against the quantiles of scipy.stats; Hesterberg (2015): for 20 values about 1.6 % and 98.4 %."""
    expected = stats.norm.cdf(-np.sqrt(runs / (runs - 1)) * stats.t.ppf(0.975, runs - 1))
    assert expanded_tail(runs) == pytest.approx(expected, rel=1e-9)
    assert expanded_tail(20) == pytest.approx(0.016, abs=0.0005) and expanded_tail(10**9) == pytest.approx(0.025)


@pytest.mark.parametrize("runs, before", [(10, 0.93), (20, 0.945)])
def test_expanded_percentiles_cover_the_mean_of_normal_values_as_they_say(runs, before):
    """Of 2000 experiments the coverage is known to about 1 %; without the expansion it is `before` at most."""
    experiments, rng = 2000, np.random.default_rng(0)
    values = rng.standard_normal((experiments, runs))
    drawn = rng.multinomial(runs, np.full(runs, 1 / runs), 1000) / runs
    covered = {runs: 0, 10**9: 0}
    for sample in values:
        for count in covered:
            low, high = percentile_interval(drawn @ sample, count)
            covered[count] += low <= 0 <= high
    assert covered[runs] / experiments == pytest.approx(0.95, abs=0.015)
    assert covered[10**9] / experiments < before


def test_mean_interval_by_hand():
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert (mean, low, high) == pytest.approx((2, 2 - 4.30265 / np.sqrt(3), 2 + 4.30265 / np.sqrt(3)), rel=1e-5)
    assert np.isnan(mean_interval([1.0])[1])


def test_a_saved_field_comes_back_and_gives_the_same_bytes(tmp_path):
    rng = np.random.default_rng(0)
    field = ReceptiveField.from_runs(rng.random((4, 5, 7)), (2, 3), (5, np.inf), {"name": "x", "depth": 2}, rng)
    field.save(tmp_path / "a.npz")
    field.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    loaded = ReceptiveField.load(tmp_path / "a.npz")
    for name in ("map", "run_sizes", "bootstrap"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(field, name))
    assert (loaded.position, loaded.theoretical_rf, loaded.dead) == (field.position, field.theoretical_rf, 0)
    assert loaded.settings == field.settings
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_several_fields_in_one_file(tmp_path):
    fields = [
        field_of(np.full((3, n), float(n)), settings={"n": n}, reference=r) for n, r in [(3, "centre"), (5, "maximum")]
    ]
    save_fields(fields, tmp_path / "a.npz")
    loaded = load_fields(tmp_path / "a.npz")
    assert [field.settings for field in loaded] == [{"n": 3}, {"n": 5}]
    assert [field.reference for field in loaded] == ["centre", "maximum"]
    np.testing.assert_array_equal(loaded[1].map, fields[1].map)
    with pytest.raises(InputError, match=r"a\.npz: holds 2 receptive fields, not one"):
        ReceptiveField.load(tmp_path / "a.npz")


def test_whatever_is_saved_can_be_loaded(tmp_path, monkeypatch):
    """A map of zeros shrinks so much that a reader would not unpack it: it is saved as it is."""
    impact = np.zeros((200, 300))
    impact[50, 60] = 1
    field = field_of(impact, (50, 60))
    field.save(tmp_path / "small.npz")
    for module in (erf_field, files):
        monkeypatch.setattr(module, "allowance", lambda size: 10 * size)
    with pytest.raises(InputError, match=r"small\.npz: .* bytes when unpacked, where "):
        ReceptiveField.load(tmp_path / "small.npz")
    field.save(tmp_path / "large.npz")
    assert (tmp_path / "large.npz").stat().st_size > impact.nbytes > (tmp_path / "small.npz").stat().st_size
    np.testing.assert_array_equal(ReceptiveField.load(tmp_path / "large.npz").map, impact)


WRONG = {
    "map": [np.ones(9), np.ones((3, 3, 3)), np.ones((3, 3), int), np.full((3, 3), np.nan), np.empty((0, 3)), "1"],
    "position": [np.ones(3), np.array([np.nan, 1]), np.array([np.inf, 1]), np.array([1e15, 1]), np.array(["a", "b"])],
    "theoretical_rf": [np.ones((1, 2)), np.array([0, 3]), np.array([-3.0, 3]), np.array([np.nan, 3]), 5],
    "run_sizes": [np.ones((2, 2)), np.array([-1.0]), np.array([np.inf]), np.array(["a"]), np.array([1 + 2j])],
    "dead": [-1, 2, 10**18, 0.0, [0], "0", True, np.timedelta64(0)],
    "bootstrap": [np.ones((2, 2)), np.array([-1.0, 1]), np.array([np.inf, 1]), np.zeros(3, "V3")],
    "largest_share": [-0.1, 1.1, np.inf, [0.5, 0.5], "x", 1j],
    "reference": ["center", "", 3, ["centre", "centre"]],
    "settings": ["", "{", "[]", "3", "null", "{'a': 1}", "[" * 100_000, b"{}", "9" * 10_000, ["{}", "{}"]],
    "count": [0, 2, -1, 1.0, "1", [1]],
}


@pytest.mark.parametrize(
    "name, value", [(name, value) for name, values in WRONG.items() for value in values], ids=lambda one: str(one)[:20]
)
def test_a_field_that_no_measurement_gives_is_refused_by_name(tmp_path, name, value):
    path = tmp_path / "x.npz"
    field_of(theory.uniform_map(3, 3)).save(path)
    with np.load(path) as data:
        arrays = dict(data)
    np.savez(path, **arrays)
    assert ReceptiveField.load(path).size > 0
    np.savez(path, **arrays | {name if name == "count" else f"0_{name}": np.asarray(value)})
    with pytest.raises(InputError, match=r"x\.npz: damaged, or something else") as caught:
        ReceptiveField.load(path)
    assert "\n" not in str(caught.value)
    for changed in (arrays.keys() - {"0_map"}, [*arrays, "1_map"]):  # an array too few, and one too many
        np.savez(path, **{key: arrays.get(key, np.ones(1)) for key in changed})
        with pytest.raises(InputError, match=r"x\.npz: damaged, or something else"):
            load_fields(path)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "flipped", "pickle", "other", "npy"])
def test_damaged_results_are_refused_by_name(tmp_path, damage):
    path = tmp_path / "result.npz"
    field_of(theory.uniform_map(10, 3)).save(path)
    whole = path.read_bytes()
    middle = len(whole) // 3
    if damage == "pickle":
        np.savez(path, map=np.array([{}], dtype=object))
    elif damage == "other":
        np.savez(path, something=np.zeros(3))
    elif damage == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
        path.write_bytes({"truncated": whole[:-100], "empty": b"", "text": b"hello", "flipped": flipped}[damage])
    with pytest.raises(InputError, match=r"result\.npz: damaged, or something else"):
        ReceptiveField.load(path)


def test_no_flipped_byte_gives_a_traceback_or_another_result(tmp_path):
    path = tmp_path / "result.npz"
    field = field_of(theory.uniform_map(3, 3), settings={"name": "x"})
    field.save(path)
    whole = path.read_bytes()
    refused = 0
    for index in range(0, len(whole), 5):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 0x5A]) + whole[index + 1 :])
        try:
            loaded = ReceptiveField.load(path)
        except InputError:
            refused += 1
        else:  # a byte that the archive does not need, such as a time stamp
            np.testing.assert_array_equal(loaded.map, field.map)
            assert loaded.settings == field.settings
    assert refused > len(whole) / 10
