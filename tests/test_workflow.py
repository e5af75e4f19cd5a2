"""The workflow: its shape, its configurations, and what a change makes it do again."""

import copy
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from conftest import ROOT, SCRIPTS, network_settings

RULE = r"^(?:use rule \w+ as (\w+) with|rule (\w+)):"
RULES = {
    match.group(1) or match.group(2): path
    for path in (ROOT / "workflow" / "rules").glob("*.smk")
    for match in re.finditer(RULE, path.read_text(), re.MULTILINE)
}
COMMANDS = {"cli.py", "download_command.py", "measuring_command.py", "training_command.py"}
SHARED = COMMANDS | {"claim_tables.py", "report_explorer.py", "report_tables.py", "training_tables.py"}
PROGRAMS = sorted(path for path in SCRIPTS.glob("*.py") if path.name not in SHARED)
OF_NETWORKS = ["gaussian_shape", "nonlinearity", "structures", "growth", "sensitivity", "initialization"]
OF_TRAININGS = ["before_after", "evolution", "convergence", "units", "initialization"]
FIGURES = ["convolution", *OF_NETWORKS, "reach", *OF_TRAININGS[:-1]]
REPORT = {"replication_report"}
CLAIMS = {"check_claims", "figure_scorecard"} | REPORT


def test_every_rule_has_the_script_of_its_name_and_every_script_a_rule():
    assert sorted(RULES) == [path.stem for path in PROGRAMS]
    for name, path in RULES.items():
        _, body = re.split(rf"^(?:use rule \w+ as {name} with|rule {name}):", path.read_text(), flags=re.MULTILINE)
        body = re.split(RULE, body, maxsplit=1, flags=re.MULTILINE)[0]
        assert f'script("{name}.py")' in body and f'modules("{name}.py")' in body
        assert f"{name}" in body.split("log:")[1].split("benchmark:")[0]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_script_runs_alone(path):
    result = subprocess.run([sys.executable, path, "--help"], capture_output=True, text=True, check=True, cwd="/")
    assert "--out" in result.stdout


def imported_by(program: str) -> set[str]:
    """Project files that Python itself loads for a program."""
    code = (
        "import sys, json, importlib; sys.path.insert(0, sys.argv[1]); importlib.import_module(sys.argv[2]);"
        "print(json.dumps([m.__file__ for m in sys.modules.values()"
        " if (getattr(m, '__file__', None) or '').startswith(sys.argv[1])]))"
    )
    result = subprocess.run([sys.executable, "-c", code, str(SCRIPTS), program], capture_output=True, text=True)
    return {path for path in json.loads(result.stdout) if not path.endswith(f"/{program}.py")}


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_rules_modules_are_those_that_its_script_loads(path, module_lists):
    assert set(module_lists[path.stem]) == imported_by(path.stem)


@pytest.fixture(scope="session")
def module_lists(tmp_path_factory) -> dict[str, list[str]]:
    """What `modules` in common.smk says of every script, by running the file as Snakemake does."""
    source = (ROOT / "workflow/rules/common.smk").read_text()
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    workflow = type("Workflow", (), {"basedir": str(ROOT)})
    names = {"workflow": workflow, "config": config}
    exec(compile(source, "common.smk", "exec"), names)
    return {path.stem: [str(Path(name).resolve()) for name in names["modules"](path.name)] for path in PROGRAMS}


