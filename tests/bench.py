"""What the project takes, on this machine: `make bench`. Prints a table and writes benchmarks/bench.csv.

Whole runs of the pipeline are held against their targets; the library against other ways to the same result, as ratios
in one process. Nothing here fails: time is not a test.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from conftest import ROOT, copy_project
from erf.measuring.measure import gradient_of_sum
from erf.system.seeds import torch_generator
from replication.stacks.modules import build_stack
from replication.stacks.structures import structure

CORES = 2
UNTRAINED = [
    "convolution",
    "gaussian_shape",
    "nonlinearity",
    "structures",
    "growth",
    "layers_to_gaussian",
    "sensitivity",
    "slope_pair",
    "reviewers",
]


def seconds(command: list[str], folder: Path) -> float:
    start = time.perf_counter()
    result = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode:
        sys.exit(f"error: {' '.join(command)}\n{result.stdout[-2000:]}")
    return time.perf_counter() - start


def pipeline(folder: Path) -> list[dict]:
    """Runs of the pipeline in a copy of the project, on `CORES` cores."""
    copy_project(folder)
    snakemake = [sys.executable, "-m", "snakemake", "--cores", str(CORES)]
    figures = [f"figures/paper/{name}.png" for name in UNTRAINED]
    runs = {
        "every untrained network at full scale": (240, figures),
        "a dry run": (5, [*figures, "--dry-run"]),
        "a run with nothing to do": (5, figures),
        "one figure again": (15, ["figures/paper/growth.png", "--forcerun", "figure_growth"]),
        "every quick figure": (300, ["--configfile=config/quick.yaml", "all"]),
    }
    rows = []
    for what, (target, arguments) in runs.items():
        taken = seconds([*snakemake, *arguments], folder)
        rows.append({"what": what, "seconds": taken, "held against": "its target", "ratio": target / taken})
    return rows


def best(depth: int, runs: int, channels: int, dtype: torch.dtype, at_once: int) -> float:
    """Seconds per run of measuring random stacks with ReLU; the best of three."""
    layers, side, taken = structure("plain", depth), 1 + 2 * depth, []
    for _ in range(3):
        start = time.perf_counter()
        for first in range(0, runs, at_once):
            generators = [torch_generator(0, run) for run in range(first, first + at_once)]
            model = build_stack(layers, channels, activation="relu", generators=generators, dtype=dtype)
            gradient_of_sum(model, torch.randn(1, at_once * channels, side, side, dtype=dtype))
        taken.append((time.perf_counter() - start) / runs)
    return min(taken)


def library() -> list[dict]:
    """Ways to measure the same networks, with one thread."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    rows = []
    for depth, channels in ((5, 1), (20, 1), (5, 16), (20, 16)):
        together, alone = (best(depth, 20, channels, torch.float64, at_once) for at_once in (20, 1))
        what = f"20 runs side by side, {depth} layers of {channels} channel{'s' if channels > 1 else ''}"
        rows.append({"what": what, "seconds": 20 * together, "held against": "one by one", "ratio": alone / together})
    single, double = (best(80, 2, 16, dtype, 1) for dtype in (torch.float32, torch.float64))
    row = {"what": "float32 at 80 layers", "seconds": single, "held against": "float64"}
    rows.append({**row, "ratio": double / single})
    shallow, deep = (best(depth, 2, 16, torch.float64, 1) for depth in (20, 40))
    arithmetic = sum((2 * n + 1) ** 2 for n in range(40)) / sum((2 * n + 1) ** 2 for n in range(20))
    row = {"what": "40 layers", "seconds": deep, "held against": "20 layers, times the arithmetic's ratio"}
    rows.append({**row, "ratio": shallow * arithmetic / deep})
    return rows


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = pipeline(Path(folder)) + library()
    table = pd.DataFrame(rows)
    out = ROOT / "benchmarks/bench.csv"
    out.parent.mkdir(exist_ok=True)
    table.to_csv(out, index=False, float_format="%.4g")
    print(f"{os.cpu_count()} cores, {CORES} used; a ratio above 1 is better than what it is held against")
    print(table.to_string(index=False, float_format="{:.3g}".format))


if __name__ == "__main__":
    main()
