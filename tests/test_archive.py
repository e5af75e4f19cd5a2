"""What is archived beside the code says what the code says: versions, checksums, container, workflows, manifest."""

import json
import re
import subprocess
import tomllib

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

import codecheck
from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
CODEMETA = json.loads((ROOT / "codemeta.json").read_text(encoding="utf-8"))
LOCK = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PYTHONS = ["3.11", "3.12", "3.13"]  # of requirements.lock, as the Makefile says


def plain(name: str) -> str:
    """A package's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_version_is_one():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    dates = dict(re.findall(r"^## (\d\S*) - (\S+)$", changelog, re.MULTILINE))
    version = PROJECT["version"]
    assert CITATION["version"] == CODEMETA["version"] == version == next(iter(dates))
    assert str(CITATION["date-released"]) == CODEMETA["dateModified"] == dates[version]


def test_citation_and_codemeta_say_one_thing():
    assert CITATION["title"] == CODEMETA["name"] and CITATION["keywords"] == CODEMETA["keywords"]
    assert CITATION["abstract"] == CODEMETA["description"] and CODEMETA["license"].endswith(f"/{CITATION['license']}")
    assert [one["name"] for one in CITATION["authors"]] == [one["name"] for one in CODEMETA["author"]]
    assert CODEMETA["softwareRequirements"] == PROJECT["dependencies"] and PROJECT["license"] == CITATION["license"]
    assert CODEMETA["runtimePlatform"] == f"Python {PROJECT['requires-python']}"
    (paper,), told = CITATION["references"], CODEMETA["referencePublication"]
    assert (paper["title"], paper["url"], str(paper["year"])) == (told["name"], told["url"], told["datePublished"])
    names = [(one["given-names"], one["family-names"]) for one in paper["authors"]]
    assert names == [(one["givenName"], one["familyName"]) for one in told["author"]]
    for key in ("readme", "continuousIntegration", "buildInstructions"):
        assert (ROOT / CODEMETA[key]).is_file()


def test_every_locked_package_but_torch_has_checksums():
    """`make hashes` writes them."""
    text = (ROOT / "requirements.hashes").read_text(encoding="utf-8")
    found = re.findall(r"^([\w.-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.MULTILINE)
    assert "".join(f"{name}=={version} \\\n{hashes}" for name, version, hashes in found) == text
    left = {plain(name): version for name, version in LOCK.items() if name not in ("torch", "torchvision")}
    assert {plain(name): version for name, version, _ in found} == left


def test_the_container_is_made_of_what_is_there():
    lines = [line for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]
    assert re.match(r"FROM python:(\S+)-slim", lines[0])[1] in PYTHONS
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    assert copied == ["requirements.lock", "requirements.hashes", "."]
    assert all((ROOT / name).exists() for name in copied)
    install = " ".join(next(line for line in lines if "pip install" in line).split())
    assert "--require-hashes --requirement requirements.hashes &&" in install
    assert install.endswith("--requirement requirements.lock")
    assert (
        "python -m pytest -n 2" in DOCKERFILE and "python -m pytest -n 2" in MAKEFILE
    )  # the tests, as make test has them
    command = json.loads(lines[-1].removeprefix("CMD "))
    for path in (command[command.index("--snakefile") + 1], command[-2].removeprefix("--configfile=")):
        assert (ROOT / path.removeprefix("/erf/")).is_file()


def test_nothing_that_git_ignores_gets_into_the_container():
    left_out = {line.strip("/").removeprefix("**/") for line in (ROOT / ".dockerignore").read_text().splitlines()}
    for line in (ROOT / ".gitignore").read_text().splitlines():
        assert line.startswith("#") or line.replace("!/", "!").strip("/") in left_out, line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_pinned_and_runs_what_is_there(path):
    text = path.read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"].values()
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used and all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", what) and " # v" in note for what, note in used)
    commands = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    assert commands and "shared" not in text
    for command in commands:
        words = command.split()
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", MAKEFILE, re.MULTILINE)
        elif words[0] == "bash":
            assert (ROOT / words[1]).is_file()


def test_the_workflows_have_the_gate_lint_and_docs_on_every_python():
    assert [path.stem for path in WORKFLOWS] == ["docs", "gate", "lint"]
    gate = yaml.safe_load(WORKFLOWS[1].read_text(encoding="utf-8"))["jobs"]["gate"]
    matrix = gate["strategy"]["matrix"]
    assert matrix["python"] == PYTHONS and "arm" in matrix["include"][0]["machine"]
    assert "(3, 11) <= sys.version_info < (3, 14)" in MAKEFILE


def test_the_manifest_is_what_a_run_leaves():
    """Of the figures and tables that are kept, all that need neither data nor a clock."""
    listed = codecheck.manifest()
    tracked = subprocess.run(["git", "ls-files", *listed], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert sorted(listed) == sorted(tracked) and len(set(listed)) == len(listed)
    targets = yaml.safe_load((ROOT / codecheck.REMADE).read_text(encoding="utf-8"))["targets"]
    figures = [f"{name}{suffix}" for name in targets for suffix in (".png", ".csv")]
    tables = ["growth_slopes.csv", "networks.csv", "questions.csv", "slope_samples.csv", "claims.csv", "scorecard.png"]
    there = [f"figures/reference/{name}" for name in figures + tables if (ROOT / "figures/reference" / name).exists()]
    assert sorted(listed) == sorted(there)
    entries = yaml.safe_load((ROOT / "codecheck.yml").read_text(encoding="utf-8"))["manifest"]
    assert all(entry["comment"] for entry in entries)


def test_a_remade_file_is_the_same_equal_or_different(tmp_path):
    made, kept = tmp_path / "made.csv", tmp_path / "kept.csv"
    assert codecheck.verdict(made, kept).startswith("missing")
    table = pd.DataFrame({"name": ["a", "b"], "size": [3.0, 4.0]})
    for scale, word in ((1, "the same"), (1 + 1e-5, "equal"), (1.01, "different")):
        table.to_csv(kept, index=False)
        table.assign(size=table["size"] * scale).to_csv(made, index=False)
        assert codecheck.verdict(made, kept).startswith(word)
    table.rename(columns={"size": "width"}).to_csv(made, index=False)
    assert codecheck.verdict(made, kept).startswith("different")
    pixels = np.zeros((50, 60, 3), np.uint8)
    for count, word in ((0, "the same"), (20, "equal"), (60, "different")):
        Image.fromarray(pixels).save(tmp_path / "kept.png")
        drawn = pixels.copy()
        drawn.reshape(-1, 3)[:count] = 200
        Image.fromarray(drawn).save(tmp_path / "made.png")
        assert codecheck.verdict(tmp_path / "made.png", tmp_path / "kept.png").startswith(word)
    Image.fromarray(pixels[:40]).save(tmp_path / "made.png")
    assert codecheck.verdict(tmp_path / "made.png", tmp_path / "kept.png").startswith("different: (40, 60) pixels")