@pytest.mark.parametrize(
    "files, changes, name, command",
    [
        ([], {}, "", "snakemake --cores all figures/{figure}.png"),
        (
            ["config/quick.yaml"],
            {},
            "quick",
            "snakemake --cores all --configfile=config/quick.yaml figures/quick/{figure}.png",
        ),
        (
            ["config/quick.yaml", "my own.yaml"],
            {},
            "mine",
            "snakemake --cores all --configfile config/quick.yaml 'my own.yaml' -- figures/mine/{figure}.png",
        ),
        (
            ["config/quick.yaml"],
            {"device": "cpu", "name": "mine", "targets": ["growth"]},
            "mine",
            "snakemake --cores all --configfile config/quick.yaml --config device=cpu name=mine "
            "'targets=[\"growth\"]' -- figures/mine/{figure}.png",
        ),
    ],
)
def test_the_command_that_makes_a_figure_names_its_configuration(files, changes, name, command):
    workflow = SimpleNamespace(basedir=str(ROOT), overwrite_configfiles=[Path.cwd() / path for path in files])
    workflow.config_settings = SimpleNamespace(config=changes)
    config = {**yaml.safe_load((ROOT / "config/config.yaml").read_text()), "name": name}
    names = {"workflow": workflow, "config": config}
    exec(compile((ROOT / "workflow/rules/common.smk").read_text(), "common.smk", "exec"), names)
    assert names["remade_by"]() == command


def test_conda_environment_is_in_step_with_the_lock():
    lock = dict(
        line.strip().lower().split("==")
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    )
    names = {"pytorch": "torch", "snakemake-minimal": "snakemake", "matplotlib-base": "matplotlib"}
    names |= {"seaborn-base": "seaborn"}
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    found = dict(item.split(" =") for item in listed if " =" in item)
    assert {names.get(name, name): version for name, version in found.items()} == {
        name: lock[name] for name in (names.get(name, name) for name in found)
    }
    project = (ROOT / "pyproject.toml").read_text()
    required = set(re.findall(r'"([a-z0-9-]+)>=', project)) - {"setuptools"}
    assert required == {names.get(name, name) for name in found}


def test_every_setting_is_explained():
    """config/README.md names each key of the schema."""
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    keys = set()

    def collect(node):
        if isinstance(node, dict):
            keys.update(node.get("properties", {}) if isinstance(node.get("properties"), dict) else {})
            for value in node.values():
                collect(value)

    collect(schema)
    text = (ROOT / "config/README.md").read_text()
    assert not [key for key in sorted(keys) if f"`{key}`" not in text]


