"""The experiments on untrained networks: what measure_network and growth_slopes make of them."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import figure_gaussian_shape
import figure_growth
import figure_structures
import growth_slopes
import measure_network
import slope_samples
from conftest import network_settings, settings_file
from erf import theory
from erf.errors import InputError
from erf.result.field import ReceptiveField, load_fields, save_fields
from erf.result.intervals import percentile_interval
from erf.theory import log_log_slope
from lib import safekeeping
from replication.stacks.predictions import predicted_cut_off
from replication.statistics.slopes import is_pair


@pytest.fixture(scope="module")
def uniform() -> list[ReceptiveField]:
    settings = network_settings(weights="uniform", width=1, runs=1, depths=[5, 10, 20, 40])
    return measure_network.measure_network("uniform", settings)[0]


@pytest.fixture(scope="module")
def random() -> list[ReceptiveField]:
    return measure_network.measure_network("random", network_settings(depths=[5, 10, 20, 40]))[0]


def test_uniform_networks_have_the_papers_sizes(uniform):
    assert [round(field.size, 1) for field in uniform] == [8.2, 11.5, 16.2, 22.8]
    for field in uniform:
        expected = theory.uniform_map(field.settings["depth"], 3)
        np.testing.assert_allclose(field.map, expected, rtol=1e-12)


@pytest.mark.parametrize("weights", ["uniform", "random"])
@pytest.mark.parametrize("place, depth", [(1, 10), (2, 20), (3, 40)])
def test_fitted_sigma_is_within_3_percent_of_the_prediction(weights, place, depth, request):
    field = request.getfixturevalue(weights)[place]
    assert field.settings["depth"] == depth
    (row,) = pd.DataFrame([measure_network.table_row(field)]).to_dict("records")
    for axis in ("rows", "columns"):
        assert row[f"fit_sigma_{axis}"] == pytest.approx(row[f"limit_sigma_{axis}"], rel=0.03)
    assert row["gaussian_r2"] > 0.99


def test_measures_of_shape_are_theorys_where_weights_are_not_random():
    settings = network_settings(weights="uniform", width=1, runs=1, depths=[5, 20])
    for row in measure_network.measure_network("uniform", settings)[1].to_dict("records"):
        for name in ("kurtosis", "departure", "r2"):
            assert row[name] == pytest.approx(row[f"theory_{name}"], rel=1e-6)
            assert np.isnan(row[f"{name}_low"])
        assert row["departure_from_theory"] == pytest.approx(0, abs=1e-6)


def test_intervals_of_shape_reach_theory_in_wide_random_networks():
    (row,) = measure_network.measure_network("random", network_settings(depths=[20]))[1].to_dict("records")
    for name in ("kurtosis", "departure"):
        assert row[f"{name}_low"] - 0.005 <= row[f"theory_{name}"] <= row[f"{name}_high"] + 0.005
    assert row["departure_from_theory_low"] < 0.005


def test_random_networks_have_theorys_finite_depth_sizes(random):
    for field in random:
        assert field.size == pytest.approx(theory.plain_size(field.settings["depth"], 3, "random"), rel=0.03)
        assert field.dead == 0


def test_a_network_is_the_same_whatever_else_is_measured_with_it(random):
    alone = measure_network.measure_network("random", network_settings(depths=[10], variants=["square", "abs"]))[0][1]
    np.testing.assert_array_equal(alone.map, random[1].map)
    np.testing.assert_array_equal(alone.bootstrap, random[1].bootstrap)


def test_runs_do_not_depend_on_how_many_fit_in_one_pass(random, monkeypatch):
    monkeypatch.setattr(measure_network, "ACTIVATIONS_BYTES", 2**21)
    few = measure_network.measure_network("random", network_settings(depths=[10]))[0][0]
    np.testing.assert_allclose(few.map, random[1].map, rtol=1e-10)


def test_readings_of_the_same_gradients():
    variants = ["abs", "square", "signed", "equal", "maximum"]
    settings = network_settings(width=2, runs=7, variants=variants)
    fields, _ = measure_network.measure_network("x", settings | {"depths": [8]})
    by_name = {field.settings["variant"]: field for field in fields}
    maps, *_ = measure_network.run_maps("x", settings, 8)
    np.testing.assert_allclose(by_name["abs"].map, maps["abs"].mean(0))
    np.testing.assert_allclose(by_name["signed"].map, maps["signed"].mean(0))
    shares = [run / run.sum() for run in maps["abs"]]
    np.testing.assert_allclose(by_name["equal"].map, np.mean(shares, 0))
    assert by_name["maximum"].size == by_name["abs"].size_at(reference="maximum")
    assert np.all(maps["abs"] ** 2 <= maps["square"] * (1 + 1e-12))  # the square of a mean, the mean of squares


def test_dead_runs_of_a_single_channel_are_counted_in_the_table(tmp_path):
    settings = network_settings(depths=[20, 40], width=1, activation="relu")
    arguments = ["--settings", settings_file({"name": "one", **settings}), "--out", str(tmp_path / "one.npz")]
    assert measure_network.main(arguments) == 0
    table, fields = pd.read_csv(tmp_path / "one.csv"), load_fields(tmp_path / "one.npz")
    assert table["dead"].tolist() == [field.dead for field in fields]
    assert table["dead"].min() > 0
    for field, row in zip(fields, table.itertuples(), strict=True):
        assert np.isnan(field.run_sizes).sum() == row.dead + row.without_centre


def test_one_more_depth_is_measured_alone(tmp_path, monkeypatch):
    """And the result is the same, byte for byte, as if all had been measured."""
    run_maps, depths = measure_network.run_maps, []
    monkeypatch.setattr(measure_network, "run_maps", lambda *a: depths.append(a[2]) or run_maps(*a))

    def measure(folder: str, **changes) -> list[bytes]:
        out = tmp_path / folder / "x.npz"
        out.parent.mkdir(exist_ok=True)
        settings = network_settings(runs=4, width=2, activation="relu", variants=["abs", "square"], **changes)
        assert measure_network.main(["--settings", settings_file({"name": "x", **settings}), "--out", str(out)]) == 0
        return [out.with_suffix(suffix).read_bytes() for suffix in (".npz", ".csv")]

    measure("here", depths=[5, 3])
    outputs = [tmp_path / "here" / name for name in ("x.npz", "x.csv", "x.provenance.json")]
    for changes, measured in (({"depths": [3, 4, 5]}, [4]), ({"depths": [4]}, []), ({"depths": [4], "seed": 2}, [4])):
        safekeeping.keep(list(map(str, outputs)), forced=False)
        for path in outputs:
            path.unlink()
        depths.clear()
        found = measure("here", **changes)
        assert depths == measured and found == measure("elsewhere", **changes)
        assert not (tmp_path / "here/.kept").exists()
        record = json.loads(outputs[2].read_text())
        assert not [path for path in record["read"] if ".kept" in path]


def dead_field(field: ReceptiveField, live: int) -> ReceptiveField:
    """The same field as if only `live` of its runs had lived."""
    maps = np.zeros((20, *field.map.shape))
    maps[:live] = field.map
    args = (maps, field.position, field.theoretical_rf, field.settings, np.random.default_rng(0))
    return ReceptiveField.from_runs(*args)


def test_no_number_is_silently_made_of_dead_runs(random):
    row = measure_network.table_row(dead_field(random[1], 0))
    assert row["dead"] == 20
    numbers = ["size", "low", "ratio", "mean_run_size", "fit_sigma_rows", "gaussian_r2", "excess_kurtosis_rows"]
    assert all(np.isnan(row[name]) for name in numbers)
    for live, slope_known in ((0, False), (1, True)):
        fields = [random[0], dead_field(random[1], live), random[2], random[3]]
        table = growth_slopes.slopes(fields, [[5, 10, 20, 40], [20, 40]])
        touched, other = table[table["range"] == "5-40"], table[table["range"] == "20-40"]
        assert touched["slope"].notna().all() == slope_known
        assert touched["low"].isna().all() and touched["high"].isna().all()
        assert (touched["most_left_out"] == 20 - live).all()
        assert other[["slope", "low", "high"]].notna().all(axis=None)


def test_slopes_of_uniform_networks_are_theorys_and_certain(uniform):
    table = growth_slopes.slopes(uniform, [[5, 10, 20, 40]]).set_index("quantity")
    assert table["slope"].tolist() == pytest.approx(theory.finite_depth_slopes([5, 10, 20, 40], 3, "uniform"))
    np.testing.assert_allclose(table["theory"], table["slope"])
    assert (table["low"] == table["slope"]).all() and (table["high"] == table["slope"]).all()


def test_slopes_and_their_intervals_by_hand(random):
    table = growth_slopes.slopes(random[::-1], [[40, 5, 20, 10]])  # in any order
    row = table[(table["variant"] == "abs") & (table["quantity"] == "ratio")].iloc[0]
    depth, used = np.array([10, 20, 40]), random[1:]
    assert (row["range"], row["depths"]) == ("5-40", "10-40")  # at 5 layers theory's ERF is as large as the RF
    ratios = np.array([field.size for field in used]) / (1 + 2 * depth)
    assert row["slope"] == pytest.approx(np.polyfit(np.log(depth), np.log(ratios), 1)[0])
    assert row["theory"] == pytest.approx(theory.finite_depth_slopes([10, 20, 40])[1])
    replicates = np.stack([field.bootstrap for field in used], 1) / (1 + 2 * depth)
    expected = percentile_interval(log_log_slope(depth, replicates), 20)
    assert (row["low"], row["high"]) == pytest.approx(expected)
    assert list(table.columns[:8]) == ["weights", "variant", "range", "depths", "quantity", "slope", "low", "high"]
    per_run = table[(table["variant"] == "per run") & (table["quantity"] == "size")].iloc[0]
    means = [np.mean(field.run_sizes) for field in used]
    assert per_run["slope"] == pytest.approx(np.polyfit(np.log(depth), np.log(means), 1)[0])
    drawn = [growth_slopes.sizes(field, per_run=True)[1] for field in used]
    slopes = log_log_slope(depth, np.stack(drawn, 1))
    assert (per_run["low"], per_run["high"]) == pytest.approx(percentile_interval(slopes, 20))
    assert np.abs(np.corrcoef(drawn)[np.triu_indices(3, 1)]).max() < 0.15  # depths are drawn independently


def test_theory_decides_which_depths_are_cut_off(random):
    """A map that spreads over all of its field, as noise might, moves no depth out; nor does a point move one in."""
    flat = replace(random[2], map=np.ones_like(random[2].map))
    point = replace(random[0], map=np.where(random[0].map == random[0].map.max(), random[0].map, 0))
    assert flat.clipped and not point.clipped
    table = growth_slopes.slopes([point, random[1], flat, random[3]], [[5, 10, 20, 40]])
    assert set(table["depths"]) == {"10-40"}
    signed = [
        replace(field, settings={**field.settings, "mode": "signed", "variant": "signed"})
        for field in (random[0], random[1], flat, random[3])
    ]
    table = growth_slopes.slopes(signed, [[5, 10, 20, 40]])  # no theory: the measured maps decide
    assert set(table["depths"]) == {"10, 40"} and table["theory"].isna().all() and table["low"].notna().all()


@pytest.mark.parametrize(
    "weights, mode, kernel, threshold, whole",
    [
        ("random", "abs", 3, 0.0455, False),
        ("random", "abs", 3, 0.15, True),
        ("random", "square", 3, 0.0455, True),
        ("random", "abs", 5, 0.0455, False),
        ("random", "abs", 5, 0.06, True),
        ("uniform", "abs", 3, 0.0455, True),
        ("uniform", "abs", 3, 0.015, False),
    ],
)
def test_an_erf_is_cut_off_if_the_middle_of_the_fields_edge_is_above_the_threshold(
    weights, mode, kernel, threshold, whole
):
    """By hand: the edge's share of the peak is 1 / 51 for five kernels of 3, 1 / 381 for 5; |g| has its root."""
    settings = network_settings(weights=weights, mode=mode, kernel=kernel, depth=5)
    assert predicted_cut_off(settings, threshold) == (not whole)
    share = 1 / (51 if kernel == 3 else 381)
    assert ((share**0.5 if (weights, mode) == ("random", "abs") else share) > threshold) == (not whole)


