"""Where the ERF lies, how wide it is, and how much of the impact is near the unit: networks against formulas."""

import math

import numpy as np
import pandas as pd
import pytest

import figure_convolution
import figure_moments
import figure_nonlinearity
import measure_network
import measure_snapshots
from conftest import network_settings
from erf import theory
from erf.errors import InputError
from erf.result.contribution import disc_coverage, radius_holding, share_within
from erf.result.field import ReceptiveField
from erf.size import E2, erf_size
from erf.system.seeds import torch_generator
from replication.stacks.modules import build_stack
from replication.stacks.predictions import drifts, limit_moments, predicted_moments, predicted_size, series_name
from replication.stacks.structures import Conv, structure
from replication.statistics.moments import map_moments, moment_statistics, rf_radius

SKEWED = [0.6, 0.3, 0.1]


def fixed(taps: list[float], **changes) -> dict:
    return network_settings(weights="fixed", taps=taps, kernel=len(taps), **{"width": 1, "runs": 1} | changes)


def measured(settings: dict, name: str = "x") -> tuple[list[ReceptiveField], pd.DataFrame]:
    return measure_network.measure_network(name, settings)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("taps", [SKEWED, [0.1, 0.3, 0.6], [0.7, 0.3], [0.25, 0.5, 0.25], [0.1, 0.0, 0.2, 0.3, 0.4]])
@pytest.mark.parametrize("depth", [1, 4, 9])
def test_mean_and_variance_of_fixed_kernels_add_exactly(taps, depth, channels):
    """E[S_n] = n E[X] and Var[S_n] = n Var[X], the moments written out here."""
    (field,), _ = measured(fixed(taps, depths=[depth], width=channels))
    drift, spread = map_moments(field.map, field.position)
    mean = sum(m * w for m, w in enumerate(taps))
    variance = sum(m**2 * w for m, w in enumerate(taps)) - mean**2
    np.testing.assert_allclose(drift, depth * (mean - (len(taps) - 1) / 2), atol=1e-12)
    np.testing.assert_allclose(spread**2, depth * variance, rtol=1e-12)
    assert field.map.sum() * channels == pytest.approx(1)  # the channels share it, and impact is their mean


def test_the_first_tap_is_that_of_the_first_row_and_column():
    """torch's convolution is a cross-correlation: a kernel heavy in its first taps looks up and to the left."""
    model = build_stack([Conv(3, taps=tuple(SKEWED))], weights="fixed", generators=[torch_generator(0)])
    np.testing.assert_allclose(model[0].weight[0, 0].numpy(), np.outer(SKEWED, SKEWED))
    (field,), table = measured(fixed(SKEWED, depths=[10]))
    assert np.unravel_index(field.map.argmax(), field.map.shape) < field.position
    assert table["drift"].iloc[0] == pytest.approx(-5)
    (mirrored,), _ = measured(fixed(SKEWED[::-1], depths=[10]))
    np.testing.assert_allclose(mirrored.map, field.map[::-1, ::-1], rtol=1e-12)


def test_sizes_of_a_drifting_erf_are_shares_of_the_maximum_and_tend_to_the_gaussians():
    fields, table = measured(fixed(SKEWED, depths=[5, 80], thresholds=[0.0455, E2]))
    assert {field.reference for field in fields} == {"maximum"}
    np.testing.assert_allclose(table["size"], table["theory_size"])
    deep = table[table["depth"] == 80].set_index("variant")
    spread = math.sqrt(80 * 0.45)
    assert deep.loc["abs", "size"] == pytest.approx(4.406 * spread, rel=0.005)
    assert deep.loc["abs above 13.5 %", "size"] == pytest.approx(2 * math.sqrt(math.pi) * spread, rel=0.005)
    assert deep.loc["abs", "fit_sigma_rows"] == pytest.approx(spread, rel=0.005)
    assert deep.loc["abs", "gaussian_r2"] > 0.998 > table.loc[0, "gaussian_r2"]
    # Of the unit's own pixel it would be a share of next to nothing.
    last = next(field for field in fields if field.settings["depth"] == 80)
    assert last.size_at(reference="centre") > 2 * last.size


