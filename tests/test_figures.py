"""What figures compute from tables, by hand; and what all of them share."""

import ast
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import figure_before_after
import figure_convergence
import figure_initialization
import figure_layers_to_gaussian
import figure_reach
import figure_units
from conftest import ROOT
from erf.result.intervals import mean_interval
from replication.drawing.plots import beside, draw_hollow, letter

sys.path.append(str(ROOT / "figures/reference"))

import redraw


def reach_run(accuracies: list[float]) -> pd.DataFrame:
    count = len(accuracies)
    columns = {"distance": [2, 4, 8, 12][:count], "accuracy": accuracies, "theoretical_rf": 33}
    return pd.DataFrame({**columns, "size_before": 21.0, "size_after": 2.0 * np.arange(count) + 11})


@pytest.mark.parametrize(
    "accuracies, frontier, between, after",
    [
        ([1.0, 1.0, 0.5, 0.5], 6.0, (4, 8), 6.0),  # halfway
        ([1.0, 0.8, 0.6, 0.5], 5.0, (4, 8), 6.0),
        ([1.0, 0.5, 1.0, 0.5], 3.0, (2, 4), 5.0),  # what comes after the first fall does not count
        ([0.6, 0.5, 0.5, 0.5], 2.0, (2, 2), np.nan),
        ([1.0, 1.0, 1.0, 0.9], 12.0, (12, 12), 8.0),
    ],
)
def test_the_frontier_of_reach(accuracies, frontier, between, after):
    found = figure_reach.summary(reach_run(accuracies).sample(frac=1, random_state=0))
    assert found["frontier"]["value"] == pytest.approx(frontier)
    assert (found["frontier"]["nearest"], found["frontier"]["farthest"]) == between
    assert found["frontier"]["censored"] == (between[0] == between[1])
    assert found["erf_radius_learnt"]["value"] == pytest.approx(after, nan_ok=True)
    assert found["theoretical_radius"]["value"] == 16 and found["erf_radius_untrained"]["value"] == 10


def test_reach_is_averaged_over_the_seeds_that_have_a_value():
    runs = [
        reach_run(accuracies).assign(seed=seed, network="plain", steps=10)
        for seed, accuracies in enumerate([[1, 1, 0.5, 0.5], [1, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]])
    ]
    means = figure_reach.tabulate(pd.concat(runs)).query("seed == 'mean'").set_index("quantity")
    assert means.loc["erf_radius_learnt", "seeds"] == 2 and means.loc["erf_radius_learnt", "value"] == 5.5
    assert means.loc["frontier", "censored"] and means.loc["frontier", "value"] == pytest.approx((6 + 3 + 2) / 3)
    assert means.loc["accuracy", "low"].isna().all()


def test_seeds_that_agree_leave_the_frontier_as_uncertain_as_the_distances_tried():
    runs = [reach_run([1, 1, 0.5, 0.5]).assign(seed=seed, network="plain", steps=10) for seed in range(3)]
    frontier = figure_reach.tabulate(pd.concat(runs)).query("seed == 'mean'").set_index("quantity").loc["frontier"]
    assert (frontier["value"], frontier["low"], frontier["high"]) == (6, 4, 8)


def test_hollow_markers_lie_over_full_ones():
    figure, axes = plt.subplots()
    axes.errorbar([1], [1], xerr=[0.1], fmt="o", color="black", markersize=20)
    draw_hollow(axes, [1], [1], marker="o", color="black", markersize=20)
    figure.canvas.draw()
    column, row = axes.transData.transform((1, 1)).astype(int)
    assert (np.asarray(figure.canvas.buffer_rgba())[-row, column] == 255).all()
    plt.close(figure)


def test_panels_have_letters_that_lie_outside_of_them():
    figure, axes = plt.subplots(1, 3, layout="constrained")
    letter(*axes)
    figure.canvas.draw()
    for panel, name in zip(axes, "abc", strict=True):
        (text,) = panel.texts
        own, frame = text.get_window_extent(), panel.get_window_extent()
        assert text.get_text() == name and own.x1 < frame.x0 and own.y0 > frame.y1
        assert own.x0 >= 0 and own.y1 <= figure.bbox.y1
    plt.close(figure)


