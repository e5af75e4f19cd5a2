"""What may happen to the pipeline: kills, signals, full and read-only disks, damaged files, two runs at a time.

After each, a rerun finishes, and what it has made equals, byte for byte, what an undisturbed run makes; meanwhile no
file that is not whole has ever had its final name. `make test-faults` has more of each (ERF_LONG=1).
"""

import collections
import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from conftest import Project, damage, heed_ctrl_c, mounted, remount
from repeatable import differences, digests

LONG = bool(os.environ.get("ERF_LONG"))
MOMENTS = 16 if LONG else 2  # of each stage
STAGES = {  # what a process runs, by the stage that it belongs to
    "download": ("download_",),
    "training": ("train_",),
    "measuring": ("measure_", "growth_slopes", "slope_samples"),
    "plotting": ("figure_", "check_claims", "replication_report"),
}


def start(project: Project, *targets: str) -> subprocess.Popen:
    """Snakemake with its jobs, as a process group of its own."""
    return subprocess.Popen(
        project.command(*targets),
        cwd=project.folder,
        env=project.environment,
        stdout=(project.folder / "output.txt").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
    )


def stage_of(process: psutil.Process) -> str | None:
    """The stage of a process that runs one of the project's scripts, not of the shells around it."""
    with contextlib.suppress(psutil.Error):
        words = process.cmdline()
        if len(words) > 1 and "python" in words[0]:
            name = Path(words[1]).name
            return next((stage for stage, starts in STAGES.items() if name.startswith(starts)), None)
    return None


def jobs_under(snakemake: subprocess.Popen, stage: str) -> list[psutil.Process]:
    """Processes that run scripts of a stage for it."""
    return [process for process in psutil.Process(snakemake.pid).children(recursive=True) if stage_of(process) == stage]


def scripts_running_in(project: Project) -> list[psutil.Process]:
    """Processes that run scripts in the project's folder, also where their Snakemake is dead."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if stage_of(process) and process.cwd() == str(project.folder):
                found.append(process)
    return found


def strike(snakemake: subprocess.Popen, stage: str, victim: str, number: int, chance: random.Random) -> bool:
    """Send the signal at a random moment of a job of the stage; False if all ended before."""
    while snakemake.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if not jobs_under(snakemake, stage):
                time.sleep(0.01)
                continue
            time.sleep(chance.choice([chance.uniform(0, 0.5), chance.uniform(0, 2)]))
            running = jobs_under(snakemake, stage)
            if not running:
                continue
            if victim == "all":  # as Ctrl-C in a terminal does, or a machine that goes down
                os.killpg(snakemake.pid, number)
            else:
                (chance.choice(running) if victim == "job" else snakemake).send_signal(number)
            return True
    return False


def wait_or_kill(snakemake: subprocess.Popen) -> bool:
    """Wait for its end; whether it had to be killed. Snakemake 9.27 waits for its own lock for ever if a signal arrives
    while it notes that a job has ended (JobScheduler.exit_gracefully within _finish_jobs)."""
    try:
        snakemake.wait(timeout=200)
    except subprocess.TimeoutExpired:
        os.killpg(snakemake.pid, signal.SIGKILL)
        snakemake.wait()
        return True
    return False


def assert_nothing_half_made(project: Project, undisturbed: dict[str, str]) -> None:
    found = digests(project.folder)
    assert not [line for line in differences(found, undisturbed) if not line.endswith(": missing")]


def finish(project: Project, undisturbed: dict[str, str], most: int = 3) -> list[str]:
    """Run `all` until it ends well, and compare; what the runs said that failed, one text each."""
    failed = []
    project.snakemake("--unlock")
    while (result := project.snakemake("all")).returncode:
        failed.append(result.stdout)
        assert len(failed) <= most, result.stdout[-3000:]
    assert differences(digests(project.folder), undisturbed) == []
    assert not list((project.folder / "results").glob("*/resume/**/*.pt"))
    assert not list((project.folder / "results").rglob(".*"))
    return failed


@pytest.fixture(scope="session")
def undisturbed(finished_project) -> dict[str, str]:
    return digests(finished_project.folder)


@pytest.fixture
def copied(finished_project, tmp_path) -> Project:
    """The finished pipeline in a folder of its own, with Snakemake's notes."""
    return finished_project.copy_to(tmp_path / "copy")


BLOWS = [  # who is struck, and by what
    ("job", signal.SIGKILL),
    ("snakemake", signal.SIGKILL),
    ("job", signal.SIGTERM),
    ("all", signal.SIGKILL),
    ("job", signal.SIGINT),
    ("snakemake", signal.SIGINT),
    ("all", signal.SIGINT),
    ("snakemake", signal.SIGTERM),
]


MADE_IN = {  # what each stage makes
    "download": ["data"],
    "training": ["results/small/trainings", "results/small/reach"],
    "measuring": [f"results/small/{name}" for name in ("networks", "erf", "units", "slope_samples", "models")],
    "plotting": ["figures/small", "results/small/claims", "results/small/report"],
}


def struck_in(stage: str, struck: collections.Counter) -> int:
    return sum(count for (where, *_), count in struck.items() if where == stage)


def tracebacks(output: str) -> list[str]:
    """Exceptions that ended in a traceback, but for a KeyboardInterrupt, which may come while Python itself starts.

    Python prints an empty line where it is interrupted between two lines of code.
    """
    ends = re.findall(r"^Traceback .*\n(?:(?:[ \t].*)?\n)*(.*)", output, re.MULTILINE)
    return [] if "KeyboardInterrupt" in ends else ends