def test_random_weights_drift_and_spread_as_their_variances_do():
    """Within the noise of the runs; E[g^2] exactly as fixed kernels, |g| as theory's exact map of a wide network."""
    _, table = measured(network_settings(taps=SKEWED, depths=[10], width=8, runs=60, variants=["abs", "square"]))
    for row, drift, spread in zip(table.itertuples(), (None, -5), (None, 4.5**0.5), strict=True):
        for name in ("drift", "spread"):
            low, high = getattr(row, f"{name}_low"), getattr(row, f"{name}_high")
            value, expected = getattr(row, name), getattr(row, f"theory_{name}")
            assert low < value < high and high - low < 0.25
            assert value == pytest.approx(expected, abs=2 * (high - low))  # four standard errors and more
        if drift:
            assert (row.theory_drift, row.theory_spread) == pytest.approx((drift, spread))
            assert (row.limit_drift, row.limit_spread) == pytest.approx((drift, spread))
    assert table["limit_spread"].iloc[0] == pytest.approx(9**0.5)


@pytest.mark.parametrize("kernel", [2, 5, 7])
@pytest.mark.parametrize("depth", [5, 6])
def test_uniform_kernels_of_other_sides(kernel, depth):
    (field,), table = measured(network_settings(weights="uniform", kernel=kernel, width=1, runs=1, depths=[depth]))
    side = depth * (kernel - 1) + 1
    assert field.map.shape == (side, side) and field.position == ((side - 1) / 2,) * 2
    np.testing.assert_allclose(field.map, theory.uniform_map(depth, kernel), rtol=1e-12)
    sigma = math.sqrt(depth * (kernel**2 - 1) / 12)
    for column in ("sigma_rows", "sigma_columns", "spread", "limit_spread", "limit_sigma_rows"):
        assert table[column].iloc[0] == pytest.approx(sigma)
    assert table["size"].iloc[0] == pytest.approx(theory.plain_size(depth, kernel, "uniform"))


def test_a_unit_between_pixels_has_its_size():
    """Two taps and an odd depth: the receptive field is even. The reference is the mean of the middle four pixels, of
    which each is off a Gaussian's peak by half a pixel along both axes: that adds pi / 2 to the area."""
    settings = network_settings(weights="uniform", kernel=2, width=1, runs=1, depths=[20, 21, 22])
    fields, table = measured(settings)
    assert fields[1].position == (10.5, 10.5)
    middle = [field.map[*(slice(math.floor(p), math.ceil(p) + 1) for p in field.position)] for field in fields]
    assert middle[1].shape == (2, 2) and np.ptp(middle[1]) == pytest.approx(0, abs=1e-15)
    before, size, after = table["size"]
    assert before < size < after
    assert size == pytest.approx(math.sqrt(4.406**2 * 21 / 4 + math.pi / 2), rel=0.01)


def test_shares_near_the_unit_of_a_gaussian_are_its_formulas():
    for sigma, middle in ((4, 40), (6.5, 40.5)):
        impact = theory.gaussian_map(sigma, (81, 82), (middle, 41))
        for radius in (3, 5.3, 8, 13):
            expected = 1 - math.exp(-(radius**2) / (2 * sigma**2))
            assert share_within(impact, (middle, 41), radius) == pytest.approx(
                expected, abs=1 / (24 * sigma**2) + 0.002
            )
        assert radius_holding(impact, (middle, 41), 0.5) == pytest.approx(sigma * math.sqrt(2 * math.log(2)), abs=0.15)
    even = np.ones((101, 101))
    assert share_within(even, (50, 50), 101 / 4) == pytest.approx(math.pi / 16, rel=0.002)
    assert disc_coverage((41, 51), (20, 25), 15).sum() == pytest.approx(math.pi * 15**2, rel=0.005)


