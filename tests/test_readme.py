"""The README's numbers are those of figures/reference, and its commands those of the Makefile."""

import re

import pandas as pd
import pytest
import torch
import yaml

import erf
from conftest import ROOT
from erf.models.torchvision_import import import_torchvision
from erf.result.intervals import mean_interval
from figure_reach import LEARNT
from readme_tables import CLAIMS, DIAMETER, LAPTOP, REFERENCE, TABLES, scores_of
from replication.claims.claims import check, claims_of
from replication.claims.measures import Results
from replication.claims.tables import read_checked
from replication.datasets.camvid import CAMVID
from replication.datasets.table import DATASETS

WIDTH_KEPT = 16  # of the trainings in figures/reference/laptop


@pytest.mark.parametrize("make", TABLES)
def test_the_readmes_tables_are_those_of_the_reference_runs(make):
    text = make()
    assert text in (ROOT / "README.md").read_text(), f"README.md should have this table:\n{text}"


def test_what_the_readme_says_of_wide_and_thin_networks():
    """At 20 to 160 layers wide networks exclude the paper's pair in all readings of |g|; thin ones reach it."""
    slopes = pd.read_csv(REFERENCE / "growth_slopes.csv").query("depths == '20-160' and weights != 'uniform'")
    paper = slopes["quantity"].map({"size": 0.56, "ratio": -0.43})
    slopes["inside"] = (slopes["low"] <= paper) & (paper <= slopes["high"])
    wide = slopes[(slopes["width"] == 16) & slopes["variant"].isin(["abs", "per run", "equal", "maximum"])]
    assert len(wide) == 24
    assert not wide.groupby(["network", "variant"])["inside"].all().any()
    samples = pd.read_csv(REFERENCE / "slope_samples.csv")
    assert samples["sample"].nunique() == 100
    large = samples.groupby(["depths", "weights", "variant"])["size"].apply(lambda found: (found >= 0.555).mean())
    assert (large["10-80"] > 0.2).all()
    assert not samples.query("depths == '10-80'")["pair"].any()  # impossible there
    networks = pd.read_csv(REFERENCE / "networks.csv").query("variant == 'abs'")
    activations = networks[networks["network"].str.endswith("_20")]
    deviation = activations["size"] / activations["theory_size"] - 1
    assert -0.02 < deviation.mean() < -0.005  # "about one per cent below"


def test_what_the_readme_says_of_trained_networks():
    """Before and after training: growth, its bounds, and what the start changes."""
    erf = pd.read_csv(LAPTOP / "erf.csv")
    assert (erf["size"] < 0.45 * erf["theoretical_rf"]).all() and (erf["extent"] <= erf["theoretical_rf"]).all()
    sizes = erf.pivot_table(index=["dataset", "name", "seed"], columns="epoch", values="size")
    first, last = sizes[0], sizes.ffill(axis=1).iloc[:, -1]
    best = erf.query("snapshot == 'best'").set_index(["dataset", "name", "seed"])
    for dataset in DATASETS:
        assert (best["size"] > first).loc[dataset, dataset].all()
        assert (sizes[3] < first).loc[dataset, f"{dataset}_large_start"].all()
        assert (last > 3 * first).loc[dataset, f"{dataset}_small_start"].all()
        scores = {start: scores_of(f"{dataset}{start}").mean() for start in ("", "_small_start", "_large_start")}
        assert scores["_large_start"] < scores[""]
    assert (best["sigma_rows"] > 1.1 * best["sigma_columns"]).loc["cifar10", "cifar10"].all()
    assert (last / first).loc["cifar10", "cifar10_large_start"].between(0.95, 1.05).all()
    low, high = mean_interval((best["diameter"] - DIAMETER * first).loc["camvid", "camvid"])[1:]
    assert low < 0 < high
    ratios = pd.read_csv(LAPTOP / "convergence.csv").query("quantity == 'ratio' and seed == 'mean'")
    assert (ratios.groupby("dataset")["value"].diff().dropna() < 0).all()  # at every snapshot