@pytest.mark.parametrize("overlay", ["config.yaml", "laptop.yaml", "untrained.yaml", "quick.yaml", "the README's"])
def test_every_configuration_plans(project, overlay):
    path = project.folder / "config" / overlay
    if overlay == "the README's":
        (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "config/README.md").read_text(), re.DOTALL)
        path.write_text(example)
    result = subprocess.run(
        [*(sys.executable, "-m", "snakemake", "all", "--dry-run", "--cores", "2", "--configfile", path)],
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    for dataset in ("cifar10", "camvid"):
        downloads = f"download_{dataset}" in result.stdout + result.stderr
        assert downloads == (overlay in ("config.yaml", "laptop.yaml"))


def changed(path: str, value) -> dict:
    """The configuration with one key, given by its dotted path, set to a value (removed, if that is `...`)."""
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    *parents, last = path.split(".")
    node = config
    for key in parents:
        node = node[key]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return config


BAD = [
    ("devise", "cpu", "(top level): Additional properties are not allowed ('devise' was unexpected)"),
    ("device", "gpu", "device: 'gpu' is not one of ['auto', 'cpu', 'cuda']"),
    ("name", "../elsewhere", "name: '../elsewhere' does not match"),
    ("name", 2024, "name: 2024 is not of type 'string'"),
    ("name", "reference", "name: 'reference' should not be valid under"),
    ("targets", ["grwoth"], "targets.0: 'grwoth' is not one of"),
    ("networks.relu.depths", [0], "networks.relu.depths.0: 0 is less than the minimum of 1"),
    ("networks.relu.kernel", 4, "networks.relu.kernel: 4 is not one of [3, 5, 7, 9, 11]"),
    ("networks.relu.activation", "cosine", "networks.relu.activation: 'cosine' is not one of"),
    ("networks.relu.structure", "dense", "networks.relu.structure: 'dense' is not one of"),
    ("networks.relu.readings", ["log"], "networks.relu.readings.0: 'log' is not one of"),
    ("networks.relu.weights", ..., "networks.relu: 'weights' is a required property"),
    ("networks.relu.depth", 5, "networks.relu: Additional properties are not allowed ('depth' was unexpected)"),
    ("networks.x;rm -rf", {"weights": "random"}, "networks: 'x;rm -rf' does not match"),
    (
        "networks.subsample.special_layers",
        [16],
        "networks.subsample.special_layers: a network of 15 layers has no layer 16",
    ),
    ("networks.skip.depths", [2], "networks.skip.depths: a network with skip connections has at least 3 layers"),
    ("networks.dilation.special_layers", [], "networks.dilation.special_layers: dilation needs at least one"),
    ("networks.subsample.dropout", 1, "networks.subsample.dropout: 1 is greater than or equal to the maximum of 1"),
    (
        "training_defaults.camvid.recipe.learning_rate",
        -1,
        "training_defaults.camvid.recipe.learning_rate: -1 is less than or equal",
    ),
    ("trainings.cifar10.seeds", [1, 1], "trainings.cifar10.seeds: [1, 1] has non-unique elements"),
    ("trainings.cifar10.dataset", "mnist", "trainings.cifar10.dataset: 'mnist' is not one of ['cifar10', 'camvid']"),
    ("trainings.camvid.validation", 5, "trainings.camvid: Additional properties are not allowed ('validation' was"),
    ("trainings.camvid.network", {"blocks": 17}, "trainings.camvid.network.blocks: 17 is not of type 'array'"),
    ("trainings.cifar10.network", {"blocks": [3]}, "trainings.cifar10.network.blocks: [3] is not of type 'integer'"),
    ("trainings.camvid.batch_size", 368, "trainings.camvid.batch_size: there are only 367 training images"),
    ("trainings.camvid.crop", [481, 360], "trainings.camvid.crop: the images have only 360 x 480 pixels"),
    ("trainings.camvid.measure_images", 102, "trainings.camvid.measure_images: there are only 101 images for"),
    (
        "trainings.cifar10_centre_light.network.centre_light",
        1.5,
        "trainings.cifar10_centre_light.network.centre_light: 1.5 is greater than the maximum of 1",
    ),
    (
        "trainings.cifar10.recipe",
        {"epochs": 20},
        "snapshots.cifar10: some lie beyond the 20 epochs of trainings.cifar10",
    ),
    ("snapshots.camvid", [1, 2], "snapshots.camvid: [1, 2] does not contain items matching the given schema"),
    ("datasets.camvid.sha256", "abc", "datasets.camvid.sha256: 'abc' does not match"),
    ("reach.plain.distances", [2, 16], "reach.plain.distances: the cue must lie in the receptive field: at most 15"),
    ("reach.dilated.distances", [20], "reach.dilated.distances: the cue must lie in the receptive field: at most 19"),
    ("reach.subsampled.distances", [32], "reach.subsampled.distances: the cue must lie in the receptive field: at"),
    ("reach.dilated.special_layers", [17], "reach.dilated.special_layers: a network of 16 layers has no layer 17"),
    ("reach.dilated.special_layers", [], "reach.dilated.special_layers: dilation needs at least one"),
    (
        "figures.reach.reach",
        ["plain", "plain_longer", "reach"],
        "figures.reach.reach: 'reach' is not in reach",
    ),
    ("reach.residual", {}, "figures.reach.reach: 'residual' and 'plain' have the same structure, centre_light and"),
    ("reach.residual.depth", 17, "figures.reach.reach: 'residual' and 'plain' differ in depth"),
    ("reach.dilated.centre_light", 1, "figures.reach.reach: 'dilated' is centre-light, and must be plain then"),
    (
        "figures.convergence.trainings",
        ["cifar10", "cifar10_centre_light"],
        "figures.convergence.trainings: 'cifar10_centre_light' and 'cifar10' differ in more than residual_scale",
    ),
    (
        "trainings.camvid_large_start.network.residual_scale",
        0.2,
        "figures.convergence.trainings: 'camvid_large_start' and 'camvid' have the same residual_scale",
    ),
    (
        "figures.initialization.trainings",
        ["camvid_centre_light"],
        "figures.initialization.trainings: one on camvid must have a centre_light of 0",
    ),
    (
        "trainings.cifar10_centre_light.seeds",
        [0, 1],
        "figures.initialization.trainings: 'cifar10_centre_light' and 'cifar10' differ in more than centre_light",
    ),
    (
        "figures.initialization.networks",
        ["centre_light_25", "centre_light_50"],
        "figures.initialization.networks: one must have a centre_light of 0",
    ),
    ("networks.relu.centre_light", 1, "slopes.networks: 'relu' is not plain"),
    (
        "networks.tanh_20.centre_light",
        1,
        "figures.nonlinearity.networks: 'tanh_20' and 'linear_20' differ in centre_light",
    ),
    ("networks.uniform.centre_light", 1, "networks.uniform.centre_light: uniform weights are all equal"),
    ("name", "units", "name: 'units' should not be valid under"),
    ("reach.plain.structure", "dropout", "reach.plain.structure: 'dropout' is not one of"),
    ("reach.plain.distance", [2], "reach.plain: Additional properties are not allowed ('distance' was unexpected)"),
    ("figures.growth.networks", ["rleu"], "figures.growth.networks: 'rleu' is not in networks; did you mean 'relu'?"),
    (
        "networks.tanh_20.structure",
        "skip",
        "figures.nonlinearity.networks: 'tanh_20' and 'linear_20' differ in structure",
    ),
    ("figures.growth.networks", ["tanh_20"], "figures.growth.networks: 'tanh_20' is not in slopes.networks"),
    (
        "networks.relu.readings",
        ["square"],
        "figures.gaussian_shape.networks: 'relu' is not measured in the reading abs",
    ),
    (
        "figures.sensitivity.networks",
        ["skip", "skip_relu"],
        "figures.sensitivity.networks: 'skip_relu' and 'skip' differ in activation",
    ),
    ("figures.evolution.trainings", ["mnist"], "figures.evolution.trainings: 'mnist' is not in trainings"),
    ("figures.gaussian_shape.depths", [5, 7], "figures.gaussian_shape.depths: 'uniform' is not measured at 7 layers"),
    ("figures.nonlinearity.networks", ["relu"], "figures.nonlinearity.networks: 'relu' must have one depth"),
    ("figures.structures.networks", ["skip"], "figures.structures.networks: 'skip' has no plain network"),
    ("figures.structures.networks", ["plain", "skip_relu"], "figures.structures.networks: 'skip_relu' has no plain"),
    (
        "figures.sensitivity.networks",
        ["plain", "relu_20"],
        "figures.sensitivity.networks: 'relu_20' and 'plain' differ in depths",
    ),
    ("networks.uniform.activation", "relu", "networks.uniform.activation: uniform weights are measured without an"),
    ("networks.relu.kernel", 5, "figures.gaussian_shape.networks: 'relu' and 'uniform' differ in kernel"),
    (
        "networks.relu.activation",
        "none",
        "figures.gaussian_shape.networks: 'relu' and 'random' have the same weights and",
    ),
    (
        "slopes.networks",
        ["uniform", "random", "relu", "relu_20"],
        "slopes.depths: 'relu_20' is not measured at 5 layers",
    ),
    ("slopes.networks", ["none"], "slopes.networks: 'none' is not in networks"),
    ("slopes.depths", [[5]], "slopes.depths.0: [5] is too short"),
    ("slopes.depths", [[5, 10]] * 3, "slopes.depths: [[5, 10], [5, 10], [5, 10]] is too long"),
    ("slopes.depths", [[5, 40], [5, 10, 40]], "slopes.depths: two ranges from 5 to 40 layers could not be told apart"),
    ("slopes.samples.networks", ["skip"], "slopes.samples.networks: 'skip' is not plain"),
    (
        "figures.structures.networks",
        ["plain", "uniform"],
        "figures.structures.networks: 'uniform' and 'plain' differ in",
    ),
    ("networks.relu_after.structure", "skip", "slopes.networks: 'relu_after' is not plain"),
    ("trainings.cifar10.measure_images", 5001, "trainings.cifar10.measure_images: there are only 5000 images"),
    ("datasets.cifar10.members.test_batch", "abc", "datasets.cifar10.members.test_batch: 'abc' does not match"),
]


@pytest.mark.parametrize("path, value, message", BAD, ids=[f"{path}={value}" for path, value, _ in BAD])
def test_a_bad_configuration_ends_in_one_line_that_names_the_key(path, value, message):
    names = {"workflow": type("Workflow", (), {"basedir": str(ROOT)}), "config": changed(path, value)}
    source = (ROOT / "workflow/rules/common.smk").read_text()
    with pytest.raises(SystemExit) as stopped:
        exec(compile(source, "common.smk", "exec"), names)
    assert stopped.value.code.startswith(f"error: config: {message}")
    assert "\n" not in stopped.value.code


def test_snakemake_shows_that_line_and_starts_nothing(project):
    project.config["trainings"] = {"cifar10": {"dataset": "cifar10", "sedes": [0]}}
    result = project.snakemake("all")
    assert result.returncode == 1
    errors = [line for line in result.stdout.splitlines() if "sedes" in line]
    assert len(errors) == 1 and errors[0].startswith("error: config: trainings.cifar10: Additional properties")
    assert "Traceback" not in result.stdout
    assert not (project.folder / "results").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"acept": {"above": 1}}, "claims.skip: Additional properties are not allowed ('acept' was unexpected)"),
        ({"accept": {"above": True}}, "claims.skip.accept.above: True is not of type 'number'"),
        ({"accept": {"above": 1, "below": 2}}, "claims.skip.accept: {'above': 1, 'below': 2} has too many properties"),
        ({"figure": "structure"}, "claims.skip.figure: 'structure' is not one of"),
        ({"of": {"structure": "averagepool"}}, "claims.skip.of.structure: 'averagepool' is not one of"),
        ({"digits": "two"}, "claims.skip.digits: 'two' is not of type 'integer'"),
    ],
)
def test_a_bad_claim_ends_in_one_line_before_anything_starts(tmp_path, change, message):
    for name in ("config", "workflow"):
        shutil.copytree(ROOT / name, tmp_path / name)
    claims = yaml.safe_load((ROOT / "config/claims.yaml").read_text())
    next(claim for claim in claims if claim["id"] == "skip").update(change)
    (tmp_path / "config/claims.yaml").write_text(yaml.safe_dump(claims))
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    names = {"workflow": SimpleNamespace(basedir=str(tmp_path)), "config": config}
    source = (ROOT / "workflow/rules/common.smk").read_text()
    with pytest.raises(SystemExit) as stopped:
        exec(compile(source, "common.smk", "exec"), names)
    assert stopped.value.code.startswith(f"error: config: {message}") and "\n" not in stopped.value.code