SINGLE = {"figure_scorecard.py"}  # one panel, which needs no letter


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").glob("figure_*.py")), ids=lambda path: path.stem)
def test_every_figure_of_several_panels_letters_them(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    lettered = any(isinstance(call.func, ast.Name) and call.func.id == "letter" for call in calls)
    assert lettered == (path.name not in SINGLE)


def test_series_lie_side_by_side_about_their_place():
    places = [beside(number, 4, 0.5) for number in range(4)]
    assert np.diff(places).tolist() == [0.5] * 3 and sum(places) == 0 and beside(0, 1, 0.5) == 0


def test_kept_figures_follow_from_kept_tables(tmp_path):
    """Byte for byte: figures/reference/redraw.py makes the tables of short/ and laptop/ anew."""
    redraw.redraw(tmp_path)
    made = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.csv"))
    assert made == [
        *(f"laptop/{name}.csv" for name in ("convergence", "evolution", "reach", "units")),
        "short/evolution.csv",
    ]
    for name in made:
        assert (tmp_path / name).read_bytes() == (ROOT / "figures/reference" / name).read_bytes(), name


@pytest.mark.parametrize("side, size", [(17, 17.0), (33, 5.5), (9, 1.0)])
def test_the_radius_of_an_erf_is_never_beyond_the_theoretical_one(side, size):
    assert 0 <= figure_reach.radius(size) <= figure_reach.radius(side) == side // 2


def test_epochs_to_a_score():
    run = pd.DataFrame({"epoch": [3, 0, 1, 2], "score": [0.8, 0.1, 0.3, 0.7]})
    assert figure_initialization.epochs_to(0.3, run) == 1
    assert figure_initialization.epochs_to(0.5, run) == pytest.approx(1.5)
    assert np.isnan(figure_initialization.epochs_to(0.9, run))  # never
    assert np.isnan(figure_initialization.epochs_to(0.1, run))  # before training


def test_a_seed_that_never_reaches_the_score_is_no_survivor():
    kinds = pd.DataFrame({"training": ["he", "light"], "dataset": "cifar10", "centre_light": [0.0, 1.0]})
    metrics = pd.concat(
        pd.DataFrame({"training": training, "seed": seed, "epoch": [0, 1, 2], "score": [0.1, half, last]})
        for training, seed, half, last in [
            ("he", 0, 0.3, 0.5),  # 0.3 after 1 epoch
            ("he", 1, 0.2, 0.4),  # after 1.5
            ("light", 0, 0.5, 0.6),  # after 0.5
            ("light", 1, 0.2, 0.3),  # after 2; never at 0.4
        ]
    )
    table = figure_initialization.epochs_table(metrics, kinds, {"cifar10": [0.3, 0.4]})
    table = table.set_index(["score", "strength", "seed"])
    assert table.loc[(0.3, 1, "0"), "change"] == pytest.approx(0.5 / 1 - 1)
    assert table.loc[(0.3, 1, "1"), "change"] == pytest.approx(2 / 1.5 - 1)
    mean = table.loc[(0.3, 1, "mean")]
    expected = np.exp(mean_interval(np.log([0.5, 2 / 1.5]))) - 1
    assert mean[["change", "low", "high"]].tolist() == pytest.approx(expected)
    assert mean["reached"] == mean["seeds"] == 2
    missed = table.loc[(0.4, 1, "mean")]
    assert np.isnan(missed["change"]) and np.isnan(missed["epochs"]) and missed["reached"] == 1


def write(folder, training: str, seed: int, rows: list[dict]) -> None:
    (folder / training).mkdir(exist_ok=True)
    pd.DataFrame(rows).assign(seed=seed).to_csv(folder / training / f"seed_{seed}.csv", index=False)


def test_the_ratio_of_starts_is_paired_by_seed(tmp_path):
    for start, diameters in ((0.0, (20, 30)), (0.2, (50, 50)), (1.0, (80, 60))):
        for seed, diameter in enumerate(diameters):
            row = {"dataset": "camvid", "residual_scale": start, "centre_light": 0, "epoch": 0, "size": 1}
            rows = [{**row, "snapshot": name, "diameter": diameter, "clipped": False} for name in ("epoch_000", "best")]
            write(tmp_path, f"start_{start}", seed, rows)
    table = figure_convergence.tabulate(sorted(tmp_path.glob("*/*.csv")))
    ratio = table.query("quantity == 'ratio'").set_index("seed")
    assert ratio.loc["0", "value"] == 4 and ratio.loc["1", "value"] == 2
    assert ratio.loc["mean", "value"] == pytest.approx(8**0.5) and ratio.loc["mean", "seeds"] == 2
    mean = table.query("quantity == 'diameter' and seed == 'mean' and start == 0")
    assert mean[["value", "low", "high"]].iloc[0].tolist() == pytest.approx(mean_interval([20, 30]))
    assert len(table.query("quantity == 'diameter' and seed != 'mean'")) == 6  # without the best


def test_units_are_held_against_their_own_run(tmp_path):
    for seed, sizes in enumerate([(10, 20), (20, 20)]):
        row = {"dataset": "cifar10", "snapshot": "best", "epoch": 1, "layer": "top", "row": 1, "column": 1}
        row |= {"theoretical_rf": 9, "clipped": seed == 1, "dead": 0}
        names = [("reference", "reference"), ("images", "noise")]
        rows = [
            {**row, "varied": varied, "choice": choice, "size": size}
            for (varied, choice), size in zip(names, sizes, strict=True)
        ]
        write(tmp_path, "cifar10", seed, rows)
    table = figure_units.summarise(sorted(tmp_path.glob("*/*.csv"))).set_index("varied")
    assert table.loc["images", "ratio"] == 1.5 and table.loc["images", "size"] == 20
    assert (
        table.loc["reference", "ratio"] == 1 and table.loc["reference", "clipped"] and table.loc["images", "seeds"] == 2
    )


def test_a_large_map_is_tabulated_in_blocks():
    rng = np.random.default_rng(0)
    large, small = rng.random((200, 240)), rng.random((8, 12))
    table = figure_before_after.table_of(large, (100.0, 120.0), stage="after")
    assert len(table) == 50 * 60
    assert table["impact"].mean() == pytest.approx(large.mean())
    first = table.iloc[0]
    assert first["impact"] == pytest.approx(large[:4, :4].mean())
    assert (first["row"], first["column"]) == (1.5 - 100, 1.5 - 120)  # the block's middle
    assert len(figure_before_after.table_of(small, (4.0, 6.0))) == 96


def shape_table(series: str, depths: list[int], **columns) -> pd.DataFrame:
    """As measure_network leaves it; a Gaussian's but for `columns`."""
    row = {"series": series, "variant": "abs", "kernel": 3, "runs": 20, "dead": 0, "clipped": False}
    for name, value in {"r2": 0.999, "kurtosis": -0.05, "departure": 0.01}.items():
        row |= {name: value, f"{name}_low": value - 0.0005, f"{name}_high": value + 0.0005, f"theory_{name}": value}
    return pd.DataFrame({**row, "depth": depths} | columns)


def test_from_which_depth_on_a_series_is_gaussian():
    """Row by row, out of a class by one measure each; a depth that fails in between begins the count anew."""
    measured = shape_table(
        "random",
        [5, 10, 20, 40, 80],
        r2=[0.97, 0.999, 0.99, 0.999, 0.999],
        kurtosis=[0.0, -0.1, 0.0, 0.25, 0.0],
        departure=[0.01, 0.01, 0.01, 0.01, 0.03],
        departure_high=[0.02, 0.02, 0.02, 0.02, 0.06],
    )
    exact = shape_table("uniform", [5, 10], runs=1, r2_low=np.nan, kurtosis_high=np.nan, departure=[0.06, 0.01])
    square = shape_table("random", [5], r2=0.1).assign(variant="square")
    points = figure_layers_to_gaussian.tabulate([square, measured, exact])
    assert len(points) == 7 * 3
    random, uniform = (points[points["series"] == name] for name in ("random", "uniform"))
    by_depth = random.drop_duplicates("depth").set_index("depth")
    assert by_depth["shape"].tolist() == ["", "Gaussian", "near-Gaussian", "near-Gaussian", "Gaussian"]
    assert by_depth.loc[10, "sure"] == "Gaussian" and by_depth.loc[80, "sure"] == ""
    assert figure_layers_to_gaussian.first_depth(random, "Gaussian") == 80
    assert figure_layers_to_gaussian.first_depth(random, "near-Gaussian") == 10
    assert figure_layers_to_gaussian.in_words(uniform) == "Gaussian from 10 layers on"
    assert (uniform["low"] == uniform["high"]).all()
    unexplained = random[random["measure"] == "unexplained"].iloc[1]
    assert (unexplained["value"], unexplained["high"]) == pytest.approx((0.001, 0.0015))
    only = shape_table("random", [20], departure=0.06)
    words = figure_layers_to_gaussian.in_words(figure_layers_to_gaussian.tabulate([only]))
    assert words == "not near-Gaussian at 20 layers"


def test_theorys_curve_is_that_of_the_tables():
    curve = figure_layers_to_gaussian.theory_curve("random", 3, [5, 30]).set_index(["depth", "measure"])["value"]
    assert curve[10, "kurtosis"] == pytest.approx(-0.1135, abs=1e-3)  # tests/test_shape.py has the measures themselves
    assert curve[10, "departure"] == pytest.approx(0.0291, abs=1e-3)
    assert curve.index.get_level_values("depth").max() == 30
