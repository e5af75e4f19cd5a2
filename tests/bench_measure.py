"""What measuring costs, beside the way of the public scripts: `make bench`, or this file alone.

The baseline is `erf.naive`, as RepLKNet's script computes: batch 1, the whole image, the sum over channels at the
middle unit, its gradient with respect to the image, parameters that ask for gradients. Each measurement has a process
of its own, for its peak of memory; the ratios are of one run, with the same threads, model and images. Nothing here
fails: time is not a test. Writes benchmarks/measure.csv and .png.

    python tests/bench_measure.py [threads]
"""

import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import erf
from conftest import ROOT
from erf import naive
from erf.models.torchvision_import import import_torchvision

MODELS = {"resnet18": "layer4", "resnet50": "layer4", "convnext_tiny": "features", "unet": None}
SIDES = {224: 16, 512: 8, 1024: 8}  # with the number of images
RUNS = (1, 2, 4, 8)
LONG = 60  # seconds
DEPTHS = (10, 20, 40, 80)


class UNet(nn.Module):
    """Ronneberger, Fischer and Brox 2015, padded, of a quarter of the width; the units are those of the last layer."""

    def __init__(self, width: int = 16, depth: int = 4):
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        double = lambda a, b: nn.Sequential(  # noqa: E731
            nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.ReLU()
        )
        self.down = nn.ModuleList(map(double, [3, *widths[:-1]], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in itertools.pairwise(widths))
        self.join = nn.ModuleList(double(b, a) for a, b in itertools.pairwise(widths))
        self.head = nn.Conv2d(width, 11, 1)

    def forward(self, x):
        skips = []
        for level, layer in enumerate(self.down):
            x = layer(x if level == 0 else nn.functional.max_pool2d(x, 2))
            skips.append(x)
        for up, join, skip in zip(self.up[::-1], self.join[::-1], skips[-2::-1], strict=True):
            x = join(torch.cat([skip, up(x)], 1))
        return self.head(x)


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name.startswith("stack"):
        depth = int(name.removeprefix("stack"))
        layers = [module for _ in range(depth) for module in (nn.Conv2d(16, 16, 3, padding=1), nn.ReLU())]
        return nn.Sequential(nn.Conv2d(3, 16, 1), *layers[:-1])
    return UNet() if name == "unet" else import_torchvision().models.get_model(name, weights=None)


def measured(model: nn.Module, images: torch.Tensor, layer: str | None) -> np.ndarray:
    return erf.measure(model, images, layer).map


def child(method: str, name: str, side: int, count: int, threads: int, out: str) -> None:
    """One measurement: the better of two times, if one is not long, and the memory that it takes beyond the model's."""
    torch.set_num_threads(threads)
    model, layer = build(name).eval(), MODELS.get(name)
    images = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    if method == "exact":  # in double precision, which tests hold against the gradient of the whole image
        model, images = model.double(), images.double()
    function = naive.impact_map if method == "baseline" else measured
    page = resource.getpagesize()
    before = int(Path("/proc/self/statm").read_text().split()[1]) * page
    seconds = []
    while not seconds or (method != "exact" and len(seconds) < 2 and seconds[0] < LONG):
        start = time.perf_counter()
        result = function(model, images, layer)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    np.save(out, result)
    print(json.dumps({"seconds": min(seconds) / count, "bytes": peak - before}))


def run(method: str, name: str, side: int, count: int, threads: int, folder: Path) -> tuple[dict, np.ndarray]:
    out = folder / f"{method}.npy"
    command = [sys.executable, __file__, "child", method, name, str(side), str(count), str(threads), str(out)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(printed.splitlines()[-1]), np.load(out)


def comparisons(threads: int, folder: Path) -> pd.DataFrame:
    rows = []
    for name in MODELS:
        for side, count in SIDES.items():
            (old, expected), (new, found) = (run(m, name, side, count, threads, folder) for m in ("baseline", "erf"))
            _, exact = run("exact", name, side, count, threads, folder)
            error, its = (np.abs(one - exact).sum() / exact.sum() for one in (found, expected))
            row = {"model": name, "side": side, "images": count, "seconds_baseline": old["seconds"]}
            row |= {"seconds_erf": new["seconds"], "speed_ratio": old["seconds"] / new["seconds"]}
            row |= {"MiB_baseline": old["bytes"] / 2**20, "MiB_erf": new["bytes"] / 2**20}
            rows.append(row | {"memory_ratio": new["bytes"] / old["bytes"], "error_baseline": its, "error_erf": error})
            print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1, float_format="{:.3g}".format))
    return pd.DataFrame(rows)


