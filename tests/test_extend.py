"""docs/extend.md: each recipe, applied to a copy of the project as it is printed, gives what it promises."""

import hashlib
import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from conftest import ROOT, SMALL, copy_project, snakemake

TEXT = (ROOT / "docs/extend.md").read_text(encoding="utf-8")
BLOCKS = re.compile(r"^`(?P<path>[\w./]+)`(?P<new> \(new\))?.*?(?=^`[\w./]+`|\Z)", re.MULTILINE | re.DOTALL)


def recipe(title: str) -> str:
    """The section of this title."""
    return TEXT.split(f"\n## {title}\n", 1)[1].split("\n## ")[0]


def steps(title: str) -> list[tuple[str, bool, list[str]]]:
    """A recipe's files in order: path, whether it is new, and the blocks of its code."""
    return [
        (found["path"], bool(found["new"]), re.findall(r"```\w+\n(.*?)```", found[0], re.DOTALL))
        for found in BLOCKS.finditer(recipe(title))
        if "```" in found[0]
    ]


def apply(folder: Path, title: str) -> set[str]:
    """Do what a recipe says; the files that it touches."""
    touched = set()
    for name, new, blocks in steps(title):
        path = folder / name
        touched.add(name)
        if new:
            assert not path.exists()
            path.write_text("".join(blocks), encoding="utf-8")
        for block in () if new else blocks:
            lines = block.splitlines(keepends=True)
            old, after = ("".join(line[1:] for line in lines if line[0] != mark) for mark in "+-")
            text = path.read_text(encoding="utf-8")
            if lines[-1].startswith("+") and all(line.startswith("+") for line in lines):
                text += after
            else:
                assert ("\n" + text).count("\n" + old) == 1, f"{name}: {old!r}"
                text = text.replace(old, after, 1)
            path.write_text(text, encoding="utf-8")
    return touched


@pytest.fixture
def copy(tmp_path) -> Path:
    copy_project(tmp_path)
    return tmp_path


def made(folder: Path, *arguments: str, **environment: str) -> str:
    """What Snakemake says in the copy, with the small configuration."""
    result = snakemake(folder, *arguments, "--configfile=small.yaml", **environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def write_small(folder: Path, figures: dict | None = None, **changes) -> None:
    """The small configuration without its own models, and with a few changes."""
    figures = {**SMALL["figures"], "models": {"models": ["alexnet"]}, **(figures or {})}
    config = {**SMALL, "models": {}, "figures": figures, **changes}
    (folder / "small.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def test_the_table_counts_the_files():
    for row in re.findall(r"^\| \[(.*?)\]\(#(.*?)\) \| (\d)", TEXT, re.MULTILINE):
        _, anchor, count = row
        title = next(title for title in re.findall(r"^## (.*)$", TEXT, re.MULTILINE) if anchor == slug(title))
        assert len({path for path, _, _ in steps(title)}) == int(count), title


def slug(title: str) -> str:
    return re.sub(r"[^\w-]", "", title.lower().replace(" ", "-"))


def test_a_figure(copy):
    assert len(apply(copy, "A figure")) <= 4
    write_small(copy, targets=["sigma"])
    made(copy, "figures/small/sigma.png")
    table = pd.read_csv(copy / "figures/small/sigma.csv")
    uniform = table[table["series"] == "uniform"]
    np.testing.assert_allclose(uniform["sigma_rows"], np.sqrt(uniform["depth"] * 8 / 12), rtol=1e-5)
    # Schema, checks and report follow from the table.
    bad = "figures={'sigma': {'x': 'y'}}"
    refused = snakemake(copy, "--dry-run", "--configfile=small.yaml", "--config", bad)
    assert refused.stderr.splitlines()[-1] == "error: config: figures.sigma.x: not a setting here"
    planned = made(copy, "all", "--dry-run")
    assert re.search(r"^figure_scorecard +1$", planned, re.MULTILINE) and "replication_report" in planned


def test_a_structure_and_a_network(copy):
    assert len(apply(copy, "A structure") | apply(copy, "A network or a depth")) <= 4
    write_small(copy, targets=["structures"], networks=SMALL["networks"] | {"wide": {"depths": [3]}})
    made(copy, "results/small/networks/pointwise.csv", "results/small/networks/wide.csv")
    (row,) = pd.read_csv(copy / "results/small/networks/pointwise.csv").itertuples()
    assert row.rf == 31 and row.limit_sigma_rows == pytest.approx(np.sqrt(2 * 15 * 8 / 12))  # of the magnitude


def test_a_model_and_a_claim(copy):
    assert len(apply(copy, "A model")) == 1
    assert len(apply(copy, "A claim")) == 1
    write_small(copy, targets=["gaussian_shape", "growth"])
    assert "resnet34" in made(copy, "results/small/models/resnet34.npz", "--dry-run")
    made(copy, "results/small/claims.csv")
    claims = pd.read_csv(copy / "results/small/claims.csv").set_index("id")
    assert claims.loc["convolution_sigma", "verdict"] == "reproduced"


@pytest.fixture
def cifar100(tmp_path) -> dict:
    """A mirror with a stand-in of 300 + 40 images, whose class is their brightness, and what differs in its entry."""
    folder, rng = tmp_path / "mirror/cifar-100-python", np.random.default_rng(0)
    folder.mkdir(parents=True)
    members, content = {}, []
    for name, count in (("train", 300), ("test", 40)):
        labels = rng.integers(100, size=count)
        images = (rng.integers(50, size=(count, 3, 32, 32)) + 2 * labels[:, None, None, None]).astype(np.uint8)
        batch = {"data": images.reshape(count, -1), "fine_labels": labels.tolist()}
        data = pickle.dumps(batch, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        (folder / name).write_bytes(data)
        members[name] = hashlib.md5(data).hexdigest()
        content += [images, labels.astype(np.uint8)]
    digest = hashlib.sha256(b"".join(array.tobytes() for array in content)).hexdigest()
    return {"members": members, "sha256": digest, "sources": []}


def test_a_dataset(copy, cifar100):
    assert len(apply(copy, "A dataset")) <= 6
    training = {**SMALL["training_defaults"]["cifar10"], "seeds": [0]}
    write_small(
        copy,
        targets=["before_after"],
        datasets={"cifar100": cifar100},
        snapshots={**SMALL["snapshots"], "cifar100": [0, 1, 2]},
        training_defaults={**SMALL["training_defaults"], "cifar100": training},
        figures={"before_after": {"trainings": ["cifar100"]}},
    )
    made(copy, "all", ERF_DATA_MIRROR=str(copy / "mirror"))
    test = pd.read_csv(copy / "results/small/trainings/cifar100/seed_0/test.csv")
    assert 0 <= test["test_accuracy"][0] <= 1 and (copy / "figures/small/before_after.png").exists()
    assert "CIFAR-100" in (copy / "results/small/report/index.html").read_text(encoding="utf-8")
