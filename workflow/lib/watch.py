"""Around Snakemake's planning and running: what comes before the plan, what a run tells, and what its last lines are.

Snakemake has no hook before it plans, and reads the Snakefile also where it neither plans nor runs; and it calls the
handlers of the main Snakefile alone, not those of a module. So all of them are put around its own functions.
"""

import re
import sys
from collections.abc import Callable

from snakemake.exceptions import RuleException, WorkflowError

from lib import checks, cluster, safekeeping, targets
from lib.progress import Progress
from lib.run import Run


def watch(workflow, run: Run) -> None:
    """Let Snakemake make anew what is damaged, and not what would be made from it in vain; tell the run when its jobs
    start, and when they have ended; and end with what was made, or with what is wrong."""
    plan_and_run = workflow.execute

    def around(executor_plugin, **settings):
        kind = executor_plugin.common_settings
        progress = Progress(workflow, dry=kind.dryrun_exec)
        for told in () if kind.touch_exec else safekeeping.inspect(run.all_files(), mend=not kind.dryrun_exec):
            print(told, file=sys.stderr)
        for told in checks.unshown(run) if asks_for_all(workflow) else ():
            print(f"note: {told}", file=sys.stderr)
        for name, ours in (("onstart", run.start), ("onsuccess", run.succeed), ("onerror", run.end)):
            setattr(workflow, f"_{name}", _both(ours, getattr(workflow, f"_{name}")))
        progress.begin()
        try:
            plan_and_run(executor_plugin=executor_plugin, **settings)
        except (WorkflowError, RuleException) as error:
            progress.end()
            if line := wrong_target(run, error):
                sys.exit(f"error: {line}")
            if errors := progress.errors():
                sys.exit("\n".join(errors))
            raise
        finally:
            progress.end()
        told = cluster.requests(workflow, progress.planned().values()) if kind.dryrun_exec else run.what_was_made()
        if told:
            print(told, flush=True)

    if workflow.is_main_process:
        workflow.execute = around


def asks_for_all(workflow) -> bool:
    """Whether the run is to make all that the configuration shows."""
    return all(name.endswith("all") for name in workflow.dag_settings.targets)


def wrong_target(run: Run, error: Exception) -> str | None:
    """What to write instead of a target that Snakemake cannot make; None if the error is another."""
    if missing := re.match(r"No rule to produce (.*) \(if you use input functions", str(error)):
        return targets.refusal(run, missing[1])
    if str(error).startswith("Target rules may not contain wildcards"):
        return targets.examples(run, run.workflow.dag_settings.targets)
    return None


def _both(ours: Callable[[], None], theirs: Callable) -> Callable:
    """A handler as Snakemake calls it that does ours first."""

    def handler(log):
        ours()
        theirs(log)

    return handler
