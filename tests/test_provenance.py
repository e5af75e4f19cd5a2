"""What is said of the machine and the code, and what is said when it cannot be known."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from replication.commands import provenance

GIT = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]


def git(folder: Path, *words: str) -> str:
    return subprocess.run([*GIT, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def repository(folder: Path) -> str:
    """A repository with scripts/code.py in it; its commit."""
    (folder / "scripts").mkdir(parents=True)
    (folder / "scripts/code.py").write_text("1")
    git(folder, "init", "-q")
    git(folder, "add", "scripts")
    git(folder, "commit", "-q", "-m", "first")
    return git(folder, "rev-parse", "HEAD")


def test_a_commit_is_named_and_whether_the_code_is_still_it(tmp_path):
    assert provenance.commit(tmp_path) == "unknown: this is no git repository"
    name = repository(tmp_path)
    assert provenance.commit(tmp_path / "scripts") == name
    (tmp_path / "results.csv").write_text("untracked files are no code")
    assert provenance.commit(tmp_path / "scripts") == name
    (tmp_path / "scripts/code.py").write_text("2")
    assert provenance.commit(tmp_path / "scripts") == f"{name}, with changes since"
    git(tmp_path, "worktree", "add", "-q", "beside", name)
    assert provenance.commit(tmp_path / "beside/scripts") == name


def test_the_commit_of_a_repository_around_the_project_is_not_the_projects(tmp_path):
    name = repository(tmp_path)
    project = tmp_path / "exported/scripts"
    project.mkdir(parents=True)
    (project / "code.py").write_text("1")
    assert provenance.commit(project) == "unknown: the repository around this folder tracks none of its files"
    (tmp_path / ".gitignore").write_text("exported")
    assert provenance.commit(project).startswith("unknown")
    git(tmp_path, "add", "-f", "exported")
    git(tmp_path, "commit", "-q", "-m", "the project belongs to this repository now")
    assert provenance.commit(project) == git(tmp_path, "rev-parse", "HEAD") != name


def test_a_commit_that_cannot_be_known_is_unknown(tmp_path, monkeypatch):
    git(tmp_path, "init", "-q")
    assert provenance.commit(tmp_path) == "unknown: git is missing, or cannot read this repository"  # no commit yet
    repository(tmp_path / "other")
    monkeypatch.setenv("PATH", "")
    assert provenance.commit(tmp_path / "other") == "unknown: git is missing, or cannot read this repository"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid(), reason="only root may give files away")
def test_the_commit_of_another_users_clone_is_read(tmp_path, monkeypatch):
    for key in ("SUDO_UID", "GIT_CONFIG_COUNT"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)  # where the folder may count as safe
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    name = repository(tmp_path / "clone")
    for path in (tmp_path / "clone", *(tmp_path / "clone").rglob("*")):
        os.chown(path, 4321, 4321)
    refused = subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path / "clone", capture_output=True, text=True)
    assert "dubious ownership" in refused.stderr
    assert provenance.commit(tmp_path / "clone/scripts") == name
    (tmp_path / "clone/scripts/code.py").write_text("2")
    assert provenance.commit(tmp_path / "clone/scripts") == f"{name}, with changes since"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid(), reason="only root may give files away")
def test_a_repository_that_somebody_else_put_around_the_project_is_not_obeyed(tmp_path, monkeypatch):
    """Its configuration would run a command."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    repository(tmp_path)
    git(tmp_path, "config", "core.fsmonitor", f"touch {tmp_path}/executed; false")
    git(tmp_path, "status")
    assert (tmp_path / "executed").exists()  # it bites
    (tmp_path / "executed").unlink()
    for path in (tmp_path, tmp_path / ".git"):
        os.chown(path, 4321, 4321)
    assert provenance.commit(tmp_path / "scripts") == "unknown: git is missing, or cannot read this repository"
    assert not (tmp_path / "executed").exists()


def test_the_versions_are_those_of_the_installed_packages(monkeypatch):
    found = provenance.provenance(".")
    assert found["torch"] == version("torch") and found["numpy"] == version("numpy")
    assert found["Python"] == ".".join(map(str, sys.version_info[:3]))
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package",))
    assert provenance.versions() == {"no-such-package": "not installed"}


def test_the_machine_is_described_without_a_gpu_too(monkeypatch):
    found = provenance.machine()
    assert int(found["cores"]) >= 1 and found["processor"] and found["memory"].endswith("GiB")
    monkeypatch.setenv("PATH", "")
    assert provenance.machine()["GPU"] == "none"


def test_a_command_that_fails_or_is_missing_says_nothing():
    assert provenance.output_of([sys.executable, "-c", "print('yes')"]) == "yes"
    assert provenance.output_of([sys.executable, "-c", "print('no'); raise SystemExit(1)"]) is None
    assert provenance.output_of(["no-such-command"]) is None


@pytest.mark.parametrize("names, shown", [("A\nB", "A, B"), ("", "none")])
def test_gpus_are_listed_by_name(monkeypatch, names, shown):
    monkeypatch.setattr(provenance, "output_of", lambda command: names)
    assert provenance.gpus() == shown
