"""Tables of the results that are kept in figures/reference, as printed: a heading and rows of cells."""

from pathlib import Path

import numpy as np
import pandas as pd

from erf.result.intervals import mean_interval
from replication.claims.measures import mean_ratio
from replication.claims.verdicts import UNDECIDED, Part, Region, overall
from replication.commands.cli import read_table
from replication.datasets.table import DATASETS
from replication.drawing.labels import ENOUGH_SEEDS, over_seeds, with_interval
from replication.trained.tables import scored

GROWS, PLANNED = 1.05, {"cifar10": 6, "camvid": 5}  # docs/protocol.md: what counts as growth, and stage a's seeds
Table = tuple[list[str], list[list[str]]]


def slope_table(kept: Path) -> Table:
    """Slopes by weights, quantity and range of depths, with theory's."""
    slopes = read_table(kept / "growth_slopes.csv").query("variant == 'abs'")
    if "range" not in slopes:  # older tables leave no depths out
        slopes["range"] = slopes["depths"]
    slopes = slopes.set_index(["network", "quantity", "range"])
    ranges = slopes.index.unique("range")
    header = ["slope against depth of", "weights"]
    for depths in ranges:
        header += [f"{depths.replace('-', '–')} layers [95 %]", "theory"]
    rows = []
    for quantity, name, paper in (("size", "ERF size", "0.56"), ("ratio", "ERF size / RF size", "−0.43")):
        for network in ("uniform", "random", "relu"):
            row = [name, slopes.loc[(network, quantity, ranges[0]), "weights"]]
            for depths in ranges:
                found = slopes.loc[(network, quantity, depths)]
                used = "" if found["depths"] == depths else f", {found['depths'].replace('-', '–')} layers"
                row.append(with_interval(found["slope"], found["low"], found["high"], 3) + used)
                row.append(with_interval(found["theory"], np.nan, np.nan, 3))
            rows.append([*row, paper])
    return [*header, "paper"], rows


def growth_table(kept: Path) -> Table:
    """σ and ERF size before training and at the last epoch, by start, over the seeds of docs/protocol.md.

    The verdict is by its rule: both grow by more than 5 %.
    """
    erf, scores = read_erf(kept), read_table(kept / "short/test.csv")
    rows = []
    for name, here in erf[erf["snapshot"] != "best"].groupby("name", sort=False):
        row, verdicts = [arm(name), f"{here['residual_scale'].iloc[0]:g}"], []
        for quantity in ("sigma", "size"):
            by_seed = here.pivot_table(index="seed", columns="epoch", values=quantity)
            before, after = by_seed[by_seed.columns.min()], by_seed[by_seed.columns.max()]
            ratio = mean_ratio(before, after)
            row += [f"{before.mean():.1f} → {after.mean():.1f}", over_seeds(ratio, len(by_seed), 3)]
            verdicts.append(Region(GROWS).verdict(Part(quantity, *ratio)))
        own = scores[scores["name"] == name]
        score = 100 * own["test_mean_iou"].fillna(own["test_accuracy"])
        verdict = overall(verdicts) if len(own) >= PLANNED[here["dataset"].iloc[0]] else UNDECIDED
        rows.append([*row, f"{over_seeds(mean_interval(score), len(own))} %", str(len(own)), verdict])
    header = ["", "γ", "σ, pixels", "after / before", "ERF size, pixels", "after / before", "test score", "seeds"]
    return [*header, "training enlarges it"], rows


def kernel_table(kept: Path) -> Table:
    """How far the ERF's change in training follows from weights or kernels alone: σ after training over that before.

    It is measured, with each ReLU's gates drawn anew, and predicted; over the seeds of which these were kept.
    """
    erf = read_erf(kept).dropna(subset="sigma_kernels").query("snapshot != 'best'")
    rows = []
    for name, here in erf.groupby("name", sort=False):
        before, after = (here[here["epoch"] == end].set_index("seed") for end in (0, here["epoch"].max()))
        row = [arm(name), f"{here['residual_scale'].iloc[0]:g}"]
        for quantity in ("sigma", "sigma_drawn_gates", "sigma_kernels"):
            row.append(over_seeds(mean_ratio(before[quantity], after[quantity]), len(before), 3))
        row += [f"{before[of].mean():.3f} → {after[of].mean():.3f}" for of in ("kernel_spread", "branch_share")]
        rows.append([*row, str(len(before))])
    header = [
        "σ, after / before",
        "with gates drawn anew",
        "by the kernels alone",
        "spread of a kernel",
        "share through a branch",
        "seeds",
    ]
    return ["", "γ", *header], rows


