"""The README's numbers are those of figures/reference, and its commands those of the Makefile."""

import re

import numpy as np
import pandas as pd

from conftest import ROOT
from erf.intervals import mean_interval
from erf.plots import with_interval

REFERENCE = ROOT / "figures/reference/laptop"


def reference_table() -> str:
    """The table of results in README.md, from the tables of the reference run."""
    growth = pd.read_csv(REFERENCE / "growth.csv").query("kind == 'slope'").set_index(["series", "quantity"])
    lines = ["| what | measured [95 % interval] | theory, same depths | paper |", "|---|---|---|---|"]
    quantities = {"size": ("ERF size", "0.56"), "ratio": ("ERF size / RF size", "\N{MINUS SIGN}0.43")}
    for quantity, (name, paper) in quantities.items():
        for series in ("uniform", "random", "random + ReLU"):
            row = growth.loc[series, quantity]
            measured = with_interval(row["value"], row["low"], row["high"], 3)
            theory = with_interval(row["theory"], np.nan, np.nan, 3)
            lines.append(f"| slope of {name} against depth, {series} | {measured} | {theory} | {paper} |")
    sizes = pd.concat(pd.read_csv(path) for path in sorted(REFERENCE.glob("cifar10_seed_*_erf.csv")))
    tests = pd.concat(pd.read_csv(path) for path in sorted(REFERENCE.glob("cifar10_seed_*_test.csv")))
    for stage, name in {"epoch_000": "before", "best": "after"}.items():
        measured = with_interval(*mean_interval(sizes[sizes["snapshot"] == stage]["size"]))
        lines.append(f"| CIFAR-10, ERF size {name} training (pixels) | {measured} |  |  |")
    by_seed = sizes.pivot_table(index="seed", columns="snapshot", values="size")
    growth_by_seed = with_interval(*mean_interval(by_seed["best"] - by_seed["epoch_000"]))
    lines.append(f"| CIFAR-10, growth of the ERF size in each seed (pixels) | {growth_by_seed} |  | grows |")
    accuracy = with_interval(*mean_interval(100 * tests["test_accuracy"]))
    lines.append(f"| CIFAR-10, test accuracy (%) | {accuracy} |  | 89 |")
    return "\n".join(lines)


def test_the_readmes_table_is_that_of_the_reference_run():
    table = reference_table()
    assert table in (ROOT / "README.md").read_text(), f"README.md should have this table:\n{table}"


def test_files_that_the_readme_names_are_there():
    targets = re.findall(r"\]\((?!http)([^)]+)\)", (ROOT / "README.md").read_text())
    assert len(targets) >= 5  # the figures
    for target in targets:
        assert (ROOT / target).exists(), target


def test_the_readmes_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)", (ROOT / "README.md").read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
