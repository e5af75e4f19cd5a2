"""Tables of the report: trainings, times, seeds, checksums, as printed."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from erf.result.intervals import mean_interval
from erf.system.files import checked, record_of
from replication.datasets.table import DATASETS
from replication.drawing.labels import counted, over_seeds
from replication.trained.tables import labelled, read_scores, read_sizes


def cost_table(paths: list[Path]) -> list[dict]:
    """Times by rule, the longest first, and in all, from the records of all jobs. Where an earlier run's result was put
    back, that is the time of the run that made it."""
    records = [json.loads(checked(path).read_text(encoding="utf-8")) for path in paths]
    if not records:
        return []
    times = pd.DataFrame(
        [
            {"rule": record["script"].removesuffix(".py"), "seconds": record["seconds"], "memory": record["memory"]}
            for record in records
        ]
    )
    rows = sorted(times.groupby("rule"), key=lambda row: -row[1]["seconds"].sum())
    return [cost_row(rule, here) for rule, here in [*rows, ("in all", times)]]


def cost_row(rule: str, jobs: pd.DataFrame) -> dict:
    return {
        "rule": rule,
        "jobs": len(jobs),
        "total": duration(jobs["seconds"].sum()),
        "longest": duration(jobs["seconds"].max()),
        "memory": f"{jobs['memory'].max() / 1024:.1f}",
    }


def duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


ORIGIN = ("commit", "processor", "GPU", "torch")


def origins_table(paths: list[Path]) -> list[dict]:
    """How many of these results each commit made on each kind of machine, the most first; from their records."""
    records = [record[1] if (record := record_of(path)) else {} for path in paths]
    counts = Counter(tuple(record.get(name, "not on record") for name in ORIGIN) for record in records)
    return [{"results": count, **dict(zip(ORIGIN, origin, strict=True))} for origin, count in counts.most_common()]


def speed_table(paths: list[Path]) -> list[dict]:
    """Speed of each training, from .../<training>/seed_<seed>/speed.csv."""
    if not paths:
        return []
    runs = pd.concat([labelled(path, "seconds") for path in paths])
    rows = []
    for training, here in runs.groupby("training", sort=False):
        share = here["share_of_bf16_peak"].mean()
        rows.append(
            {
                "training": training,
                "seeds": here["seed"].nunique(),
                "minutes": f"{here.groupby('seed')['seconds'].sum().mean() / 60:.1f}",
                "images": f"{here['images_per_second'].mean():.0f}",
                "share": "" if np.isnan(share) else f"{100 * share:.0f} %",
                "device": f"{here['device'].iloc[0]}, {counted(here['threads'].iloc[0], 'thread')}",
            }
        )
    return rows


def training_table(sizes: list[Path], scores: list[Path]) -> list[dict]:
    """Test scores and ERF diameters of every training, means over seeds."""
    if not sizes:
        return []
    measured, tested = read_sizes(sizes), read_scores(scores)
    rows = []
    for training, here in measured.groupby("training", sort=False):
        own, dataset = tested[tested["training"] == training], here["dataset"].iloc[0]
        diameters = here.pivot_table(index="seed", columns="snapshot", values="diameter")
        seeds = len(diameters)
        rows.append(
            {
                "training": training,
                "seeds": seeds,
                "score": f"{DATASETS[dataset].score_title} {over_seeds(mean_interval(100 * own['score']), seeds)} %",
                "before": over_seeds(mean_interval(diameters["epoch_000"]), seeds),
                "after": over_seeds(mean_interval(diameters["best"]), seeds),
                "best": ", ".join(str(epoch) for epoch in sorted(set(own["best_epoch"]))),
            }
        )
    return rows


def grouped(seeds: dict[str, dict[str, list[int]]]) -> dict[str, str]:
    """By what was run with which seeds, the names that have them."""
    found = {}
    for section, names in seeds.items():
        for name, own in names.items():
            found.setdefault(f"{section}, seed{'s' * (len(own) > 1)} {', '.join(map(str, own))}", []).append(name)
    return {label: ", ".join(names) for label, names in found.items()}


def digests_of(datasets: dict[str, dict]) -> dict[str, str]:
    """Checksums against which the datasets in use were held."""
    found = {}
    for name, registry in datasets.items():
        title = DATASETS[name].title
        found |= {f"{title} {member}, MD5": digest for member, digest in registry.get("members", {}).items()}
        found[f"{title}, SHA-256 of all images and labels"] = registry["sha256"]
    return found
