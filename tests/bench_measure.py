"""CPU time and memory of `erf.measure`, beside the published way: `make bench`, or this file alone; half an hour.

The published way takes one image at a time, all of it, and back-propagates the sum over channels at the middle unit.

    script : as RepLKNet's program does it, with parameters that ask for gradients, and `.backward()`
    bare : the same with parameters that ask for none, by `torch.autograd.grad`
    one by one : many units or many layers, each by a call of `erf.measure`

All run on one thread, in float32, and end at the same layer. Each first call is in a fresh process, which has imported
the libraries and built the model, and has computed nothing. Methods take turns: script, bare, erf, script, bare, erf.
A row is of one call (the first, or later ones with the same images) and one baseline: medians over the turns, and the
lowest and the highest ratio of a turn. Memory is a call's peak beyond what the process had before the first.
Nothing here fails: time is not a test. Writes benchmarks/measure.csv and .png.

    python tests/bench_measure.py
    python tests/bench_measure.py --models resnet18 timm/convnext_atto --sides 224 --images 1 --repeats 5
"""

import argparse
import ctypes
import itertools
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import zoo_models
from bench_figure import draw
from erf.errors import InputError
from erf.measuring.layer import last_layer, layer_output
from erf.measuring.measure import measure
from forked import forked

ROOT = Path(__file__).resolve().parent.parent
MODELS = (
    "alexnet vgg11 resnet18 resnet34 resnet50 resnext50_32x4d densenet121 googlenet mobilenet_v2 mobilenet_v3_small "
    "mobilenet_v3_large mnasnet0_5 mnasnet1_0 shufflenet_v2_x0_5 shufflenet_v2_x1_0 squeezenet1_0 squeezenet1_1 "
    "efficientnet_b0 efficientnet_v2_s regnet_x_400mf regnet_x_800mf regnet_y_400mf regnet_y_800mf convnext_tiny "
    "swin_t swin_v2_t vit_b_32 maxvit_t fcn_resnet50 deeplabv3_mobilenet_v3_large lraspp_mobilenet_v3_large own/unet"
)
TIMM = (
    "convnextv2_atto repvgg_a0 edgenext_xx_small poolformer_s12 resnetv2_18 hrnet_w18_small dla34 "
    "deit_tiny_patch16_224 mixnet_s ghostnet_100"
)
LARGE = ("resnet18", "resnet50", "convnext_tiny", "own/unet")  # also at 512 and 1024 pixels
MANY = {"16 units": "resnet18", "16 layers": "resnet50"}
BASELINES = ("script", "bare", "one by one")


@dataclass(frozen=True)
class Case:
    """What is measured: the middle unit of the last layer, or many units of it, or the middle units of many layers."""

    model: str
    side: int = 224
    images: int = 1
    what: str = "one unit"
    later: int = 1  # calls after the first


def targets(model: nn.Module, case: Case) -> tuple[list[str | None], list[tuple[int, int]] | None, str | int]:
    """Layers, units and channels; None stands for the middle unit."""
    layers, units, channels = [None], None, "sum"
    if case.what == "16 layers":
        layers = [f"layer{stage}.{block}" for stage in range(1, 5) for block in range((3, 4, 6, 3)[stage - 1])]
    elif case.model != "own/unet":
        layers = [last_layer(model, (3, case.side, case.side))]
    if case.what == "16 units":
        units = [(row, column) for row in range(1, 5) for column in range(1, 5)]
    try:
        measure(model, torch.randn(1, 3, case.side, case.side), layers[0])
    except InputError:  # behind a layer norm the channels' sum is constant
        channels = 3
    return layers, units, channels


