"""Where the pipeline runs: from another folder, in folders that are read-only or oddly named, with a full disk for
temporary files, a clock that was wrong, a locale that is not UTF-8. Each works, or ends in one line before any job."""

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from conftest import ROOT, Project, copy_project, mounted, remount, snakemake

TINY = {  # the claims, the scorecard and the report, of what takes seconds
    "name": "tiny",
    "device": "cpu",
    "targets": ["convolution"],
    "figures": {"convolution": {"kernels": [2, 3], "depths": [1, 2, 4]}},
}
FIGURE = "figures/tiny/convolution.png"
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A copy of the project with a configuration of seconds."""
    (tmp_path / "project").mkdir()
    return tiny_project(tmp_path / "project")


def tiny_project(folder: Path) -> Path:
    copy_project(folder)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    return folder


def refused(result: subprocess.CompletedProcess) -> str:
    """The line in which a run has ended, which is the last one, before any job."""
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    assert "Execute" not in result.stderr
    return result.stderr.splitlines()[-1]


def test_from_another_folder_everything_is_made_there(tiny, tmp_path):
    """The base configuration, claims and texts lie beside the Snakefile; the commands that are printed work."""
    (elsewhere := tmp_path / "else where").mkdir()
    result = snakemake(elsewhere, "-s", tiny / "Snakefile", f"--configfile={tiny}/tiny.yaml", "all")
    assert result.returncode == 0, result.stderr
    assert {path.name for path in tiny.iterdir()} == {path.name for path in (ROOT / name for name in COPIED)}
    page = (elsewhere / "results/tiny/report/index.html").read_text(encoding="utf-8")
    command = "snakemake --cores all --snakefile ../project/Snakefile --configfile={}"
    mine = f"{command.format('../project/tiny.yaml')} figures/tiny/convolution.png"
    others = f"{command.format('../project/config/laptop.yaml')} figures/laptop/growth.png"
    assert mine in page and others in (elsewhere / "results/tiny/claims.csv").read_text(encoding="utf-8")
    for words in (mine, others):
        shell = f"{sys.executable} -m {words} --dry-run"
        assert subprocess.run(["bash", "-c", shell], cwd=elsewhere, capture_output=True).returncode == 0
    again = snakemake(elsewhere, "-s", tiny / "Snakefile", f"--configfile={tiny}/tiny.yaml", "all")
    assert "Nothing to be done" in again.stderr


COPIED = ["Snakefile", "environment.yml", "config", "scripts", "workflow", "profiles", "tiny.yaml"]


def test_a_models_files_are_of_the_working_folder(tiny, tmp_path):
    (tmp_path / "nets.py").write_text("", encoding="utf-8")
    model = {"models": {"mine": {"factory": "nets.py:build", "layer": ""}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**TINY, **model}), encoding="utf-8")
    arguments = ("-s", tiny / "Snakefile", "--configfile=mine.yaml", "results/tiny/models/mine.npz", "--dry-run")
    result = snakemake(tmp_path, *arguments)
    assert result.returncode == 0 and "measure_model" in result.stdout
    (tmp_path / "nets.py").rename(tiny / "nets.py")
    moved = snakemake(tmp_path, *arguments)
    assert moved.returncode == 1 and "MissingInputException" in moved.stdout and "nets.py" in moved.stdout


@pytest.mark.parametrize(
    "content, problem",
    [
        (b"name: a\nnetworks: [\n", "is not YAML: see line 3, did not find expected node content"),
        (b"name: a\n# caf\xe9\n", "is not in UTF-8: see line 2, and save it as UTF-8"),
        ("name: a\n".encode("utf-16"), "is not in UTF-8 but in UTF-16: save it as UTF-8"),
        (None, "cannot be read: No such file or directory"),
    ],
    ids=["YAML", "latin-1", "utf-16", "missing"],
)
def test_the_base_configuration_that_cannot_be_read_is_named(tiny, content, problem):
    path = tiny / "config/config.yaml"
    path.unlink() if content is None else path.write_bytes(content)
    line = f"error: config: config/config.yaml {problem}"
    assert refused(snakemake(tiny, "--configfile=tiny.yaml", "all")).startswith(line)
    command = [
        sys.executable,
        "workflow/lib/strict.py",
        "config/config.yaml",
    ]  # for a file that Snakemake reads first
    checked = subprocess.run(command, cwd=tiny, capture_output=True, encoding="utf-8")
    assert checked.returncode == 1 and checked.stderr.startswith(line) and checked.stderr.count("\n") == 1


def test_a_folder_with_braces_is_named(tmp_path):
    (tmp_path / "a{b}c").mkdir()
    folder = tiny_project(tmp_path / "a{b}c")
    line = f"error: braces in '{folder}' are wildcards to Snakemake: give the project's folder another name"
    assert refused(snakemake(folder, "--configfile=tiny.yaml", FIGURE)) == line


def test_a_working_folder_may_have_braces(tiny, tmp_path):
    (folder := tmp_path / "a{b}c").mkdir()
    result = snakemake(folder, "-s", tiny / "Snakefile", f"--configfile={tiny}/tiny.yaml", FIGURE)
    assert result.returncode == 0 and (folder / FIGURE).exists(), result.stderr


def test_an_image_with_braces_is_named(tiny):
    (tiny / "photos").mkdir()
    (tiny / "photos/a{b}.png").touch()
    model = {"factory": "torchvision.models:alexnet", "layer": "features", "source": "photos", "images": 1}
    (tiny / "tiny.yaml").write_text(yaml.safe_dump({**TINY, "models": {"mine": model}}), encoding="utf-8")
    line = "error: models.mine: braces in 'photos/a{b}.png' are wildcards to Snakemake: rename it"
    arguments = ("--configfile=tiny.yaml", "results/tiny/models/mine.npz", "--dry-run")
    assert refused(snakemake(tiny, *arguments)) == line
    (tiny / "photos/a{b}.png").rename(tiny / "photos/a{.png")
    assert snakemake(tiny, *arguments).returncode == 0


def test_a_read_only_clone_is_named_and_serves_another_folder(tmp_path):
    with mounted(folder := tmp_path / "disk", "size=64M"):
        tiny_project(folder)
        remount(folder, "ro")
        line = f"error: {folder} cannot be written to: add --directory with a folder for what is made"
        assert refused(snakemake(folder, "--configfile=tiny.yaml", FIGURE)) == line
        (tmp_path / "made").mkdir()
        result = snakemake(folder, "--directory", tmp_path / "made", "--configfile=tiny.yaml", FIGURE)
        assert result.returncode == 0 and (tmp_path / "made" / FIGURE).exists(), result.stderr


def test_a_full_folder_for_temporary_files_is_named(tiny, tmp_path):
    with mounted(full := tmp_path / "full", "size=64k"):
        line = f"error: {full}: No space left on device: free some of it, or set TMPDIR to another folder"
        assert refused(snakemake(tiny, "--configfile=tiny.yaml", FIGURE, TMPDIR=str(full))) == line
        remount(full, "ro")  # for what cannot be written to, Python itself takes another
        assert snakemake(tiny, "--configfile=tiny.yaml", FIGURE, TMPDIR=str(full)).returncode == 0


def test_what_is_dated_tomorrow_is_dated_anew(tiny):
    tomorrow = time.time() + 86400
    dated = [tiny / "scripts/figure_convolution.py", tiny / "config/claims.yaml", tiny / "data/x.npz"]
    dated[-1].parent.mkdir()
    dated[-1].touch()
    for path in dated:
        os.utime(path, (tomorrow, tomorrow))
    assert snakemake(tiny, "--configfile=tiny.yaml", FIGURE, "--dry-run").returncode == 0
    assert all(path.stat().st_mtime == pytest.approx(tomorrow) for path in dated)
    result = snakemake(tiny, "--configfile=tiny.yaml", FIGURE)
    assert result.returncode == 0, result.stderr
    assert len({path.stat().st_mtime for path in dated}) == 1 and dated[0].stat().st_mtime < time.time()


def test_a_models_file_that_is_dated_tomorrow_is_named(tiny):
    (tiny / "nets.py").touch()
    os.utime(tiny / "nets.py", (time.time() + 86400,) * 2)
    model = {"factory": "nets.py:build", "layer": ""}
    (tiny / "tiny.yaml").write_text(yaml.safe_dump({**TINY, "models": {"mine": model}}), encoding="utf-8")
    result = snakemake(tiny, "--configfile=tiny.yaml", "results/tiny/models/mine.npz", "--dry-run")
    assert refused(result) == "error: models.mine: 'nets.py' is dated in the future: touch it"


def test_in_a_locale_that_is_not_utf_8_the_same_is_made(tiny):
    """Text, tables, the page, and what the scripts print, σ and → included."""
    result = snakemake(tiny, "--configfile=tiny.yaml", "all", **C_LOCALE)
    assert result.returncode == 0, result.stderr
    page, claims = (tiny / f"results/tiny/{name}" for name in ("report/index.html", "claims.csv"))
    assert "●" in page.read_text(encoding="utf-8") and "√(n(k² − 1)/12)" in claims.read_text(encoding="utf-8")
    assert r"\u2192 0" in (tiny / "logs/tiny/check_claims.log").read_text(encoding="ascii")
    for path in [page, claims]:
        path.unlink()
    assert snakemake(tiny, "--configfile=tiny.yaml", "all", LC_ALL="C.UTF-8").returncode == 0
    assert "→ 0" in (tiny / "logs/tiny/check_claims.log").read_text(encoding="utf-8")


def test_in_that_locale_every_help_can_be_read():
    for path in ROOT.glob("scripts/figure_*.py"):
        command = [sys.executable, path, "--help"]
        if not path.read_text(encoding="utf-8").isascii():
            subprocess.run(command, env={**os.environ, **C_LOCALE}, check=True, capture_output=True)


def test_two_configurations_at_once_before_the_data_is_there(project: Project):
    """The second is refused before any job, and the first goes on."""
    environment, target = {"ERF_DATA_MIRROR": ""}, "results/{}/trainings/cifar10/seed_0/best.pt"
    running = {"cwd": project.folder, "encoding": "utf-8", "start_new_session": True}
    (project.folder / "slow.py").write_text(SLOW_SERVER, encoding="utf-8")
    started = [subprocess.Popen([sys.executable, "slow.py"], stdout=subprocess.PIPE, **running)]
    try:
        source = started[0].stdout.readline().strip()
        for name in ("one", "two"):
            config = copy.deepcopy(project.config) | {"name": name, "targets": ["before_after"]}
            config["datasets"]["cifar10"]["sources"] = [source]
            (project.folder / f"{name}.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile=one.yaml", target.format("one")]
        started.append(subprocess.Popen(command, env={**os.environ, **environment}, **running))
        deadline = time.monotonic() + 60
        while not (project.folder / "asked").exists():
            assert started[1].poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        second = snakemake(project.folder, "--configfile=two.yaml", target.format("two"), **environment)
        assert second.returncode == 1 and "LockException" in second.stderr and "Traceback" not in second.stderr
        assert not (project.folder / "results/two").exists() and started[1].poll() is None
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


SLOW_SERVER = """import http.server, time
class Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open("asked", "w").close()
        time.sleep(60)
with http.server.HTTPServer(("127.0.0.1", 0), Slow) as server:
    print(f"http://127.0.0.1:{server.server_port}/cifar-10-python.tar.gz", flush=True)
    server.serve_forever()
"""
