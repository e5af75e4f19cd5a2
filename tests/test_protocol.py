"""docs/protocol.md against the configurations and claims that carry it out, and its power against the t test itself."""

import re
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from conftest import ROOT
from erf.size import THRESHOLD, centre_impact, erf_size
from replication.claims.claims import region_of
from replication.claims.verdicts import REPRODUCED, Part, Region

sys.path.insert(0, str(ROOT / "figures/reference"))

import power as measured_power

TEXT = (ROOT / "docs/protocol.md").read_text()
SMALLEST = 1.05  # ratio from which on the ERF has grown


def table(header: str) -> list[list[str]]:
    """Cells of the table whose header line begins so."""
    _, rest = TEXT.split(f"\n| {header} |", 1)
    lines = rest.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def configuration(name: str) -> dict:
    base, overlay = (yaml.safe_load((ROOT / f"config/{file}.yaml").read_text()) for file in ("config", name))
    return base if name == "config" else {"base": base, **overlay}


def power(ratio: float, deviation: float, seeds: int) -> float:
    """Chance that a 95 % t interval lies wholly on the side of the smallest growth on which the ratio lies."""
    distance = abs(np.log(ratio / SMALLEST)) / deviation * np.sqrt(seeds)
    return 1 - stats.nct.cdf(stats.t.ppf(0.975, seeds - 1), seeds - 1, distance)


@pytest.mark.parametrize("row", table("claim"), ids=lambda row: f"{row[0]} {row[1]}")
def test_the_power_is_that_of_the_test(row):
    ratio, deviation, seeds, told = float(row[2]), float(row[3]), int(row[4]), float(row[5])
    assert told == pytest.approx(power(ratio, deviation, seeds), abs=0.006)
    assert told >= 0.8


def test_the_power_by_simulation():
    """The row of least power, against 20,000 experiments."""
    rng = np.random.default_rng(0)
    logs = rng.normal(np.log(0.991), 0.039, size=(20_000, 6))
    high = logs.mean(1) + stats.t.ppf(0.975, 5) * stats.sem(logs, axis=1)
    assert (high < np.log(SMALLEST)).mean() == pytest.approx(power(0.991, 0.039, 6), abs=0.01)


@pytest.mark.parametrize("name, stage, dataset", [("short", "a", "CamVid"), ("short", "a", "CIFAR-10")])
def test_a_stage_is_as_its_configuration(name, stage, dataset):
    (row,) = (row for row in table("stage") if row[0] == stage and row[1] == dataset)
    own = configuration(name)["training_defaults"][{"CamVid": "camvid", "CIFAR-10": "cifar10"}[dataset]]
    first, last = map(int, re.match(r"(\d)–(\d)", row[4]).groups())
    assert own["network"]["width"] == int(row[2]) and own["recipe"]["epochs"] == int(row[3])
    assert own["seeds"] == list(range(first, last + 1))


def test_the_recipe_is_the_configurations():
    paper, short = configuration("config"), configuration("short")["training_defaults"]
    for dataset, batch, rate in (("cifar10", 64, 0.1), ("camvid", 4, 0.1)):
        defaults = paper["training_defaults"][dataset]
        assert short[dataset].get("batch_size", defaults["batch_size"]) == batch
        recipe = {**defaults["recipe"], **short[dataset]["recipe"]}
        assert (recipe["learning_rate"], recipe["momentum"], recipe["warmup"]) == (rate, 0.9, 0.2)
        assert defaults["network"]["residual_scale"] == 1
        matched = paper["trainings"][f"{dataset}_matched_start"]["network"]["residual_scale"]
        assert matched == 0.2
    assert paper["training_defaults"]["camvid"]["class_balance"] == 0.5
    assert paper["trainings"]["camvid_segnet_weights"]["class_balance"] == 1


def test_the_rules_are_the_claims():
    claims = {claim["id"]: claim for claim in yaml.safe_load((ROOT / "config/claims.yaml").read_text())}
    for dataset in ("cifar10", "camvid"):
        for suffix, start in (("", 1), ("_matched", 0.2)):
            claim = claims[f"{dataset}_growth{suffix}"]
            assert claim["accept"] == {"above": SMALLEST} and claim["of"] == {"dataset": dataset, "start": start}
    assert claims["cifar10_accuracy"]["accept"] == {"above": 88.5} and "obstacle" not in claims["cifar10_accuracy"]
    assert claims["camvid_after"]["accept"] == {"near": [150, 15]}


CLAIMS = {claim["id"]: claim for claim in yaml.safe_load((ROOT / "config/claims.yaml").read_text(encoding="utf-8"))}
TRAINED = {"training", "fixed point"}  # topics of the other protocols
UNPLANNED = {  # claims on which nothing random bears but old trainings, or whose protocol is the paper's alone
    *("growth_slope", "initialisation_speed", "noise_or_images", "usable_reach"),
}


def test_every_claim_on_untrained_networks_has_a_plan():
    wanted = {
        name
        for name, claim in CLAIMS.items()
        if claim["topic"] not in TRAINED and claim["kind"] != "identity" and name not in UNPLANNED
    }
    assert {row[0].strip("`") for row in table("untrained claim")} == wanted


