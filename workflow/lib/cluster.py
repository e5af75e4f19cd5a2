"""What a cluster will be asked for, told in a dry run: time, memory, processors, GPUs and partition."""

import contextlib
import io
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

COLUMNS = ("job", "number", "CPUs", "memory", "time", "GPUs", "partition")


def requests(workflow, jobs: Iterable) -> str | None:
    """A table of what each kind of job of a dry run would ask for; None if no cluster would be asked.

    jobs : Snakemake's, that would run
    """
    if workflow.resource_settings.nodes is None:  # --jobs, which every cluster's profile says
        return None
    arguments = command_line()
    if arguments is None or arguments.executor in (None, "local", "dryrun", "touch"):
        return None
    partitions = partitions_of(arguments)
    kinds = Counter(request(job, partitions) for job in submitted(workflow, {*jobs}))
    rows = [COLUMNS, *((name, str(number), *asked) for (name, *asked), number in sorted(kinds.items()))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return f"{arguments.executor} would be asked for:\n" + "\n".join(lines)


def command_line():
    """What Snakemake makes of its command line and the profiles; None if it was not started from one."""
    from snakemake.cli import parse_args

    with contextlib.suppress(SystemExit, Exception), contextlib.redirect_stderr(io.StringIO()):
        return parse_args(sys.argv[1:])[1]


def submitted(workflow, needed: set) -> Iterator:
    """The jobs and groups that would go to the cluster. In a dry run all jobs are local to Snakemake, so that only its
    list of local rules says which stay."""
    grouped = workflow.dag._group  # get_jobs_or_groups() fails where a job of a group's rule has nothing to do
    for job in dict.fromkeys(grouped.get(job, job) for job in sorted(needed, key=str)):
        members = {*job.jobs} if job.is_group() else {job}
        if not {one.rule.name for one in members} & workflow._localrules:
            yield job


def request(job, partitions: list | None) -> tuple[str, ...]:
    """A job's row of the table but for the number of such jobs."""
    name = f"group {job.groupid}, of {len(job)} job{'s' * (len(job) > 1)}" if job.is_group() else job.rule.name
    asked = job.resources
    memory, minutes = asked.get("mem_mb"), asked.get("runtime")
    return (
        name,
        str(job.threads),
        f"{memory:,} MB" if isinstance(memory, int) else "default",
        hours(minutes) if isinstance(minutes, int) else "default",
        str(asked.get("gpu", 0) or 0),
        asked.get("slurm_partition") or partition(job, partitions),
    )


def hours(minutes: int) -> str:
    """Minutes as SLURM has them."""
    return f"{minutes // 60}:{minutes % 60:02d} h"


def partitions_of(arguments) -> list | None:
    """The partitions from which SLURM's plugin chooses; None if it does not."""
    path = getattr(arguments, "slurm_partition_config", None)
    if not path or not Path(path).is_file():
        return None
    from snakemake_executor_plugin_slurm.partitions import read_partition_file

    return read_partition_file(Path(path))


def partition(job, partitions: list | None) -> str:
    """The partition that the plugin would choose, by its own score."""
    scores = {one.name: score for one in partitions or () if (score := one.score_job_fit(job)) is not None}
    return max(scores, key=scores.get) if scores else "none fits" if partitions else "default"