def test_struck_at_random_moments_the_pipeline_ends_as_if_undisturbed(copied, undisturbed):
    """Stage by stage; where all of one is made before there were enough blows, it is made again."""
    project, chance, struck = copied, random.Random(0), collections.Counter()
    for stage, made in MADE_IN.items():
        targets = [path for path in undisturbed if path.startswith(tuple(made)) and not path.endswith((".pdf", ".pt"))]
        for path in targets:
            (project.folder / path).unlink()
        first = struck.total() % len(BLOWS)
        for victim, number in itertools.islice(itertools.cycle(BLOWS), first, first + 4 * MOMENTS):
            snakemake = start(project, *targets)
            hit = strike(snakemake, stage, victim, number, chance)
            hung = wait_or_kill(snakemake)
            assert not (hung and victim == "job")
            output = (project.folder / "output.txt").read_text()
            assert not tracebacks(output)
            assert_nothing_half_made(project, undisturbed)
            if hung or (victim != "job" and number == signal.SIGKILL):
                project.snakemake("--unlock")
            if not hit:
                assert set(targets) <= set(digests(project.folder)), output
                for path in targets:
                    (project.folder / path).unlink()
                continue
            struck[stage, victim, number.name] += 1
            print(f"struck: {victim} by {number.name} while {stage}", flush=True)
            if struck_in(stage, struck) == MOMENTS:
                break
        assert struck_in(stage, struck) == MOMENTS
    psutil.wait_procs(scripts_running_in(project), timeout=120)
    finish(project, undisturbed)
    print(f"struck at {struck.total()} moments, {MOMENTS} of each stage; nothing was half made, and all ended equal")


TO_DAMAGE = {  # a file, and what is lost that is made from it
    "data/cifar10.npz": "results/small/trainings/cifar10",
    "results/small/trainings/camvid/seed_1/best.pt": "results/small/erf/camvid/seed_1.npz",
    "results/small/networks/relu.npz": "figures/small/gaussian_shape.png",
    "results/small/erf/cifar10/seed_0.csv": "figures/small/evolution.png",
    "figures/small/structures.csv": "results/small/claims.csv",
    "results/small/claims.json": "figures/small/scorecard.png",
    "figures/small/growth.png": "results/small/report/index.html",
}
WAYS = ["cut", "bit"]


@pytest.mark.parametrize(
    "damaged",
    [{name: how} for name in TO_DAMAGE for how in WAYS]
    if LONG
    else [dict(zip(TO_DAMAGE, itertools.cycle(WAYS), strict=False))],
    ids=lambda damaged: "-".join([*damaged, *damaged.values()]) if len(damaged) == 1 else "all",
)
def test_what_is_damaged_is_named_and_made_again(copied, undisturbed, damaged):
    """By a disk, say, which gives it no new date: the first to notice is a job that reads it."""
    for number, (name, how) in enumerate(damaged.items()):
        path, lost = copied.folder / name, copied.folder / TO_DAMAGE[name]
        made = path.stat().st_mtime_ns
        damage(path, np.random.default_rng(number), how)
        os.utime(path, ns=(made, made))
        shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    outputs = finish(copied, undisturbed, most=len(damaged))
    lines = {line for output in outputs for line in output.splitlines() if line.startswith("error: ")}
    told = {
        f"error: {name}: damaged, or changed since it was made; it is {Path(name).name}.damaged now: "
        "run again to make it anew"
        for name in damaged
    }
    # Another job that was to read it finds it gone. What is lost is made before anybody reads it.
    assert {line for line in lines if not line.endswith(": No such file or directory")} <= told
    assert len(damaged) > 1 or told <= lines
    assert len(list(copied.folder.rglob("*.damaged"))) == len(told & lines) >= len(damaged) / 2
    assert not any("Traceback" in output for output in outputs)


def test_two_runs_in_the_same_folder(copied, undisturbed):
    shutil.rmtree(copied.folder / "figures")
    first = start(copied, "all")
    while not scripts_running_in(copied):
        assert first.poll() is None
        time.sleep(0.01)
    second = copied.snakemake("all")
    assert second.returncode == 1
    assert "LockException" in second.stdout and "Traceback" not in second.stdout
    assert first.wait() == 0
    assert differences(digests(copied.folder), undisturbed) == []


def used(folder: Path) -> int:
    """Bytes on the disk."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9] if LONG else [0.4])
def test_a_full_disk(finished_project, tmp_path, small_cifar, small_camvid, undisturbed, share):
    """Full when so much of all is made; results lie on the disk that fills up, and so do Snakemake's notes."""
    with mounted(tmp_path / "disk", "size=1G"):
        (tmp_path / "disk/project").mkdir()
        project = Project(tmp_path / "disk/project", small_cifar, small_camvid)
        before = used(project.folder)
        made = used(finished_project.folder) - before
        remount(tmp_path / "disk", f"size={int(before + share * made)}")
        result = project.snakemake("all")
        assert result.returncode == 1
        errors = [line for line in result.stdout.splitlines() if line.startswith("error: ")]
        assert any("No space left on device" in line for line in errors) or "No space left" in result.stdout
        assert_nothing_half_made(project, undisturbed)
        remount(tmp_path / "disk", "size=1G")
        finish(project, undisturbed)


READ_ONLY = ["results/small/trainings", "data", "results/small/networks", "figures/small", "logs"]


@pytest.mark.parametrize("folder", READ_ONLY if LONG else READ_ONLY[:1])
def test_a_read_only_folder_is_named(copied, undisturbed, folder):
    path = copied.folder / folder
    shutil.rmtree(path)
    with mounted(path, "ro"):
        result = copied.snakemake("all")
        assert result.returncode == 1
        assert "Read-only file system" in result.stdout and folder in result.stdout
    finish(copied, undisturbed)
