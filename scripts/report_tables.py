"""Tables of the report: trainings, times, seeds, checksums, as printed."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from erf.files import record_of
from erf.intervals import mean_interval
from erf.labels import DATASETS, SCORES, counted, over_seeds
from training_tables import labelled, read_scores, read_sizes


def cost_table(folder: Path, expected: dict[str, int]) -> list[dict]:
    """Times by rule, the longest first, and in all, from a configuration's benchmark files: <rule>.tsv, or
    <rule>/...tsv. `expected` has how many jobs a rule has, of those with more than one."""
    jobs = []
    for path in sorted(folder.glob("**/*.tsv")):
        rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
        if not Path(__file__).with_name(f"{rule}.py").exists():  # other configurations' folders lie beside the paper's
            continue
        if times := read_benchmark(path):
            jobs.append({"rule": rule, **times})
    if not jobs:
        return []
    times = pd.DataFrame(jobs)
    rows = [(rule, here) for rule, here in times.groupby("rule")]
    rows += [(rule, times.iloc[:0]) for rule, count in expected.items() if count and rule not in set(times["rule"])]
    rows.sort(key=lambda row: -row[1]["seconds"].sum())
    return [cost_row(rule, here, expected.get(rule, 0)) for rule, here in [*rows, ("in all", times)]]


def cost_row(rule: str, jobs: pd.DataFrame, expected: int) -> dict:
    memory = jobs["memory"].max()
    return {
        "rule": rule,
        "jobs": len(jobs),
        "expected": expected,
        "total": duration(jobs["seconds"].sum()) if len(jobs) else "",
        "longest": duration(jobs["seconds"].max()) if len(jobs) else "",
        "memory": "" if np.isnan(memory) else f"{memory / 1024:.1f}",
    }


def duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def read_benchmark(path: Path) -> dict[str, float]:
    """Seconds and memory (MiB) of one job; nothing from a file that a killed run has left unfinished."""
    try:
        table = pd.read_csv(path, sep="\t", na_values="-", encoding="utf-8")
        return {"seconds": float(table["s"].iloc[-1]), "memory": float(table["max_rss"].iloc[-1])}
    except (KeyError, IndexError, ValueError):
        return {}


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
                "score": f"{SCORES[dataset]} {over_seeds(mean_interval(100 * own['score']), seeds)} %",
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
        if "sha256" in registry:
            found[f"{DATASETS[name]}, SHA-256 of all decoded pixels"] = registry["sha256"]
        else:
            found |= {f"{DATASETS[name]} {member}, MD5": digest for member, digest in registry["members"].items()}
    return found