def costs(threads: int, folder: Path) -> pd.DataFrame:
    """Seconds for more runs, and for more layers beside the arithmetic that they are."""
    rows = []
    for count in RUNS:
        result, _ = run("erf", "resnet18", 512, count, threads, folder)
        rows.append({"against": "runs", "x": count, "seconds": result["seconds"] * count, "arithmetic": count})
    for depth in DEPTHS:
        result, _ = run("erf", f"stack{depth}", 256, 2, threads, folder)
        arithmetic = sum(min(2 * n + 1, 256) ** 2 for n in range(depth))
        rows.append({"against": "layers", "x": depth, "seconds": result["seconds"] * 2, "arithmetic": arithmetic})
    for side in SIDES:
        result, _ = run("erf", "resnet18", side, 2, threads, folder)
        rows.append({"against": "side", "x": side, "seconds": result["seconds"] * 2, "arithmetic": 1})
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, cost: pd.DataFrame, path: Path) -> None:
    from replication.drawing.plots import WIDTH, use_style

    use_style()
    figure, axes = plt.subplots(1, 5, figsize=(WIDTH, 2.2))
    for (name, rows), marker in zip(table.groupby("model", sort=False), "osD^", strict=True):
        for panel, ratio in zip(axes, ("speed_ratio", "memory_ratio"), strict=False):
            panel.plot(rows["side"], rows[ratio], f"{marker}-", label=name)
    for panel, title in zip(axes, ("times faster", "share of memory"), strict=False):
        panel.axhline(1, color="0.7", linewidth=0.6, zorder=0)
        panel.set(title=title, xlabel="image side (pixels)", xscale="log", yscale="log")
        panel.set_xticks(list(SIDES))
    words = {"runs": "images", "side": "image side (pixels)", "layers": "layers"}
    for panel, (against, rows) in zip(axes[2:], cost.groupby("against", sort=False), strict=True):
        panel.plot(rows["x"], rows["seconds"], "ko", label="seconds measured")
        middle = rows.iloc[len(rows) // 2]
        scaled = rows["arithmetic"] * middle["seconds"] / middle["arithmetic"]
        panel.plot(rows["x"], scaled, "-", color="0.6", zorder=0, label="by the arithmetic")
        panel.set(title="seconds", xlabel=words[against], xscale="log")
        panel.set_xticks(list(rows["x"]))
        panel.set(ylim=(0, 1.2 * rows["seconds"].max())) if against == "side" else panel.set(yscale="log")
    for panel in axes:
        if panel.get_yscale() == "log":
            panel.yaxis.set_major_locator(
                LogLocator(subs=(1, 2, 5) if np.ptp(np.log10(panel.get_ylim())) < 2 else (1,))
            )
        panel.minorticks_off()
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter("{x:g}")
    lines = [panel.get_legend_handles_labels() for panel in (axes[0], axes[2])]
    handles, labels = ([*first, *second] for first, second in zip(*lines, strict=True))
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.savefig(path)


def main(threads: int = 1) -> None:
    folder = ROOT / "benchmarks"
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as maps:
        table, cost = comparisons(threads, Path(maps)), costs(threads, Path(maps))
    table.to_csv(folder / "measure.csv", index=False, float_format="%.4g")
    cost.to_csv(folder / "measure_costs.csv", index=False, float_format="%.4g")
    draw(table, cost, folder / "measure.png")
    print(cost.to_string(index=False, float_format="{:.3g}".format))


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(sys.argv[2], sys.argv[3], *map(int, sys.argv[4:7]), sys.argv[7])
    else:
        main(*map(int, sys.argv[1:]))