def test_the_report_is_named_where_it_was_made(finished_project):
    alone = finished_project.snakemake("figures/small/convolution.png", "--forcerun", "figure_convolution")
    assert alone.returncode == 0 and "The figures are in figures/small/\n" in alone.stdout
    made = finished_project.snakemake("all", "--forcerun", "replication_report")
    assert "The figures are in figures/small/, the report is results/small/report/index.html\n" in made.stdout


def test_the_pipeline_from_download_to_figures(finished_project):
    folder = finished_project.folder
    for figure in FIGURES:
        with Image.open(folder / f"figures/small/{figure}.png") as image:
            pixels = np.asarray(image.convert("L"))
        assert pixels.shape[1] >= 1000 and np.ptp(pixels) > 200
        assert (folder / f"figures/small/{figure}.pdf").read_bytes().startswith(b"%PDF")
        assert len(pd.read_csv(folder / f"figures/small/{figure}.csv")) > 3
    assert not [path for path in (folder / "results/small/resume").rglob("*") if path.is_file()]
    assert not (folder / "figures/growth.png").exists()


def test_the_figures_tables_hold_what_the_results_hold(finished_project):
    from erf.field import load_fields
    from erf.intervals import positive_interval

    folder = finished_project.folder
    growth = pd.read_csv(folder / "figures/small/growth.csv")
    fields = load_fields(folder / "results/small/networks/relu.npz")
    field = next(f for f in fields if (f.settings["depth"], f.settings["reading"]) == (10, "abs"))
    row = growth.query("series == 'random + ReLU' and depth == 10 and quantity == 'size'").iloc[0]
    assert row["value"] == pytest.approx(field.size, rel=1e-5)
    assert (row["low"], row["high"]) == pytest.approx(field.interval, rel=1e-5)
    slope = growth.query("kind == 'slope' and series == 'uniform' and quantity == 'size'").iloc[0]
    assert slope["value"] == pytest.approx(slope["theory"], rel=1e-5)  # measured equals the closed form
    assert slope["value"] == pytest.approx(np.log2(np.sqrt(137) / np.sqrt(69)), rel=1e-5)  # pixels counted by hand

    table = pd.read_csv(folder / "figures/small/structures.csv").set_index("structure")
    (skip,), (plain,) = (load_fields(folder / f"results/small/networks/{name}.npz") for name in ("skip", "plain"))
    assert table.loc["skip", "ratio"] == pytest.approx(skip.size / plain.size, rel=1e-5)
    low, high = positive_interval(skip.size / plain.size, skip.bootstrap / plain.bootstrap)
    assert (table.loc["skip", "ratio_low"], table.loc["skip", "ratio_high"]) == pytest.approx((low, high), rel=1e-5)

    sensitivity = pd.read_csv(folder / "figures/small/sensitivity.csv")
    slopes = pd.read_csv(folder / "results/small/growth_slopes.csv")
    assert sensitivity.query("panel == 'slopes'")["value"].tolist() == pytest.approx(slopes["slope"].tolist(), rel=1e-5)
    thin = load_fields(folder / "results/small/networks/relu_1_channel.npz")
    deepest = next(f for f in thin if (f.settings["depth"], f.settings["reading"]) == (10, "abs"))
    shown = sensitivity.query("panel == 'sizes' and network == 'relu_1_channel'").set_index("mode")
    assert shown.loc["per run", "value"] == pytest.approx(np.nanmean(deepest.run_sizes), rel=1e-5)
    assert shown.loc["abs", "dead"] == deepest.dead

    convolution = pd.read_csv(folder / "figures/small/convolution.csv").query("panel == 'coefficients'")
    exact = convolution.query("kernel == '2' and depth == 4")
    assert exact["value"].tolist() == pytest.approx([x / 16 for x in (1, 4, 6, 4, 1)])
    assert exact["fourier"].tolist() == pytest.approx(exact["value"].tolist(), abs=1e-6)

    evolution = pd.read_csv(folder / "figures/small/evolution.csv")
    sizes = pd.read_csv(folder / "results/small/erf/cifar10/seed_1.csv")
    found = evolution.query("seed == '1' and quantity == 'size' and training == 'cifar10'")["value"]
    assert found.tolist() == pytest.approx(sizes.query("snapshot != 'best'")["size"].tolist(), rel=1e-5)

    reach = pd.read_csv(folder / "figures/small/reach.csv")
    runs = pd.concat(pd.read_csv(path) for path in (folder / "results/small/reach/plain").glob("*.csv"))
    usual = reach.query(f"seed == 'mean' and network == 'plain' and steps == {runs['steps'].iloc[0]}")
    mean = usual.query("quantity == 'accuracy'").set_index("distance")["value"]
    assert mean.to_dict() == pytest.approx(runs.groupby("distance")["accuracy"].mean().to_dict(), rel=1e-5)


