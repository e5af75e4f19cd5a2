"""Impact maps of one untrained network at each of its depths, over many draws of its weights and inputs.

Each run draws new weights and one new input image. The input is as large as the receptive field and nothing is padded,
so one unit is left in the output plane. Runs lie side by side as groups of the same convolutions, as many at a time as
memory allows. Each depth gives one receptive field for each variant of what the paper leaves open (`VARIANTS`).

Skewed kernels move the impact away from the unit, where soon there is none. Their thresholds are shares of the maximum
in every variant, and a Gaussian is fitted around the map's own mean.

Takes seconds for 20 layers and up to two minutes for 160, on one core.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from erf.errors import InputError
from erf.measuring.measure import gradient_of_sum, impact_maps
from erf.result.contribution import radius_holding
from erf.result.field import ReceptiveField, load_fields, save_fields
from erf.size import THRESHOLD
from erf.system.files import journal
from erf.system.seeds import seed_for, torch_generator
from erf.theory import stack_rf
from replication.commands.cli import add_settings, command, new_parser, read_table, write_table
from replication.commands.kept import former
from replication.stacks.modules import build_stack
from replication.stacks.predictions import (
    drifts,
    limit_moments,
    predicted_fit,
    predicted_map,
    predicted_moments,
    predicted_sigma,
    predicted_size,
    series_name,
)
from replication.stacks.structures import special_layers, structure_of, theory_stack
from replication.statistics.gaussianity import (
    box_share_without_noise,
    departure,
    departure_without_noise,
    kurtosis,
    kurtosis_without_noise,
    r2_without_noise,
)
from replication.statistics.moments import map_moments, moment_statistics

VARIANTS = {  # how runs become one map, and what the threshold is a share of: (mode, runs made equal first, reference)
    "abs": ("abs", False, "centre"),
    "square": ("square", False, "centre"),
    "signed": ("signed", False, "centre"),
    "equal": ("abs", True, "centre"),  # each run's map divided by its sum: none outweighs the others
    "maximum": ("abs", False, "maximum"),
}
ACTIVATIONS_BYTES = 2**28  # of one pass
KEEP_SCALE = ("none", "relu", "leaky_relu")  # through these, gradients of deep networks stay in float32's range
SMALLEST = 1e-25  # a run's largest gradient, below which the map's flanks would be lost in float32


def run_maps(name: str, settings: dict, depth: int) -> tuple[dict[str, np.ndarray], tuple, tuple]:
    """Maps (runs, H, W) in each mode that the variants need, the unit's position and its theoretical field."""
    channels, runs, seed = (settings[key] for key in ("width", "runs", "seed"))
    layers = structure_of(settings, depth)
    height, width = stack_rf(theory_stack(layers, settings["weights"]))
    dtype = torch.float64
    if depth > settings["double_depth"] and settings["activation"] in KEEP_SCALE:
        dtype = torch.float32
    one_run = channels * height * width * depth * dtype.itemsize / 3  # planes shrink towards the unit, as a pyramid
    if one_run > 2**34:
        raise InputError(
            f"{name}: a run at {depth} layers, of receptive field {height}, needs {one_run / 2**30:.0f} GiB;"
            " take fewer layers, special layers or channels"
        )
    at_once = max(1, min(runs, int(ACTIVATIONS_BYTES / one_run)))
    maps = {mode: [] for mode in sorted({VARIANTS[variant][0] for variant in settings["variants"]})}
    for start in range(0, runs, at_once):
        chosen = range(start, min(start + at_once, runs))
        weights, others = ([torch_generator(seed, name, depth, kind, run) for run in chosen] for kind in ("w", "x"))
        model = build_stack(
            layers, channels, settings["weights"], settings["activation"], settings["reading"], weights, dtype
        )
        images = [torch.randn(channels, height, width, generator=g, dtype=torch.float64) for g in others]
        # Many runs side by side are quickest with their channels apart, a single large one with its channels together.
        layout = {"memory_format": torch.channels_last if len(chosen) == 1 else torch.contiguous_format}
        inputs = torch.cat(images)[None].to(dtype)
        gradient = gradient_of_sum(model.to(**layout), inputs.to(**layout))  # of one unit for each run
        gradient = gradient.reshape(len(chosen), channels, height, width)
        peaks = gradient.abs().amax((1, 2, 3))
        if dtype == torch.float32 and (peaks[peaks > 0] < SMALLEST).any():
            raise InputError(f"{name}: gradients are too small for float32: set double_depth to at least {depth}")
        for mode, parts in maps.items():
            parts.append(impact_maps(gradient, mode))
    maps = {mode: np.concatenate(parts) for mode, parts in maps.items()}
    return maps, ((height - 1) / 2, (width - 1) / 2), (height, width)


