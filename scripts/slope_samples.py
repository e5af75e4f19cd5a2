"""How far do the slopes of ERF size and ratio scatter, if an experiment like the paper's is repeated?

Each sample is a whole experiment: at each depth `runs` new networks, and the slopes over each range of depths, once of
the size of the mean map ("abs") and once of the mean of the runs' sizes ("per run"). Ranges share the networks of the
depths that they share. `pair` says whether both slopes are the paper's, 0.56 and -0.43, to the printed digits.
Bootstrap intervals over 20 runs are too narrow for networks of one channel, in which a single run can outweigh all
others; this needs none.

For networks of one channel 100 experiments of 20 runs take half a minute up to 80 layers, and four minutes up to 160,
on one core.
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
from replication.commands.cli import add_settings, command, new_parser, write_table
from replication.stacks.predictions import series_name
from replication.statistics.slopes import is_pair


def sample(name: str, settings: dict, ranges: list[list[int]]) -> list[dict]:
    """Slopes of one experiment over each range of depths; `name` names its random streams.

    NaN where all runs died at one of the depths.
    """
    measured = {layers: sizes(name, settings, layers) for layers in sorted({n for depths in ranges for n in depths})}
    rows = []
    for depths in ranges:
        depth = np.array(sorted(depths))
        side = 1 + depth * (settings["kernel"] - 1)
        for variant in ("abs", "per run"):
            values, left_out = np.transpose([measured[layers][variant] for layers in depth.tolist()])
            size, ratio = (float(log_log_slope(depth, values * scale)) for scale in (1, 1 / side))
            slopes = {"size": size, "ratio": ratio, "pair": is_pair(size, ratio)}
            ends = f"{depth[0]}-{depth[-1]}"
            rows.append({"depths": ends, "variant": variant, **slopes, "most_left_out": int(left_out.max())})
    return rows


def sizes(name: str, settings: dict, layers: int) -> dict[str, tuple[float, int]]:
    """ERF size (pixels) by variant, and how many runs could not be used for it."""
    maps, position, theoretical_rf = run_maps(name, settings, layers)
    field = ReceptiveField.from_runs(maps["abs"], position, theoretical_rf)
    own = field.own_sizes
    return {
        "abs": (field.size, field.dead),
        "per run": (own.mean() if len(own) else np.nan, len(field.run_sizes) - len(own)),
    }


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    add_settings(
        parser, "the network's settings, its name, depths (a list of ranges) and, as counts, experiments of each"
    )
    parser.add_argument("--out", type=Path, required=True, help="table, .csv")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    name, ranges, counts = (args.settings.pop(key) for key in ("name", "depths", "counts"))
    settings = {**args.settings, "variants": ["abs"]}
    common = {"network": name, "weights": series_name(settings), "width": settings["width"], "runs": settings["runs"]}
    rows = []
    for number in tqdm(range(max(counts)), unit="experiment"):
        wanted = [depths for depths, count in zip(ranges, counts, strict=True) if number < count]
        found = sample(f"{name}, sample {number}", settings, wanted)
        rows += [{**common, "depths": row.pop("depths"), "sample": number, **row} for row in found]
    table = pd.DataFrame(rows)
    write_table(table, args.out)
    print(table.groupby(["depths", "variant"])[["size", "ratio", "pair"]].mean().to_string())


if __name__ == "__main__":
    sys.exit(main())
