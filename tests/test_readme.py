"""The README's numbers are those of figures/reference, and its commands those of the Makefile.

`python tests/test_readme.py` prints its tables.
"""

import re

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT
from erf.intervals import mean_interval
from erf.plots import with_interval

REFERENCE = ROOT / "figures/reference"
LAPTOP = REFERENCE / "laptop"


def table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def slope_table() -> str:
    """Slopes by weights, quantity and range of depths, with theory's."""
    slopes = (
        pd.read_csv(REFERENCE / "growth_slopes.csv").query("mode == 'abs'").set_index(["network", "quantity", "depths"])
    )
    ranges = slopes.index.unique("depths")
    header = ["slope against depth of", "weights"]
    for depths in ranges:
        header += [f"{depths.replace('-', '–')} layers [95 %]", "theory"]
    rows = []
    for quantity, name, paper in (("size", "ERF size", "0.56"), ("ratio", "ERF size / RF size", "−0.43")):
        for network in ("uniform", "random", "relu"):
            row = [name, slopes.loc[(network, quantity, ranges[0]), "weights"]]
            for depths in ranges:
                found = slopes.loc[(network, quantity, depths)]
                row.append(with_interval(found["slope"], found["low"], found["high"], 3))
                row.append(with_interval(found["theory"], np.nan, np.nan, 3))
            rows.append([*row, paper])
    return table([*header, "paper"], rows)


def structure_table() -> str:
    """ERF sizes of the structures as multiples of the plain stack's."""
    ratios = pd.read_csv(REFERENCE / "structures.csv").set_index(["structure", "series"])
    paper = {"subsample": "larger", "average_pool": "", "dilation": "larger", "skip": "smaller", "dropout": "the same"}
    rows = []
    for name, claim in paper.items():
        row = [name.replace("_", " ")]
        for series in ("random", "random + ReLU"):
            found = ratios.loc[(name, series)]
            row.append(with_interval(found["ratio"], found["ratio_low"], found["ratio_high"], 3))
        theory = with_interval(ratios.loc[(name, "random"), "theory_ratio"], np.nan, np.nan, 3)
        rows.append([*row, theory, claim])
    return table(["15 layers", "random [95 %]", "random + ReLU [95 %]", "theory", "paper"], rows)


def training_table() -> str:
    """ERF sizes and accuracy of the laptop's run."""
    sizes = pd.concat(pd.read_csv(path) for path in sorted(LAPTOP.glob("cifar10_seed_*_erf.csv")))
    tests = pd.concat(pd.read_csv(path) for path in sorted(LAPTOP.glob("cifar10_seed_*_test.csv")))
    by_seed = sizes.pivot_table(index="seed", columns="snapshot", values="size")
    rows = [
        ["ERF size before training (pixels)", with_interval(*mean_interval(by_seed["epoch_000"])), ""],
        ["ERF size after training (pixels)", with_interval(*mean_interval(by_seed["best"])), ""],
        [
            "its growth in each seed (pixels)",
            with_interval(*mean_interval(by_seed["best"] - by_seed["epoch_000"])),
            "grows",
        ],
        ["test accuracy (%)", with_interval(*mean_interval(100 * tests["test_accuracy"])), "89"],
    ]
    return table(["CIFAR-10", "measured [95 %]", "paper"], rows)


def sample_table() -> str:
    """How far the slopes of one-channel networks scatter."""
    samples = pd.read_csv(REFERENCE / "slope_samples.csv")
    rows = []
    for (weights, mode), found in samples.groupby(["weights", "mode"], sort=False):
        slopes = found["size"].dropna()
        reach = (slopes >= 0.555).mean()
        kind = {"abs": "size of the mean map", "per run": "mean of the runs' sizes"}[mode]
        rows.append([weights, kind, f"{slopes.mean():.3f}", f"{slopes.std():.3f}", f"{100 * reach:.0f} %"])
    layers, runs = samples["depths"].iloc[0].replace("-", "–"), samples["runs"].iloc[0]
    kind = f"1 channel, {layers} layers, {runs} runs"
    return table([kind, "slope of the", "mean", "standard deviation", "0.56 or more"], rows)


TABLES = [slope_table, structure_table, sample_table, training_table]


@pytest.mark.parametrize("make", TABLES)
def test_the_readmes_tables_are_those_of_the_reference_runs(make):
    text = make()
    assert text in (ROOT / "README.md").read_text(), f"README.md should have this table:\n{text}"


def test_what_the_readme_says_of_wide_and_thin_networks():
    """At 20 to 160 layers wide networks exclude the paper's pair in all readings of |g|; thin ones reach it."""
    slopes = pd.read_csv(REFERENCE / "growth_slopes.csv").query("depths == '20-160' and weights != 'uniform'")
    paper = slopes["quantity"].map({"size": 0.56, "ratio": -0.43})
    slopes["inside"] = (slopes["low"] <= paper) & (paper <= slopes["high"])
    wide = slopes[(slopes["channels"] == 16) & slopes["mode"].isin(["abs", "per run", "equal", "maximum"])]
    assert len(wide) == 24
    assert not wide.groupby(["network", "mode"])["inside"].all().any()
    samples = pd.read_csv(REFERENCE / "slope_samples.csv")
    assert samples["sample"].nunique() == 100
    assert (samples.groupby(["weights", "mode"])["size"].apply(lambda found: (found >= 0.555).mean()) > 0.2).all()
    networks = pd.read_csv(REFERENCE / "networks.csv").query("reading == 'abs'")
    activations = networks[networks["network"].str.endswith("_20")]
    deviation = activations["size"] / activations["theory_size"] - 1
    assert -0.02 < deviation.mean() < -0.005  # "about one per cent below"


def test_files_that_the_readme_names_are_there():
    targets = re.findall(r"\]\((?!http)([^)]+)\)", (ROOT / "README.md").read_text())
    assert len(targets) >= 9  # the figures
    for target in targets:
        assert (ROOT / target).exists(), target


def test_the_readmes_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)", (ROOT / "README.md").read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


if __name__ == "__main__":
    print(*(make() for make in TABLES), sep="\n\n")
