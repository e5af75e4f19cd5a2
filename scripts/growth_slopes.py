"""Slopes of log ERF size and log ERF ratio against log depth, per network, variant and range of depths.

The paper reports 0.56 and -0.43. Depths at which the receptive field cuts the ERF off are left out, as theory's map
tells (the measured one, where there is no theory): `range` is the one asked for, `depths` are those used. Intervals are
95 % bootstrap percentiles over runs, expanded for few runs; without random weights every run is the same, and the slope
exact. `most_left_out` counts, at the depth where there are most of them, the dead runs; for the sizes of single runs
also those in which the unit's own pixel has no impact. A slope is empty where all runs are left out at one of its
depths, or fewer than two depths are used; its interval where all runs but one are left out.

Reads results of measure_network; takes seconds.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from erf.errors import InputError
from erf.result.field import ReceptiveField, load_fields
from erf.result.intervals import percentile_interval
from erf.system.seeds import seed_for
from erf.theory import finite_depth_slopes, log_log_slope
from replication.commands.cli import add_settings, command, new_parser, write_table
from replication.stacks.predictions import cut_off, series_name

PER_RUN = "per run"  # the mean of the sizes of single runs, in place of the size of their mean map


def sizes(field: ReceptiveField, per_run: bool) -> tuple[float, np.ndarray]:
    """ERF size (pixels) and its replicates with redrawn runs."""
    if not per_run:
        return field.size, field.bootstrap
    live = field.own_sizes
    if len(live) < 2:
        return live.mean() if len(live) else np.nan, np.empty(0)
    names = (field.settings[key] for key in ("network", "depth"))
    rng = np.random.default_rng(seed_for(field.settings["seed"], *names, PER_RUN))
    return live.mean(), rng.choice(live, (1000, len(live))).mean(1)


def rows_of(fields: list[ReceptiveField], per_run: bool) -> list[dict]:
    """The slopes of one variant over one range of depths, which the fields have in ascending order."""
    settings, whole = fields[0].settings, [field.settings["depth"] for field in fields]
    used = [field for field in fields if not cut_off(field)]
    depth = np.array([field.settings["depth"] for field in used])
    side = np.array([field.theoretical_rf[0] for field in used])
    values, replicates = [], []
    for field in used:
        value, drawn = sizes(field, per_run)
        values.append(value)
        replicates.append(drawn)
    enough, uncertain = len(used) > 1, settings["weights"] == "random"
    known = enough and uncertain and all(len(drawn) for drawn in replicates)
    runs = min((len(field.own_sizes) if per_run else field.live for field in used), default=0)
    theory = (np.nan, np.nan)
    if enough and not (uncertain and settings["mode"] == "signed"):
        theory = finite_depth_slopes(
            depth.tolist(), settings["kernel"], settings["weights"], settings["mode"], fields[0].threshold
        )
    rows = []
    for quantity, scale, expected in zip(("size", "ratio"), (1, 1 / side), theory, strict=True):
        slope = float(log_log_slope(depth, np.array(values) * scale)) if enough else np.nan
        low, high = (np.nan, np.nan) if uncertain else (slope, slope)
        if known:
            low, high = percentile_interval(log_log_slope(depth, np.stack(replicates, -1) * scale), runs)
        rows.append(
            {
                "weights": series_name(settings),
                "variant": PER_RUN if per_run else settings["variant"],
                "range": f"{whole[0]}-{whole[-1]}",
                "depths": depths_used(depth.tolist(), whole),
                "quantity": quantity,
                "slope": slope,
                "low": low,
                "high": high,
                "theory": expected,
                "network": settings["network"],
                "kernel": settings["kernel"],
                "width": settings["width"],
                "reading": settings["reading"],
                "runs": settings["runs"],
                "most_left_out": max(len(f.run_sizes) - len(f.own_sizes) if per_run else f.dead for f in fields),
            }
        )
    return rows


def depths_used(used: list[int], asked: list[int]) -> str:
    """How the table calls them: "10-40" if they follow each other in `asked`, or else "5, 20"; "none" without any."""
    first = asked.index(used[0]) if used else 0
    if len(used) > 1 and used == asked[first : first + len(used)]:
        return f"{used[0]}-{used[-1]}"
    return ", ".join(map(str, used)) or "none"


def slopes(fields: list[ReceptiveField], ranges: list[list[int]]) -> pd.DataFrame:
    """All slopes; `fields` are of any number of networks, variants and depths."""
    found = {tuple(f.settings[key] for key in ("network", "variant", "depth")): f for f in fields}
    variants = dict.fromkeys((network, variant) for network, variant, _ in found)  # in their order
    rows = []
    for network, variant in variants:
        for depths in ranges:
            missing = [depth for depth in depths if (network, variant, depth) not in found]
            if missing:
                raise InputError(f"{network} is not measured at {missing[0]} layers in the variant {variant}")
            chosen = [found[network, variant, depth] for depth in sorted(depths)]
            rows += rows_of(chosen, per_run=False)
            if variant == "abs" and chosen[0].settings["weights"] == "random":
                rows += rows_of(chosen, per_run=True)
    return pd.DataFrame(rows)


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--fields", type=Path, nargs="+", required=True, help="results of measure_network, .npz")
    add_settings(parser, "lists of depths")
    parser.add_argument("--out", type=Path, required=True, help="table, .csv")
    args = parser.parse_args(argv)
    table = slopes([field for path in args.fields for field in load_fields(path)], args.settings["depths"])
    write_table(table, args.out)
    print(table.to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
