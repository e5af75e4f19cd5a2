"""Draw the figures of trained networks anew, from the tables of each seed that are kept in short/ and laptop/.

python figures/reference/redraw.py
python figures/reference/redraw.py --data data/      before_after too, over photographs of cifar10.npz and camvid.npz

The figure initialization needs the results themselves, which are not kept.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "scripts"))

import figure_before_after  # noqa: E402
import figure_convergence  # noqa: E402
import figure_evolution  # noqa: E402
import figure_reach  # noqa: E402
import figure_units  # noqa: E402
from erf.result.field import ReceptiveField  # noqa: E402
from replication.drawing.plots import save, use_style  # noqa: E402

STARTS = ("_small_start", "", "_large_start")
JUDGED = [training + start for training in ("cifar10", "camvid") for start in ("", "_matched_start")]
REACH = ("plain", "residual", "centre_light", "dilated", "subsampled", "plain_longer", "plain_longest")


def parted(table: str, names: list[str], folder: Path, path: str, run: str = "laptop") -> list[Path]:
    """One file for each training or experiment and seed, as programs leave them; `path` has {name} and {seed}."""
    kept, paths = pd.read_csv(HERE / run / f"{table}.csv"), []
    for name in names:
        for seed, rows in kept[kept["name"] == name].groupby("seed"):
            paths.append(folder / run / table / path.format(name=name, seed=seed))
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            rows.drop(columns="name").dropna(axis=1, how="all").to_csv(paths[-1], index=False)
    return paths


def figures(folder: Path) -> Iterator[tuple]:
    """Path, figure and table of each; files of the seeds go into `folder`."""
    seeds, metric, trainings = "{name}/seed_{seed}.csv", "{name}/seed_{seed}/metrics.csv", ["cifar10", "camvid"]
    kinds = {"erf": seeds, "metrics": metric, "kernels": seeds}
    tables = [parted(kind, JUDGED, folder, path, "short") for kind, path in kinds.items()]
    yield "short/evolution", *figure_evolution.draw(figure_evolution.tabulate(*tables))
    starts = [training + start for training in trainings for start in STARTS]
    metrics = parted("metrics", trainings, folder, metric)
    sizes = parted("erf", starts, folder, seeds)
    usual = [path for path in sizes if path.parent.name in trainings]
    yield "laptop/evolution", *figure_evolution.draw(figure_evolution.tabulate(usual, metrics, []))
    yield "laptop/convergence", *figure_convergence.draw(figure_convergence.tabulate(sizes))
    units = parted("units_by_seed", trainings, folder, seeds)
    yield "laptop/units", *figure_units.draw(figure_units.summarise(units))
    reach = figure_reach.read_runs(parted("reach_by_seed", REACH, folder, seeds))
    yield "laptop/reach", *figure_reach.draw(reach)


def before_after(data: Path):
    """The figure of the maps before training and at the last epoch, of all seeds."""
    defaults = yaml.safe_load((HERE.parents[1] / "config/config.yaml").read_text(encoding="utf-8"))["training_defaults"]
    sides = pd.read_csv(HERE / "short/erf.csv").groupby("name")["theoretical_rf"].first()
    fields: dict = {}
    for name in JUDGED:
        dataset = name.removesuffix("_matched_start")
        settings = {"training": {**defaults[dataset], "dataset": dataset}}
        for path in sorted((HERE / "short/maps").glob(f"{name}_seed_*.npz")):
            with np.load(path) as maps:
                position, epochs = tuple(maps["position"].tolist()), sorted(set(maps.files) - {"position"})
                for stage, epoch in zip(figure_before_after.STAGES, epochs, strict=True):
                    whole = maps[epoch].astype(float)[None]
                    field = ReceptiveField.from_runs(whole, position, (sides[name],) * 2, settings)
                    fields.setdefault(name, {}).setdefault(stage, []).append(field)
    paths = [data / f"{dataset}.npz" for dataset in ("cifar10", "camvid")]
    return figure_before_after.draw(fields, figure_before_after.read_images(paths, fields))


def redraw(out: Path) -> None:
    """Write each figure and its table into the folder `out`."""
    use_style()
    with tempfile.TemporaryDirectory() as folder:
        for name, figure, table in figures(Path(folder)):
            (out / name).parent.mkdir(exist_ok=True)
            save(figure, table, out / f"{name}.png")
            (out / f"{name}.pdf").unlink()  # none are kept


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the datasets' arrays")
    args = parser.parse_args()
    redraw(HERE)
    if args.data:
        before_after(args.data)[0].savefig(HERE / "short/before_after.png")
