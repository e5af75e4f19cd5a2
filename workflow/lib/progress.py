"""What a run says while its jobs run: a line a job with how many wait and for how long, and the bars of long jobs.

Snakemake's own words, which name files, shell commands and settings in full, are in its log under .snakemake/log; with
--printshellcmds or --verbose they are on the terminal too, in place of these.
"""

import contextlib
import logging
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from snakemake.logging import DefaultFormatter, logger, show_logs
from snakemake_interface_logger_plugins.common import LogEvent

from lib.estimate import Estimate, earlier_times, in_words

# What Snakemake says of itself, line by line, and nobody needs who watches a run.
NOISE = re.compile(
    r"Building DAG of jobs|Using shell:|Conda environments: ignored|Group jobs: inactive"
    r"|Select jobs to execute|Execute \d+ jobs|Complete log\(s\)|Elapsed time:|Exiting because a job execution failed"
    r"|Full Traceback|Removing output files of failed job|RuleException:\s+CalledProcessError"
)
QUIET = {LogEvent.WORKFLOW_STARTED, LogEvent.RESOURCES_INFO, LogEvent.JOB_FINISHED, LogEvent.PROGRESS}
BAR = re.compile(r"[^\r\n]*\[\d+:\d\d[^\r\n\]]*\]")  # as tqdm draws it
TAIL = 4000  # bytes at the end of a log, among which its bar is looked for
LONG = 20  # seconds after which a job's bar is shown
EVERY = 60  # seconds between two lines with bars, where there is no terminal on which one can be redrawn
ERASE = "\r\x1b[K"  # on a terminal: the line that the cursor is in


