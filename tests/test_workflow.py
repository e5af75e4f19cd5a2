"""The workflow: its shape, its configurations, and what a change makes it do again."""

import copy
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from conftest import ROOT, SCRIPTS, network_settings, settings_file
from lib.configuration import Configuration
from lib.figures import FIGURES as TABLE
from lib.place import Place
from lib.run import Run
from repeatable import digests

OF_NETWORKS = [
    "gaussian_shape",
    "nonlinearity",
    "structures",
    "growth",
    "layers_to_gaussian",
    "moments",
    "sensitivity",
    "slope_pair",
    "initialization",
]
OF_TRAININGS = ["before_after", "evolution", "convergence", "units", "initialization"]
FIGURES = ["convolution", *OF_NETWORKS, "reviewers", "reach", *OF_TRAININGS[:-1], "models"]
REPORT = {"replication_report"}
OF_MODELS = {"measure_model", "figure_models"} | REPORT
CLAIMS = {"check_claims", "figure_scorecard"} | REPORT


def test_every_rule_has_the_program_of_its_name_and_every_program_a_rule():
    listed = subprocess.run(
        [sys.executable, "-m", "snakemake", "--list-rules"], cwd=ROOT, capture_output=True, text=True
    )
    assert sorted(listed.stdout.split()) == sorted(["all", *(path.stem for path in SCRIPTS.glob("*.py"))])