OF_RUNS = "|γ|seed|processor|arithmetic|core-hours|PFLOP|epochs|validation|test|σ, pixels|ERF size, pixels"


def runs_table(kept: Path) -> Table:
    """Every run of docs/protocol.md: its machine, arithmetic, time, scores, and the ERF before and after training."""
    erf, origins = read_erf(kept), read_table(kept / "short/provenance.csv").set_index("result")
    tests, speeds = (read_table(kept / f"short/{name}.csv").set_index(["name", "seed"]) for name in ("test", "speed"))
    metrics, rows = scores_by_epoch(kept), []
    for (name, seed), here in erf[erf["snapshot"] != "best"].groupby(["name", "seed"], sort=False):
        speed, test, last = speeds.loc[(name, seed)], tests.loc[(name, seed)], here["epoch"].max()
        processor = origins.loc[f"trainings/{name}/seed_{seed}/test.csv", "processor"]
        row = [arm(name), f"{here['residual_scale'].iloc[0]:g}", str(seed), processor, speed["arithmetic"].iloc[-1]]
        row += [f"{speed['seconds'].sum() / 3600:.2f}", f"{speed['pflop'].max():.2f}", str(last)]
        score = test["test_accuracy"] if np.isnan(test["test_mean_iou"]) else test["test_mean_iou"]
        row += [f"{metrics[name].loc[seed, last]:.1f} %", f"{100 * score:.1f} %"]
        ends = here.set_index("epoch").loc[[0, last]]
        rows.append([*row, *(" → ".join(f"{value:.1f}" for value in ends[of]) for of in ("sigma", "size"))])
    return OF_RUNS.split("|"), rows


def rising_table(kept: Path) -> Table:
    """Whether the validation score still rose at the end of training: its mean over the last quarter of the epochs,
    beside that over the quarter before."""
    rows = []
    for name, scores in scores_by_epoch(kept).items():
        part = scores.columns.max() // 4
        late, before = scores.iloc[:, -part:].mean(axis=1), scores.iloc[:, -2 * part : -part].mean(axis=1)
        mean, low, high = mean_interval(late - before)
        told = "not converged" if (low if len(scores) >= ENOUGH_SEEDS else mean) > 0 else "no rise shown"
        row = [arm(name), "0.2" if name.endswith("matched_start") else "1", f"{before.mean():.1f} %"]
        rows.append([*row, f"{late.mean():.1f} %", over_seeds((mean, low, high), len(scores)), told])
    return ["", "γ", "third quarter", "last quarter", "rise, points [95 %]", "at the end"], rows


def scores_by_epoch(kept: Path) -> dict[str, pd.DataFrame]:
    """Of each training that docs/protocol.md governs, the validation score in per cent, by seed and epoch."""
    metrics = scored(read_table(kept / "short/metrics.csv"), "validation")
    return {
        name: 100 * here.pivot_table(index="seed", columns="epoch", values="score")
        for name, here in metrics.groupby("name", sort=False)
    }


def read_erf(kept: Path) -> pd.DataFrame:
    """The kept sizes of the runs of docs/protocol.md, with `sigma` of both axes (pixels)."""
    erf = read_table(kept / "short/erf.csv")
    return erf.assign(sigma=np.hypot(erf["sigma_rows"], erf["sigma_columns"]) / np.sqrt(2))


def arm(training: str) -> str:
    """The dataset of a training, and the class weights of its loss where they are not the first arm's."""
    dataset = next(name for name in DATASETS if training.startswith(name))
    return DATASETS[dataset].title + (", SegNet's weights" if "segnet_weights" in training else "")
