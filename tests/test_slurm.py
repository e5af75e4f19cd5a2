"""The pipeline through a real SLURM on this machine, with the profile that users have. tests/slurm/start says what that
takes; without it the tests are skipped. ERF_LONG=1 runs more of them, and the whole pipeline in place of a part."""

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import psutil
import pytest
import torch
import yaml

from conftest import ROOT, SCRIPTS, SMALL, Project
from repeatable import differences, digests

PROFILE = "workflow/profiles/slurm"
LONG = bool(os.environ.get("ERF_LONG"))


def test_the_profile_names_rules_that_exist():
    profile = yaml.safe_load((ROOT / PROFILE / "profile.yaml").read_text())
    assert {*profile["set-resources"], *profile["groups"]} <= {path.stem for path in SCRIPTS.glob("*.py")}
    assert set(profile["group-components"]) < set(profile["groups"].values())


def test_the_profile_plans_without_a_cluster(tmp_path, small_cifar, small_camvid):
    project = Project(tmp_path, small_cifar, small_camvid)
    result = project.snakemake("all", "--dry-run", "--workflow-profile", PROFILE)
    assert result.returncode == 0, result.stdout
    assert {"networks", "figures", "verdicts", "camvid"} <= set(re.findall(r"Group job (\w+)", result.stdout))


@pytest.fixture(scope="module")
def slurm():
    """A cluster of the nodes cpu1 and gpu1."""
    start = subprocess.run([ROOT / "tests/slurm/start"], text=True, stderr=subprocess.PIPE)
    if start.returncode == 2:
        pytest.skip(f"no SLURM: {start.stderr.strip()}")
    assert start.returncode == 0, start.stderr
    yield
    subprocess.run([ROOT / "tests/slurm/stop"], check=True)


class ClusterProject(Project):
    """A copy of the pipeline whose jobs SLURM runs."""

    def command(self, *arguments: str) -> list[str]:
        here = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1"]
        targets = [sys.executable, "-m", "snakemake", *arguments, "--workflow-profile", PROFILE, *here]
        return [*targets, "--configfile", str(self.write_config()), "--config", "trust=nets.py"]

    def jobs(self, rule: str) -> list[dict[str, str]]:
        """What SLURM knows of the jobs, or groups, that run a rule, in the order of their submission."""
        lines = subprocess.check_output(["scontrol", "show", "job", "--oneliner", "--details"], text=True).splitlines()
        jobs = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines]
        jobs = [job for job in jobs if job.get("WorkDir") == str(self.folder) and rule in job["Comment"]]
        return sorted(jobs, key=lambda job: int(job["JobId"]))


def assert_equal_results(found: Path, wanted: Path) -> None:
    """All that was made in one project equals, byte for byte, what was made in another, which may have more."""
    of_all_targets = re.compile("claims|scorecard")  # they tell of the targets, which are another run's
    here = {path: content for path, content in digests(found).items() if not of_all_targets.search(path)}
    assert here
    assert not [line for line in differences(here, digests(wanted)) if not line.endswith(": missing")]


# The whole pipeline, or one part of it.


@pytest.fixture(scope="module")
def made_by_slurm(slurm, tmp_path_factory, small_cifar, small_camvid) -> ClusterProject:
    """The small pipeline, with GPUs asked for. There are none, so that it computes what a CPU does."""
    project = ClusterProject(tmp_path_factory.mktemp("slurm"), small_cifar, small_camvid)
    project.config |= {"device": "auto"} | ({} if LONG else {"targets": ["growth", "before_after"]})
    result = project.snakemake("all")
    assert result.returncode == 0, result.stdout
    return project


def test_the_results_are_those_of_a_run_without_slurm(made_by_slurm, finished_project):
    assert_equal_results(made_by_slurm.folder, finished_project.folder)
    assert made_by_slurm.jobs_to_run() == set()


def test_trainings_and_their_measuring_have_a_gpu_and_nothing_else_has(made_by_slurm):
    trainings = made_by_slurm.jobs("train_")
    assert len(trainings) == (12 if LONG else 5)
    for job in made_by_slurm.jobs("train_") + made_by_slurm.jobs("measure_snapshots"):
        assert (job["Partition"], job["NodeList"], job["JOB_GRES"]) == ("gpu", "gpu1", "gpu:1")
    for job in made_by_slurm.jobs("measure_network") + made_by_slurm.jobs("figure_") + made_by_slurm.jobs("claims"):
        assert (job["Partition"], job["NodeList"]) == ("cpu", "cpu1") and job["JOB_GRES"] == "(null)"
    assert not made_by_slurm.jobs("download_")


