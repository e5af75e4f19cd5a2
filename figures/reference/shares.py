"""Share of the impact near the unit, in the kept maps of trained networks before training and at the last epoch.

python figures/reference/shares.py           short/maps/*.npz, into short/shares.csv

Beside it the share of a Gaussian with the map's own spread, and that of impact spread evenly over the receptive field.
"""

import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "scripts"))

from erf.result.contribution import radius_holding, share_within  # noqa: E402
from replication.statistics.moments import PARTS, map_moments, rf_radius  # noqa: E402


def shares(folder: Path) -> pd.DataFrame:
    """One row for each map in `folder`/maps; the receptive fields are those of `folder`/erf.csv."""
    sides = pd.read_csv(folder / "erf.csv").groupby("name")["theoretical_rf"].first()
    rows = []
    for path in sorted((folder / "maps").glob("*.npz")):
        name, seed = path.stem.rsplit("_seed_", 1)
        with np.load(path) as maps:
            position = tuple(maps["position"].tolist())
            for snapshot in sorted(set(maps.files) - {"position"}):
                impact, radius = np.abs(maps[snapshot].astype(float)), rf_radius((sides[name],) * 2)
                drift, spread = map_moments(impact, position)
                sigma = math.sqrt((spread**2).mean())
                row = {"name": name, "seed": int(seed), "snapshot": snapshot, "rf": sides[name], "rf_radius": radius}
                row |= {"drift_rows": drift[0], "drift_columns": drift[1], "spread": sigma}
                for part, value in PARTS.items():
                    row[f"share_{part}"] = share_within(impact, position, value * radius)
                    row[f"gaussian_{part}"] = 1 - math.exp(-((value * radius) ** 2) / (2 * sigma**2))
                    row[f"even_{part}"] = math.pi * value**2 / 4
                half = radius_holding(impact, position, 0.5)
                rows.append({**row, "radius_half": half, "gaussian_radius_half": sigma * math.sqrt(2 * math.log(2))})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    shares(HERE / "short").to_csv(HERE / "short/shares.csv", index=False, float_format="%.6g", lineterminator="\n")