class Progress:
    """Follows what Snakemake logs of a run's jobs.

    workflow : Snakemake's
    dry : nothing is run, only planned
    """

    def __init__(self, workflow, dry: bool):
        self.workflow, self.dry = workflow, dry
        self.jobs: dict[int, object] = {}
        self.estimate = Estimate({}, {})
        self.logs: dict[int, tuple[float, str, list[str]]] = {}  # of jobs that have started: when, what, and its logs
        self.failed: dict[int, tuple[list[str], str]] = {}  # logs of jobs that have failed, and what the executor says
        self.counted = False
        self.handler = next((one for one in logger.handlers if one.name == "DefaultStreamHandler"), None)
        self.ended = threading.Event()

    def begin(self) -> None:
        """Listen from now on, and speak in Snakemake's place unless the user wants its own words."""
        settings = self.workflow.output_settings
        logger.addFilter(self.listen)
        if self.handler is None:  # a logger of the user's
            return
        if not (settings.verbose or settings.printshellcmds or settings.debug_dag):
            self.handler.addFilter(self.is_wanted)
            self.handler.setFormatter(Calm(self, settings.quiet, settings.show_failed_logs))
        if not (self.dry or settings.quiet):
            threading.Thread(target=self.show_bars, daemon=True).start()

    def end(self) -> None:
        """Take no more notice."""
        self.ended.set()
        logger.removeFilter(self.listen)
        if self.on_terminal():
            self.write(ERASE)

    def plan(self) -> None:
        """Learn what there is to do, once that is planned."""
        dag = self.workflow.dag
        self.jobs = {dag.jobid(job): job for job in dag.needrun_jobs() if not job.is_norun}
        rules = {number: job.rule.name for number, job in self.jobs.items()}
        self.estimate = Estimate(rules, earlier_times((n, str(job.benchmark)) for n, job in self.jobs.items()))

    # What Snakemake logs.

    def listen(self, record: logging.LogRecord) -> bool:
        """Note what a record says of a job; every record goes on to the handlers."""
        now = time.time()
        match getattr(record, "event", None):
            case LogEvent.JOB_INFO:
                self.planned()
                self.estimate.start(record.jobid, now)
                self.logs[record.jobid] = (now, record.rule_msg or record.rule_name, record.log)
            case LogEvent.JOB_FINISHED:
                self.estimate.stop(record.job_id, now)
                self.failed.pop(record.job_id, None)  # it was tried again
            case LogEvent.JOB_ERROR:
                self.estimate.stop(record.jobid, now, done=False)
                self.failed[record.jobid] = record.log, cause(getattr(record, "rule_msg", None))
        return True

    def is_wanted(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown."""
        self.handler.last_msg_was_job_info = True  # else an empty line comes before a job's
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO and self.dry:  # Snakemake counts the jobs before it lists them and again after
            self.counted = not self.counted
            return not self.counted
        if event == LogEvent.JOB_INFO:
            return record.rule_name in {job.rule.name for job in self.planned().values()}
        return event not in QUIET and not NOISE.match(str(record.msg))

    def planned(self) -> dict[int, object]:
        """The jobs of the run by their numbers."""
        if not self.jobs:
            self.plan()
        return self.jobs

    def why(self, job: int) -> str:
        """Why a job is done that was done before, in a few words; nothing of one whose output is missing."""
        reason = self.workflow.dag.reason(self.jobs[job])
        newer = sorted({str(path) for path in reason.updated_input} - {str(path) for path in reason.updated_input_run})
        causes = {
            "forced": reason.forced,
            "settings changed": reason.params_changed,
            "command changed": reason.code_changed,
            "other inputs": reason.input_changed,
            f"newer: {newer[0] if newer else ''}{f' and {len(newer) - 1} more' if newer[1:] else ''}": newer,
            "incomplete": reason.incomplete_output,
            "some files missing": reason.missing_output and any(map(Path.exists, map(Path, self.jobs[job].output))),
        }
        return next((f", {cause}" for cause, holds in causes.items() if holds), "")

    # What is shown.

    def line(self, record: logging.LogRecord) -> str:
        """The line of a job that starts, or would."""
        text = (record.rule_msg or f"{record.rule_name} {' '.join(record.wildcards.values())}").strip()
        text += self.why(record.jobid) if record.jobid in self.planned() else ""
        if self.dry:
            return text
        now = time.time()
        left, waiting = in_words(self.estimate.left(now)), self.estimate.waiting
        told = f"{waiting} more to start" if waiting else "the last one"
        return f"{time.strftime('%H:%M:%S')}  {text}  ({told}{f', {left} left' if left else ''})"

    def bars(self) -> list[str]:
        """What the bars of jobs that have run for a while say, of those that have one."""
        found = []
        for job, started in sorted([*self.estimate.running.items()], key=lambda item: item[1]):
            since, text, logs = self.logs.get(job, (started, "", []))
            bar = last_bar(logs, since) if time.time() - started > LONG else None
            found += [f"{text}: {bar}"] if bar else []
        return found

    def show_bars(self) -> None:
        """Until the run ends: the bars, redrawn in the last line of a terminal, or in a line of their own now and
        then."""
        live, shown = self.on_terminal(), time.time()
        while not self.ended.wait(1):
            bars = self.bars()
            if live and bars:
                shortest = shutil.get_terminal_size().columns - 1
                self.write(ERASE + "  |  ".join(bars)[:shortest])
            elif bars and time.time() - shown >= EVERY:
                self.write("".join(f"{time.strftime('%H:%M:%S')}  … {bar}\n" for bar in bars))
                shown = time.time()

    def on_terminal(self) -> bool:
        """Whether a line can be drawn again."""
        return bool(self.handler and getattr(self.handler, "is_tty", False))

    def write(self, text: str) -> None:
        """Write between the lines of the log."""
        with contextlib.suppress(OSError, ValueError), self.handler.lock:
            if not self.ended.is_set() or text == ERASE:
                self.handler.stream.write(text)
                self.handler.flush()

    # How it ended.

    def errors(self) -> list[str]:
        """What the jobs that have failed say is wrong, each line once."""
        found = []
        for job, (logs, why) in self.failed.items():
            since, text, _ = self.logs.get(job, (0, f"job {job}", []))
            fresh = [path for path in logs if Path(path).exists() and Path(path).stat().st_mtime >= since - 1]
            if not fresh and len(self.failed) > 1:  # of a group of jobs, one that had not started
                continue
            lines = [line for path in fresh for line in error_lines(path)]
            found += lines or [f"error: {text}: {why or last_words(fresh)}{f'; see {fresh[0]}' if fresh else ''}"]
        return list(dict.fromkeys(found))


class Calm(DefaultFormatter):
    """Snakemake's formatter, but for what a job's line is."""

    def __init__(self, progress: Progress, quiet, show_failed_logs: bool):
        super().__init__(quiet, show_failed_logs)
        self.progress = progress

    def format(self, record: logging.LogRecord) -> str:
        if getattr(record, "event", None) == LogEvent.JOB_INFO:
            text = self.progress.line(record)
        elif getattr(record, "event", None) == LogEvent.RUN_INFO and not self.progress.dry:
            count = len(self.progress.planned())
            text = f"{count} job{'s' * (count != 1)} to do"
        else:
            text = super().format(record)
        return f"{ERASE}{text}" if text and self.progress.on_terminal() else text

    def format_job_error(self, msg: dict) -> str:
        """The job and its log; the files and the command are in Snakemake's own log."""
        text = self.progress.logs.get(msg["jobid"], (0, msg["rule_name"], []))[1]
        why = cause(msg["rule_msg"])
        told = f"{text}: failed{f': {why}' if why else ''}"
        return "\n".join([told, *(show_logs(msg["log"]) if self.show_failed_logs else [])])


def cause(told: str | None) -> str:
    """What an executor says of a job that failed, such as SLURM's status; nothing of one that ran here."""
    return " ".join((told or "").partition("For further error details")[0].split()).rstrip(".")


def tail(path: str) -> str:
    """The end of a text file; nothing, if it cannot be read."""
    with contextlib.suppress(OSError), Path(path).open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - TAIL))
        return file.read().decode("utf-8", "replace")
    return ""


def last_bar(logs: list[str], since: float) -> str | None:
    """The bar that stands last in logs that were written after a job started."""
    for path in logs:
        with contextlib.suppress(OSError):
            if Path(path).stat().st_mtime >= since - 1 and (found := BAR.findall(tail(path))):
                return found[-1].strip()
    return None


def error_lines(path: str) -> Iterator[str]:
    """The lines of a log that say what is wrong."""
    for line in re.split(r"[\r\n]+", tail(path)):
        if line.startswith("error: "):
            yield line.rstrip()


def last_words(logs: list[str]) -> str:
    """The last line of logs that say nothing of an error, such as a traceback's; it may be a bar, of a job that was
    killed."""
    lines = [line.strip() for path in logs for line in re.split(r"[\r\n]+", tail(path)) if line.strip()]
    if not lines or BAR.fullmatch(lines[-1]):
        return "ended without a word (killed, or beyond its memory or time?)"
    return lines[-1][:300]