def test_what_is_near_no_impact_is_unknown():
    empty = np.zeros((5, 5))
    assert np.isnan([share_within(empty, (2, 2), 1), radius_holding(empty, (2, 2), 0.5)]).all()
    assert np.isnan(map_moments(empty, (2, 2))).all()
    with pytest.raises(InputError, match="between 0 and 1, not 1"):
        radius_holding(np.ones((3, 3)), (1, 1), 1)


def test_the_fovea_of_untrained_networks():
    """A network's share is that of its map, and near a Gaussian's of its spread."""
    (field,), table = measured(network_settings(depths=[40], width=8, runs=10))
    row = table.iloc[0]
    for name, part in (("quarter", 0.25), ("half", 0.5)):
        radius = part * 81 / 2
        low, value, high = (row[f"share_{name}{end}"] for end in ("_low", "", "_high"))
        assert low < value < high
        assert value == pytest.approx(share_within(field.map, field.position, radius), abs=0.01)
        assert row[f"theory_share_{name}"] == pytest.approx(1 - math.exp(-(radius**2) / (2 * 160 / 3)), abs=0.02)
    assert row["share_quarter"] > 10 * math.pi / 64  # ten times as much as if all pixels mattered alike
    assert row["radius_half"] == pytest.approx(1.177 * row["spread"], rel=0.03)


def test_statistics_of_one_run_have_no_interval_and_those_of_several_cover_the_truth():
    rng, covered = np.random.default_rng(0), 0
    truth = theory.gaussian_map(4, (41, 41), (18, 18))  # drifts by -2
    one = moment_statistics(truth[None], (20, 20), (41, 41))
    assert one["drift"][0] == pytest.approx(-2, abs=1e-4) and np.isnan(one["drift"][1:]).all()
    for _ in range(100):
        runs = truth * rng.exponential(size=(12, 41, 41))
        low, high = moment_statistics(runs, (20, 20), (41, 41))["drift"][1:]
        covered += low < one["drift"][0] < high
    assert 88 <= covered <= 100


def test_dead_runs_have_no_moments():
    settings = network_settings(taps=SKEWED, depth=4, mode="abs", variant="abs", network="x", runs=2)
    dead = ReceptiveField.from_runs(np.zeros((2, 9, 9)), (4, 4), (9, 9), settings)
    assert np.isnan(measure_network.moments_row(dead, np.zeros((2, 9, 9)))["drift"])
    assert np.isnan(measure_network.table_row(dead)["size"])


def test_names_and_theory_of_kernels_with_taps():
    settings = fixed(SKEWED, depth=20, mode="abs")
    assert series_name(settings) == "fixed (0.6, 0.3, 0.1)" and drifts(settings)
    assert series_name(settings | {"weights": "random", "activation": "relu"}) == "random (0.6, 0.3, 0.1) + ReLU"
    assert not drifts(fixed([0.25, 0.5, 0.25])) and not drifts(network_settings())
    assert limit_moments(settings) == pytest.approx((-10, 3))
    assert predicted_moments(settings)["drift"] == pytest.approx(-10)
    # In a structure each layer counts in units of its dilation and the earlier strides, here 1, 1 and 2.
    strided = settings | {"structure": "subsample", "special_layers": [2], "depth": 3}
    assert limit_moments(strided) == pytest.approx((-0.5 * (1 + 1 + 2), math.sqrt(0.45 * (1 + 1 + 4))))
    assert np.isnan(predicted_size(settings | {"structure": "dropout", "mode": "square"}))
    signed = network_settings(taps=SKEWED, depth=4, mode="signed")
    assert np.isnan([*limit_moments(signed), predicted_moments(signed)["drift"]]).all()


