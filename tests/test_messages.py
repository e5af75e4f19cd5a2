"""What a user reads: the commonest mistakes, each in one line that comes last; a line a job; how a run ends."""

import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from conftest import ROOT, forked
from lib.estimate import Estimate, earlier_times, in_words
from lib.progress import Progress, error_lines, last_words
from test_place import TINY, tiny_project

# Two models that fail in the same way, and one that fails without a word for the user.
CODE = """
from torch import nn

def wrong():
    return None

def broken():
    raise ValueError("in a factory")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A project whose configuration takes seconds; tests here make its figure and no more."""
    folder = tiny_project(tmp_path_factory.mktemp("project"))
    (folder / "nets.py").write_text(CODE, encoding="utf-8")
    return folder


def run(folder: Path, *arguments: str, changes: dict | None = None) -> subprocess.CompletedProcess:
    """Snakemake with the tiny configuration; output and errors in `stdout`."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**TINY, **(changes or {})}), encoding="utf-8")
    return typed(folder, "--configfile=tiny.yaml", *arguments)


def typed(folder: Path, *words: str) -> subprocess.CompletedProcess:
    """Snakemake as it is typed."""
    return forked([sys.executable, "-m", "snakemake", "--cores", "1", *words], folder, dict(os.environ))


def last(result: subprocess.CompletedProcess) -> str:
    """The last line of a run that has failed without a traceback."""
    assert result.returncode == 1 and "Traceback" not in result.stdout, result.stdout
    return result.stdout.splitlines()[-1]


# What is typed.


@pytest.mark.parametrize(
    "words, line",
    [
        (
            ["--configfile", "config/quick.yaml", "all"],
            "--configfile takes 'all' for a file of settings, too: write --configfile=config/quick.yaml all",
        ),
        (
            ["--configfile", "config/quick.yaml", "config/laptop.yaml", "a.png", "all"],
            "--configfile takes 'a.png' for a file of settings, too: "
            "write --configfile config/quick.yaml config/laptop.yaml -- a.png all",
        ),
        (
            ["--configfile=config/quik.yaml", "all"],
            "--configfile: there is no file config/quik.yaml; did you mean config/quick.yaml?",
        ),
        (["--configfile=elsewhere.yaml"], "--configfile: there is no file elsewhere.yaml"),
    ],
)
def test_a_configfile_that_is_none_is_told_before_snakemake_fails(folder, words, line):
    assert last(typed(folder, *words)) == f"error: {line}"


@pytest.mark.parametrize(
    "content, line",
    [
        ("name: mine\n".encode("utf-16"), "is not in UTF-8 but in UTF-16: save it as UTF-8"),
        (b"a: &a {b: *a}\n", "is nested in more than 20 levels"),
    ],
)
def test_a_configfile_that_cannot_be_read_is_told_before_snakemake_fails(folder, content, line):
    (folder / "mine.yaml").write_bytes(content)
    assert last(typed(folder, "--configfile=mine.yaml", "all")) == f"error: config: mine.yaml {line}"


@pytest.mark.parametrize(
    "words, right",
    [
        (["--config", "device=cpu", "all"], "--config=device=cpu all"),
        (["--config", "device=cpu", "name=mine", "all"], "--config device=cpu name=mine -- all"),
    ],
)
def test_a_target_that_is_taken_for_a_setting(folder, words, right, monkeypatch):
    from lib import command_line

    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit, match="error: --config takes 'all' for a setting, too: write ") as told:
        command_line.check(words)
    assert str(told.value).endswith(right)


def test_with_the_profile_for_slurm_too(folder):
    words = ["--configfile", "config/quick.yaml", "all", "--workflow-profile", "workflow/profiles/slurm"]
    assert last(typed(folder, *words)).endswith("write --configfile=config/quick.yaml all")


@pytest.mark.parametrize(
    "words",
    [
        ["--configfile", "tiny.yaml"],
        ["--configfile", "tiny.yaml", "--dry-run", "all"],
        ["--configfile", "tiny.yaml", "--", "all"],
        ["all", "--configfiles", "tiny.yaml", "config/quick.yaml"],
        ["--config", "device=cpu", "--", "--configfile"],
        [],
    ],
)
def test_a_right_command_line_is_let_through(folder, words, monkeypatch):
    from lib import command_line

    (folder / "tiny.yaml").write_text("name: tiny\n", encoding="utf-8")
    monkeypatch.chdir(folder)
    command_line.check(words)


@pytest.mark.parametrize(
    "target, line",
    [
        (
            "figures/quick/growth.png",
            "figures/quick/growth.png: this configuration, tiny, does not make it; "
            "quick is --configfile=config/quick.yaml",
        ),
        (
            "figures/quick/convolution.png",
            "figures/quick/convolution.png: this configuration writes figures/tiny/convolution.png; "
            "quick is --configfile=config/quick.yaml",
        ),
        (
            "figures/paper/convolution.csv",
            "figures/paper/convolution.csv: this configuration writes figures/tiny/convolution.csv; "
            "paper is the one without --configfile",
        ),
        ("figures/convolution.png", "figures/convolution.png: this configuration writes figures/tiny/convolution.png"),
        ("convolution", "convolution: no rule makes it; did you mean figures/tiny/convolution.png?"),
        ("convolutoin.pdf", "convolutoin.pdf: no rule makes it; did you mean figures/tiny/convolution.pdf?"),
        ("figure_convoluton", "figure_convoluton: no rule makes it; did you mean figure_convolution?"),
        (
            "results/tiny/networks/rleu.csv",
            "results/tiny/networks/rleu.csv: no rule makes it; did you mean results/tiny/networks/relu.csv?",
        ),
        ("growth", "growth: growth is not a target of this configuration, which has convolution"),
        ("\x1b[31m", "'\\x1b[31m': no rule makes it; see figures/tiny/ and results/tiny/ for what is made"),
        (
            "measure_network",
            "measure_network makes several files: name the one you want, or `all`",
        ),
        (
            "measure_question",
            "measure_question makes several files: name the one you want, or `all`",
        ),
    ],
)
def test_a_target_that_nothing_makes_is_told_with_what_was_meant(folder, target, line):
    assert last(run(folder, target, "--dry-run")) == f"error: {line}"


def test_what_no_target_shows_is_said(folder):
    changes = {"networks": {"mine": {"weights": "random"}}, "trainings": {"mine": {"dataset": "cifar10"}}}
    notes = [line for line in run(folder, "all", "--dry-run", changes=changes).stdout.splitlines() if "note:" in line]
    assert notes == [
        "note: networks.mine: no target shows it, so it is left out: add it to figures.gaussian_shape.networks or "
        "figures.nonlinearity.networks, or ask for results/tiny/networks/mine.csv",
        "note: trainings.mine: no target shows it, so it is left out: add it to figures.before_after.trainings or "
        "figures.initialization.trainings, or ask for results/tiny/erf/mine/seed_0.csv",
    ]
    asked = run(folder, "results/tiny/networks/mine.csv", "--dry-run", changes=changes)
    assert asked.returncode == 0 and "note:" not in asked.stdout


# What a run says.

CLOCK = r"\d\d:\d\d:\d\d  "


def test_a_run_says_a_line_a_job_and_where_the_figures_are_last(folder):
    made = run(folder, "all")
    assert made.returncode == 0, made.stdout
    lines = made.stdout.splitlines()
    start = lines.index("4 jobs to do")
    jobs = ["Figure: Why the ERF is Gaussian", "Every claim held against the paper"]
    jobs += ["Figure: every claim, the paper's value and ours", "Replication report"]
    for number, (job, line) in enumerate(zip(jobs, lines[start + 1 : -1], strict=True)):
        left = f"{3 - number} more to start" if number < 3 else "the last one"
        assert re.fullmatch(rf"{CLOCK}{re.escape(job)}  \({left}(, (about|less than) .* left)?\)", line), line
    assert lines[-1] == "The figures are in figures/tiny/, the report is results/tiny/report/index.html"
    again = run(folder, "all").stdout.splitlines()
    assert again[-2:] == ["Nothing to be done (all requested files are present and up to date).", lines[-1]]
    assert run(folder, "results/tiny/claims.json", "figures/tiny/convolution.png").stdout.splitlines()[-1] == (
        "The figures are in figures/tiny/"
    )

    changed = {"figures": {"convolution": {"kernels": [3], "depths": [1, 2, 4]}}}
    planned = run(folder, "all", "--dry-run", changes=changed).stdout
    assert "\nFigure: Why the ERF is Gaussian, settings changed\nEvery claim" in planned
    assert "{" not in planned and planned.count("Job stats") == 1
    loud = run(folder, "all", "--dry-run", "--printshellcmds", changes=changed).stdout
    assert "Params have changed" in loud and "--settings results/tiny/settings/figures/convolution.json" in loud
    forced = run(folder, "figures/tiny/convolution.png", "--force", "--dry-run").stdout
    assert "\nFigure: Why the ERF is Gaussian, forced\n" in forced


def test_a_failed_run_ends_with_what_is_wrong_each_line_once(folder):
    factories = {"first": "nets.py:wrong", "second": "nets.py:wrong", "third": "nets.py:broken"}
    changes = {"models": {name: {"factory": factory, "layer": ""} for name, factory in factories.items()}}
    targets = [f"results/tiny/models/{name}.npz" for name in factories]
    result = run(folder, *targets, "--keep-going", "--config", "trust=nets.py", changes=changes)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    of_first = [
        line for line in (folder / "logs/tiny/measure_model/first.log").read_text().splitlines() if "error" in line
    ]
    of_third = last_words([str(folder / "logs/tiny/measure_model/third.log")])
    assert len(of_first) == 1 and "in a factory" in of_third
    assert of_first[0] in lines[:-2]  # its log is shown when it fails, too
    ends = {of_first[0], of_third if of_third.startswith("error: ") else "error: Effective receptive field of third: "}
    assert len(ends) == 2 and all(any(line.startswith(end) for line in lines[-2:]) for end in ends), lines[-4:]
    assert "WorkflowError" not in result.stdout and "python " not in "\n".join(lines[-2:])


# Its parts.


def test_the_time_left_is_that_of_jobs_alike():
    rules = {**dict.fromkeys(range(4), "short"), **dict.fromkeys(range(4, 8), "long")}
    estimate = Estimate(rules, {})
    assert estimate.left(0) is None and estimate.waiting == 8
    now = 0.0
    for job, seconds in ((0, 10), (4, 100)):
        estimate.start(job, now)
        now += seconds
        estimate.stop(job, now)
    assert estimate.left(now) == pytest.approx(3 * 10 + 3 * 100) and estimate.waiting == 6
    estimate.start(5, now)
    assert estimate.left(now + 40) == pytest.approx(3 * 10 + 2 * 100 + 60) and estimate.waiting == 5
    estimate.start(6, now)  # two at a time from here on
    assert estimate.left(now) == pytest.approx((3 * 10 + 3 * 100) / 2)
    estimate.stop(6, now + 1, done=False)
    assert estimate.waiting == 5 and 6 not in estimate.took


def test_the_time_left_cannot_be_less_than_that_of_the_longest_job():
    estimate = Estimate({0: "a", 1: "b", 2: "b", 3: "b"}, {0: 1000.0, 1: 10.0, 2: 10.0, 3: 10.0})
    for job in range(4):
        estimate.start(job, 0.0)
    assert estimate.left(0.0) == 1000


def test_times_of_earlier_runs_are_read_and_damaged_ones_left_out(tmp_path):
    texts = ["s\th:m:s\tmax_rss\n12.5\t0:00:12\t100\n", "", "s\n", "nothing\n5\n", "s\nfive\n"]
    for number, text in enumerate(texts):
        (tmp_path / str(number)).write_text(text)
    found = earlier_times((number, str(tmp_path / str(number))) for number in range(len(texts) + 1))
    assert found == {0: 12.5}


@pytest.mark.parametrize(
    "seconds, words",
    [
        (None, ""),
        (20, "less than a minute"),
        (100, "about 2 min"),
        (3500, "about 58 min"),
        (3599, "about 1 h"),
        (6000, "about 1 h 40 min"),
        (50_000, "about 14 h"),
    ],
)
def test_a_time_in_words(seconds, words):
    assert in_words(seconds) == words


@pytest.fixture
def progress(tmp_path) -> Progress:
    """A run with one job that has been training for a minute."""
    followed = Progress(SimpleNamespace(), dry=False)
    followed.estimate = Estimate({7: "train_classifier"}, {})
    followed.estimate.start(7, time.time() - 60)
    followed.logs[7] = (time.time() - 60, "Training cifar10, seed 0", [str(tmp_path / "seed_0.log")])
    return followed


def test_the_bars_of_long_jobs_are_shown(progress, tmp_path):
    assert progress.bars() == []
    bars = "".join(f"\rseed 0 on cpu:  {n}%|█ | {n}/100 [00:{n}<09:00,  5.4s/epoch]" for n in (10, 11))
    (tmp_path / "seed_0.log").write_text(f"a warning\n{bars}", encoding="utf-8")
    (bar,) = progress.bars()
    assert bar == "Training cifar10, seed 0: seed 0 on cpu:  11%|█ | 11/100 [00:11<09:00,  5.4s/epoch]"
    os.utime(tmp_path / "seed_0.log", (0, 0))  # an earlier run's: this one waits in a cluster's queue
    assert progress.bars() == []
    progress.estimate.stop(7, time.time())
    assert progress.bars() == []


def test_a_job_that_was_killed_is_told_with_its_log(progress, tmp_path):
    log = tmp_path / "seed_0.log"
    log.write_text("\rseed 0:  11%|█ | 11/100 [00:11<09:00,  5.4s/epoch]", encoding="utf-8")
    error = logging.makeLogRecord({"event": "job_error", "jobid": 7, "log": [str(log)]})
    assert progress.listen(error)
    (line,) = progress.errors()
    assert line.startswith("error: Training cifar10, seed 0: ended without a word") and line.endswith(f"see {log}")
    said = "SLURM-job '5' failed, SLURM status is: 'TIMEOUT'. For further error details see the log."
    progress.listen(logging.makeLogRecord({**vars(error), "rule_msg": said}))
    (line,) = progress.errors()
    assert line == f"error: Training cifar10, seed 0: SLURM-job '5' failed, SLURM status is: 'TIMEOUT'; see {log}"
    progress.listen(error)
    log.write_text("Traceback (most recent call last):\n  File\nValueError: strange\n", encoding="utf-8")
    assert progress.errors() == [f"error: Training cifar10, seed 0: ValueError: strange; see {log}"]
    log.write_text("\r 5/10 [00:01]\nerror: no memory\nerror: no memory\n", encoding="utf-8")
    assert progress.errors() == ["error: no memory"] and [*error_lines(str(log))] == ["error: no memory"] * 2
    progress.listen(logging.makeLogRecord({"event": "job_finished", "job_id": 7}))  # at its second attempt
    assert progress.errors() == []


# Make, and a cluster.


def test_make_says_all_with_verbose():
    def said(*words: str) -> str:
        return subprocess.run(["make", "-n", "-C", ROOT, "-o", "env", *words], capture_output=True, text=True).stdout

    assert "snakemake --cores all --configfile=config/quick.yaml all" in said("quick")
    for target in ("quick", "data", "coverage", "check-reference"):
        assert "--printshellcmds" not in said(target) and "snakemake --printshellcmds" in said(target, "VERBOSE=1")


def test_a_dry_run_for_slurm_shows_what_it_would_ask_for(folder):
    # Under a name of its own, of which nothing is made yet.
    changes = {"name": "cluster", "device": "auto", "reach": {"mine": {"seeds": [0]}}}
    targets = [
        "results/cluster/reach/mine/seed_0.csv",
        "results/cluster/networks/relu.csv",
        "results/cluster/networks/tanh_20.csv",
    ]
    profile = ["--workflow-profile", "workflow/profiles/slurm", "--dry-run"]
    planned = run(folder, *targets, "figures/cluster/convolution.png", *profile, changes=changes)
    assert planned.returncode == 0, planned.stdout
    lines = planned.stdout.splitlines()
    table = lines[lines.index("slurm would be asked for:") + 1 :]
    assert [re.split(" {2,}", line) for line in table] == [
        ["job", "number", "CPUs", "memory", "time", "GPUs", "partition"],
        ["group figures, of 1 job", "1", "1", "2,000 MB", "0:10 h", "0", "cpu"],
        ["group networks, of 2 jobs", "1", "1", "4,000 MB", "0:40 h", "0", "cpu"],
        ["train_reach", "1", "1", "6,000 MB", "4:00 h", "1", "gpu"],
    ]
    assert "would be asked for" not in run(folder, *targets, "--dry-run", changes=changes).stdout