Measured = tuple[list[ReceptiveField], pd.DataFrame]  # fields, and their numbers, a row each


def measure_network(name: str, settings: dict, before: dict[int, Measured] | None = None) -> Measured:
    """One field for each depth and variant, and their numbers; `name` names the network's random streams. What is in
    `before`, by depth, is not measured again."""
    fields, rows, before = [], [], before or {}
    for depth in settings["depths"]:
        own = at_depth(settings, depth)
        if depth in before:
            fields += [replace(field, settings={**field.settings, **own}) for field in before[depth][0]]
            rows += before[depth][1].to_dict("records")
            continue
        maps, position, theoretical_rf = run_maps(name, own, depth)
        for variant, threshold in variants(settings):
            mode, equal, reference = VARIANTS[variant]
            reference = "maximum" if drifts(settings) else reference
            runs, name_of_variant = maps[mode], variant_name(variant, threshold)
            if equal:
                sums = runs.sum((1, 2), keepdims=True)
                runs = np.divide(runs, sums, out=np.zeros_like(runs), where=sums > 0)
            rng = np.random.default_rng(seed_for(settings["seed"], name, depth, "bootstrap", name_of_variant))
            described = {"network": name, "depth": depth, "variant": name_of_variant, "mode": mode, **own}
            field = ReceptiveField.from_runs(runs, position, theoretical_rf, described, rng, reference, threshold)
            fields.append(field)
            row = {**table_row(field), **(shape_row(field, runs) if name_of_variant == "abs" else {})}
            rows.append({**row, **(moments_row(field, runs) if name_of_variant in ("abs", "square") else {})})
    if all(field.dead == field.settings["runs"] for field in fields):
        raise InputError(f"{name}: the unit is dead in all {settings['runs']} runs; give it more channels or more runs")
    return fields, pd.DataFrame(rows)


def at_depth(settings: dict, depth: int) -> dict:
    """A network's settings at one of its depths, of which some have more runs than others."""
    more = settings["more_runs"]
    return {**settings, "runs": more["runs"]} if depth in more["depths"] else settings


def variants(settings: dict) -> list[tuple[str, float]]:
    """How a network is read: each variant at the paper's threshold, and "abs" at all other thresholds too."""
    others = [threshold for threshold in settings["thresholds"] if threshold != THRESHOLD]
    return [(variant, THRESHOLD) for variant in settings["variants"]] + [("abs", threshold) for threshold in others]


def variant_name(variant: str, threshold: float) -> str:
    """How tables call a variant: "abs", "abs above 13.5 %"."""
    return variant if threshold == THRESHOLD else f"{variant} above {100 * threshold:.3g} %"


def table_row(field: ReceptiveField) -> dict:
    """The numbers of one field beside a linear network's theory; lengths in pixels, NaN where all runs died."""
    settings, centred = field.settings, around_its_mean(field)
    fit = centred.fit_gaussian()
    mean_run_size, mean_run_low, mean_run_high = field.mean_run_size
    return {
        "network": settings["network"],
        "series": series_name(settings),
        "structure": settings["structure"],
        "special_layers": json.dumps(special_layers(settings)),
        "centre_light": settings["centre_light"],
        "kernel": settings["kernel"],
        "width": settings["width"],
        "reading": settings["reading"],
        "depth": settings["depth"],
        "variant": settings["variant"],
        "threshold": field.threshold,
        "runs": settings["runs"],
        "dead": field.dead,
        "without_centre": settings["runs"]
        - field.dead
        - len(field.own_sizes),  # in the map, but with no size of their own
        "largest_share": field.largest_share,
        "clipped": field.clipped,
        "rf": field.theoretical_rf[0],
        "size": field.size,
        "low": field.interval[0],
        "high": field.interval[1],
        "ratio": field.ratio,
        "mean_run_size": mean_run_size,
        "mean_run_low": mean_run_low,
        "mean_run_high": mean_run_high,
        **both_axes("sigma", field.sigma),
        **both_axes("fit_sigma", fit.sigma),
        "gaussian_r2": fit.r2,
        **both_axes("excess_kurtosis", centred.kurtosis),
        **both_axes("limit_sigma", predicted_sigma(settings)),
        "theory_size": predicted_size(settings, field.threshold),
    }


