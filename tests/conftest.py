"""Small stand-ins for the real data, and the pipeline in a folder of its own."""

import hashlib
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
settings.load_profile("no deadline")
torch.set_num_threads(1)  # tests are small; more threads only wait for each other

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts"


@pytest.fixture(scope="session")
def real_mirror() -> Path:
    """The mirror folder with the real CIFAR-10; the test is skipped where there is none."""
    mirror = os.environ.get("ERF_DATA_MIRROR")
    if not mirror or not (Path(mirror) / "cifar-10-batches-py").is_dir():
        pytest.skip("no real CIFAR-10: ERF_DATA_MIRROR names no folder with cifar-10-batches-py/")
    return Path(mirror)


def cifar_batch(images: np.ndarray, labels: list[int]) -> bytes:
    """A batch file in CIFAR-10's format, which names numpy's old module."""
    batch = {"data": images.reshape(len(images), -1), "labels": labels, "batch_label": "a batch"}
    return pickle.dumps(batch, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


@pytest.fixture(scope="session")
def small_cifar(tmp_path_factory) -> dict:
    """A mirror with 5 x 60 + 40 images in CIFAR-10's layout, and the registry entry that describes it.

    The class is the brightness, so that a small network learns something in seconds.
    """
    mirror = tmp_path_factory.mktemp("mirror")
    folder = mirror / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, count in [*((f"data_batch_{i}", 60) for i in range(1, 6)), ("test_batch", 40)]:
        labels = rng.integers(10, size=count)
        images = (rng.integers(60, size=(count, 3, 32, 32)) + 19 * labels[:, None, None, None]).astype(np.uint8)
        (folder / name).write_bytes(cifar_batch(images, labels.tolist()))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}, protocol=2))
    members = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    dataset = {"archive": "cifar-10-python.tar.gz", "folder": folder.name, "sources": [], "members": members}
    return {"mirror": mirror, "dataset": dataset}


@pytest.fixture(scope="session")
def small_data(small_cifar, tmp_path_factory) -> Path:
    """The stand-in as download_cifar10 leaves it."""
    import download_cifar10

    path = tmp_path_factory.mktemp("data") / "cifar10.npz"
    members = download_cifar10.read_members(small_cifar["mirror"] / "cifar-10-batches-py", small_cifar["dataset"])
    np.savez(path, **download_cifar10.arrays(members, small_cifar["dataset"]["members"]))
    return path


@pytest.fixture
def training_settings() -> dict:
    """A training of seconds."""
    return {
        "network": {"blocks": 1, "width": 8, "residual_scale": 0.2},
        "recipe": {
            "epochs": 6,
            "learning_rate": 0.1,
            "warmup": 0.2,
            "momentum": 0.9,
            "weight_decay": 0.0005,
            "label_smoothing": 0.1,
        },
        "batch_size": 20,
        "validation": 60,
        "threads": 1,
        "snapshots": [0, 2, 6],
    }


def network_settings(**changes) -> dict:
    """Settings of an untrained network: the defaults of config.yaml, with random weights and a few changes."""
    defaults = yaml.safe_load((ROOT / "config/config.yaml").read_text())["network_defaults"]
    return {**defaults, "weights": "random", **changes}


SMALL = {
    "name": "small",
    "device": "cpu",
    "network_defaults": {"depths": [5, 10], "runs": 4, "channels": 4},
    "networks": {name: {"depths": [6], "runs": 4} for name in ("linear_20", "tanh_20")}
    | {
        name: {"depths": [4], "runs": 4, "special_layers": [2, 3]}
        for name in ("plain", "subsample", "dilation", "skip")
    },
    "slopes": {"networks": ["uniform", "random", "relu", "relu_1_channel"], "depths": [[5, 10]]}
    | {"samples": {"networks": ["relu_1_channel"], "depths": [3, 5], "count": 2}},
    "snapshots": {"classifier": [0, 1, 2]},
    "trainings": {
        "cifar10": {
            "network": {"blocks": 1, "width": 8},
            "recipe": {"epochs": 2, "learning_rate": 0.1},
            "batch_size": 20,
            "validation": 60,
            "seeds": [0, 1],
            "measure_images": 8,
            "threads": 1,
        }
    },
    "reach": {
        "plain": {
            "depth": 4,
            "width": 4,
            "distances": [1, 3],
            "recipe": {"epochs": 1},
            "steps": 3,
            "batch_size": 8,
            "images": 4,
            "seeds": [0, 1],
            "threads": 1,
        }
    },
    "figures": {
        "convolution": {"kernels": [2, 3], "depths": [1, 2, 4]},
        "gaussian_shape": {"depths": [5, 10]},
        "nonlinearity": {"networks": ["linear_20", "tanh_20"]},
        "structures": {"networks": ["plain", "subsample", "dilation", "skip"]},
        "sensitivity": {"networks": ["plain", "subsample"]},
    },
}


def copy_project(folder: Path) -> None:
    """What the pipeline needs to run in a folder of its own."""
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, folder)
    for name in ("config", "scripts", "workflow", "profiles"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))


class Project:
    """A copy of the pipeline with a small configuration."""

    def __init__(self, folder: Path, small_cifar: dict):
        self.folder = folder
        copy_project(folder)
        self.config = {**SMALL, "datasets": {"cifar10": small_cifar["dataset"]}}
        self.environment = {**os.environ, "ERF_DATA_MIRROR": str(small_cifar["mirror"])}

    def write_config(self) -> Path:
        path = self.folder / "small.yaml"
        path.write_text(yaml.safe_dump(self.config))
        return path

    def command(self, *arguments: str) -> list[str]:
        targets = [sys.executable, "-m", "snakemake", *arguments]
        return [*targets, "--cores", "2", "--configfile", str(self.write_config())]

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run to the end; output and errors in `stdout`."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=600,
        )

    def jobs_to_run(self) -> set[str]:
        """Names of the rules that a run would execute."""
        output = self.snakemake("all", "--dry-run").stdout
        jobs = re.findall(r"^(\w+) +\d+$", output, re.MULTILINE)  # the table of job counts
        assert jobs or "Nothing to be done" in output, output
        return set(jobs) - {"all", "total"}


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory, small_cifar) -> Project:
    """The small pipeline, run once from download to figures. Tests that change something use `project`."""
    project = Project(tmp_path_factory.mktemp("project"), small_cifar)
    result = project.snakemake("all")
    assert result.returncode == 0, result.stdout
    return project


@pytest.fixture
def project(tmp_path, small_cifar) -> Project:
    """The small pipeline, with nothing made yet."""
    return Project(tmp_path, small_cifar)
