"""The bundle for a machine without a network: unpacked elsewhere, and stopped on the way, it makes what the pipeline
makes, byte for byte on the CPU."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import Project

MADE = ("metrics.csv", "test.csv", "epoch_000.pt", "best.pt")


@pytest.fixture
def bundle(finished_project: Project, tmp_path) -> Path:
    """The trainings of one figure, bundled in the project's folder and moved to another."""
    config = {**finished_project.config, "targets": ["before_after"]}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    program, made = finished_project.folder / "workflow/gpu_bundle.py", tmp_path / "made"
    command = [sys.executable, program, "--configfile", tmp_path / "small.yaml", "--out", made]
    said = subprocess.run(command, cwd=finished_project.folder, capture_output=True, encoding="utf-8")
    assert said.returncode == 0, said.stderr
    again = subprocess.run(command, cwd=finished_project.folder, capture_output=True, encoding="utf-8")
    assert again.returncode == 1 and again.stderr.startswith("error: ") and "is there already" in again.stderr
    return Path(shutil.move(made, tmp_path / "elsewhere"))


def go(bundle: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, bundle / "run.py", *arguments]
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, encoding="utf-8")


def test_it_makes_what_the_pipeline_makes(bundle, finished_project):
    first = go(bundle, "--seconds", "32")  # 12 of work: it stops in the middle of the second training or so
    assert first.returncode in (0, 3), first.stderr
    while (said := go(bundle)).returncode == 3:
        pass
    assert said.returncode == 0 and "10 of 10 jobs are done" in said.stdout, said.stderr
    packed = bundle / "unpacked"
    packed.mkdir()
    parts = b"".join(path.read_bytes() for path in sorted(bundle.glob("results_*")))
    (packed / "all.tar.gz").write_bytes(parts)
    shutil.unpack_archive(packed / "all.tar.gz", packed, filter="data")
    for name, seed in (("cifar10", 0), ("camvid", 0), ("camvid", 1), ("camvid_matched_start", 1)):
        run = f"results/small/trainings/{name}/seed_{seed}"
        erf = [f"results/small/erf/{name}/seed_{seed}{suffix}" for suffix in (".npz", ".csv")]
        for path in (*(f"{run}/{file}" for file in MADE), *erf):
            assert (packed / path).read_bytes() == (finished_project.folder / path).read_bytes(), path
    assert not list(packed.rglob("resume"))


def test_a_damaged_part_is_named_before_anything_is_unpacked(bundle):
    part = bundle / "part_000"
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    said = go(bundle)
    assert said.returncode == 1 and said.stderr == "error: part_000 is damaged: copy it anew\n"
    assert not (bundle / "scripts").exists() and json.loads((bundle / "jobs.json").read_text())["name"] == "small"
