"""A finished run, packed: what the crate says of each job is what its record says, and every file is in it."""

import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("rocrate", reason="no rocrate: make env")

import run_crate
from conftest import ROOT
from erf.system.files import atomic, checked, digest
from replication.commands.provenance import recorded

# What the validator recommends and cannot be: a program that is packed has no address on the web, nor have its authors.
EXCEPT = "process-run-crate-0.5_5.1,ro-crate-1.1_31.2"
VALIDATOR = ROOT / ".archive-venv/bin/rocrate-validator"


def job(script: str, reads: list[str], writes: list[str]) -> None:
    """What a program leaves that reads and writes such files: with a record, as programs write it."""
    with recorded(ROOT / f"scripts/{script}", ["--out", writes[0]], "0" * 64):
        for name in reads:
            checked(name)
        for name in writes:
            with atomic(Path(name)) as path:
                path.write_text(f"{name} by {script}")


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run of two measurements, one on a dataset, and a figure of both."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text("name: tiny\n")
    job("download_cifar10.py", [], ["data/cifar10.npz"])
    job("measure_network.py", [], ["results/tiny/networks/relu.csv", "results/tiny/networks/relu.npz"])
    job("measure_units.py", ["data/cifar10.npz"], ["results/tiny/units/a.csv"])
    job("figure_growth.py", ["results/tiny/networks/relu.csv", "results/tiny/units/a.csv"], ["figures/tiny/growth.png"])
    return tmp_path


def graph(archive: Path) -> dict[str, dict]:
    """The entities of a crate, by name."""
    with zipfile.ZipFile(archive) as packed:
        content = json.loads(packed.read("ro-crate-metadata.json"))
    return {entity["@id"]: entity for entity in content["@graph"]}


def ids(value: dict | list) -> set[str]:
    """Names of what a property points to."""
    return {one["@id"] for one in (value if isinstance(value, list) else [value])}


def test_every_job_is_told_with_what_it_read_and_made(run, capsys):
    run_crate.main(["--configfile", "tiny.yaml"])
    archive = run / "results/tiny/crate.zip"
    assert "3 jobs" in capsys.readouterr().out  # the download is of no configuration
    told = graph(archive)
    jobs = {one["name"]: one for name, one in told.items() if name.startswith("#job-")}
    figure = jobs["figure_growth of figures/tiny/growth"]
    record = json.loads(Path("figures/tiny/growth.provenance.json").read_text())
    assert ids(figure["instrument"]) == {"scripts/figure_growth.py"} and figure["endTime"] == record["finished"]
    assert ids(figure["object"]) == {"results/tiny/networks/relu.csv", "results/tiny/units/a.csv"}
    assert ids(figure["result"]) == {"figures/tiny/growth.png"}
    assert figure["description"] == "python scripts/figure_growth.py --out figures/tiny/growth.png"
    assert {"Python", "torch", "processor"} <= {told[name]["name"] for name in ids(figure["environment"])}
    (dataset,) = ids(jobs["measure_units of results/tiny/units/a"]["object"])
    assert told[dataset]["name"] == "data/cifar10.npz" and told[dataset]["sha256"] == digest("data/cifar10.npz")
    assert ids(told["#run"]["instrument"]) == {"Snakefile"} == ids(told["./"]["mainEntity"])
    assert ids(told["#organisation"]["object"]) == {name for name in told if name.startswith("#control-")}


def test_every_file_that_is_named_is_packed_and_has_its_digest(run):
    run_crate.main(["--configfile", "tiny.yaml", "--out", "packed.zip"])
    told = graph(run / "packed.zip")
    with zipfile.ZipFile(run / "packed.zip") as packed:
        packed.extractall("unpacked")
        names = set(packed.namelist()) - {"ro-crate-metadata.json"}
    files = {name: one for name, one in told.items() if "File" in one["@type"]}
    assert set(files) == names and not any(name.startswith("data/") for name in names)
    for name, one in files.items():
        assert name == "Snakefile" or one["sha256"] == digest(Path("unpacked", name)), name
    assert {"README.md", "config/tiny.yaml", "scripts/erf/naive.py", "workflow/rules/figures.smk"} <= names


def test_a_run_that_is_missing_or_was_changed_is_refused(run):
    Path("other.yaml").write_text("name: other\n")
    with pytest.raises(SystemExit, match=r"^error: there is nothing in results/other or figures/other: run"):
        run_crate.main(["--configfile", "other.yaml"])
    Path("results/tiny/networks/relu.csv").write_text("edited")
    with pytest.raises(
        SystemExit, match=r"^error: results/tiny/networks/relu.csv is missing, or no longer what was made"
    ):
        run_crate.main(["--configfile", "tiny.yaml"])
    assert not Path("results/tiny/crate.zip").exists()


@pytest.mark.skipif(not VALIDATOR.exists(), reason="no validator: make check-archive")
def test_the_validator_finds_nothing(run):
    run_crate.main(["--configfile", "tiny.yaml", "--out", "packed.zip"])
    options = ["--profile-identifier", "provenance-run-crate", "--requirement-severity", "recommended"]
    options += ["--skip-checks", EXCEPT]
    command = [VALIDATOR, "-y", "validate", *options, "--skip-availability-check", run / "packed.zip"]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"})
    if result.returncode == 2 and "URLError" in result.stdout:
        pytest.skip("the validator reads the terms of RO-Crate from the network, which is not there")
    assert result.returncode == 0, result.stdout
