"""The README's tables, from figures/reference. `PYTHONPATH=scripts python tests/readme_tables.py` puts them into it."""

import numpy as np
import pandas as pd
import yaml

from conftest import ROOT
from erf.result.intervals import mean_interval
from figure_units import layer_name
from replication.claims.tables import ours, read_checked, verdict_of
from replication.datasets.table import DATASETS
from replication.drawing.labels import over_seeds, with_interval
from replication.stacks.slopes import BOX

CLAIMS = yaml.safe_load((ROOT / "config/claims.yaml").read_text())
REFERENCE = ROOT / "figures/reference"
LAPTOP = REFERENCE / "laptop"


def table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, ["---"] * len(header), *rows])


def claims_table() -> str:
    """Every claim, the paper's value, the one that speaks most against it, the verdict, and what makes it again."""
    rows = []
    for claim in read_checked(LAPTOP / "claims.json"):
        paper = claim["paper"] + (" †" if "reported" in claim["source"] else "")
        rows.append([claim["statement"], paper, ours(claim), verdict_of(claim), f"`{claim['command'].split()[-1]}`"])
    return table(["claim", "paper", "here [95 %]", "verdict", "target"], rows)


def slope_table() -> str:
    """Slopes by weights, quantity and range of depths, with theory's."""
    slopes = (
        pd.read_csv(REFERENCE / "growth_slopes.csv")
        .query("variant == 'abs'")
        .set_index(["network", "quantity", "depths"])
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


DIAMETER = 2 / np.sqrt(np.pi)  # of the disc with the area of a square of side one
PAPERS = {"cifar10": ("grows", "; accuracy 89 %"), "camvid": ("100 → 150", "")}


def scores_of(training: str) -> pd.Series:
    """Test score of a training by seed: mean IoU where there is one, or else accuracy."""
    found = pd.read_csv(LAPTOP / "test.csv").query("name == @training").set_index("seed")
    return found["test_mean_iou"].fillna(found["test_accuracy"])


def training_table() -> str:
    """ERF diameters before and after training, and the score, of the laptop's runs from the paper's start."""
    erf, speed = (pd.read_csv(LAPTOP / f"{name}.csv") for name in ("erf", "speed"))
    rows = []
    for name, (paper_growth, paper_score) in PAPERS.items():
        here = erf[erf["name"] == name].set_index(["seed", "snapshot"])
        word, scores = "mean IoU" if name == "camvid" else "accuracy", scores_of(name)
        minutes = speed[speed["name"] == name].groupby("seed")["seconds"].sum() / 60
        for seed in scores.index:
            row = [f"{DATASETS[name].title}, seed {seed}"]
            for snapshot in ("epoch_000", "best"):
                found = here.loc[(seed, snapshot)]
                row.append(with_interval(*(DIAMETER * found[["size", "low", "high"]].astype(float))))
            growth = here.loc[(seed, "best"), "diameter"] - here.loc[(seed, "epoch_000"), "diameter"]
            rows.append([*row, f"{growth:.1f}", f"{word} {100 * scores[seed]:.1f} %", f"{minutes[seed]:.0f}", ""])
        diameters = here.reset_index().pivot_table(index="seed", columns="snapshot", values="diameter")
        row = [
            f"**{DATASETS[name].title}, mean**",
            *(over_seeds(mean_interval(diameters[s]), len(scores)) for s in ("epoch_000", "best")),
            over_seeds(mean_interval(diameters["best"] - diameters["epoch_000"]), len(scores)),
        ]
        mean = over_seeds(mean_interval(100 * scores), len(scores))
        rows.append([*row, f"{word} {mean} %", f"{minutes.mean():.0f}", f"{paper_growth}{paper_score}"])
    header = [
        "ERF diameter, pixels [95 %]",
        "before training",
        "after training",
        "difference",
        "test",
        "minutes",
        "paper",
    ]
    return table(header, rows)


def convergence_table() -> str:
    """ERF diameters and test scores from three starts."""
    found = pd.read_csv(LAPTOP / "convergence.csv").query("seed == 'mean'")
    starts = pd.read_csv(LAPTOP / "erf.csv").query("centre_light == 0").set_index(["dataset", "residual_scale"])["name"]
    rows = []
    for dataset in DATASETS:
        for (quantity, start), group in found.query("dataset == @dataset").groupby(["quantity", "start"], dropna=False):
            epochs = group.set_index("epoch").sort_index()
            digits, name = (1, f"{start:g}") if quantity == "diameter" else (2, "largest over smallest start")
            row = [DATASETS[dataset].title, name]
            for epoch in (0, 3, epochs.index[-1]):
                mean = epochs.loc[epoch]
                row.append(over_seeds((mean["value"], mean["low"], mean["high"]), mean["seeds"], digits))
            scores = [] if np.isnan(start) else 100 * scores_of(starts[(dataset, start)].iloc[0])
            rows.append([*row, f"{over_seeds(mean_interval(scores), len(scores))} %" if len(scores) else ""])
    header = [
        "ERF diameter, pixels [95 %]",
        "γ",
        "before training",
        "after 3 epochs",
        "after the last epoch",
        "test score",
    ]
    return table(header, rows)


def initialization_table() -> str:
    """Epochs to a validation score from centre-light weights, relative to He's."""
    found = pd.read_csv(LAPTOP / "initialization.csv", dtype={"seed": str}).query("panel == 'epochs'")
    means = found.query("seed == 'mean'")
    rows = []
    for row in means.query("strength > 0").itertuples():
        he = means.query("strength == 0 and series == @row.series and score == @row.score").iloc[0]
        word = "mean IoU" if row.series == "camvid" else "accuracy"
        change = over_seeds(tuple(100 * value for value in (row.change, row.low, row.high)), row.seeds, 0)
        missed = f"reached by {he['reached']:.0f} and {row.reached:.0f} of {row.seeds:.0f} seeds"
        cells = missed if np.isnan(row.change) else f"{change} %"
        rows.append(
            [
                DATASETS[row.series].title,
                f"{word} {row.score:g}",
                f"{he['epochs']:.1f}".replace("nan", "never"),
                cells,
                f"{row.seeds:.0f}",
            ]
        )
    return table(["", "validation score", "epochs, He", "centre-light: change [95 %]", "seeds"], rows)


def units_table() -> str:
    """What the trained networks' ERF is elsewhere, beside that of the middle unit and that before training."""
    found = pd.read_csv(LAPTOP / "units.csv").query("snapshot == 'best'")
    keys = ["dataset", "varied", "choice"]
    runs = pd.read_csv(LAPTOP / "units_by_seed.csv")
    runs["choice"] = runs["choice"].map(layer_name)
    sizes = runs.pivot_table(index=[*keys, "seed"], columns="snapshot", values="size")
    growth = (sizes["best"] / sizes["epoch_000"]).groupby(keys)
    rows = []
    for row in found.itertuples():
        here = growth.get_group((row.dataset, row.varied, row.choice))
        bound = "at least " if row.clipped and row.size < row.theoretical_rf else ""
        size = bound + over_seeds((row.size, row.low, row.high), row.seeds)
        ratio = over_seeds((row.ratio, row.ratio_low, row.ratio_high), row.seeds, 2)
        what = ["middle unit of the top", ""] if row.varied == "reference" else [row.varied, row.choice]
        rows.append([DATASETS[row.dataset].title, *what, size, ratio, over_seeds(mean_interval(here), len(here), 2)])
    header = ["", "varied", "to", "ERF size, pixels [95 %]", "over the middle unit's", "over its own before training"]
    return table(header, rows)


def reach_table() -> str:
    """How far cues are learnt, beside the radii."""
    found = pd.read_csv(LAPTOP / "reach.csv").query("seed == 'mean' and distance != distance")
    rows = []
    for (network, steps), group in found.groupby(["network", "steps"], sort=False):
        values = group.set_index("quantity")
        row = [network, f"{steps}", f"{values.loc['theoretical_radius', 'value']:.0f}"]
        for quantity in ("erf_radius_untrained", "erf_radius_learnt", "frontier"):
            mean = values.loc[quantity]
            row.append(over_seeds((mean["value"], mean["low"], mean["high"]), mean["seeds"]))
        rows.append([*row[:-1], row[-1] + (" (censored)" if values.loc["frontier", "censored"] else "")])
    header = [
        "network",
        "steps",
        "theoretical radius",
        "ERF radius before",
        "after, cue at the frontier",
        "cues learnt up to",
    ]
    return table(header, rows)


def sample_table() -> str:
    """How far the slopes of one-channel networks scatter, and how often both are the paper's."""
    samples = pd.read_csv(REFERENCE / "slope_samples.csv").dropna(subset="size")
    rows = []
    for (depths, weights, variant), found in samples.groupby(["depths", "weights", "variant"], sort=False):
        kind = {"abs": "size of the mean map", "per run": "mean of the runs' sizes"}[variant]
        slopes, large, pairs = found["size"], (found["size"] >= BOX["size"][0]).sum(), found["pair"].sum()
        row = [depths.replace("-", "–"), weights, kind, f"{slopes.mean():.3f}", f"{slopes.std():.3f}"]
        rows.append([*row, *(f"{hits} of {len(found)}" for hits in (large, pairs))])
    header = [f"1 channel, {samples['runs'].iloc[0]} runs; layers", "weights", "slope of the", "mean"]
    return table([*header, "standard deviation", "0.56 or more", "both, 0.56 and −0.43"], rows)


def measure_table() -> str:
    """`make bench`: measuring against the public scripts' way."""
    rows = []
    for found in pd.read_csv(REFERENCE / "measure.csv").itertuples():
        row = [found.model, f"{found.side}²", f"{found.seconds_baseline:.2f}", f"{found.seconds_erf:.2f}"]
        row += [f"{found.speed_ratio:.1f}", f"{found.memory_ratio:.2f}"]
        rows.append([*row, f"{found.error_baseline:.0e}", f"{found.error_erf:.0e}"])
    times = ["seconds, whole", "seconds, `erf`", "times faster", "memory, of the whole's"]
    return table(["model", "image", *times, "rounding, whole", "rounding, `erf`"], rows)


TABLES = [
    claims_table,
    slope_table,
    structure_table,
    sample_table,
    training_table,
    convergence_table,
    units_table,
    initialization_table,
    reach_table,
    measure_table,
]


def written(text: str) -> str:
    """The README with its tables, each found by its head, made anew."""
    for make in TABLES:
        new = make()
        before, after = text.split(new.split("\n", 1)[0], 1)
        rest = after.split("\n\n", 1)[1]
        text = f"{before}{new}\n\n{rest}"
    return text


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(written(readme.read_text()))