def test_what_the_readme_says_of_other_units():
    """Noise and reading change little; lower units and layers may shrink."""
    means = pd.read_csv(LAPTOP / "units.csv").query("snapshot == 'best' and varied in ['images', 'reading']")
    assert means["ratio"].between(0.9, 1.1).all()
    runs = pd.read_csv(LAPTOP / "units_by_seed.csv")
    sizes = runs.pivot_table(index=["dataset", "choice", "seed"], columns="snapshot", values="size")
    growth = sizes["best"] / sizes["epoch_000"]
    for choice in ("lower left", "lower right"):
        assert (growth.loc["camvid", choice] < 1).sum() == 2
    for dataset, layer in (("cifar10", "blocks.3.sum"), ("cifar10", "blocks.7.sum"), ("camvid", "stages.1.5.sum")):
        assert (growth.loc[dataset, layer] < 1).all()
    assert mean_interval(growth.loc["camvid", "stages.1.5.sum"])[2] < 1


def test_what_the_readme_says_of_centre_light_kernels():
    """Their ERF is theory's, and what they save in epochs is unknown."""
    found = pd.read_csv(LAPTOP / "initialization.csv")
    sizes = found.query("panel == 'size'").pivot_table(
        index="strength", columns="series", values=["ratio", "low", "high"]
    )
    theory = sizes[("ratio", "theory")].drop(0)
    assert (sizes[("low", "stack")].drop(0) < theory).all() and (theory < sizes[("high", "stack")].drop(0)).all()
    networks = sizes["ratio"].loc[1.0, ["cifar10", "camvid"]]
    assert (networks < theory[1.0]).all()
    for dataset in DATASETS:
        assert scores_of(f"{dataset}_centre_light").mean() < scores_of(dataset).mean()
    changes = found.query("series == 'camvid' and seed == 'mean' and strength > 0 and panel == 'epochs'")
    assert len(changes) == 3 and (changes["low"] < -0.3).all() and (changes["high"] > 0).all()


def test_what_the_readme_says_of_reach():
    """Cues are learnt less far off than the ERF reaches before training; more training moves both."""
    found = pd.read_csv(LAPTOP / "reach.csv", dtype={"seed": str}).query("distance != distance")
    means = found.query("seed == 'mean'").pivot_table(index=["steps", "network"], columns="quantity", values="value")
    assert (means["frontier"] < means["erf_radius_untrained"]).loc[means.index.unique("steps").min()].all()
    assert means.xs("plain", level="network")["frontier"].is_monotonic_increasing
    assert (means["frontier"] < means["theoretical_radius"] - 2).all()
    high = found.query("seed == 'mean' and quantity == 'frontier' and steps == 150").set_index("network")["high"]
    sure = high - means["erf_radius_untrained"].loc[150] < 0
    assert set(sure[sure].index) == {"residual", "subsampled"}
    runs = pd.read_csv(LAPTOP / "reach_by_seed.csv")
    nearest = runs[runs["distance"] == runs.groupby(["name", "seed"])["distance"].transform("min")]
    assert (nearest["erf_radius_after"] < nearest["erf_radius_before"]).all()
    far = runs.query(
        "name != 'plain' and structure == 'plain' and centre_light == 0 and distance >= 10 and accuracy > 0.75"
    )
    assert len(far) >= 6 and (far["erf_radius_after"] > far["erf_radius_before"]).all()
    accuracy = runs.query("name == 'subsampled'").pivot_table(index="seed", columns="distance", values="accuracy")
    assert ((accuracy[14] < 0.75) & (accuracy[18] > 0.75)).sum() == 1  # "one run"


def kept_trainings(sizes: pd.DataFrame) -> dict[str, dict]:
    """Settings of the kept trainings from γ = 1 and 0.2, as far as claims read them."""
    kept = sizes[(sizes["centre_light"] == 0) & sizes["residual_scale"].isin([1, 0.2])].groupby("training")
    return {
        name: {"dataset": rows["dataset"].iloc[0], "recipe": {"epochs": rows["epoch"].max()}}
        | {"network": {"width": WIDTH_KEPT, "residual_scale": rows["residual_scale"].iloc[0]}}
        for name, rows in kept
    }


