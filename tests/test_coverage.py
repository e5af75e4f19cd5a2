"""The coverage of intervals: where it is known, and the program that measures it, on tiny networks."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

import interval_coverage
import measure_network
from conftest import ROOT, network_settings, settings_file
from erf.result.intervals import jackknife, mean_interval
from growth_slopes import slopes
from lib.configuration import Configuration
from lib.place import Place
from lib.run import Run
from lib.strict import read


@pytest.mark.parametrize("hits, of", [(0, 10), (190, 200), (200, 200)])
def test_the_interval_of_a_share_is_wilsons(hits, of):
    expected = binomtest(hits, of).proportion_ci(method="wilson")
    assert interval_coverage.wilson(hits, of) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert np.isnan(interval_coverage.wilson(0, 0)).all()


def test_intervals_of_known_coverage_are_found_to_have_it():
    """Student's t of normal values covers 95 %, an interval of half that width 75 %: t is 2.571 / 2 with 5 degrees."""
    values = np.random.default_rng(0).standard_normal((4000, 6)) + 10
    whole = [mean_interval(one) for one in values]
    half = [(mean, (mean + low) / 2, (mean + high) / 2) for mean, low, high in whole]
    truth = mean_interval(values.ravel())
    exact, narrow = (interval_coverage.row("mean", "normal", 6, found, truth) for found in (whole, half))
    assert exact["coverage"] == pytest.approx(0.95, abs=0.012)
    assert narrow["coverage"] == pytest.approx(0.745, abs=0.025)
    assert narrow["width"] == pytest.approx(exact["width"] / 2) and abs(exact["bias"]) < 1e-12
    assert exact["coverage_low"] < 0.95 < exact["coverage_high"] and narrow["coverage_high"] < 0.95
    lacking = interval_coverage.row("mean", "normal", 6, [*whole[:10], (1.0, np.nan, np.nan)], truth)
    assert (lacking["experiments"], lacking["without_interval"]) == (10, 1)
    none = interval_coverage.row("mean", "normal", 6, [interval_coverage.NONE], truth)
    assert none["experiments"] == 0 and np.isnan(none["coverage"])


def test_the_truth_has_no_bias_of_first_order():
    """The square of a mean is too large by the variance of the mean; of 200 experiments the jackknife leaves none."""
    parts = np.random.default_rng(1).standard_normal((200, 20)).mean(1)
    value, low, high = interval_coverage.truth_of(lambda mean: float(mean) ** 2, parts)
    assert value == pytest.approx(parts.mean() ** 2 - parts.var(ddof=1) / 200)
    assert low < 0 < high
    sums = interval_coverage.truth_of(lambda a, b: float(a + b), parts, 2 * parts)
    assert sums == pytest.approx(jackknife(3 * parts.mean(), 3 * (parts.sum() - parts) / 199))


def test_of_many_places_three_are_shown_and_the_mean_gradients_truth_is_theorys():
    """Gradients of normal numbers have a mean of zero: a cosine is held against it, and not against the pool's."""
    settings = {"depth": 4, "kernel": 3, "runs": 30, "seed": 0, "widths": [3]}
    rows = pd.DataFrame(interval_coverage.question_rows("means", settings | {"activations": ["none"]}, 40))
    rows = rows.set_index(["kind", "case"])
    cosine = rows.loc["means: cosine"].iloc[0]
    assert (cosine["truth"], cosine["truth_low"], cosine["truth_high"]) == (0, 0, 0)
    assert cosine["coverage"] > 0.8 and cosine["experiments"] == 40
    rings = [case for kind, case in rows.index if kind == "means: ratio" and "distance" in case]
    assert len(rings) == 3 and "distance 0" in rings[0]
    means = rows.loc["means: mean"]
    assert (means["truth"] == [float(case.split()[-1]) ** -0.5 for case in means.index]).all()
    spread = rows.loc["means: sigma"]
    assert (spread["truth_low"] < spread["truth"]).all() and (spread["coverage"] > 0.8).all()


def tiny(**changes) -> dict:
    return network_settings(**{"runs": 4, "width": 4, "variants": ["abs", "square"], "thresholds": [], **changes})


