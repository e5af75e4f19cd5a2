"""Which protocols give the paper's pair of slopes: the arithmetic, theory's slopes, and the counts of experiments."""

import numpy as np
import pandas as pd
import pytest

import figure_slope_pair
from conftest import settings_file
from erf.result.field import ReceptiveField
from erf.size import E2, THRESHOLD
from erf.theory import Layer as TheoryLayer
from erf.theory import expected_map, finite_depth_slopes, log_log_slope, uniform_taps
from replication.drawing.plots import SLOPES
from replication.statistics.slopes import BOX, is_pair, pair_is_possible, rf_slope

DEEP = [20, 40, 80, 160]


@pytest.mark.parametrize("kernel", [2, 3, 7])
@pytest.mark.parametrize("depths", [[5, 10, 20, 40], [10, 20, 30], DEEP])
def test_the_two_slopes_of_any_sizes_differ_by_the_slope_of_the_rf(kernel, depths):
    depth = np.array(depths)
    sizes = np.random.default_rng(0).uniform(1, 50, (20, len(depths)))
    apart = log_log_slope(depth, sizes) - log_log_slope(depth, sizes / (1 + depth * (kernel - 1)))
    assert apart == pytest.approx(rf_slope(depths, kernel))


def test_the_box_is_what_rounds_to_the_papers_slopes():
    for quantity, (low, high) in BOX.items():
        paper = SLOPES[quantity][0]
        assert all(round(value, 2) == paper for value in np.linspace(low + 1e-9, high - 1e-9, 99))
        assert round(low - 1e-9, 2) != paper != round(high + 1e-9, 2)


def test_a_pair_has_both_slopes():
    size, ratio = np.array([0.56, 0.5551, 0.5549, 0.5651, 0.56, 0.56, np.nan]), np.full(7, -0.43)
    ratio[4:6] = -0.4351, -0.4249
    assert is_pair(size, ratio).tolist() == [True, True, *[False] * 5]


def test_the_pair_is_possible_where_some_sizes_have_it():
    size = np.linspace(*BOX["size"], 1000, endpoint=False)
    for rf in np.linspace(0.9705, 1.0105, 41):
        assert pair_is_possible(rf) == is_pair(size, size - rf).any()
    assert not pair_is_possible(rf_slope([10, 20, 40, 80], 3))  # the range of the thin networks at first
    assert pair_is_possible(rf_slope([20, 40, 80], 3)) and pair_is_possible(rf_slope(DEEP, 3))


@pytest.mark.parametrize("slope, met", [(0.5549, False), (0.5551, True), (0.56, True), (0.5646, True), (0.5649, False)])
def test_a_planted_protocol_is_met_if_both_slopes_are(monkeypatch, slope, met):
    """At 20 to 160 layers of 3 x 3 the ratio's slope leaves the box at -0.425 before the size's does at 0.565."""
    planted = iter([(float(depth**slope), depth == 20) for depth in DEEP] * len(figure_slope_pair.MODES))
    monkeypatch.setattr(figure_slope_pair, "readings", lambda impact, thresholds: {("1 %", "area"): next(planted)})
    table = figure_slope_pair.theory_table([3], [0.01], [DEEP])
    assert table["size"].tolist() == pytest.approx([slope] * 2) and table["possible"].all()
    assert table["met"].tolist() == [met] * 2 and table["cut_off"].tolist() == ["20"] * 2


def test_theorys_slopes_are_the_librarys_and_cut_off_fields_are_named():
    depths = [5, 10, 20, 40]
    table = figure_slope_pair.theory_table([3], [THRESHOLD, 0.001, 0.1353], [depths[::-1]])
    assert len(table) == 2 * 4 * 2 and set(table["threshold"]) == {"4.55 %", "0.1 %", "e⁻²", "σ"}
    rows = table.set_index(["mode", "threshold", "counted"])
    for mode, weights in zip(figure_slope_pair.MODES, ("uniform", "random"), strict=True):
        for name, threshold in (("4.55 %", THRESHOLD), ("e⁻²", E2)):
            found = rows.loc[(mode, name, "area")]
            expected = finite_depth_slopes(depths, 3, weights, threshold=threshold)
            assert (found["size"], found["ratio"]) == pytest.approx(expected, abs=1e-4)
        assert rows.loc[(mode, "σ", "area"), "cut_off"] == ""
    assert rows.loc[("uniform |g| or random g²", "σ", "area"), "size"] == pytest.approx(0.5)  # exact at any depth
    for name, threshold in (("4.55 %", THRESHOLD), ("0.1 %", 0.001)):
        off, counts = [], []
        for depth in depths:
            impact = expected_map([TheoryLayer(uniform_taps(3))] * depth, "random")
            field = ReceptiveField.from_runs(impact[None], (depth, depth), impact.shape, threshold=threshold)
            off += [str(depth)] * field.clipped
            counts.append(np.sqrt(np.count_nonzero(impact > threshold * impact[depth, depth])))
        found = rows.loc[("random |g|", name, "pixels")]
        assert found["cut_off"] == " ".join(off) and off
        assert found["size"] == pytest.approx(log_log_slope(np.array(depths), np.array(counts)))


def test_ranges_of_depths_are_told_apart():
    ranges = [[40, 20, 10], [10, 20, 30, 40], [10, 25, 40], [10, 15, 40], [20, 40]]
    names = [figure_slope_pair.range_name(depths) for depths in ranges]
    assert names == ["10–40 ×2", "10–40 +10", "10–40 +15", "10–40", "20–40 ×2"]


def test_the_figure_of_planted_experiments(tmp_path):
    """Four experiments: one with the pair, one with a large size alone, one with neither, one that all runs died in."""
    size = np.array([0.56, 0.6, 0.5, np.nan])
    ratio = size - rf_slope(DEEP, 3)
    labels = {"network": "thin", "weights": "random", "variant": "abs", "depths": "20-160", "runs": 20, "width": 1}
    samples = pd.DataFrame({"sample": range(4), "size": size, "ratio": ratio, "pair": is_pair(size, ratio), **labels})
    samples.to_csv(tmp_path / "samples.csv", index=False)
    settings = {"kernels": [3], "thresholds": [THRESHOLD], "depths": [[4, 8], DEEP]}
    arguments = ["--settings", settings_file(settings), "--samples", str(tmp_path / "samples.csv")]
    assert figure_slope_pair.main([*arguments, "--out", str(tmp_path / "pair.png")]) == 0
    assert (tmp_path / "pair.png").exists() and (tmp_path / "pair.pdf").exists()
    table = pd.read_csv(tmp_path / "pair.csv")
    (share,) = table[table["panel"] == "shares"].to_dict("records")
    assert (share["experiments"], share["pairs"], share["sizes"]) == (3, 1, 2)
    assert share["pairs_low"] < 1 / 3 < share["pairs_high"]
    assert table["panel"].value_counts().to_dict() == {"theory": 2 * 2 * 2 * 2, "experiments": 4, "shares": 1}
