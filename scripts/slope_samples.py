"""How far do the slopes of ERF size and ratio scatter, if an experiment like the paper's is repeated?

Each sample is a whole experiment: at each depth `runs` new networks, and the slopes over the depths, once of the size
of the mean map ("abs") and once of the mean of the runs' sizes ("per run").

Depths at which the receptive field cuts theory's ERF off are left out: `range` is the one asked for, `depths` are those
used. Bootstrap intervals over 20 runs are too narrow for networks of one channel, in which a single run can outweigh
all others; this needs none.

Takes about a minute for 100 experiments, on one core.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from erf.result.field import ReceptiveField
from erf.theory import log_log_slope
from growth_slopes import depths_used
from measure_network import run_maps
from replication.commands.cli import add_settings, command, new_parser, write_table
from replication.stacks.predictions import predicted_cut_off, series_name


def sample(name: str, settings: dict, depths: list[int]) -> list[dict]:
    """Slopes of one experiment, whose random streams `name` names; NaN with fewer than two depths, or where all runs
    died at one of them."""
    depth, sizes, mean_run_sizes, left_out = np.array(sorted(depths)), [], [], []
    for layers in depth.tolist():
        maps, position, theoretical_rf = run_maps(name, settings, layers)
        field = ReceptiveField.from_runs(maps["abs"], position, theoretical_rf)
        sizes.append(field.size)
        mean_run_sizes.append(field.own_sizes.mean() if len(field.own_sizes) else np.nan)
        left_out.append((field.dead, len(field.run_sizes) - len(field.own_sizes)))
    rows = []
    most_left_out = np.max(left_out, 0) if left_out else (0, 0)
    for variant, values, most in zip(("abs", "per run"), (sizes, mean_run_sizes), most_left_out, strict=True):
        size, ratio = (
            float(log_log_slope(depth, np.array(values) * scale)) if len(depth) > 1 else np.nan
            for scale in (1, 1 / (1 + depth * (settings["kernel"] - 1)))
        )
        rows.append({"variant": variant, "size": size, "ratio": ratio, "most_left_out": most})
    return rows


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    add_settings(parser, "the network's settings, its name, depths and the number of experiments, as samples")
    parser.add_argument("--out", type=Path, required=True, help="table, .csv")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    name, depths, samples = (args.settings.pop(key) for key in ("name", "depths", "samples"))
    settings, depths = {**args.settings, "variants": ["abs"]}, sorted(depths)
    used = [depth for depth in depths if not predicted_cut_off({**settings, "mode": "abs", "depth": depth})]
    common = {"network": name, "weights": series_name(settings), "width": settings["width"]}
    common |= {"runs": settings["runs"], "range": f"{depths[0]}-{depths[-1]}", "depths": depths_used(used, depths)}
    rows = []
    for number in tqdm(range(samples), unit="experiment"):
        found = sample(f"{name}, sample {number}", settings, used)
        rows += [{**common, "sample": number, **row} for row in found]
    table = pd.DataFrame(rows)
    write_table(table, args.out)
    print(table.groupby("variant")[["size", "ratio"]].describe().to_string())


if __name__ == "__main__":
    sys.exit(main())
