"""The pipeline as a module of somebody else's workflow, in a folder whose name a shell would split."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import snakemake
from test_place import FIGURE, TINY, tiny_project

OTHERS = """
configfile: "mine.yaml"


module erf:
    snakefile:
        "../the pipeline's/Snakefile"
    config:
        config["erf"]


use rule * from erf as erf_*


onstart:
    shell("touch started")


rule mine:
    default_target: True
    input:
        "figures/tiny/convolution.csv",
    output:
        "mine.txt",
    shell:
        "wc -l < {input} > {output}"
"""


@pytest.fixture
def other(tmp_path) -> Path:
    (tmp_path / "the pipeline's").mkdir()
    tiny_project(tmp_path / "the pipeline's")
    folder = tmp_path / "somebody's own"
    folder.mkdir()
    (folder / "Snakefile").write_text(OTHERS, encoding="utf-8")
    (folder / "mine.yaml").write_text(yaml.safe_dump({"depth of theirs": 5, "erf": TINY}), encoding="utf-8")
    return folder


def test_another_workflow_runs_it_and_its_own_rules(other):
    planned = snakemake(other, "--dry-run")
    assert planned.returncode == 0 and "erf_figure_convolution        1" in planned.stdout + planned.stderr
    assert not (other / "results").exists()  # a dry run writes nothing, and so a second one says the same
    made = snakemake(other, "mine", "erf_all")
    assert made.returncode == 0, made.stderr
    assert (other / FIGURE).exists() and (other / "results/tiny/report/index.html").exists()
    assert int((other / "mine.txt").read_text()) > 3 and (other / "started").exists()
    assert "Nothing to be done" in snakemake(other, "mine", "erf_all").stderr


def test_its_settings_are_checked_there_too(other):
    (other / "mine.yaml").write_text(yaml.safe_dump({"erf": {**TINY, "devise": "cpu"}}), encoding="utf-8")
    result = snakemake(other, "--dry-run")
    line = result.stderr.splitlines()[-1]
    assert result.returncode and line == "error: config: devise: not a setting; did you mean 'device'?"


def test_a_program_can_be_called_by_hand_with_the_settings_of_a_run(other):
    """It makes the same, byte for byte; and a run writes settings anew only where they have changed."""
    assert snakemake(other, "mine").returncode == 0
    settings = other / "results/tiny/settings/figures/convolution.json"
    program = "../the pipeline's/scripts/figure_convolution.py"
    command = [sys.executable, program, "--settings", settings, "--out", "typed.png"]
    assert subprocess.run(command, cwd=other, capture_output=True).returncode == 0
    for suffix in (".png", ".pdf", ".csv"):
        assert (other / f"typed{suffix}").read_bytes() == (other / FIGURE).with_suffix(suffix).read_bytes()
    written = settings.stat().st_mtime_ns
    assert snakemake(other, "mine", "--forceall").returncode == 0 and settings.stat().st_mtime_ns == written
    settings.unlink()
    assert "Nothing to be done" in snakemake(other, "mine").stderr
