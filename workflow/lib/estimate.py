"""How long a run will still take, from the jobs that have ended and from those of earlier runs."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean

ENOUGH = 3  # jobs that have ended, before they say anything of those of other rules


class Estimate:
    """The time left, in seconds, of jobs that run beside each other.

    A job is expected to take as long as jobs of its rule took in this run; before one has ended, as long as it took in
    an earlier run; before there was one, as long as a job took on average.

    rules : the rule of every job of the run, by the job's number
    earlier : seconds that a job took in an earlier run, where they are known
    """

    def __init__(self, rules: Mapping[int, str], earlier: Mapping[int, float]):
        self.rules, self.earlier = rules, earlier
        self.running: dict[int, float] = {}  # when they started
        self.took: dict[int, float] = {}  # of the jobs that have ended
        self.began: float | None = None

    def start(self, job: int, now: float) -> None:
        """A job starts; for the second time, if it failed and is tried again."""
        self.began = now if self.began is None else self.began
        self.running[job] = now

    def stop(self, job: int, now: float, done: bool = True) -> None:
        """A job has ended: it is done, or has failed, and then says nothing of how long such jobs take."""
        started = self.running.pop(job, None)
        if done and job in self.rules:
            self.took[job] = 0.0 if started is None else now - started

    @property
    def waiting(self) -> int:
        """Number of jobs that have neither ended nor started."""
        return len(self.rules.keys() - self.took.keys() - self.running.keys())

    def left(self, now: float) -> float | None:
        """Seconds until the last job ends; None while too little is known."""
        by_rule: dict[str, list[float]] = {}
        for job, seconds in self.took.items():
            by_rule.setdefault(self.rules[job], []).append(seconds)
        known = [*self.took.values()] if len(self.took) >= ENOUGH else [*self.earlier.values()]
        total, longest = 0.0, 0.0
        for job in self.rules.keys() - self.took.keys():
            alike = by_rule.get(self.rules[job]) or ([self.earlier[job]] if job in self.earlier else known)
            if not alike:
                return None
            rest = max(0.0, mean(alike) - (now - self.running.get(job, now)))
            total, longest = total + rest, max(longest, rest)
        return max(longest, total / self._beside(now))

    def _beside(self, now: float) -> float:
        """How many jobs have run at a time, on average; at least one."""
        busy = sum(self.took.values()) + sum(now - started for started in self.running.values())
        elapsed = now - self.began if self.began is not None else 0.0
        return max(1.0, busy / elapsed if elapsed else 1.0, len(self.running))


def in_words(seconds: float | None) -> str:
    """A time as one says it; nothing, if it is not known."""
    if seconds is None:
        return ""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 60:
        return f"about {minutes} min"
    if minutes >= 600:
        return f"about {round(minutes / 60)} h"
    hours, minutes = divmod(round(minutes, -1), 60)
    return f"about {hours} h" + f" {minutes} min" * (minutes > 0)


def earlier_times(benchmarks: Iterable[tuple[int, str]]) -> dict[int, float]:
    """Seconds by job, from the tables of earlier runs, which Snakemake's `benchmark:` leaves; jobs that have none are
    left out."""
    found = {}
    for job, path in benchmarks:
        try:
            heading, *rows = Path(path).read_text(encoding="utf-8").splitlines()
            found[job] = mean(float(row.split("\t")[heading.split("\t").index("s")]) for row in rows)
        except (OSError, ValueError):  # there was none, or it was killed while it wrote
            continue
    return found