def test_nothing_to_be_done_again_nor_after_a_touch(finished_project):
    assert finished_project.jobs_to_run() == set()
    for path in (finished_project.folder / "scripts").rglob("*.py"):
        path.touch()
    assert finished_project.jobs_to_run() == set()
    assert "Nothing to be done" in finished_project.snakemake("all").stdout


CHANGES = [
    (
        "measure.py",
        {"measure_network", "growth_slopes", "slope_samples", "measure_snapshots", "measure_units", "train_reach"}
        | {f"figure_{name}" for name in FIGURES if name != "convolution"}
        | CLAIMS,
    ),
    ("plots.py", {f"figure_{name}" for name in FIGURES} | CLAIMS),
    ("reach.py", {"train_reach", "figure_reach"} | REPORT),
    ("claims.py", CLAIMS),
    (
        "stacks.py",
        {"measure_network", "growth_slopes", "slope_samples", "train_reach", "figure_reach"}
        | {f"figure_{name}" for name in OF_NETWORKS}
        | CLAIMS,
    ),
    ("snapshots.py", {"measure_snapshots", "measure_units"} | {f"figure_{name}" for name in OF_TRAININGS} | CLAIMS),
]


@pytest.mark.parametrize("module, rules", CHANGES, ids=[module for module, _ in CHANGES])
def test_a_real_change_reruns_what_depends_on_it(finished_project, module, rules):
    path = finished_project.folder / "scripts/erf" / module
    before = path.read_text()
    path.write_text(before + "\n# A change.\n")
    try:
        assert finished_project.jobs_to_run() == rules
    finally:
        path.write_text(before)
    assert finished_project.jobs_to_run() == set()


