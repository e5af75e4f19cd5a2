"""Finished work is not lost: not by damaged data, other sources, a missing GPU, a copied folder, nor a job that fails.

After each, `all` ends well, and what is there equals, byte for byte, what an undisturbed run makes.
"""

import copy
import json
import os
import re
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import Project
from erf.system.files import atomic, checked, digest
from lib import safekeeping
from repeatable import differences, digests
from replication.commands import kept
from replication.commands.provenance import recorded

CIFAR10, CAMVID = (f"results/small/trainings/{name}/seed_0" for name in ("cifar10", "camvid"))


@pytest.fixture(scope="session")
def finished_few(tmp_path_factory, small_cifar, small_camvid) -> Project:
    """One training on each dataset, from download to report."""
    project = Project(tmp_path_factory.mktemp("few"), small_cifar, small_camvid)
    config = copy.deepcopy(project.config) | {"targets": ["units"]}
    config["figures"]["units"] = {"trainings": ["cifar10", "camvid"]}
    for defaults in config["training_defaults"].values():
        defaults["seeds"] = [0]
    project.config = config
    result = project.snakemake("all")
    assert result.returncode == 0, result.stdout
    return project


@pytest.fixture(scope="session")
def undisturbed(finished_few) -> dict[str, str]:
    return digests(finished_few.folder)


@pytest.fixture
def few(finished_few, tmp_path) -> Project:
    return finished_few.copy_to(tmp_path / "few")


def assert_undisturbed(project: Project, undisturbed: dict[str, str]) -> None:
    """All is there, as an undisturbed run makes it, and nothing else is."""
    assert differences(digests(project.folder), undisturbed) == []
    assert not list(project.folder.rglob(kept.FOLDER))


def all_ends_well(project: Project) -> str:
    result = project.snakemake("all")
    assert result.returncode == 0, result.stdout
    return result.stdout


def put_back(project: Project) -> set[str]:
    """Rules of the last run's jobs that put back what was kept."""
    logs = project.folder / "logs/small"
    texts = {path: path.read_text() for path in logs.rglob("*.log")}
    return {path.relative_to(logs).parts[0].removesuffix(".log") for path in texts if "unchanged since" in texts[path]}


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


def test_all_asks_for_every_file_that_a_job_declares(project):
    """But for the records of the datasets: their arrays count by their content."""
    planned = project.snakemake("all", "--dry-run", "--printshellcmds").stdout
    asked = re.findall(r"Missing output files: ([^;\n]*)", planned)
    asked = {path for paths in asked for path in paths.split(", ")}
    declared = re.findall(r"^(\S+)\t.*\tmissing\t", project.snakemake("all", "--summary").stdout, re.MULTILINE)
    assert len(declared) > 200
    assert {*declared} - asked == {"data/cifar10.provenance.json", "data/camvid.provenance.json"}


def test_damage_is_found_before_a_job_and_made_anew_in_one_run(few, finished_few, undisturbed):
    damaged = [few.folder / "data/camvid.npz", few.folder / CIFAR10 / "best.pt"]
    for path in damaged:
        cut(path)
    (few.folder / "figures/small/units.pdf").unlink()
    told = [f"{path.relative_to(few.folder)}: damaged, or changed since it was made; " for path in damaged]
    planned = few.snakemake("all", "--dry-run").stdout
    for path, line in zip(damaged, told, strict=True):
        assert f"{line}a run sets it aside as {path.name}.damaged and makes it anew\n" in planned and path.exists()
    made = all_ends_well(few)
    for path, line in zip(damaged, told, strict=True):
        assert f"{line}it is {path.name}.damaged now, and is made anew\n" in made
    assert {path.with_name(f"{path.name}.damaged") for path in damaged} == {*few.folder.rglob("*.damaged")}
    assert_undisturbed(few, undisturbed)
    again = {"train_segmenter", "measure_snapshots", "measure_units"}  # and not train_classifier
    assert (
        put_back(few) - {"figure_units", "check_claims", "figure_scorecard"} == again
    )  # units.csv is the claims', too
    record = Path(CAMVID) / "provenance.json"  # with the time that it took to train
    assert (few.folder / record).read_text() == (finished_few.folder / record).read_text()
    assert few.jobs_to_run() == set()


