"""The configuration, checked, and what the rules call. What they call is in workflow/lib."""

import re
import sys
from pathlib import Path

# Of this file, and not of the working folder or of a workflow that uses this one as a module.
PROJECT = Path(str(workflow.current_basedir)).parents[1]
sys.path[:0] = [str(PROJECT / "workflow"), str(PROJECT / "scripts")]

from lib import checks, place as places, strict, watch
from lib.configuration import Configuration, on_top, without
from lib.figures import FIGURES
from lib.place import Place, record
from lib.run import Run, untracked
from replication.datasets.table import DATASETS

BASE_CONFIG = os.path.relpath(PROJECT / "config/config.yaml")

places.check(PROJECT)
strict.check_file(Path(BASE_CONFIG))


configfile: BASE_CONFIG


if workflow.modifier.skip_configfile:  # a module with a configuration of its own, which goes on top of the paper's
    config = on_top(strict.read(Path(BASE_CONFIG)), config)

configuration = Configuration(config, trust=workflow.config_settings.config.get("trust"))
here = Place(PROJECT, config.get("name", ""))
results, figures, logs, benchmarks, program = here.results, here.figures, here.logs, here.benchmarks, here.program
run = Run(configuration, here, rules, workflow)
checks.check_config(run, [*workflow.configfiles, *workflow.overwrite_configfiles], workflow.config_settings.config)

if workflow.is_main_process and not workflow.output_settings.dryrun:
    here.settle_dates()


def one_of(names):
    """A wildcard constraint that matches exactly the given names (nothing, if there are none)."""
    return "|".join(map(re.escape, names)) or "(?!)"


def uses_gpu():
    """One GPU for a training, none where the configuration says so."""
    return 0 if config["device"] == "cpu" else 1


def minutes(first):
    """Time of a job: so many minutes, and as many more in each further attempt."""
    return lambda wildcards, attempt: first * attempt
