"""How far do the slopes of ERF size and ratio scatter, if an experiment like the paper's is repeated?

Each sample is a whole experiment: at each depth `runs` new networks, and the slopes over all depths, once of the size
of the mean map ("abs") and once of the mean of the runs' sizes ("per run"). Bootstrap intervals over 20 runs are too
narrow for networks of one channel, in which a single run can outweigh all others; this needs none.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from erf.result.field import ReceptiveField
from erf.theory import log_log_slope
from measure_network import run_maps
from replication.commands.cli import command, json_object, new_parser, write_table
from replication.stacks.predictions import series_name


def sample(name: str, settings: dict, depths: list[int]) -> list[dict]:
    """Slopes of one experiment, whose random streams `name` names; NaN where all runs died at one of the depths."""
    depth, sizes, mean_run_sizes, left_out = np.array(sorted(depths)), [], [], []
    for layers in depth.tolist():
        maps, position, theoretical_rf = run_maps(name, settings, layers)
        field = ReceptiveField.from_runs(maps["abs"], position, theoretical_rf)
        sizes.append(field.size)
        mean_run_sizes.append(field.own_sizes.mean() if len(field.own_sizes) else np.nan)
        left_out.append((field.dead, len(field.run_sizes) - len(field.own_sizes)))
    rows = []
    for mode, values, most in zip(("abs", "per run"), (sizes, mean_run_sizes), np.max(left_out, 0), strict=True):
        size, ratio = (
            float(log_log_slope(depth, np.array(values) * scale))
            for scale in (1, 1 / (1 + depth * (settings["kernel"] - 1)))
        )
        rows.append({"mode": mode, "size": size, "ratio": ratio, "most_left_out": most})
    return rows


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--name", required=True, help="name of the network, which also names its random streams")
    parser.add_argument("--settings", type=json_object, required=True, help="the network's settings, JSON")
    parser.add_argument("--depths", type=int, nargs="+", required=True)
    parser.add_argument("--samples", type=int, required=True, help="experiments")
    parser.add_argument("--out", type=Path, required=True, help="table, .csv")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    settings = {**args.settings, "readings": ["abs"]}
    common = {"network": args.name, "weights": series_name(settings), "channels": settings["channels"]}
    common |= {"runs": settings["runs"], "depths": f"{min(args.depths)}-{max(args.depths)}"}
    rows = []
    for number in tqdm(range(args.samples), unit="experiment"):
        found = sample(f"{args.name}, sample {number}", settings, args.depths)
        rows += [{**common, "sample": number, **row} for row in found]
    table = pd.DataFrame(rows)
    write_table(table, args.out)
    print(table.groupby("mode")[["size", "ratio"]].describe().to_string())


if __name__ == "__main__":
    sys.exit(main())