def around_its_mean(field: ReceptiveField) -> ReceptiveField:
    """The field as if the unit looked at its map's mean, if the ERF drifts; else the field."""
    if not drifts(field.settings):
        return field
    drift, _ = map_moments(field.map, field.position)
    return replace(field, position=tuple((np.array(field.position) + np.nan_to_num(drift)).tolist()))


def shape_row(field: ReceptiveField, runs: np.ndarray) -> dict:
    """How Gaussian and how square the map is, without the noise of `runs` (runs, H, W), with intervals over them."""
    live, centred = runs[runs.any((1, 2))], around_its_mean(field)
    position, fit = centred.position, centred.fit_gaussian()
    expected, expected_fit = predicted_map(field.settings), predicted_fit(field.settings)
    return {
        **with_ends("r2", "r2", r2_without_noise(live, position, fit)),
        **with_ends("box_share", "box", box_share_without_noise(live, position)),
        **with_ends("kurtosis", "kurtosis", kurtosis_without_noise(live, position, fit)),
        **with_ends("departure", "departure", departure_without_noise(live, position, fit)),
        **with_ends(
            "departure_from_theory",
            "departure_from_theory",
            departure_without_noise(live, position, fit, expected),
        ),
        "theory_r2": expected_fit.r2,
        "theory_kurtosis": float(kurtosis(expected, position, expected_fit.sigma)),
        "theory_departure": departure(expected, position, expected_fit),
    }


def with_ends(name: str, short: str, found: tuple[float, float, float]) -> dict[str, float]:
    return {name: found[0], f"{short}_low": found[1], f"{short}_high": found[2]}


def moments_row(field: ReceptiveField, runs: np.ndarray) -> dict:
    """Where the map lies, how wide it is and how much of it is near the unit, with intervals over `runs` (runs, H, W),
    beside a linear network's theory: of the exact map at this depth, and by the poster's formulas."""
    live = runs[runs.any((1, 2))]
    found, theory = moment_statistics(live, field.position, field.theoretical_rf), predicted_moments(field.settings)
    row = {}
    for name, (value, low, high) in found.items():
        row |= {name: value, f"{name}_low": low, f"{name}_high": high, f"theory_{name}": theory[name]}
    limit_drift, limit_spread = limit_moments(field.settings)
    half = radius_holding(np.abs(field.map), field.position, 0.5)
    return {**row, "limit_drift": limit_drift, "limit_spread": limit_spread, "radius_half": half}


def both_axes(name: str, values: tuple[float, float]) -> dict[str, float]:
    return {f"{name}_rows": values[0], f"{name}_columns": values[1]}


def measured_before(out: Path, name: str, settings: dict) -> dict[int, Measured]:
    """What was kept of an earlier result, by depth, if nothing else that its measurement depends on has
    changed since."""
    path = former(Path(__file__), out)
    if not path:
        return {}
    with journal():  # of its own: what is kept goes when the program ends, and is no input of the new result
        fields, rows = load_fields(path), read_table(path.with_suffix(".csv"), "depth")
    found = {}
    for depth in {field.settings["depth"] for field in fields}:
        own = [field for field in fields if field.settings["depth"] == depth]
        told = {"network": name, **at_depth(settings, depth)}
        told = {key: value for key, value in told.items() if key not in ("depths", "more_runs")}
        if all(field.settings.get(key) == value for field in own for key, value in told.items()):
            found[depth] = (own, rows[rows["depth"] == depth])
    return found


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    add_settings(parser, "the network's settings, and its name, which also names its random streams")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="results, .npz; their numbers come beside it as .csv")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)  # far from the unit of a deep network impacts are next to nothing, and slow
    name = args.settings.pop("name")
    fields, rows = measure_network(name, args.settings, measured_before(args.out, name, args.settings))
    save_fields(fields, args.out)
    write_table(rows, args.out.with_suffix(".csv"))
    print(rows[["depth", "variant", "size", "low", "high", "theory_size", "dead"]].to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