def test_small_jobs_go_together_and_ask_for_what_one_after_the_other_needs(made_by_slurm):
    networks, (measuring,) = made_by_slurm.jobs("networks_"), made_by_slurm.jobs("_cifar10_measure_snapshots")
    assert len(networks) == (2 if LONG else 1)
    for job in [*networks, measuring]:
        assert job["NumCPUs"] == "1"
    assert {job["MinMemoryNode"] for job in networks} == {"4000M"} and measuring["MinMemoryNode"] == "8000M"
    minutes = [pd.Timedelta(job["TimeLimit"]).total_seconds() / 60 for job in [*networks, measuring]]
    assert sum(minutes[:-1]) == 20 * (13 if LONG else 4)
    assert minutes[-1] == 60 * (2 if LONG else 1)
    (verdicts,) = made_by_slurm.jobs("claims")
    assert verdicts["Comment"] == "rule_verdicts_check_claims_figure_scorecard_replication_report"


# Two trainings that are disturbed.

SEEDS = (0, 1)
TARGETS = [f"results/small/trainings/cifar10/seed_{seed}/test.csv" for seed in SEEDS]


def with_longer_training(project: Project) -> None:
    """Let its trainings take long enough to be disturbed, some ten seconds."""
    settings = SMALL["training_defaults"]["cifar10"]
    settings = {**settings, "seeds": list(SEEDS), "recipe": {**settings["recipe"], "epochs": 80}}
    project.config["training_defaults"] = {**SMALL["training_defaults"], "cifar10": settings}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, small_cifar, small_camvid) -> Path:
    """Their results, made without SLURM."""
    project = Project(tmp_path_factory.mktemp("undisturbed"), small_cifar, small_camvid)
    with_longer_training(project)
    result = project.snakemake(*TARGETS)
    assert result.returncode == 0, result.stdout
    return project.folder


class Run:
    """A run of the two trainings through SLURM, while it lasts."""

    def __init__(self, project: ClusterProject, *arguments: str):
        self.project = project
        self.before = {seed: self.seconds(seed) for seed in SEEDS}
        self.output = (project.folder / "output").open("w+")
        self.process = subprocess.Popen(
            project.command(*TARGETS, *arguments),
            cwd=project.folder,
            env=project.environment,
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error) -> None:
        self.process.kill()
        self.output.close()

    def seconds(self, seed: int) -> list[float]:
        """How long each epoch took so far: no two take the same time, so it shows which were trained again."""
        for name in ("state.pt", "state_before.pt"):  # the one has another name while it is replaced
            for path in (self.project.folder / f"results/small/resume/cifar10/seed_{seed}").glob(f"*/*/{name}"):
                with contextlib.suppress(FileNotFoundError):
                    return [row["seconds"] for row in torch.load(path)["speed"]]
        return []

    def wait_for_epochs(self) -> None:
        """Until both trainings have gone on for some epochs from where they were."""
        for seed, before in self.before.items():
            deadline = time.monotonic() + 120
            while len(self.seconds(seed)) < len(before) + 3:
                assert self.process.poll() is None and time.monotonic() < deadline, self.text()
                time.sleep(0.1)

    def job(self, seed: int) -> str:
        """SLURM's number of the last job of a training."""
        return self.project.jobs(f"train_classifier_wildcards_cifar10_{seed}")[-1]["JobId"]

    def freeze(self, seed: int) -> None:
        """Stop a training's process, as if it waited for a disk for ever."""
        for process in psutil.process_iter(["cwd", "cmdline"]):
            if process.info["cwd"] == str(self.project.folder):
                _, program, *arguments = process.info["cmdline"]
                if program == "scripts/train_classifier.py" and f"--seed {seed}" in " ".join(arguments):
                    process.suspend()

    def end(self) -> int:
        """Wait for it; its exit status."""
        return self.process.wait(timeout=300)

    def text(self) -> str:
        self.output.seek(0)
        return self.output.read()


def set_node(name: str, *changes: str) -> None:
    subprocess.run(["scontrol", "update", f"nodename={name}", *changes], check=True)