def test_without_a_source_only_the_damaged_file_is_lost(few, undisturbed):
    online, changed = few.environment, copy.deepcopy(few.config)
    changed["datasets"]["cifar10"]["sources"] = changed["datasets"]["camvid"]["sources"] = ["elsewhere"]
    few.environment, few.config = {**online, "ERF_DATA_MIRROR": ""}, changed
    assert few.jobs_to_run() == {"replication_report"}  # which shows the configuration
    cut(few.folder / "data/camvid.npz")
    result = few.snakemake("all", "--keep-going")
    assert result.returncode == 1 and "error: no source of CamVid worked" in result.stdout
    assert differences(digests(few.folder), undisturbed) == ["data/camvid.npz: missing"]
    few.environment = online
    all_ends_well(few)
    assert_undisturbed(few, undisturbed)


def test_without_a_gpu_nothing_starts_that_asks_for_one(few):
    few.environment = {**few.environment, "CUDA_VISIBLE_DEVICES": ""}
    few.config = {**few.config, "device": "cuda"}
    assert few.jobs_to_run() == {"replication_report"}  # what was made on another device stays
    (few.folder / CIFAR10 / "best.pt").unlink()
    before = digests(few.folder)
    result = few.snakemake("all")
    assert result.returncode == 1
    error = "error: device: cuda was asked for, but there is no GPU here; set device to auto or cpu"
    assert error in result.stdout.splitlines()[-2:] and "Traceback" not in result.stdout
    assert digests(few.folder) == before and not list(few.folder.rglob(kept.FOLDER))


def test_a_copied_or_touched_project_has_nothing_to_do(few, tmp_path, undisturbed):
    copied = few.copy_to(tmp_path / "copied", shutil.copyfile)  # as `cp -r` does: every file is new
    data = copied.folder / "data/camvid.npz"
    data.touch()
    assert copied.jobs_to_run() == set()
    assert "Nothing to be done" in all_ends_well(copied)
    assert differences(digests(copied.folder), undisturbed) == []
    # From now on no file is read that need not be.
    assert data.stat().st_mtime_ns <= min(path.stat().st_mtime_ns for path in (copied.folder / CAMVID).iterdir())


def test_a_job_that_fails_leaves_what_was_made_before_and_stale_results_are_not_passed(few, undisturbed):
    good, changed, former = few.config, copy.deepcopy(few.config), digests(few.folder)
    former = {Path(path).name: content for path, content in former.items() if path.startswith(CIFAR10)}
    changed["training_defaults"]["cifar10"]["recipe"]["learning_rate"] = 0.2
    obstacle = few.folder / "results/small/resume/cifar10"  # a folder is wanted there
    obstacle.parent.mkdir(exist_ok=True)
    obstacle.touch()
    few.config = changed
    for _ in range(2):
        result = few.snakemake("all", "--keep-going")
        assert result.returncode == 1
        said = (few.folder / "logs/small/train_classifier/cifar10/seed_0.log").read_text().splitlines()
        assert said[-2] == f"what an earlier run made is kept in {CIFAR10}/.kept"
        assert re.fullmatch("error: results/small/resume/.*: Not a directory", said[-1])
        found = [path for path in (few.folder / CIFAR10).rglob("*") if path.is_file() and path.name in former]
        assert {path.name: digest(path) for path in found} == former
        assert {path.parent.name for path in found} == {".kept"}
    few.config = good
    all_ends_well(few)
    assert "train_classifier" in put_back(few)
    obstacle.unlink()
    assert_undisturbed(few, undisturbed)
    few.config = changed
    all_ends_well(few)
    assert digest(few.folder / CIFAR10 / "best.pt") != former["best.pt"]
    assert not list(few.folder.rglob(kept.FOLDER))


def test_a_dataset_of_other_content_is_refused_although_it_has_no_record(few, undisturbed):
    path = few.folder / "data/cifar10.npz"
    with np.load(path) as data:
        arrays = {name: data[name] for name in data.files}
    arrays["train_images"][0] ^= 1
    np.savez(path, **arrays)
    path.with_suffix(".provenance.json").unlink()
    result = few.snakemake("all", "--keep-going")
    assert result.returncode == 1
    assert "error: data/cifar10.npz: other images or labels than the configuration's (SHA-256 " in result.stdout
    assert f"not {few.config['datasets']['cifar10']['sha256']}); delete it and run again, or " in result.stdout
    path.unlink()
    all_ends_well(few)
    assert_undisturbed(few, undisturbed)


# The parts.


