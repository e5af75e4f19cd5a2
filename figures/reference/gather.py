"""Keep a finished run here: its figures, their tables, the results' tables, each kind in one file, and what made them.

python figures/reference/gather.py           results/paper/ and figures/paper/, into this folder
python figures/reference/gather.py laptop    results/laptop/ and figures/laptop/, into laptop/; what is the same, once
"""

import shutil
import sys
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
sys.path.insert(0, str(PROJECT / "scripts"))

from erf.system.files import record_of  # noqa: E402

TABLES = {  # by name here: where they lie under results/
    "claims": "claims.csv",
    "growth_slopes": "growth_slopes.csv",
    "networks": "networks/*.csv",
    "slope_samples": "slope_samples/*.csv",
    "erf": "erf/*/seed_*.csv",
    "metrics": "trainings/*/seed_*/metrics.csv",
    "test": "trainings/*/seed_*/test.csv",
    "speed": "trainings/*/seed_*/speed.csv",
    "units_by_seed": "units/*/seed_*.csv",
    "reach_by_seed": "reach/*/seed_*.csv",
}
FIGURES = [  # the maps' tables are too large to keep
    *("convolution", "structures", "growth", "moments", "sensitivity", "reach", "evolution", "convergence", "units"),
    *("initialization", "scorecard", "models"),
]

PAPER = "paper"
ORIGIN = ("script", "finished", "seconds", "commit", "processor", "cores", "GPU", "Python", "torch", "numpy")


def gather(name: str) -> None:
    """Copy what there is of the configuration `name`; that of the paper's scale has no folder of its own here."""
    results, figures, out = PROJECT / "results" / name, PROJECT / "figures" / name, HERE / name.removeprefix(PAPER)
    out.mkdir(exist_ok=True)
    for path in sorted(figures.glob("*.png")):
        shutil.copyfile(path, out / path.name)
    for figure in FIGURES:
        path = figures / f"{figure}.csv"
        if path.exists():
            shutil.copyfile(path, out / path.name)
    origins = []
    sizes = figures / "nonlinearity.csv"
    if sizes.exists():  # without its maps
        table = pd.read_csv(sizes).dropna(subset="size").dropna(axis=1, how="all")
        table.to_csv(out / sizes.name, index=False, lineterminator="\n")
    for table, pattern in TABLES.items():
        paths = sorted(results.glob(pattern))
        origins += [{"result": path.relative_to(results).as_posix(), **origin(path)} for path in paths]
        if paths:
            gathered = pd.concat([labelled(path, results) for path in paths], ignore_index=True)
            gathered.to_csv(out / f"{table}.csv", index=False, lineterminator="\n")
    pd.DataFrame(origins).to_csv(out / "provenance.csv", index=False, lineterminator="\n")
    for path in (PROJECT / "benchmarks").glob("measure.*") if name == PAPER else []:  # of `make bench`
        shutil.copyfile(path, out / path.name)
    if (results / "claims.json").exists():
        shutil.copyfile(results / "claims.json", out / "claims.json")
    for path in HERE.glob("*.*") if name != PAPER else []:
        same = out / path.name
        if same.exists() and same.read_bytes() == path.read_bytes():  # untrained networks, of the paper's scale in both
            same.unlink()


def origin(path: Path) -> dict:
    """What the record of a result has of its making; nothing where there is no record."""
    record = record_of(path)
    return {name: record[1][name] for name in ORIGIN} if record else {}


def labelled(path: Path, results: Path) -> pd.DataFrame:
    """A table with the names that its path has of it."""
    labels, table = path.relative_to(results).parts, pd.read_csv(path)
    if len(labels) > 2:  # <kind>/<name>/seed_<seed>...
        table.insert(0, "name", labels[1])
        if "seed" not in table:
            table.insert(1, "seed", int(labels[2].removesuffix(".csv").removeprefix("seed_")))
    return table


if __name__ == "__main__":
    gather(sys.argv[1] if len(sys.argv) > 1 else PAPER)