def test_the_kept_claims_are_those_of_the_kept_tables():
    paths = {"networks": REFERENCE / "networks.csv", "slopes": REFERENCE / "growth_slopes.csv"}
    paths |= {name: REFERENCE / f"{name}.csv" for name in ("structures", "convolution")}
    paths |= {
        "initialization": LAPTOP / "initialization.csv",
        "sizes": LAPTOP / "erf.csv",
        "scores": LAPTOP / "test.csv",
    }
    tables = {name: pd.read_csv(path).rename(columns={"name": "training"}) for name, path in paths.items()}
    paper = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    trainings = kept_trainings(tables["sizes"])
    shown = {figure: settings.get("networks", []) for figure, settings in paper["figures"].items()}
    shown["sensitivity"] = [*shown["sensitivity"], *paper["slopes"]["networks"]]
    results = Results(tables, trainings, shown)
    kept = pd.read_csv(LAPTOP / "claims.csv").set_index("id")
    found = pd.DataFrame([check(claim, results) for claim in claims_of(CLAIMS)]).set_index("id")
    pd.testing.assert_frame_equal(found[kept.columns[:-1]], kept[kept.columns[:-1]], rtol=1e-12)
    assert (kept["verdict"] != "not run").all()


NAMES = [  # digits that are no measurements: names, years, definitions
    *("CIFAR-10", "ResNet-34", "NIPS 2016", "arXiv 1701.04128", "MD5", "CC BY-NC 4.0", "(2009)", "(2008)", "(2017)"),
    *("95 %", "Python 3.11, 3.12 or 3.13", "mean 0, variance 1", "strength from 0 to 1", "±0.5"),
    *("x86-64", "Python 3.14", "torch 2.13, nor of 2.6"),
]