def test_the_program_repeats_the_published_measurement(tmp_path):
    networks = {"random": tiny(), "relu": tiny(activation="relu")}
    structures = {"plain": tiny(depths=[6]), "skip": tiny(depths=[6], structure="skip")}
    told = {"experiments": 5, "networks": networks, "structures": structures}
    told |= {"depths": [10, 4, 8], "shape_depths": [8], "seeds": [2, 3]}
    told |= {"drifting": {"skewed": tiny(taps=[0.6, 0.3, 0.1])}}
    told |= {"images": {"network": networks["relu"], "depth": 4, "counts": [3]}}
    of_questions = {"depth": 4, "kernel": 3, "runs": 4, "seed": 0, "widths": [4]}
    told |= {"questions": {"means": of_questions | {"activations": ["none", "relu"]}, "gates": of_questions}}
    path = tmp_path / "coverage.csv"
    assert interval_coverage.main(["--settings", settings_file(told), "--out", str(path)]) == 0
    table = pd.read_csv(path).set_index(["kind", "case"])
    kinds = {"size": 6, "mean run size": 6, "slope": 2, "slope per run": 2, "size ratio": 1}
    kinds |= dict.fromkeys(("R2", "box share", "kurtosis", "departure"), 2)
    kinds |= {"drift": 3, "spread": 3, "share_quarter": 2, "share_half": 2, "size of g²": 2, "size over images": 1}
    kinds |= {f"log ratio over {count} seeds": 1 for count in (2, 3)}
    asked = table.index.get_level_values("kind").str.contains(": ")
    assert dict(table[~asked].groupby("kind").size()) == kinds
    assert {"means: cosine", "means: ratio", "gates: correlation", "gates: sigma ratio"} <= set(
        table[asked].index.get_level_values("kind")
    )
    known = table.dropna(subset=["coverage", "truth"])
    assert not set(table.index.difference(known.index).get_level_values("kind")) - {"box share"}  # bounds leave the map
    assert known["coverage"].between(known["coverage_low"], known["coverage_high"]).all()
    assert known["truth"].between(known["truth_low"], known["truth_high"]).all()

    # The same by the programs that publish.
    fields = []
    for number in range(5):
        measured, _ = measure_network.measure_network(
            f"random, experiment {number}",
            networks["random"] | {"depths": [4, 8, 10], "variants": ["abs"], "thresholds": [0.0455]},
        )
        fields.append(measured)
    sizes = np.array([[field.size for field in measured] for measured in fields])
    mean_map = np.mean([measured[1].map for measured in fields], 0)
    row = table.loc["size", "random, 4 channels, 8 layers"]
    whole = interval_coverage.field_of(mean_map, fields[0][1]).size
    assert row["truth"] == pytest.approx(whole, rel=0.02)
    assert row["bias"] == pytest.approx(sizes[:, 1].mean() / row["truth"] - 1)
    own = np.concatenate([measured[1].own_sizes for measured in fields])
    found = table.loc["mean run size", "random, 4 channels, 8 layers"]
    assert found["truth"] == pytest.approx(own.mean()) and found["runs"] == 4
    inside = [f.mean_run_size[1] <= own.mean() <= f.mean_run_size[2] for f in (measured[1] for measured in fields)]
    assert found["coverage"] == np.mean(inside)
    slope = table.loc["slope", "random, 4 channels, 8-10 layers"]  # at 4 layers the field cuts off
    by_program = [
        slopes(measured, [[4, 8, 10]]).query("variant == 'abs' and quantity == 'size'") for measured in fields
    ]
    assert slope["bias"] == pytest.approx(
        (np.mean([one["slope"].iloc[0] for one in by_program]) - slope["truth"]) / abs(slope["truth"])
    )
    ratio = table.loc["size ratio", "skip / plain, random, 6 layers"]
    assert ratio["truth"] < 1
    logs = table.loc["log ratio over 3 seeds"].iloc[0]
    assert logs["experiments"] == 20 // 3 and logs["runs"] == 1


def test_the_configuration_tells_the_program_all_that_it_needs():
    run = Run(Configuration(read(ROOT / "config/config.yaml")), Place(ROOT, "any"), rules=None, workflow=None)
    told = run.interval_coverage()
    assert told["experiments"] >= 200 and {"runs", "seed", "width"} <= told["networks"]["random"].keys()
    assert told["networks"]["random_1_channel"]["double_depth"] == 160 and told["networks"]["random"]["runs"] == 20
    assert told["structures"]["skip"]["runs"] == 100 and told["structures"]["skip"]["variants"] == ["abs", "square"]
    assert told["images"]["network"]["activation"] == "relu" and told["questions"]["gates"]["depth"] == 20