@pytest.mark.parametrize("row", table("untrained claim"), ids=lambda row: row[0])
def test_the_power_of_an_untrained_claim_is_that_of_its_interval(row):
    """The estimate is normal about the expected one; its t interval has to lie in the accepted region."""
    expected, error, runs, told = float(row[1]), float(row[2]), int(row[3]), float(row[4])
    accepted = region_of(row[0], CLAIMS[row[0].strip("`")]["accept"])
    half = stats.t.ppf(0.975, runs - 1) * error
    low, high = (stats.norm.cdf((end - expected) / error) for end in (accepted.low + half, accepted.high - half))
    assert told == pytest.approx(high - low, abs=0.006)
    assert told >= 0.8


POWER = pd.read_csv(measured_power.TABLE, keep_default_na=False)


def test_the_powers_are_those_of_the_kept_tables():
    """`python figures/reference/power.py` changes nothing."""
    made = measured_power.table()
    kept = POWER[POWER["finished"] == made["finished"].iloc[0]].reset_index(drop=True)
    pd.testing.assert_frame_equal(made, kept, rtol=1e-6, atol=1e-8)


def test_a_measured_power_is_that_of_the_verdicts():
    """The row of finite_depth_relu in place of which more runs were asked for, against 20,000 experiments."""
    row = POWER.query("claim == 'finite_depth_relu' and plan == ''").iloc[0]
    region, half = region_of("", CLAIMS["finite_depth_relu"]["accept"]), stats.norm.ppf(0.975) * row["standard_error"]
    estimates = np.random.default_rng(0).normal(row["expected"], row["standard_error"], 20_000)
    hits = [region.verdict(Part("", value, value - half, value + half)) == REPRODUCED for value in estimates]
    assert np.mean(hits) == pytest.approx(row["power"], abs=0.01)
    assert measured_power.power(Region(0, 1), 0.5, 10.0) == 0  # the interval is wider than the region


def amended() -> list[str]:
    """What the amendments say in numbers, from the tables that they rest on."""
    first = POWER[POWER["finished"] == POWER["finished"].min()].set_index(["claim", "plan"])
    (linear, linear_planned), (relu, relu_planned), (signed, signed_planned) = (
        (first.loc[(name, "")], first.loc[name].drop("").iloc[0])
        for name in ("finite_depth_linear", "finite_depth_relu", "signed_kernels")
    )
    errors = {
        name: f"{after['standard_error']:.3f} in place of {before['standard_error']:.3f}"
        for name, before, after in (
            ("linear", linear, linear_planned),
            ("relu", relu, relu_planned),
            ("signed", signed, signed_planned),
        )
    }
    share = signed["part"].split()[-1]
    after = POWER.query("claim == 'signed_kernels' and plan == '' and finished > '2026-12-01T02:06:05+00:00'").iloc[0]
    short = ROOT / "figures/reference/short"
    once, again = (pd.read_csv(short / name / "erf.csv") for name in ("first_machine", "."))
    once, again = (t.query("name == 'camvid' and seed == 0 and snapshot != 'best'")["size"] for t in (once, again))
    return [
        f"standard error of ReLU's slope {errors['relu']}, and its power {relu_planned['power']:.2f} in place of"
        f" {relu['power']:.2f}; without an activation it makes it {errors['linear']}, and the power"
        f" {linear_planned['power']:.2f} in place of {linear['power']:.2f}",
        f"Its least certain share is {share}, with a standard error of {errors['signed']}, and a power of"
        f" {signed_planned['power']:.2f} in place of {signed['power']:.2f}",
        f"its size went from {once.iloc[0]:.1f} to {once.iloc[-1]:.1f} pixels, that of the second from"
        f" {again.iloc[0]:.1f} to {again.iloc[-1]:.1f}",
        f"at a share of {after['part'].split()[-1]} the standard error is {after['standard_error']:.3f} with"
        f" {measured_power.PLANS['signed_kernels']} runs, which leaves a power of {after['power']:.2f}",
        f"that would happen in {100 * (2 / 3) ** 5:.0f} % of experiments",
    ]


@pytest.mark.parametrize("phrase", amended(), ids=lambda phrase: phrase[:40])
def test_numbers_of_the_protocol_are_those_of_the_kept_tables(phrase):
    assert phrase in " ".join(TEXT.split())


def test_counted_sizes_and_areas_differ_by_as_little_as_the_protocol_says():
    """On CamVid's maps, and on those of CIFAR-10, which came later."""
    text, largest = " ".join(TEXT.split()), {"camvid": 0.003, "cifar10": 0.01}
    assert "the two differ by less than three thousandths" in text and "differ by less than one hundredth" in text
    for path in (ROOT / "figures/reference/short/maps").glob("*.npz"):
        kept = np.load(path)
        position = tuple(kept["position"])
        for name in set(kept) - {"position"}:
            impact = kept[name].astype(float)
            counted = np.sqrt((impact > THRESHOLD * centre_impact(impact, position)).sum())
            assert counted == pytest.approx(erf_size(impact, position), rel=largest[path.name.split("_")[0]]), path.name


def test_claims_have_the_runs_that_an_amendment_asks_for():
    networks, questions = (configuration("config")[section] for section in ("networks", "questions"))
    for name in ("random", "relu"):
        assert networks[name]["more_runs"] == {
            "depths": [5, 10, 20, 40],
            "runs": measured_power.PLANS["finite_depth_relu"],
        }
    assert questions["signed_kernels"]["runs"] == measured_power.PLANS["signed_kernels"]