def place_of_resnet18() -> str:
    """Where its middle unit looks, and where the middle of the image is."""
    side, resnet18 = 224, import_torchvision().models.resnet18(weights=None)
    theory = erf.theoretical_rf(resnet18, "layer4", input_shape=(3, side, side))
    place = theory.offset[0] + theory.stride[0] * (side // 32 // 2)
    return f"ResNet-18, on images of {side} pixels, looks at pixel {place:.0f}, and not at {side // 2}, the middle"


def test_what_the_readme_says_of_clamped_gradients():
    torch.manual_seed(0)
    model, images = import_torchvision().models.resnet18(weights=None), torch.randn(4, 3, 96, 96)
    clamped, whole = (erf.measure(model, images, "layer4", mode=mode).map.sum() for mode in ("positive", "abs"))
    assert 0.45 < clamped / whole < 0.55


def phrases() -> list[str]:
    """What the README says in numbers, from the configurations, the results and the paper's values."""
    paper = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    told = {claim["id"]: claim["paper"] for claim in CLAIMS}
    networks, defaults = paper["networks"], paper["network_defaults"]
    slopes = pd.read_csv(REFERENCE / "growth_slopes.csv").query("variant == 'abs' and network == 'uniform'")
    slopes = slopes.set_index(["depths", "quantity"])["slope"]
    rf_slopes = [slopes[depths, "size"] - slopes[depths, "ratio"] for depths in ("5-40", "20-160")]
    size, ratio = (float(told[name].replace("−", "-")) for name in ("growth_slope", "shrinkage_slope"))
    samples = pd.read_csv(REFERENCE / "slope_samples.csv")
    erf = pd.read_csv(LAPTOP / "erf.csv")
    start = erf.query("name == 'camvid' and snapshot == 'epoch_000'")["diameter"].mean()
    fields = erf.groupby("dataset")["theoretical_rf"].unique()
    reach = pd.read_csv(LAPTOP / "reach_by_seed.csv")
    jump = reach[reach["name"] == "subsampled"].pivot_table(index="seed", columns="distance", values="accuracy")
    (skipping,) = jump[(jump > LEARNT).astype(int).diff(axis=1).eq(1).any(axis=1)].index  # learns, misses, learns
    farthest = max(jump.columns[jump.loc[skipping] > LEARNT])
    missed = max(distance for distance in jump.columns[jump.loc[skipping] < LEARNT] if distance < farthest)
    starts = erf[erf["centre_light"] == 0].groupby("name")["residual_scale"].first()
    carried, epochs = starts["camvid"], erf[erf["snapshot"] != "best"].groupby("name")["epoch"].max()
    *first, last = paper["slopes"]["depths"][0]
    deep = paper["slopes"]["depths"][1]
    about_100 = told["camvid_before"].removeprefix("about ").removesuffix(" px")
    assert carried == starts["cifar10"]
    verdicts = pd.DataFrame(read_checked(LAPTOP / "claims.json"))
    count = {**verdicts["verdict"].value_counts(), **verdicts["because"].value_counts()}
    failed = ["growth_slope", "shrinkage_slope", "camvid_growth"]
    assert verdicts.query("verdict == 'not reproduced'")["id"].tolist() == failed
    assert (verdicts.set_index("id").loc[["root_growth", "root_shrinkage"], "verdict"] == "reproduced").all()
    assert verdicts.set_index("id").loc["camvid_growth", "high"] < 1
    assert count["partly"] == count["undecided"]
    return [
        f"Of {len(verdicts)} claims {count['reproduced']} are reproduced, {count['undecided']} are undecided, "
        f"{count['not reproduced']} are not reproduced, and {count['not comparable']} are not comparable. "
        f"Not reproduced are the slopes of {told['growth_slope']} and {told['shrinkage_slope']};",
        f"(SegNet's version, of {CAMVID.task.classes} classes)",
        place_of_resnet18(),
        f"bootstraps over {defaults['runs']} runs ({networks['plain']['runs']} for the structures and the activations)",
        f"with {defaults['width']} channels; theory",
        f"Networks of {defaults['width']} channels come out",
        f"networks of {defaults['width']} channels in every variant",
        f"with {defaults['kernel']} × {defaults['kernel']} kernels {rf_slopes[0]:.2f} at {', '.join(map(str, first))} "
        f"and {last} layers, and {rf_slopes[1]:.2f} at {deep[0]} to {deep[-1]}. "
        f"The paper's differ by {size - ratio:.2f}",
        f"over {samples['runs'].iloc[0]} such runs are too narrow, so the whole experiment was repeated "
        f"{samples['sample'].nunique()} times",
        f"its {told['growth_slope']} and {told['shrinkage_slope']} is that",
        f"{epochs['cifar10']} epochs on CIFAR-10 and {epochs['camvid']} on CamVid",
        f"near the paper's {about_100} pixels, and begins at {start:.0f} in networks",
        f"From γ = {starts['camvid_large_start']:g} it shrinks",
        f"from γ = {starts['camvid_small_start']:g} it grows",
        "blocks 4 and 8 on CIFAR-10, and of stage 2 on CamVid",  # blocks.3, blocks.7, stages.1: tested above
        f"saves the paper's {told['initialisation_speed'].removeprefix('−')} of the epochs",
        f"accuracy is above {100 * LEARNT:.0f} %, half way from chance",
        f"After {reach['steps'].min()} steps the mean of every network",
        f"learns a cue at {farthest} pixels and not one at {missed}",
        f"networks are {', '.join(map(str, defaults['special_layers'][:-1]))} and {defaults['special_layers'][-1]} of "
        f"{networks['plain']['depths'][0]}",
        f"theoretical receptive field is {fields['cifar10'][0]} pixels. The paper reports "
        f"{told['cifar10_field'].removesuffix(' px')}, which no stack of odd kernels of stride 1 has",
        f"The CamVid network's is {fields['camvid'][0]}, as the paper's, with the blocks of ResNet-34 "
        "and a convolution of stride 2 in front",
        f"on every {2 ** len(paper['training_defaults']['camvid']['network']['blocks'])}th pixel",
        f"γ = {carried} was chosen to begin near the paper's {about_100} pixels on CamVid",
        f"over depths {first[0]} to {last} theory itself",
    ]


def test_every_number_in_the_readme_is_traced():
    """In prose, to a setting, a result or the paper; tables with numbers are generated, and compared above."""
    text = (ROOT / "README.md").read_text()
    rows = {row for make in TABLES for row in make().splitlines()}
    for line in text.splitlines():
        if line.startswith("|") and re.search(r"\d", re.sub("CIFAR-10", "", line)):
            assert line in rows
    for pattern in (r"```.*?```", r"^\|.*?$", r"`[^`]*`", r"\]\([^)]*\)"):
        text = re.sub(pattern, " ", text, flags=re.DOTALL | re.MULTILINE)
    text = " ".join(text.replace("[", " ").split())
    for phrase in phrases():
        assert phrase in text, phrase
        text = text.replace(phrase, " ")
    for name in NAMES:
        text = text.replace(name, " ")
    left = [text[max(0, found.start() - 40) : found.end() + 20] for found in re.finditer(r"\d+", text)]
    assert not left


def test_files_that_the_readme_names_are_there():
    targets = re.findall(r"\]\((?!http)([^)]+)\)", (ROOT / "README.md").read_text())
    assert len(targets) >= 9  # the figures
    for target in targets:
        assert (ROOT / target).exists(), target


def test_the_readmes_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([\w-]+)", (ROOT / "README.md").read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