@pytest.fixture
def table(tmp_path) -> SimpleNamespace:
    """A table that a script has made of another one, kept as before a rerun, and how the script is called again."""
    made, script = tmp_path / "made.csv", tmp_path / "script.py"
    (tmp_path / "read.csv").write_text("of this")
    arguments = ["--read", str(tmp_path / "read.csv"), "--device", "cpu", "--out", str(made)]
    with recorded(script, arguments, "code"):
        checked(tmp_path / "read.csv")
        with atomic(made) as temporary:
            temporary.write_text("that")
    outputs = [str(made), str(tmp_path / "made.provenance.json")]
    return SimpleNamespace(folder=tmp_path, made=made, script=script, arguments=arguments, outputs=outputs)


def lose(table: SimpleNamespace, forced: bool = False) -> None:
    """What Snakemake does to the outputs of a job that is to run."""
    safekeeping.keep(table.outputs, forced)
    for path in map(Path, table.outputs):
        path.unlink()


def test_what_was_kept_is_put_back_as_it_was(table):
    record = json.loads(Path(table.outputs[1]).read_text())
    lose(table)
    table.arguments[3] = "cuda"
    assert kept.put_back(table.script, "code", table.arguments) == record["finished"]
    assert table.made.read_text() == "that" and json.loads(Path(table.outputs[1]).read_text()) == record
    assert not (table.folder / ".kept").exists()
    assert not list(safekeeping.inspect(table.outputs, mend=True))


@pytest.mark.parametrize("change", ["code", "argument", "input", "no input", "damage", "old record", "forced"])
def test_what_was_kept_of_anything_else_is_not_put_back(table, change):
    lose(table, forced=change == "forced")
    code, record = "code", table.folder / ".kept/made.provenance.json"
    if change == "code":
        code = "other code"
    elif change == "argument":
        table.arguments += ["--more", "x"]
    elif change == "input":
        (table.folder / "read.csv").write_text("of something else")
    elif change == "no input":
        (table.folder / "read.csv").unlink()
    elif change == "damage":
        (table.folder / ".kept/made.csv").write_text("thax")
    elif change == "old record":
        record.write_text(json.dumps({**json.loads(record.read_text()), "code": None}))
    assert kept.put_back(table.script, code, table.arguments) is None
    assert not table.made.exists() and (table.folder / ".kept/made.csv").exists()
    assert kept.whereabouts(table.arguments) == f"what an earlier run made is kept in {table.folder / '.kept'}"
    kept.discard(table.arguments)
    assert not (table.folder / ".kept").exists()


def test_half_of_a_killed_run_does_not_replace_what_was_kept(table):
    lose(table)
    table.made.write_text("half of the n")
    lose_again = [path for path in table.outputs if Path(path).exists()]
    safekeeping.keep(table.outputs, forced=False)
    Path(*lose_again).unlink()
    assert kept.put_back(table.script, "code", table.arguments)
    assert table.made.read_text() == "that"


def test_one_more_file_in_a_folder_that_was_read_is_a_change(tmp_path):
    (tmp_path / "images").mkdir()
    before = digest(tmp_path / "images")
    (tmp_path / "images/more.png").touch()
    assert digest(tmp_path / "images") != before


def test_a_file_is_read_only_if_it_is_newer_than_its_record(table, monkeypatch):
    monkeypatch.setattr(safekeeping, "digest", lambda path: pytest.fail("read"))
    assert not list(safekeeping.inspect(table.outputs, mend=True))
    monkeypatch.undo()
    future = time.time() + 100
    os.utime(table.made, (future, future))
    assert not list(safekeeping.inspect(table.outputs, mend=False))
    assert table.made.stat().st_mtime == pytest.approx(future)
    assert not list(safekeeping.inspect(table.outputs, mend=True))
    assert table.made.stat().st_mtime <= time.time()


def test_what_is_newer_than_what_was_made_from_it_stays_so(table):
    """A table that is made anew with other content, before what is made from it was: a copy must not hide that."""
    after = table.folder / "after.csv"
    with recorded(table.script, [], "code"):
        checked(table.made)
        with atomic(after) as temporary:
            temporary.write_text("of that")
    record = Path(table.outputs[1])
    changed = json.loads(record.read_text())
    later = datetime.fromtimestamp(time.time() + 1000, UTC).isoformat(timespec="seconds")
    table.made.write_text("other")
    record.write_text(json.dumps(changed | {"written": {"made.csv": digest(table.made)}, "finished": later}))
    future = time.time() + 5000
    for path in (table.made, after):
        os.utime(path, (future, future))
    assert not list(safekeeping.inspect([str(table.made), str(after)], mend=True))
    assert after.stat().st_mtime < table.made.stat().st_mtime
