"""One model by seven conventions, what the gradient's scale does to their numbers, and noise beside the gradient's map.

python figures/reference/conventions.py           conventions*.csv and conventions.png, in a minute on one core

The model is torchvision's ResNet-18, untrained, with batch norms calibrated, on noise: whoever runs this gets it.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse, Rectangle
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "scripts"))

import erf  # noqa: E402
from erf.comparing.arithmetic import fifth_root, high_contribution, logged  # noqa: E402
from erf.comparing.conventions import NAMES  # noqa: E402
from erf.models.batch_norm import calibrate_batch_norm  # noqa: E402
from erf.models.factory import load_model  # noqa: E402
from erf.models.images import noise  # noqa: E402
from replication.drawing.plots import MAP_COLOURS, use_style  # noqa: E402

LAYER, IMAGES, SIDE = "layer4", 4, 224
SCALES = (1, 1e2, 1e4, 1e6)
GAUSSIAN = {"sigma": 120, "shape": (1024, 1024), "position": (512, 512)}
TITLES = {
    "luo2016": "Luo et al.",
    "netharn": "netharn",
    "replknet": "RepLKNet",
    "slak": "SLaK",
    "vmamba": "VMamba",
    "openerf": "OpenERF",
    "voxelnext": "VoxelNeXt",
}


class Scaled(nn.Module):
    """A layer of a model, multiplied, and with it the gradient."""

    def __init__(self, model: nn.Module, factor: float):
        super().__init__()
        self.model, self.factor = model, factor
        self.model.get_submodule(LAYER).register_forward_hook(lambda module, inputs, output: self.factor * output)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images)


def resnet18(images: torch.Tensor) -> nn.Module:
    model = load_model("torchvision.models:resnet18")
    calibrate_batch_norm(model, images)
    return model


def table(results: dict) -> pd.DataFrame:
    """One row for each number of each convention, and how large its picture looks."""
    rows = []
    for name, result in results.items():
        seen = np.sqrt((result.map > result.map.max() / 2).sum())
        for number, value in {**result.numbers, "seen": seen}.items():
            rows.append({"convention": name, "number": number, "value": value})
    return pd.DataFrame(rows)


def scale_table(images: torch.Tensor) -> pd.DataFrame:
    """The square with half of the mass, by the gradient's scale: of a Gaussian map, and of the model."""
    rows = []

    def add(of, convention, scale, ratio):
        rows.append({"of": of, "convention": convention, "scale": scale, "area_50": ratio})

    gaussian = erf.theory.gaussian_map(**GAUSSIAN)
    for scale in SCALES:
        for name, shown in (("luo2016", np.array), ("vmamba", fifth_root), ("replknet", logged)):
            add("gaussian", name, scale, high_contribution(shown(scale * gaussian))["area_50"])
        model = Scaled(resnet18(images), scale)
        for name in ("luo2016", "vmamba", "replknet"):
            found = erf.by_convention(model, images, name, f"model.{LAYER}")
            add("resnet18", name, scale, found.numbers["area_50"])
    return pd.DataFrame(rows)


def noise_table(model: nn.Module, images: torch.Tensor) -> pd.DataFrame:
    """Shares of the rings around the unit, as noise and as the gradient have them, and the distance between both."""
    found = erf.perturbed(model, images, f"{LAYER}.1.bn2", rings=range(0, 181, 30), draws=20)
    columns = {"first": found.edges[:-1], "last": found.edges[1:], "pixels": found.pixels}
    columns |= {"share": found.shares, "error": found.error / found.measured.sum(), "predicted": found.predicted_shares}
    return pd.DataFrame(columns | {"distance": found.distance, "by_chance": found.distance_by_chance})


def outline(axes: Axes, name: str, result: erf.ConventionResult, position: tuple[float, float]) -> str:
    """Draw the size that a convention reports over its map; returns the size in words."""
    found, style = result.numbers, {"fill": False, "color": "white", "linewidth": 0.8}
    middle = SIDE // 2
    if name == "luo2016":
        axes.add_patch(Ellipse(position[::-1], found["diameter"], found["diameter"], **style))
        return f"ERF size {found['size']:.0f} px"
    if name == "netharn":
        rows, columns = np.nonzero(result.map)
        corner, sides = (columns.min() - 0.5, rows.min() - 0.5), (found["width"], found["height"])
        axes.add_patch(Rectangle(corner, *sides, **style))
        return f"box {found['height']:.0f} × {found['width']:.0f} px"
    if name == "openerf":
        widths = (2 * found["sigma_columns"], 2 * found["sigma_rows"])
        axes.add_patch(Ellipse((found["column"], found["row"]), *widths, **style))
        return f"σ {found['sigma_rows']:.0f} × {found['sigma_columns']:.0f} px"
    if name == "voxelnext":
        return "no number"
    side = found["side_50"]
    axes.add_patch(Rectangle((middle - side / 2, middle - side / 2), side, side, **style))
    return f"half in {side:.0f}² px: {100 * found['area_50']:.3g} %"


def draw(results: dict, scales: pd.DataFrame, position: tuple[float, float]) -> plt.Figure:
    figure, axes = plt.subplots(2, 4, figsize=(7, 3.9))
    for panel, (name, result) in zip(axes.flat, results.items(), strict=False):
        panel.imshow(result.map / result.map.max(), cmap=MAP_COLOURS, vmin=0, vmax=1, interpolation="nearest")
        panel.set_title(f"{TITLES[name]}\n{outline(panel, name, result, position)}", fontsize=7)
        panel.set(xticks=[], yticks=[], xlim=(-0.5, SIDE - 0.5), ylim=(SIDE - 0.5, -0.5))
    last = axes.flat[-1]
    words = {"luo2016": "linear", "vmamba": "fifth root", "replknet": "logarithm"}
    for (name, label), marker in zip(words.items(), "os^", strict=True):
        own = scales[(scales["of"] == "gaussian") & (scales["convention"] == name)]
        last.plot(own["scale"], 100 * own["area_50"], marker=marker, label=label)
    last.set_title("one Gaussian, σ 120 px", fontsize=7)
    last.set(xscale="log", xlabel="the gradient, times", ylabel="area with half of the mass, %", ylim=(0, None))
    last.legend(fontsize=6)
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    shown = noise(IMAGES, (SIDE, SIDE), 0)
    network = resnet18(shown)
    found = {
        name: erf.by_convention(network, shown[: 1 if name == "voxelnext" else None], name, LAYER) for name in NAMES
    }
    by_scale = scale_table(shown)
    tables = {"": table(found), "_scale": by_scale, "_noise": noise_table(network, noise(2 * IMAGES, (SIDE, SIDE), 1))}
    for suffix, rows in tables.items():
        rows.to_csv(HERE / f"conventions{suffix}.csv", index=False, float_format="%.5g", lineterminator="\n")
    use_style()
    draw(found, by_scale, erf.measure(network, shown[:1], LAYER).position).savefig(HERE / "conventions.png", dpi=120)