def test_a_slope_over_fewer_than_two_depths_is_empty(random):
    table = growth_slopes.slopes(random, [[5, 10], [5, 40]])
    assert set(table["depths"]) == {"10", "40"} and set(table["range"]) == {"5-10", "5-40"}
    assert table[["slope", "low", "high", "theory"]].isna().all(axis=None)
    assert growth_slopes.depths_used([], [3, 5]) == "none"


def test_a_sample_is_an_experiment_of_its_own(tmp_path):
    settings = network_settings(width=1, runs=5, activation="relu")
    arguments = [
        "--settings",
        settings_file({"name": "thin", **settings, "depths": [[8, 4], [2, 4]], "counts": [3, 1]}),
    ]
    assert slope_samples.main([*arguments, "--out", str(tmp_path / "thin.csv")]) == 0
    table = pd.read_csv(tmp_path / "thin.csv")
    assert table.groupby(["depths", "variant"])["size"].nunique().to_dict() == {
        ("2-4", "abs"): 1,
        ("2-4", "per run"): 1,
        ("4-8", "abs"): 3,
        ("4-8", "per run"): 3,
    }
    assert table["pair"].tolist() == is_pair(table["size"], table["ratio"]).tolist()
    shallow = table.query("depths == '2-4' and variant == 'abs'").iloc[0]
    assert shallow["size"] - shallow["ratio"] == pytest.approx(np.log2(9 / 5))
    name = "thin, sample 1"
    fields, _ = measure_network.measure_network(name, settings | {"depths": [4, 8]})
    rows = table[(table["sample"] == 1) & (table["depths"] == "4-8")].set_index("variant")
    sizes = np.array([field.size for field in fields])
    assert rows.loc["abs", "size"] == pytest.approx(np.log2(sizes[1] / sizes[0]))
    assert rows.loc["abs", "ratio"] == pytest.approx(np.log2(sizes[1] / 17 / (sizes[0] / 9)))
    means = [np.nanmean(field.run_sizes) for field in fields]
    assert rows.loc["per run", "size"] == pytest.approx(np.log2(means[1] / means[0]))
    assert rows.loc["abs", "most_left_out"] == max(field.dead for field in fields)