@pytest.mark.parametrize(
    "files, changes, name, command",
    [
        ([], {}, "paper", "snakemake --cores all figures/paper/{figure}.png"),
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
    workflow = SimpleNamespace(overwrite_configfiles=[Path.cwd() / path for path in files])
    workflow.config_settings = SimpleNamespace(config=changes)
    run = Run(Configuration({"name": name}), Place(ROOT, name), rules=None, workflow=workflow)
    assert run.remade_by() == command


def test_slurm_groups_no_figure_that_waits_for_a_training():
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/profile.yaml").read_text())
    grouped = {rule.removeprefix("figure_") for rule in profile["groups"]} & TABLE.keys()
    assert grouped and all({*TABLE[name].shows} <= {"networks", "questions"} for name in grouped)


def test_conda_environment_is_in_step_with_the_lock():
    lock = dict(
        line.strip().lower().split("==")
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    )
    names = {"pytorch": "torch", "snakemake-minimal": "snakemake", "matplotlib-base": "matplotlib"}
    names |= {"seaborn-base": "seaborn"}
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    by_pip = [item for entry in listed if isinstance(entry, dict) for item in entry["pip"]]
    found = dict(item.split(" =") for item in listed if " =" in item) | dict(item.split("==") for item in by_pip)
    assert {names.get(name, name): version for name, version in found.items()} == {
        name: lock[name] for name in (names.get(name, name) for name in found)
    }
    project = (ROOT / "pyproject.toml").read_text()
    required = set(re.findall(r'"([a-z0-9-]+)>=', project)) - {"setuptools"}
    assert required == {names.get(name, name) for name in found}


@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_make_names_the_versions_of_python_that_the_lock_has(tmp_path, version):
    program = f"import sys\nsys.version_info = (*{version}, 0, 'final', 0)\nexec(sys.argv[2])\n"
    (tmp_path / "as_if.py").write_text(program, encoding="utf-8")
    command = ["make", "-C", tmp_path, "-f", ROOT / "Makefile", "env", f"PYTHON={sys.executable} as_if.py"]
    for name in ("requirements.lock", "requirements.hashes"):
        (tmp_path / name).touch()
    result = subprocess.run(command, capture_output=True, text=True)
    line = f"error: requirements.lock is for Python 3.11 to 3.13, not {version[0]}.{version[1]}: make PYTHON=python3.13"
    assert result.returncode and line in result.stderr.splitlines() and not (tmp_path / ".venv").exists()


def test_two_calls_of_make_install_the_environment_once(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    for name in ("requirements.lock", "requirements.hashes"):
        (tmp_path / name).touch()  # nothing to fetch
    make = ["make", "-C", tmp_path, "-f", ROOT / "Makefile", "env", f"PYTHON={sys.executable}"]
    with (tmp_path / "requirements.lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        both = [subprocess.Popen(make, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        for one in both:
            assert one.stderr.readline() == "another process is installing what this one needs: waiting for it\n"
        assert not (tmp_path / ".venv").exists()
    outputs = [one.communicate(timeout=120)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert sorted("Installing into .venv" in output for output in outputs) == [False, True]
    again = subprocess.run(make, capture_output=True, text=True)
    assert again.returncode == 0 and "Installing" not in again.stdout


def test_an_environment_of_which_a_part_is_missing_is_not_called_whole(tmp_path):
    (tmp_path / "requirements.hashes").touch()
    (tmp_path / "requirements.lock").write_text("no/such/folder\n")
    make = ["make", "-C", tmp_path, "-f", ROOT / "Makefile", "env", f"PYTHON={sys.executable}"]
    result = subprocess.run(make, capture_output=True, text=True)
    assert result.returncode and "no/such/folder" in result.stderr
    assert not [*(tmp_path / ".venv").glob(".[mw]*")]


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
        assert len(pd.read_csv(folder / f"figures/small/{figure}.csv")) >= 3
    assert not [path for path in (folder / "results/small/resume").rglob("*") if path.is_file()]
    assert not (folder / "figures/growth.png").exists()


def test_the_figures_tables_hold_what_the_results_hold(finished_project):
    from erf.result.field import ReceptiveField, load_fields
    from erf.result.intervals import percentile_interval

    folder = finished_project.folder
    growth = pd.read_csv(folder / "figures/small/growth.csv")
    fields = load_fields(folder / "results/small/networks/relu.npz")
    field = next(f for f in fields if (f.settings["depth"], f.settings["variant"]) == (10, "abs"))
    row = growth.query("series == 'random + ReLU' and depth == 10 and quantity == 'size'").iloc[0]
    assert row["value"] == pytest.approx(field.size, rel=1e-5)
    assert (row["low"], row["high"]) == pytest.approx(field.interval, rel=1e-5)
    slope = growth.query("kind == 'slope' and series == 'uniform' and quantity == 'size'").iloc[0]
    assert slope["value"] == pytest.approx(slope["theory"], rel=1e-5)  # measured equals the closed form

    table = pd.read_csv(folder / "figures/small/structures.csv").set_index("structure")
    (skip,), (plain,) = (load_fields(folder / f"results/small/networks/{name}.npz") for name in ("skip", "plain"))
    assert table.loc["skip", "ratio"] == pytest.approx(skip.size / plain.size, rel=1e-5)
    low, high = percentile_interval(skip.bootstrap / plain.bootstrap, runs=4)
    assert (table.loc["skip", "ratio_low"], table.loc["skip", "ratio_high"]) == pytest.approx((low, high), rel=1e-5)

    sensitivity = pd.read_csv(folder / "figures/small/sensitivity.csv")
    slopes = pd.read_csv(folder / "results/small/growth_slopes.csv")
    assert sensitivity.query("panel == 'slopes'")["value"].tolist() == pytest.approx(
        slopes["slope"].tolist(), rel=1e-5, nan_ok=True
    )
    thin = load_fields(folder / "results/small/networks/relu_1_channel.npz")
    deepest = next(f for f in thin if (f.settings["depth"], f.settings["variant"]) == (12, "abs"))
    shown = sensitivity.query("panel == 'sizes' and network == 'relu_1_channel'").set_index("variant")
    assert shown.loc["per run", "value"] == pytest.approx(np.nanmean(deepest.run_sizes), rel=1e-5)
    assert shown.loc["abs", "dead"] == deepest.dead

    models = pd.read_csv(folder / "figures/small/models.csv").set_index("model")
    assert list(models.index) == finished_project.config["figures"]["models"]["models"]
    for name in models.index:
        field = ReceptiveField.load(folder / f"results/small/models/{name}.npz")
        assert models.loc[name, "size"] == pytest.approx(field.size, rel=1e-5)
        assert models.loc[name, "rf_height"] == field.theoretical_rf[0]
        assert pd.read_csv(folder / f"results/small/models/{name}.csv").loc[0, "size"] == field.size

    convolution = pd.read_csv(folder / "figures/small/convolution.csv").query("panel == 'coefficients'")
    exact = convolution.query("kernel == '2' and depth == 4")
    assert exact["value"].tolist() == pytest.approx([x / 16 for x in (1, 4, 6, 4, 1)])
    assert exact["fourier"].tolist() == pytest.approx(exact["value"].tolist(), abs=1e-6)

    evolution = pd.read_csv(folder / "figures/small/evolution.csv")
    sizes = pd.read_csv(folder / "results/small/erf/camvid/seed_1.csv")
    found = evolution.query("seed == '1' and quantity == 'diameter' and training == 'camvid'")["value"]
    assert found.tolist() == pytest.approx(sizes.query("snapshot != 'best'")["diameter"].tolist(), rel=1e-5)

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
        "erf/measuring/measure.py",
        {"measure_network", "growth_slopes", "slope_samples", "measure_snapshots", "measure_units", "train_reach"}
        | {"measure_model"}
        | {f"figure_{name}" for name in FIGURES if name not in ("convolution", "reviewers")}
        | CLAIMS,
    ),
    ("replication/drawing/plots.py", {f"figure_{name}" for name in FIGURES} | CLAIMS),
    ("replication/training/reach.py", {"train_reach", "figure_reach"} | CLAIMS),
    ("erf/models/factory.py", OF_MODELS),
    ("replication/claims/claims.py", CLAIMS),
    (
        "replication/stacks/structures.py",
        {"measure_network", "growth_slopes", "slope_samples", "train_reach", "figure_reach"}
        | {"measure_question", "figure_reviewers"}
        | {f"figure_{name}" for name in OF_NETWORKS}
        | CLAIMS,
    ),
    (
        "replication/trained/snapshots.py",
        {"measure_snapshots", "measure_units"} | {f"figure_{name}" for name in OF_TRAININGS} | CLAIMS,
    ),
]


@pytest.mark.parametrize("module, rules", CHANGES, ids=[module for module, _ in CHANGES])
def test_a_real_change_reruns_what_depends_on_it(finished_project, module, rules):
    path = finished_project.folder / "scripts" / module
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
        {"measure_network", "growth_slopes", "figure_gaussian_shape", "figure_growth", "figure_sensitivity"}
        | {"figure_layers_to_gaussian"}
        | CLAIMS,
    ),
    (
        ("networks", "tanh_20", "seed"),
        1,
        2,
        {"measure_network", "figure_nonlinearity", "figure_layers_to_gaussian"} | CLAIMS,
    ),
    (
        ("slopes", "depths"),
        [[5, 10, 12]],
        [[12, 5, 10]],
        {"growth_slopes", "figure_growth", "figure_sensitivity"} | CLAIMS,
    ),
    (("questions", "gates", "widths"), [4], [3], {"measure_question", "figure_reviewers"} | CLAIMS),
    (
        ("slopes", "samples", "counts"),
        [2, 1],
        [3, 1],
        {"slope_samples", "figure_sensitivity", "figure_slope_pair"} | REPORT,
    ),
    (("figures", "slope_pair", "kernels"), [2, 3], [3], {"figure_slope_pair"} | REPORT),
    (("reach", "plain", "steps"), 3, 4, {"train_reach", "figure_reach"} | CLAIMS),
    (("models", "photos", "seed"), 0, 1, OF_MODELS),
    (("figures", "models", "models"), ["noise", "photos", "library"], ["photos", "noise"], {"figure_models"} | REPORT),
    (
        ("training_defaults", "camvid", "images"),
        4,
        3,
        {"measure_snapshots", "measure_units"}
        | {f"figure_{name}" for name in ("before_after", "evolution", "convergence", "units")}
        | CLAIMS,
    ),
    (
        ("trainings", "camvid_small_start", "network", "residual_scale"),
        0.1,
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


@pytest.mark.parametrize("name", ["nets.py", "nets.pt", "photos/000.png"])
def test_a_changed_file_of_a_model_reruns_what_depends_on_it(finished_project, name):
    path = finished_project.folder / name
    before = path.read_bytes()
    path.write_bytes(before + b"\n")
    try:
        assert finished_project.jobs_to_run() == OF_MODELS
    finally:
        path.write_bytes(before)
    assert finished_project.jobs_to_run() == set()


def test_one_more_image_of_a_model_reruns_what_depends_on_it(finished_project):
    more = finished_project.folder / "photos/one_more.png"
    more.write_bytes((finished_project.folder / "photos/000.png").read_bytes())
    try:
        assert finished_project.jobs_to_run() == OF_MODELS
    finally:
        more.unlink()


def test_one_figure_is_remade_by_its_path(finished_project):
    before = digests(finished_project.folder)
    (finished_project.folder / "figures/small/growth.png").unlink()
    result = finished_project.snakemake("figures/small/growth.png")
    assert result.returncode == 0
    assert digests(finished_project.folder) == before


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
    assert "error: before_after is not a target of this configuration, which has growth\n" in result.stdout


def test_a_read_only_folder_is_named(small_cifar, tmp_path, capsys, monkeypatch):
    import os

    import measure_network

    if os.geteuid() == 0:
        blocked = tmp_path / "file"
        blocked.write_text("root may write to any folder, so a file stands where the folder should be")
    else:
        blocked = tmp_path / "folder"
        blocked.mkdir(mode=0o500)
    settings = network_settings(depths=[2], width=1, runs=1)
    arguments = ["--settings", settings_file({"name": "x", **settings}), "--out", str(blocked / "sub" / "x.npz")]
    assert measure_network.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and str(blocked) in error and error.count("\n") == 1