SETTINGS = [
    (
        ("networks", "relu", "runs"),
        4,
        5,
        {"measure_network", "growth_slopes", "figure_gaussian_shape", "figure_growth", "figure_sensitivity"} | CLAIMS,
    ),
    (("networks", "tanh_20", "seed"), 0, 1, {"measure_network", "figure_nonlinearity"} | CLAIMS),
    (("slopes", "depths"), [[5, 10]], [[10, 5]], {"growth_slopes", "figure_growth", "figure_sensitivity"} | CLAIMS),
    (("slopes", "samples", "count"), 2, 3, {"slope_samples", "figure_sensitivity"} | REPORT),
    (("reach", "plain", "steps"), 3, 4, {"train_reach", "figure_reach"} | REPORT),
    (
        ("training_defaults", "camvid", "measure_images"),
        4,
        3,
        {"measure_snapshots", "measure_units"}
        | {f"figure_{name}" for name in ("before_after", "evolution", "convergence", "units")}
        | CLAIMS,
    ),
    (
        ("trainings", "camvid_large_start", "network", "residual_scale"),
        1,
        2,
        {"train_segmenter", "measure_snapshots", "figure_convergence"} | REPORT,
    ),
]


@pytest.mark.parametrize("path, old, new, rules", SETTINGS, ids=[".".join(path) for path, *_ in SETTINGS])
def test_a_changed_setting_reruns_what_depends_on_it(finished_project, path, old, new, rules):
    kept = finished_project.config
    finished_project.config = copy.deepcopy(kept)
    node = finished_project.config
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = new
    try:
        assert finished_project.jobs_to_run() == rules
    finally:
        finished_project.config = kept