def test_what_was_not_measured_is_named(uniform, tmp_path, capsys):
    path, table = tmp_path / "uniform.npz", tmp_path / "table.csv"
    save_fields(uniform, path)
    table.write_text("a,b\n1,2\n")
    calls = [
        (
            growth_slopes,
            ["--settings", settings_file({"depths": [[5, 12]]})],
            "uniform is not measured at 12 layers in the variant abs",
        ),
        (
            figure_gaussian_shape,
            ["--settings", settings_file({"depths": [7]})],
            "nothing to draw: no variant abs at [7] layers",
        ),
        (figure_growth, ["--slopes", str(table)], "table.csv: has no column 'slope': another table is wanted here"),
    ]
    for script, arguments, message in calls:
        assert script.main(["--fields", str(path), *arguments, "--out", str(tmp_path / "x.csv")]) == 1
        assert message in capsys.readouterr().err


def test_a_network_too_large_for_any_memory_is_refused():
    settings = network_settings(structure="subsample", special_layers=list(range(1, 11)))
    with pytest.raises(InputError, match=r"x: a run at 15 layers, of receptive field 12287, needs \d+ GiB"):
        measure_network.run_maps("x", settings, 15)


def test_gradients_too_small_for_float32_are_refused_and_others_are_in_float64(monkeypatch):
    settings = network_settings(depths=[30], width=2, runs=2, double_depth=20)
    field = measure_network.measure_network("x", settings | {"activation": "sigmoid"})[0][0]
    assert 0 < field.map.max() < 1e-12 and field.dead == 0
    assert field.map[0, 0] > 0  # float32 would have lost it
    monkeypatch.setattr(measure_network, "SMALLEST", 1.0)
    with pytest.raises(InputError, match="too small for float32: set double_depth to at least 30"):
        measure_network.measure_network("x", settings)


