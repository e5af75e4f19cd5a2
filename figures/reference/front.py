"""The picture at the top of README, from kept maps: ReLU stacks of several depths, and the network for CamVid.

python figures/reference/front.py             front.png, in seconds
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "scripts"))

from erf.size import centre_impact, erf_size  # noqa: E402
from replication.drawing.plots import WIDTH, draw_map, smoothing, use_style  # noqa: E402

DEPTHS = (5, 10, 20, 40)
TRAINED = "camvid_matched_start"


def panels() -> list[tuple[str, np.ndarray, tuple[float, float], float]]:
    """Title, map, position and side of the receptive field of each panel."""
    with np.load(HERE / "maps/relu.npz") as maps:
        found = [(f"{depth} layers", maps[f"depth_{depth}"].astype(float)) for depth in DEPTHS]
    stacks = [(title, impact, tuple(side / 2 - 0.5 for side in impact.shape), len(impact)) for title, impact in found]
    (side,) = pd.read_csv(HERE / "short/erf.csv").query("name == @TRAINED")["theoretical_rf"].unique()
    with np.load(HERE / f"short/maps/{TRAINED}_seed_0.npz") as maps:
        place, last = tuple(maps["position"]), max(name for name in maps if name.startswith("epoch"))
        before, after = (maps[name].astype(float) for name in ("epoch_000", last))
    return [*stacks, ("ResNet, untrained", before, place, side), ("trained on CamVid", after, place, side)]


def draw():
    shown = panels()
    figure, axes = plt.subplots(1, len(shown), figsize=(WIDTH, 1.55), layout="constrained")
    for panel, (title, impact, place, side) in zip(axes, shown, strict=True):
        draw_map(panel, impact / centre_impact(impact[None], place)[0], place, smoothing(impact))
        half, size = side / 2, float(erf_size(impact[None], place)[0])
        panel.set(xlim=(-half, half), ylim=(half, -half), facecolor="0.85", xticks=[], yticks=[])
        panel.set_title(title, fontsize="small")
        panel.set_xlabel(f"ERF {size:.0f} px\nRF {side:.0f} px", fontsize="small")
    return figure


if __name__ == "__main__":
    use_style()
    draw().savefig(HERE / "front.png", dpi=200)