def test_one_figure_is_remade_by_its_path(finished_project):
    figures = finished_project.folder / "figures/small"
    before = {path: path.read_bytes() for path in figures.iterdir()}
    (figures / "growth.png").unlink()
    result = finished_project.snakemake("figures/small/growth.png")
    assert result.returncode == 0
    assert {path: path.read_bytes() for path in figures.iterdir()} == before


def test_one_seeds_snapshot_and_erf_are_remade_by_their_path(finished_project):
    results = finished_project.folder / "results/small"
    snapshot, erf = results / "trainings/camvid/seed_1/best.pt", results / "erf/camvid/seed_1.npz"
    before = {path: path.read_bytes() for path in (snapshot, erf, erf.with_suffix(".csv"))}
    for path in (snapshot, erf):
        path.unlink()
        result = finished_project.snakemake(str(path.relative_to(finished_project.folder)))
        assert result.returncode == 0, result.stdout
    assert {path: path.read_bytes() for path in before} == before
    assert "seed_0" not in result.stdout
    # Only times are new, and nothing but the report's table of them depends on them.
    assert finished_project.jobs_to_run() == REPORT
    assert finished_project.snakemake("all").returncode == 0


def test_a_figure_of_another_configuration_is_refused(finished_project):
    kept = finished_project.config
    finished_project.config = {**kept, "targets": ["growth"]}
    try:
        result = finished_project.snakemake("figures/small/before_after.png")
    finally:
        finished_project.config = kept
    assert result.returncode == 1
    assert "before_after is not a target of this configuration, which has growth" in result.stdout


