"""What is said of the machine and the code, and what is said when it cannot be known."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from erf import provenance

GIT = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]


def test_a_commit_is_named_and_whether_the_code_is_still_it(tmp_path):
    assert provenance.commit(tmp_path) == "unknown: this is no git repository"
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*GIT, *command], cwd=tmp_path, check=True)
    (tmp_path / "code.py").write_text("1")
    subprocess.run([*GIT, "add", "code.py"], cwd=tmp_path, check=True)
    subprocess.run([*GIT, "commit", "-q", "-m", "second"], cwd=tmp_path, check=True)
    named = subprocess.run([*GIT, "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert provenance.commit(tmp_path) == named.stdout.strip()
    (tmp_path / "results.csv").write_text("untracked files are no code")
    assert provenance.commit(tmp_path) == named.stdout.strip()
    (tmp_path / "code.py").write_text("2")
    assert provenance.commit(tmp_path) == f"{named.stdout.strip()}, with changes since"


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