@pytest.fixture(scope="module")
def disturbed(slurm, tmp_path_factory, small_cifar, small_camvid) -> SimpleNamespace:
    """The trainings, whose first run fails, and what a second makes of it, in which they are disturbed again."""
    project = ClusterProject(tmp_path_factory.mktemp("disturbed"), small_cifar, small_camvid)
    with_longer_training(project)
    profile = project.folder / PROFILE / "profile.yaml"
    text = profile.read_text()

    # On a cluster that puts nothing back into the queue.
    profile.write_text(text.replace("slurm-requeue: true", "slurm-no-requeue: true"))
    project.config["device"] = "auto"
    with Run(project, "--retries", "0") as run:
        run.wait_for_epochs()
        subprocess.run(["scancel", run.job(0)], check=True)
        set_node("gpu1", "state=down", "reason=test")
        try:
            first = SimpleNamespace(status=run.end(), output=run.text())
        finally:
            set_node("gpu1", "state=resume")

    # Any cluster, without a GPU.
    profile.write_text(text)
    project.config["device"] = "cpu"
    with Run(project, "--set-resources", "train_classifier:runtime=attempt") as run:
        run.wait_for_epochs()
        before = {seed: run.seconds(seed) for seed in SEEDS}
        run.freeze(0)
        subprocess.run(["scontrol", "requeue", run.job(1)], check=True)
        assert run.end() == 0, run.text()
    return SimpleNamespace(project=project, first=first, seconds=[run.before, before])


def test_a_cancelled_job_and_one_whose_node_fails_are_named(disturbed):
    assert disturbed.first.status == 1
    lines = disturbed.first.output.splitlines()
    for seed, cause in ((0, "CANCELLED"), (1, "NODE_FAIL")):
        job, *_ = disturbed.project.jobs(f"train_classifier_wildcards_cifar10_{seed}")
        assert job["JobState"] == cause
        told = [line for line in lines if f"SLURM-job '{job['JobId']}' failed" in line]
        assert told and all(f"SLURM status is: '{cause}'" in line and f"seed {seed}" in line for line in told)


def test_a_job_over_its_time_is_retried_with_more(disturbed):
    _, *jobs = disturbed.project.jobs("train_classifier_wildcards_cifar10_0")
    assert [job["JobState"] for job in jobs] == ["TIMEOUT"] * (len(jobs) - 1) + ["COMPLETED"]
    assert [job["TimeLimit"] for job in jobs] == [f"00:0{attempt}:00" for attempt in range(1, len(jobs) + 1)]
    assert len(jobs) in (2, 3)  # on a busy machine the second attempt may take more than its two minutes


def test_a_requeued_job_is_still_the_same(disturbed):
    _, *jobs = disturbed.project.jobs("train_classifier_wildcards_cifar10_1")
    assert jobs[0]["Restarts"] == "1"
    assert [job["JobState"] for job in jobs] == ["TIMEOUT"] * (len(jobs) - 1) + ["COMPLETED"]


def test_with_device_cpu_no_gpu_is_asked_for(disturbed):
    asked = [(job["Partition"], job["JOB_GRES"]) for job in disturbed.project.jobs("train_classifier")]
    assert asked[:2] == [("gpu", "gpu:1")] * 2
    assert set(asked[2:]) == {("cpu", "(null)")}


def test_disturbed_trainings_go_on_from_their_epoch_and_end_as_undisturbed_ones(disturbed, undisturbed):
    assert_equal_results(disturbed.project.folder, undisturbed)
    for seed in SEEDS:
        speed = pd.read_csv(disturbed.project.folder / f"results/small/trainings/cifar10/seed_{seed}/speed.csv")
        seconds = speed["seconds"].tolist()
        for before in disturbed.seconds:
            assert len(before[seed]) >= 3 and seconds[: len(before[seed])] == before[seed]


@pytest.mark.skipif(not LONG, reason="a minute longer: ERF_LONG=1")
def test_a_training_whose_node_fails_waits_for_it_in_the_queue(slurm, tmp_path, small_cifar, small_camvid, undisturbed):
    project = ClusterProject(tmp_path, small_cifar, small_camvid)
    with_longer_training(project)
    with Run(project) as run:
        run.wait_for_epochs()
        before = {seed: run.seconds(seed) for seed in SEEDS}
        set_node("cpu1", "state=down", "reason=test")
        set_node("cpu1", "state=resume")
        assert run.end() == 0, run.text()
    assert [job["Restarts"] for job in project.jobs("train_classifier")] == ["1", "1"]
    assert_equal_results(tmp_path, undisturbed)
    for seed in SEEDS:
        speed = pd.read_csv(tmp_path / f"results/small/trainings/cifar10/seed_{seed}/speed.csv")
        assert speed["seconds"].tolist()[: len(before[seed])] == before[seed]