def field_of_size(side: int, **settings) -> ReceptiveField:
    """All ones over side x side pixels of 31 x 31, in each of 5 runs."""
    maps = np.zeros((5, 31, 31))
    edge = (31 - side) // 2
    maps[:, edge : edge + side, edge : edge + side] = 1
    described = network_settings(depth=15, mode="abs", variant="abs", runs=5, **settings)
    return ReceptiveField.from_runs(maps, (15, 15), (31, 31), described, np.random.default_rng(0))


def test_the_figure_of_structures_holds_each_against_its_own_plain_network():
    fields = [
        field_of_size(9, network="a", structure="plain", activation="none"),
        field_of_size(13, network="b", structure="skip", activation="none"),
        field_of_size(11, network="c", structure="plain", activation="relu"),
        field_of_size(5, network="d", structure="skip", activation="relu"),
    ]
    table = figure_structures.tabulate(fields)
    assert table["ratio"].tolist() == pytest.approx([1, 13 / 9, 1, 5 / 11], rel=0.002)
    assert table["ratio_low"][[1, 3]].tolist() == pytest.approx([13 / 9, 5 / 11], rel=0.002)
    assert table["theory_ratio"][1] == table["theory_ratio"][3] < 0.8


def test_a_depth_may_have_more_runs_than_others():
    settings = network_settings(depths=[3, 5], width=2, runs=4, more_runs={"depths": [3], "runs": 9})
    fields, table = measure_network.measure_network("x", settings)
    assert [len(field.run_sizes) for field in fields] == table["runs"].tolist() == [9, 4]
    alone, _ = measure_network.measure_network("x", settings | {"runs": 9, "more_runs": {"depths": [], "runs": 1}})
    np.testing.assert_array_equal(alone[0].map, fields[0].map)
    assert measure_network.measure_network("x", settings, {3: ([fields[0]], table.iloc[:1])})[1].equals(table)


def test_a_network_that_is_dead_in_all_runs_is_named(tmp_path, capsys):
    settings = network_settings(depths=[200], width=1, runs=2, activation="relu", double_depth=0, seed=0)
    arguments = ["--settings", settings_file({"name": "deep", **settings}), "--out", str(tmp_path / "deep.npz")]
    assert measure_network.main(arguments) == 1
    assert "error: deep: the unit is dead in all 2 runs; give it more channels or more runs" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