def unit_values(output: torch.Tensor, unit: tuple[int, int] | None) -> torch.Tensor:
    """The channels (1, K) of a unit, in a map with channels first or last, or among the tokens of a square plane."""
    if output.dim() == 3:
        side = int(output.shape[1] ** 0.5)
        row, column = unit or (side // 2, side // 2)
        return output[:, output.shape[1] - side**2 + row * side + column]
    output = output if output.shape[2] == output.shape[3] else output.permute(0, 3, 1, 2)
    row, column = unit or (output.shape[2] // 2, output.shape[3] // 2)
    return output[:, :, row, column]


def plain(model: nn.Module, images: torch.Tensor, layers, units, channels, asks: bool) -> list[np.ndarray]:
    model.requires_grad_(asks)
    maps = []
    for layer, unit in itertools.product(layers, units or [None]):
        gradients = []
        for image in images.split(1):
            x = image.clone().requires_grad_()
            values = unit_values(layer_output(model, x, layer), unit)
            value = values.sum() if channels == "sum" else values[:, channels].sum()
            if asks:
                model.zero_grad()
                value.backward()
            gradients.append(x.grad if asks else torch.autograd.grad(value, x)[0])
        maps.append(torch.cat(gradients).double().abs().mean((0, 1)).numpy())
    return maps


def by_erf(model: nn.Module, images: torch.Tensor, layers, units, channels) -> list[np.ndarray]:
    found = measure(model, images, layers, units or "center", channels)
    return [field.map for one in found for field in (one if units else [one])]


def one_by_one(model: nn.Module, images: torch.Tensor, layers, units, channels) -> list[np.ndarray]:
    pairs = itertools.product(layers, units or ["center"])
    return [measure(model, images, layer, unit, channels).map for layer, unit in pairs]


def calls(method: str, model: nn.Module, case: Case, layers, units, channels) -> dict:
    """Of the first call and of later ones, the CPU seconds and the memory; and the maps."""
    images = torch.randn(case.images, 3, case.side, case.side, generator=torch.Generator().manual_seed(0))
    before, seconds, peaks, given = status("VmRSS"), [], [], (model, images, layers, units, channels)
    for _ in range(1 + case.later):
        ctypes.CDLL(None).malloc_trim(0)  # what an earlier call has freed is no part of this one's peak
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        start = time.process_time()
        if method in ("script", "bare"):
            found = plain(*given, asks=method == "script")
        else:
            found = (by_erf if method == "erf" else one_by_one)(*given)
        seconds.append(time.process_time() - start)
        peaks.append(status("VmHWM") - before)
    times, memory = ({"first": some[0], "later": min(some[1:])} for some in (seconds, peaks))
    return {"seconds": times, "MiB": memory, "maps": np.array(found)}


def status(name: str) -> float:
    """A number from what Linux tells of this process, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def rows_of(model: nn.Module, case: Case, repeats: int, seconds: float) -> list[dict]:
    """A row for each baseline and call; at least two turns of the methods, and no more once the time has passed."""
    chosen = forked(targets, model, case)
    baselines = BASELINES[: 2 if case.what == "one unit" else 3]
    turns, start = [], time.monotonic()
    while len(turns) < repeats and (len(turns) < 2 or time.monotonic() - start < seconds):
        turns.append({method: forked(calls, method, model, case, *chosen) for method in (*baselines, "erf")})
    rows = []
    for call, baseline in itertools.product(("first", "later"), baselines):
        ratios = [turn[baseline]["seconds"][call] / turn["erf"]["seconds"][call] for turn in turns]
        row = {"model": case.model, "side": case.side, "images": case.images, "what": case.what}
        row |= {"call": call, "baseline": baseline, "turns": len(turns)}
        row |= {"ratio": np.median(ratios), "ratio_lowest": min(ratios), "ratio_highest": max(ratios)}
        for number, name in itertools.product(("seconds", "MiB"), (baseline, "erf")):
            middle = np.median([turn[name][number][call] for turn in turns])
            row[f"{number}_{'erf' if name == 'erf' else 'baseline'}"] = middle
        row["memory_ratio"] = row["MiB_erf"] / row["MiB_baseline"]
        expected, found = (turns[0][method]["maps"] for method in (baseline, "erf"))
        rows.append(row | {"map_difference": np.abs(found - expected).sum() / expected.sum()})
    return rows


def cases_of(name: str, sides: list[int], images: list[int]) -> list[Case]:
    """Large images are for a few models, and there for the smallest number of images, since the baselines take long."""
    cases = [Case(name, images=count, later=2 if count == 1 else 1) for count in images] if 224 in sides else []
    cases += [Case(name, what=what) for what, model in MANY.items() if name == model and 224 in sides]
    return cases + [Case(name, side, min(images), later=2) for side in sides if side != 224 and name in LARGE]


def child(cases: list[Case], repeats: int, seconds: float) -> None:
    """Print a line of JSON for each case, all of one model."""
    torch.set_num_threads(1)
    name = cases[0].model
    model, _ = zoo_models.build(name if "/" in name else f"torchvision/{name}")
    for case in cases:
        print(json.dumps(rows_of(model, case, repeats, seconds)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    models = MODELS.split() + ([f"timm/{name}" for name in TIMM.split()] if zoo_models.available("timm") else [])
    parser.add_argument("--models", nargs="+", default=models, help="of torchvision, or timm/NAME")
    parser.add_argument("--sides", nargs="+", type=int, default=[224, 512, 1024], help="of images, in pixels")
    parser.add_argument("--images", nargs="+", type=int, default=[1, 8], help="in one call")
    parser.add_argument("--repeats", type=int, default=5, help="turns of the methods at most")
    parser.add_argument("--seconds", type=float, default=12, help="after which no turn beyond the second begins")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/measure.csv")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child([Case(**case) for case in json.loads(options.child)], options.repeats, options.seconds)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    found: list[dict] = []
    for name in options.models:
        cases = json.dumps([asdict(case) for case in cases_of(name, options.sides, options.images)])
        settings = ["--repeats", str(options.repeats), "--seconds", str(options.seconds), "--child", cases]
        done = subprocess.run([sys.executable, __file__, *settings], stdout=subprocess.PIPE, text=True)
        for row in [row for line in done.stdout.splitlines() for row in json.loads(line)]:
            found.append(row)
            what = (
                f"{name}, {row['what']}, {row['side']} pixels, {row['images']} images, {row['call']}, {row['baseline']}"
            )
            print(
                f"{what:80} {row['ratio']:6.2f} ({row['ratio_lowest']:.2f} to {row['ratio_highest']:.2f})", flush=True
            )
        pd.DataFrame(found).to_csv(options.out, index=False, float_format="%.4g")
    draw(pd.DataFrame(found), options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