@pytest.mark.parametrize(
    "taps, message",
    [((0.5, 0.5), "needs 3 taps, not 2"), ((-0.1, 1, 0.1), "not negative"), ((0, 0, 0), "not all zero")],
)
def test_taps_that_are_no_distribution_are_refused(taps, message):
    with pytest.raises(InputError, match=message):
        build_stack(structure("plain", 2, taps=taps), weights="fixed")


def test_the_posters_inverse_transform_as_printed_has_one_value():
    """The first coefficient of Eq. 1, wherever one looks; by a fine sum over frequencies."""
    for kernel, depth in ((2, 10), (3, 4), (5, 3)):
        taps = theory.uniform_taps(kernel, axes=1)
        assert figure_convolution.without_factor(taps, depth) == pytest.approx(kernel**-depth)
        frequency = np.arange(4096) * (2 * np.pi / 4096)
        transform = (np.exp(-1j * np.outer(frequency, np.arange(kernel))) @ taps) ** depth
        for t in (0, 1, 3):
            with_factor = (transform * np.exp(1j * frequency * t)).mean().real
            assert with_factor == pytest.approx(theory.extended_binomial(kernel, depth)[t] / kernel**depth)
        assert transform.mean().real == pytest.approx(figure_convolution.without_factor(taps, depth))


def test_the_figure_has_theory_beside_each_moment():
    shown = {"skewed": fixed(SKEWED, depths=[5, 10]), "random": network_settings(depths=[5], width=4, runs=5)}
    shown["random"]["variants"] = ["abs", "square"]
    results = [measured(settings, name) for name, settings in shown.items()]
    fields = [field for found, _ in results for field in found if field.settings["variant"] == "abs"]
    _, table = figure_moments.draw(fields, [rows for _, rows in results])
    skewed = table.query("network == 'skewed'")
    for panel, values in (("drift", [-0.5, -0.5]), ("variance", [0.45, 0.45])):  # per layer
        found = skewed[skewed["panel"] == panel]
        assert found["value"].tolist() == pytest.approx(values) and found["theory"].tolist() == pytest.approx(values)
    sizes = table.query("panel == 'size' and threshold == 'e⁻²'").set_index(["network", "depth"])
    one = fields[1]
    expected = erf_size(one.map, one.position, E2, "maximum") / math.sqrt(4.5)
    assert sizes.loc[("skewed", 10), "value"] == pytest.approx(expected)
    share = table.query("panel == 'share'")
    assert set(share["network"]) == {"random"} and share["value"].is_monotonic_increasing
    assert share["even"].iloc[-1] == pytest.approx(math.pi / 4)
    assert (share["radius"] / share["part"]).tolist() == pytest.approx([5.5] * len(share))


def test_sizes_under_each_activation_are_held_against_the_linear_networks():
    fields = [
        measured(network_settings(depths=[6], width=4, runs=8, activation=activation), activation)[0][0]
        for activation in ("tanh", "none")
    ]
    table = figure_nonlinearity.sizes_table(fields).set_index("series")
    row = table.loc["random + tanh"]
    assert row["ratio"] == fields[0].size / fields[1].size and row["ratio_low"] < row["ratio"] < row["ratio_high"]
    assert table.loc["random", "ratio"] == 1 and np.isnan(table.loc["random", "ratio_low"])
    assert figure_nonlinearity.sizes_table(fields[:1])["ratio"].isna().all()  # none to hold it against


def test_the_share_near_the_unit_of_a_trained_network():
    field = ReceptiveField.from_runs(theory.gaussian_map(6, (61, 81), (30, 40))[None], (30, 40), (65, 65))
    found = measure_snapshots.near_the_unit(field)
    assert rf_radius(field.theoretical_rf) == 32.5
    for name, part in (("quarter", 0.25), ("half", 0.5)):
        expected = 1 - math.exp(-((part * 32.5) ** 2) / 72)
        assert found[f"share_{name}"] == pytest.approx(expected, abs=0.003)
    assert found["radius_half"] == pytest.approx(6 * 1.177, abs=0.1)
