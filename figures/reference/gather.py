"""Keep a finished run here: its figures and their tables, the results' tables, each kind in one file, maps of untrained
networks, and what made them all.

python figures/reference/gather.py untrained            results/untrained/ and figures/untrained/, into this folder
python figures/reference/gather.py laptop               results/laptop/ and figures/laptop/, into laptop/
python figures/reference/gather.py untrained --check    keeps nothing, but tells which kept files a run makes otherwise
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
sys.path.insert(0, str(PROJECT / "scripts"))

from erf.result.field import load_fields  # noqa: E402
from erf.system.files import record_of  # noqa: E402
from replication.commands.cli import separator  # noqa: E402

TABLES = {  # by name here: where they lie under results/
    "growth_slopes": "growth_slopes.csv",
    "networks": "networks/*.csv",
    "slope_samples": "slope_samples/*.csv",
    "questions": "questions/*.csv",
    "interval_coverage": "interval_coverage.csv",
    "erf": "erf/*/seed_*.csv",
    "kernels": "erf/*/seed_*.tsv",
    "metrics": "trainings/*/seed_*/metrics.csv",
    "test": "trainings/*/seed_*/test.csv",
    "speed": "trainings/*/seed_*/speed.csv",
    "units_by_seed": "units/*/seed_*.csv",
    "reach_by_seed": "reach/*/seed_*.csv",
}
LARGEST = 2**18  # bytes of a figure's table: those of maps are larger, and not kept
DEEPEST = 40  # layers of the networks whose maps are kept
UNTRAINED = ("paper", "untrained")  # whose results lie in this folder itself
ORIGIN = ("script", "finished", "seconds", "commit", "processor", "cores", "GPU", "Python", "torch", "numpy")


def gather(name: str, out: Path) -> None:
    """Copy what there is of the configuration `name`."""
    results, figures = PROJECT / "results" / name, PROJECT / "figures" / name
    out.mkdir(exist_ok=True)
    for path in [*sorted(figures.glob("*.png")), *sorted(figures.glob("*.csv"))]:
        if path.stem != "scorecard" and (path.suffix == ".png" or path.stat().st_size <= LARGEST):
            shutil.copyfile(path, out / path.name)
    origins = []
    for table, pattern in TABLES.items():
        paths = sorted(results.glob(pattern))
        origins += [{"result": path.relative_to(results).as_posix(), **origin(path)} for path in paths]
        if paths:
            gathered = pd.concat([labelled(path, results) for path in paths], ignore_index=True)
            gathered.to_csv(out / f"{table}.csv", index=False, lineterminator="\n")
    pd.DataFrame(origins).to_csv(out / "provenance.csv", index=False, lineterminator="\n")
    for path in sorted(results.glob("networks/*.npz")):
        keep_maps(path, out / "maps" / path.name)
    for path in (PROJECT / "benchmarks").glob("measure.*") if name in UNTRAINED else []:  # of `make bench`
        shutil.copyfile(path, out / path.name)


def keep_maps(path: Path, out: Path) -> None:
    """The mean maps of |g| of a network (H, W), float32, by depth."""
    fields = [field for field in load_fields(path) if field.settings["variant"] == "abs"]
    maps = {f"depth_{f.settings['depth']}": f.map.astype(np.float32) for f in fields if f.settings["depth"] <= DEEPEST}
    out.parent.mkdir(exist_ok=True)
    np.savez_compressed(out, **maps)


def origin(path: Path) -> dict:
    """What the record of a result has of its making; nothing where there is no record."""
    record = record_of(path)
    return {name: record[1][name] for name in ORIGIN} if record else {}


def labelled(path: Path, results: Path) -> pd.DataFrame:
    """A table with the names that its path has of it."""
    labels, table = path.relative_to(results).parts, pd.read_csv(path, sep=separator(path))
    if len(labels) > 2:  # <kind>/<name>/seed_<seed>...
        table.insert(0, "name", labels[1])
        if "seed" not in table:
            table.insert(1, "seed", int(Path(labels[2]).stem.removeprefix("seed_")))
    return table


def differences(made: Path, kept: Path) -> list[str]:
    """Files of a run that are kept with other bytes, or not kept. Origins differ by nature, times among them."""
    names = [path.relative_to(made) for path in sorted(made.rglob("*.*")) if path.name != "provenance.csv"]
    return [
        f"{name}: {'differs' if (kept / name).exists() else 'not kept'}"
        for name in names
        if not (kept / name).exists() or (kept / name).read_bytes() != (made / name).read_bytes()
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="untrained", help="of the configuration")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    kept = HERE if args.name in UNTRAINED else HERE / args.name
    if not args.check:
        sys.exit(gather(args.name, kept))
    with tempfile.TemporaryDirectory() as folder:
        gather(args.name, Path(folder))
        found = differences(Path(folder), kept)
    sys.exit("\n".join(found) if found else print("Every kept file is made with the same bytes."))
