"""The fixed point of training: its statistics against simulated runs of which the truth is known, the figure and its
claims from simulated and from tiny trainings, and what its configuration must be."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import check_claims
import figure_fixed_point
import measure_snapshots
import train_segmenter
from conftest import ROOT, segmenter_settings, settings_file
from lib import checks
from lib.configuration import Configuration, on_top
from lib.place import Place
from lib.run import Run
from lib.strict import read
from replication.claims.claims import region_of
from replication.claims.verdicts import Part
from replication.statistics.fixed_point import growth, parallel_lines
from test_protocol import CLAIMS, table

SIZES = {0.1: 20, 0.2: 27, 0.4: 32, 0.7: 36, 1: 38}  # σ by start when the fit begins, pixels; docs/protocol.md
BEFORE = (20, 46.5)  # the smallest and the largest before training
EARLY, LATE = (4, 8), (26, 30)
EPOCHS = np.arange(4, 31, 2)
EXPERIMENTS = 400


def simulate(rng, point: float, pull: float, starts=tuple(SIZES), seeds=3, own=0.08, noise=0.05, walk=0.02, drift=0.0):
    """Runs of one task: starts, levels, rates. Each relaxes to a fixed point of its own about `point` (log pixels),
    its steps are drawn too, and what is measured of it has noise, three times as much from the largest starts as from
    the smallest; drift is growth per epoch that has no end."""
    found = []
    for start in starts:
        loud = 0.5 + 0.5 * (start > 0.3) + 0.5 * (start > 0.5)
        for _ in range(seeds):
            aim, y = point + own * rng.standard_normal(), np.log(SIZES[start]) + 0.04 * rng.standard_normal()
            series = []
            for _ in EPOCHS:
                series.append(y + loud * noise * rng.standard_normal())
                y = (
                    aim
                    + (y - aim) * math.exp(-2 * pull)
                    + 2 * drift
                    + loud * walk * math.sqrt(2) * rng.standard_normal()
                )
            found.append((start, *growth(EPOCHS, series, EARLY, LATE)))
    return [list(column) for column in zip(*found, strict=True)]


def lines_of(*tasks):
    """The lines through simulated tasks, called 0, 1, ..."""
    names = [number for number, (starts, _, _) in enumerate(tasks) for _ in starts]
    return parallel_lines(names, *(np.concatenate(columns) for columns in zip(*tasks, strict=True)))


def experiments(seed: int, **truth):
    rng = np.random.default_rng(seed)
    return [lines_of(simulate(rng, **truth)) for _ in range(EXPERIMENTS)]


def holds(interval, truth: float) -> bool:
    return interval[1] <= truth <= interval[2]


def test_growth_by_hand():
    assert growth([0, 2, 4, 6, 10], [5, 1, 3, 9, 8], (2, 4), (6, 10)) == (2.0, (8.5 - 2) / 5)
    assert growth([10, 0], [8, 5], (0, 0), (10, 10)) == (5.0, 0.3)
    with pytest.raises(ValueError, match=r"no epoch of \[0.0, 10.0\] lies in \[1, 2\] or in \[10, 10\]"):
        growth([0, 10], [5, 8], (1, 2), (10, 10))


def test_without_noise_the_fixed_point_is_exact():
    """Two tasks that lose a quarter of the distance, from other starts."""
    levels = np.array([1.0, 2.0, 4.0, 1.5, 3.0])
    points = np.array([3.0, 3.0, 3.0, 3.7, 3.7])
    lines = parallel_lines([0, 0, 0, 32, 32], [1, 2, 3, 1, 2], levels, (points - levels) / 4)
    assert lines.pull_interval() == pytest.approx((0.25, 0.25, 0.25))
    assert lines.fixed_point(0) == pytest.approx((3, 3, 3)) and lines.fixed_point(32) == pytest.approx((3.7, 3.7, 3.7))
    assert lines.displacement(32, 0) == pytest.approx((0.7, 0.7, 0.7))


def test_the_interval_is_the_set_of_values_that_the_t_test_does_not_refuse():
    """Fieller's, by its definition: at each end the expected rate is zero to just the quantile's standard errors."""
    lines = lines_of(simulate(np.random.default_rng(3), point=3.6, pull=0.05))
    value, low, high = lines.fixed_point(0)
    for end in (low, high):
        rate = lines.rates[0] - lines.pull * (end - lines.levels[0])
        error = math.sqrt(lines.variance * (1 / lines.runs[0] + (end - lines.levels[0]) ** 2 / lines.spread))
        assert abs(rate) / error == pytest.approx(lines.quantile)
    assert low < value < high


@pytest.mark.parametrize("pull", [0.03, 0.05, 0.1, 0.3])
def test_the_interval_holds_a_fixed_point_that_is_known(pull):
    """Whether training has gone a part of the way or all of it; where some runs are noisier a little less than 95 %."""
    point = math.log(38)
    found = experiments(int(1000 * pull), point=point, pull=pull)
    assert np.mean([holds(lines.fixed_point(0), point) for lines in found]) == pytest.approx(0.93, abs=0.035)
    lost = -math.expm1(-22 * pull) / 22  # between the middles of both parts
    assert np.mean([holds(lines.pull_interval(), lost) for lines in found]) == pytest.approx(0.95, abs=0.035)
    assert np.mean([lines.pull for lines in found]) == pytest.approx(lost, rel=0.04)
    assert np.exp(np.median([lines.fixed_point(0)[0] for lines in found])) == pytest.approx(38, rel=0.03)


def test_the_interval_holds_a_fixed_point_beyond_all_starts():
    found = experiments(7, point=math.log(70), pull=0.05)
    assert np.mean([holds(lines.fixed_point(0), math.log(70)) for lines in found]) == pytest.approx(0.93, abs=0.035)


@pytest.mark.parametrize("drift", [0.0, 0.02])
def test_where_there_is_no_fixed_point_the_interval_has_no_ends(drift):
    """Sizes that stay, and sizes that grow for ever: a pull is found in one of forty experiments, as 95 % allow."""
    found = experiments(11, point=math.log(38), pull=0.0, drift=drift)
    endless = [lines.fixed_point(0)[1:] == (-math.inf, math.inf) for lines in found]
    assert np.mean(endless) > 0.93
    assert np.mean([lines.pull_interval()[1] > 0 for lines in found]) < 0.045


def test_runs_that_part_have_a_pull_below_zero():
    found = experiments(13, point=math.log(30), pull=-0.03)
    assert np.mean([lines.pull_interval()[2] < 0 for lines in found]) > 0.9


def test_noise_of_the_early_sizes_is_no_pull():
    """A line through single runs would find one: what is small by chance grows."""
    rng = np.random.default_rng(17)
    pulls, naive = [], []
    for _ in range(EXPERIMENTS):
        starts, levels, rates = simulate(rng, point=3.6, pull=0.0, noise=0.3, seeds=5)
        pulls.append(parallel_lines([0] * len(rates), starts, levels, rates).pull)
        naive.append(-np.polyfit(levels, rates, 1)[0])
    assert abs(np.mean(pulls)) < np.mean(naive) / 2 and np.mean(naive) > 0.005


@pytest.mark.parametrize("further", [0.0, 0.3])
def test_the_interval_of_a_displacement_holds_it(further):
    rng, found = np.random.default_rng(19), []
    for _ in range(EXPERIMENTS):
        plain = simulate(rng, point=math.log(38), pull=0.05)
        found.append(lines_of(plain, simulate(rng, point=math.log(38) + further, pull=0.05, starts=(0.1, 0.4, 1))))
    assert np.mean([holds(lines.displacement(1, 0), further) for lines in found]) == pytest.approx(0.94, abs=0.035)
    assert np.median([lines.displacement(1, 0)[0] for lines in found]) == pytest.approx(further, abs=0.02)


def test_too_few_runs_or_starts_have_no_lines():
    assert parallel_lines([0, 0], [1, 2], [1.0, 2.0], [0.2, 0.1]) is None
    assert parallel_lines([0, 0, 0], [1, 1, 1], [1.0, 2.0, 3.0], [0.2, 0.1, 0.0]) is None
    assert parallel_lines([0, 0, 0], [1, 2, 2], [1.0, 2.0, 2.0], [0.2, 0.1, 0.1]) is not None


def chance(found: list, claim: str, verdict: str) -> float:
    """Share of experiments, each with its lines, in which a claim has this verdict."""
    first, last = np.log(BEFORE)
    verdicts = []
    for lines in found:
        pulled, point = lines.pull_interval(), lines.fixed_point(0)
        place = [(value - first) / (last - first) for value in point]
        moved = np.exp(lines.displacement(1, 0)) if 1 in lines.runs else None
        value = {"fixed_point_pull": pulled, "fixed_point": place, "fixed_point_moves": moved}[claim]
        apart = claim != "fixed_point_pull" and pulled[2] < 0  # there is no fixed point then
        region = region_of(claim, CLAIMS[claim]["accept"])
        verdicts.append("" if apart else region.verdict(Part("", *map(float, value))))
    return float(np.mean([one == verdict for one in verdicts]))


@pytest.mark.parametrize("row", table("fixed-point claim"), ids=lambda row: f"{row[0]} {row[1]} {row[2]}")
def test_the_power_in_the_protocol_is_that_of_simulated_runs(row):
    claim, pull, truth = row[0].strip("`"), float(row[1]), float(row[2])
    rng, found = np.random.default_rng(29), []
    for _ in range(EXPERIMENTS):
        point = math.log(38 if claim == "fixed_point_moves" else truth)
        tasks = [simulate(rng, point, pull)]
        if claim == "fixed_point_moves":
            tasks.append(simulate(rng, point + math.log(truth), pull, starts=(0.1, 0.4, 1)))
        found.append(lines_of(*tasks))
    assert sum(found[0].runs.values()) == int(row[3])
    assert chance(found, claim, row[4]) == pytest.approx(float(row[5]), abs=0.07)


# The figure and its claims.

JUDGED = {"early": [4, 8], "late": [26, 30]}


def tables(folder: Path, pull: float, point: float = 35.0) -> list[Path]:
    """Tables of measure_snapshots of simulated runs: five starts, and labels shifted by 64 pixels from three, whose ERF
    moves as far and keeps its width."""
    rng, paths = np.random.default_rng(23), []
    for shift, starts in ((0, SIZES), (64, (0.1, 0.4, 1))):
        for start in starts:
            for seed in range(3):
                aim, rows = math.log(point) + 0.05 * rng.standard_normal(), []
                for epoch in (0, 2, *EPOCHS):
                    y = aim + (math.log(SIZES[start]) - aim) * math.exp(-pull * epoch)
                    width, moved = np.exp(y + 0.02 * rng.standard_normal(2)), shift * -math.expm1(-0.3 * epoch)
                    row = {"dataset": "camvid", "residual_scale": start, "centre_light": 0, "label_shift": shift}
                    row |= {"seed": seed, "snapshot": f"epoch_{epoch:03d}", "epoch": epoch, "size": 4 * width[0]}
                    row |= {"sigma_rows": width[0], "sigma_columns": math.hypot(width[1], moved)}
                    rows.append(row | {"drift_rows": 0.0, "drift_columns": -moved})
                rows.append({**rows[-1], "snapshot": "best", "sigma_rows": 1e3})  # which no figure of training shows
                path = folder / f"shifted_{shift}_{round(100 * start)}/seed_{seed}.csv"
                path.parent.mkdir(parents=True, exist_ok=True)
                pd.DataFrame(rows).to_csv(path, index=False)
                paths.append(path)
    return paths


def drawn(folder: Path, paths: list[Path], *windows: dict) -> pd.DataFrame:
    told = settings_file({"windows": list(windows)})
    arguments = ["--settings", told, "--sizes", *map(str, paths), "--out", str(folder / "fixed_point.png")]
    assert figure_fixed_point.main(arguments) == 0
    assert {path.suffix for path in folder.glob("fixed_point.*")} > {".png", ".pdf", ".csv"}  # and the record
    return pd.read_csv(folder / "fixed_point.csv")


def judged(folder: Path) -> dict[str, dict]:
    """The claims on the figure, as check_claims judges them on its table."""
    told, out = settings_file({"trainings": {}, "shown": {"fixed_point": []}}), folder / "claims.csv"
    arguments = ["--claims", str(ROOT / "config/claims.yaml"), "--fixed_point", str(folder / "fixed_point.csv")]
    assert check_claims.main([*arguments, "--settings", told, "--out", str(out)]) == 0
    claims = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    return {claim["id"]: claim for claim in claims if claim["topic"] == "fixed point"}


def test_the_figure_and_its_claims_find_a_fixed_point_that_moves(tmp_path):
    table = drawn(tmp_path, tables(tmp_path, pull=0.1), JUDGED, {"early": [0, 0], "late": [26, 30]})
    named = table.set_index(["panel", "quantity", "early", "shift"])
    starts = table.query("panel == 'starts' and quantity == 'sigma'").set_index("start")["value"]
    assert starts.to_dict() == pytest.approx(SIZES, rel=0.03)
    for early in ("4-8", "0-0"):
        found = named.loc[("fixed point", "sigma", early, 0)]
        assert found["low"] < 35 < found["high"] and found["value"] == pytest.approx(35, rel=0.05)
    runs = table.query("panel == 'runs' and quantity == 'sigma' and early == '4-8'")
    assert len(runs) == 15 and runs["value"].corr(np.log(runs["level"])) < -0.9
    along = named.loc[("displacement", "sigma_columns", "4-8", 64)]
    assert along["low"] > 1.5 and along["runs"] == 9
    across = named.loc[("displacement", "sigma_rows", "4-8", 64)]
    assert across["low"] < 1 < across["high"]
    claims = judged(tmp_path)
    assert {name: claim["verdict"] for name, claim in claims.items()} == dict.fromkeys(claims, "reproduced")
    assert claims["fixed_point"]["measured"] == pytest.approx(np.log(35 / 20) / np.log(38 / 20), abs=0.1)


def test_sizes_that_stay_have_no_fixed_point(tmp_path):
    table = drawn(tmp_path, [path for path in tables(tmp_path, pull=0.0) if "shifted_0_" in str(path)], JUDGED)
    assert (table[table["panel"] == "fixed point"]["high"] == math.inf).all()
    claims = judged(tmp_path)
    assert claims["fixed_point_pull"]["verdict"] == claims["fixed_point"]["verdict"] == "undecided"
    assert claims["fixed_point_moves"]["verdict"] == "not run"


def test_from_tiny_trainings_to_the_claims(tmp_path, small_maps):
    """Two starts with two seeds each, without a shift and with one: each program as the rules call it."""
    paths = []
    for number, (start, shift) in enumerate([(0.1, 0), (1, 0), (0.1, 8), (1, 8)]):
        settings = segmenter_settings() | ({"label_shift": shift} if shift else {}) | {"snapshots": [0, 1, 2]}
        settings["network"] = {**settings["network"], "residual_scale": start}
        settings["recipe"] = {**settings["recipe"], "epochs": 2, "schedule": "constant"}
        told = ["--data", str(small_maps), "--settings", settings_file(settings)]
        for seed in (2 * number, 2 * number + 1):
            run, path = tmp_path / f"run_{seed}", tmp_path / f"start_{start}_{shift}/seed_{seed}.csv"
            folders = ["--resume", str(tmp_path / "resume" / str(seed)), "--out", str(run)]
            seeded = [*told, "--seed", str(seed), "--device", "cpu"]
            assert train_segmenter.main([*seeded, *folders]) == 0
            snapshots = [str(run / f"{stem}.pt") for stem in ("epoch_000", "epoch_001", "epoch_002", "best")]
            more = ["--images", "2", "--out", str(path.with_suffix(".npz"))]
            assert measure_snapshots.main(["--snapshots", *snapshots, *seeded, *more]) == 0
            paths.append(path)
    table = drawn(tmp_path, paths, {"early": [0, 0], "late": [1, 2]})
    assert set(table["shift"].dropna()) == {0, 8} and len(table.query("panel == 'runs' and quantity == 'sigma'")) == 4
    assert all(claim["verdict"] != "not run" for claim in judged(tmp_path).values())


# Its configuration.


def configured() -> dict:
    return on_top(read(ROOT / "config/config.yaml"), read(ROOT / "config/fixed_point.yaml"))


def refusal(config: dict) -> str:
    run = Run(Configuration(config), Place(ROOT, "any"), rules=None, workflow=None)
    with pytest.raises(SystemExit) as stopped:
        checks.check_figure(run, "fixed_point", config["figures"]["fixed_point"])
    return stopped.value.code.removeprefix("error: config: figures.fixed_point.")


def test_the_configuration_is_the_protocols():
    """Eleven starts and shifts of three seeds each, none of which is another's."""
    config = configured()
    configuration = Configuration(config)
    names = config["figures"]["fixed_point"]["trainings"]
    seeds = [seed for name in names for seed in configuration.seeds("trainings", name)]
    assert len(names) == 11 and len(seeds) == len(set(seeds)) == 33
    assert config["figures"]["fixed_point"]["windows"][0] == JUDGED
    first = configuration.trained_by(names[0])
    assert first["recipe"]["schedule"] == "constant" and first["network"]["width"] == 16
    checks.check_figure(
        Run(configuration, Place(ROOT, "any"), None, None), "fixed_point", config["figures"]["fixed_point"]
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"fixed_point_20": {"seeds": [100]}},
            "trainings: 'fixed_point_20' and 'fixed_point_10' both have the seed 100",
        ),
        ({"fixed_point_20": {"batch_size": 8}}, "trainings: 'fixed_point_20' and 'fixed_point_10' differ in more than"),
        (
            {"fixed_point_20": {"network": {"residual_scale": 0.1}}},
            "trainings: 'fixed_point_20' and 'fixed_point_10' have the same residual_scale and label_shift",
        ),
        ({"shifted_64_40": {"label_shift": 16}}, "trainings: labels that are shifted by 16 pixels need two starts"),
    ],
)
def test_trainings_that_make_no_fixed_point_are_named(change, message):
    assert refusal(on_top(configured(), {"trainings": change})).startswith(message)


def test_too_few_runs_and_bad_windows_are_named():
    config = configured()
    shown = config["figures"]["fixed_point"]
    few = {name: {"seeds": config["trainings"][name]["seeds"][:1]} for name in ("fixed_point_10", "fixed_point_20")}
    names = {"figures": {"fixed_point": {"trainings": list(few)}}}
    assert refusal(on_top(config, {"trainings": few, **names})).startswith("trainings: 2 runs leave nothing to tell")
    shown["windows"] = [JUDGED, {"early": [3, 3], "late": [26, 30]}]
    assert refusal(config) == "windows.1.early: no snapshot is of an epoch from 3 to 3"
    shown["windows"] = [{"early": [4, 8], "late": [8, 30]}]
    assert refusal(config) == "windows.0: early must end before late begins"