def test_a_damaged_result_is_named_in_the_output(finished_project):
    path = finished_project.folder / "results/small/networks/relu.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    try:
        result = finished_project.snakemake("figures/small/growth.png", "--forcerun", "figure_growth")
    finally:
        path.write_bytes(whole)
        finished_project.snakemake("all")
    assert result.returncode == 1
    assert "relu.npz: damaged, or something else" in result.stdout
    assert "Traceback" not in result.stdout


def test_a_training_killed_in_the_pipeline_is_resumed_by_a_rerun(finished_project, project):
    """Snakemake and its jobs die by kill -9; the rerun's results equal those of the run that nothing happened to."""
    resume = project.folder / "results/small/resume/cifar10/seed_0"
    command = project.command("all")
    process = subprocess.Popen(
        command, cwd=project.folder, env=project.environment, start_new_session=True, stdout=-3, stderr=-3
    )
    for _ in range(6000):
        if list(resume.glob("*/state.pt")) or process.poll() is not None:
            break
        time.sleep(0.01)
    assert process.poll() is None, "the pipeline ended before the training had a state"
    import os

    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert project.snakemake("--unlock").returncode == 0
    result = project.snakemake("all")
    assert result.returncode == 0, result.stdout
    undisturbed = finished_project.folder
    trained = "results/small/trainings/cifar10/seed_0"
    for path in (
        f"{trained}/metrics.csv",
        f"{trained}/test.csv",
        "results/small/claims.csv",
        "results/small/claims.json",
    ):
        assert (project.folder / path).read_bytes() == (undisturbed / path).read_bytes()
    for figure in FIGURES:
        for suffix in ("png", "pdf", "csv"):
            path = f"figures/small/{figure}.{suffix}"
            assert (project.folder / path).read_bytes() == (undisturbed / path).read_bytes(), path


def test_a_read_only_folder_is_named(small_cifar, tmp_path, capsys, monkeypatch):
    import os

    import measure_network

    if os.geteuid() == 0:
        blocked = tmp_path / "file"
        blocked.write_text("root may write to any folder, so a file stands where the folder should be")
    else:
        blocked = tmp_path / "folder"
        blocked.mkdir(mode=0o500)
    settings = network_settings(depths=[2], channels=1, runs=1)
    arguments = ["--name", "x", "--settings", json.dumps(settings), "--out", str(blocked / "sub" / "x.npz")]
    assert measure_network.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and str(blocked) in error and error.count("\n") == 1
