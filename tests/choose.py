"""Which tests run when.

    make test        all but the slow ones
    .ci/run          those, and of the slow ones all whose files have changed since the whole suite last passed
    make test-all    all; it notes the commit at which they passed in tests/passed

The slow tests start the pipeline many times, kill it, fill disks, or want a browser or a SLURM.
"""

import re
import subprocess
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parent.parent
PASSED = Path(__file__).with_name("passed")  # the commit at which `make test-all` last passed

# Slow tests, by file or by file and the beginning of their names, and the files whose change calls for them.
PIPELINE = ("Snakefile", "workflow/", "scripts/replication/commands/", "scripts/erf/system/", "config/config.yaml")
SLOW = {
    "test_gpu_bundle.py": ("workflow/gpu_", "workflow/lib/", "scripts/train_", "scripts/replication/trained/"),
    "test_faults.py": (*PIPELINE, "scripts/replication/training/", "scripts/replication/downloads/"),
    "test_lost_work.py": PIPELINE,
    "test_place.py": PIPELINE,
    "test_module.py": PIPELINE,
    "test_slurm.py": ("workflow/profiles/", "workflow/rules/", "workflow/lib/", "tests/slurm/"),
    "test_reproducibility.py": (*PIPELINE, "scripts/replication/", "scripts/measure_", "scripts/train_"),
    "test_report.py": ("workflow/report/", "scripts/replication_report.py", "scripts/replication/drawing/"),
    "test_extend.py": ("docs/extend.md", "workflow/", "config/", "scripts/replication/"),
    "test_trust.py::test_trust_reaches": (*PIPELINE, "scripts/erf/models/"),
    "test_config.py::test_snakemake_shows": PIPELINE,
    "test_config.py::test_a_strange_file": PIPELINE,
    "test_config.py::test_every_bad_configuration": ("workflow/", "config/", "scripts/replication/stacks/"),
    "test_config.py::test_no_nasty_name": ("workflow/", "config/"),
    "test_config.py::test_every_configuration_plans": ("workflow/", "config/", "Snakefile"),
    "test_erf_command.py::test_pip": ("pyproject.toml", "scripts/erf/"),
    "test_real_data.py": ("scripts/replication/", "scripts/download_", "scripts/train_"),
    "test_hostile_server.py": ("scripts/replication/downloads/", "scripts/download_", "scripts/erf/system/"),
    "test_zoo.py": ("scripts/erf/",),
    "test_article.py::test_the_rule": (*PIPELINE, "scripts/article.py"),
    "test_messages.py::test_a_target": PIPELINE,
    "test_messages.py::test_a_configfile": PIPELINE,
    "test_site.py::test_a_notebook": ("docs/notebooks/", "scripts/erf/"),
    "test_workflow.py::test_a_real_change": PIPELINE,
    "test_workflow.py::test_a_changed_setting": PIPELINE,
}
# Files whose tests share fixtures that take minutes: those of one name go to one worker.
PIPELINE_TESTS = (
    "test_faults.py",
    "test_gpu_bundle.py",
    "test_report.py",
    "test_reproducibility.py",
    "test_workflow.py",
)
TOGETHER = dict.fromkeys(PIPELINE_TESTS, "pipeline")
TOGETHER |= {name: name for name in ("test_slurm.py", "test_training.py", "test_train_reach.py", "test_lost_work.py")}


class ByFile(LoadScopeScheduling):
    """Each test by itself to the next free worker, but for those that go together."""

    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER.get(Path(nodeid.split("::")[0]).name, nodeid)


def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log)


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="the slow tests too")
    parser.addoption("--changed", action="store_true", help="of the slow tests those whose files have changed")


def pytest_collection_modifyitems(config, items):
    if config.option.all or any("::" in argument for argument in config.args):
        return
    changed = changed_files() if config.option.changed else []
    chosen = [item for item in items if runs(item.nodeid, changed, named=config.args)]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def runs(test: str, changed: list[str] | None, named: list[str]) -> bool:
    """Whether a test runs: it is not slow, its file was named, or one of its files has changed (None: all have)."""
    name = test.removeprefix("tests/")
    called_for = next((files for slow, files in SLOW.items() if name.startswith(slow)), None)
    file = name.split("::")[0]
    if called_for is None or changed is None or any(Path(one).name == file for one in named):
        return True
    return any(path.startswith((*called_for, f"tests/{file}", "tests/conftest.py")) for path in changed)


def changed_files() -> list[str] | None:
    """Files that have changed since the whole suite passed; None if that commit is not known here."""
    passed = PASSED.read_text(encoding="utf-8").strip() if PASSED.exists() else ""
    if not re.fullmatch("[0-9a-f]{40}", passed):
        return None
    found = subprocess.run(["git", "-C", ROOT, "diff", "--name-only", passed], capture_output=True, encoding="utf-8")
    return found.stdout.splitlines() if found.returncode == 0 else None
