"""How often do the published 95 % intervals hold the truth? Measured by repeating the experiments.

An experiment has new runs, as many as the published one, and its intervals come from the same code. Each row of the
table is one kind of interval in one case:

- size, size of g²: of the mean map of |g| and of g², by bootstrap; mean run size: of the runs' own sizes, Student's t
- slope, slope per run: of log size against log depth, by bootstrap; the slope of the ratio has the same coverage
- R2, box share, kurtosis, departure from a Gaussian: of the mean map without the noise of its runs, by jackknife
- drift, spread, share_quarter, share_half: where the mean map lies, how wide it is, and its share of impact near the
  unit, by jackknife
- size ratio: of a structure to the plain stack, by bootstrap
- log ratio over seeds: Student's t over 3 and more values, of which one is the logarithm of the ratio of the sizes of
  two runs. Here a run stands for a training
- size over images: of one given network, by bootstrap over a few images
- of the reviewers' questions (measure_question) every number, but of numbers by layer or distance only the first, the
  middle and the last one; jackknives of what is read from mean maps, Student's t for means of the runs' own numbers

The truth is the same statistic of all experiments' runs together, without its bias of order 1 / experiments (a
jackknife, whose 95 % interval is `truth_low` to `truth_high`). That is good enough: each experiment is a small part of
it, so that with 200 experiments they lie 0.25 % nearer to it than to the real truth. Where one run outweighs all others
(one channel) the interval of the truth is wide, and the coverage uncertain by more than its own interval says.

Experiments on questions and images are drawn from a pool, each without a run twice, as it would be from all runs that
there could be; their truth is the pool's. A pool of twenty experiments' runs makes them vary by 2.5 % less than new
runs, which adds half a percent to the coverage. The mean gradient is zero by theory, and that is its truth.

`coverage_low` and `coverage_high` are the 95 % Wilson interval of the coverage, `width` is the mean width of the
intervals and `bias` the mean error of the estimates, both as shares of the truth.

Takes about ten minutes for 200 experiments, on one core.
"""

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import ndtri
from tqdm import tqdm

from erf.measuring.measure import gradient_of_sum, impact_maps
from erf.result.field import GaussianFit, ReceptiveField
from erf.result.intervals import LEVEL, jackknife, mean_interval
from erf.size import erf_size
from erf.system.seeds import seed_for, torch_generator
from erf.theory import log_log_slope, stack_rf
from growth_slopes import rows_of
from measure_network import run_maps, shape_row
from measure_question import QUESTIONS
from replication.commands.cli import add_settings, command, new_parser, write_table
from replication.drawing.labels import counted
from replication.stacks.modules import build_stack
from replication.stacks.predictions import cut_off, series_name
from replication.stacks.structures import structure_of, theory_stack
from replication.statistics.gaussianity import box_share, departure, kurtosis
from replication.statistics.moments import moment_statistics
from replication.statistics.ratios import size_ratio

Estimate = tuple[float, float, float]  # value, low, high
NONE: Estimate = (math.nan, math.nan, math.nan)
POOL = 20  # experiments whose runs make a pool


def wilson(hits: int, of: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927): (low, high). NaN of nothing."""
    if not of:
        return math.nan, math.nan
    z, share = ndtri((1 + LEVEL) / 2), hits / of
    middle = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z / (1 + z**2 / of) * math.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    return float(middle - half), float(middle + half)


def row(kind: str, case: str, runs: int, estimates: Sequence[Estimate], truth: Estimate) -> dict:
    """A row of the table; experiments without an interval are counted, and left out."""
    found = np.array(estimates, float)
    known = found[np.isfinite(found).all(1)]
    value, low, high = known.T
    hits = int(((low <= truth[0]) & (truth[0] <= high)).sum())
    coverage_low, coverage_high = wilson(hits, len(known))
    scale = abs(truth[0]) or math.nan
    return {
        "kind": kind,
        "case": case,
        "runs": runs,
        "experiments": len(known),
        "without_interval": len(found) - len(known),
        "coverage": hits / len(known) if len(known) else math.nan,
        "coverage_low": coverage_low,
        "coverage_high": coverage_high,
        "width": (high - low).mean() / scale if len(known) else math.nan,
        "bias": (value.mean() - truth[0]) / scale if len(known) else math.nan,
        "truth": truth[0],
        "truth_low": truth[1],
        "truth_high": truth[2],
    }


def truth_of(statistic: Callable[..., float], *parts: np.ndarray) -> Estimate:
    """`statistic` of the means over all experiments, without its bias of first order, and the 95 % interval of that.

    parts : each (experiments, ...), the experiments' own means, such as their maps
    """
    count, sums = len(parts[0]), [part.sum(0) for part in parts]
    whole = statistic(*(total / count for total in sums))
    without = [
        statistic(*((total - part[left_out]) / (count - 1) for total, part in zip(sums, parts, strict=True)))
        for left_out in range(count)
    ]
    return jackknife(whole, np.array(without))


def repeated(
    name: str, settings: dict, depth: int, experiments: int, shape: bool
) -> tuple[list[ReceptiveField], list[dict], list[dict]]:
    """Of each experiment its field; and, if they are wanted, the numbers of its shape, and those of its moments with
    its mean map of g² under the name "map of g²"."""
    fields, shapes, moments = [], [], []
    for number in tqdm(range(experiments), desc=f"{name}, {depth} layers", mininterval=10):
        stream = f"{name}, experiment {number}"
        maps, position, theoretical_rf = run_maps(stream, settings, depth)
        described = {"network": name, "depth": depth, "variant": "abs", "mode": "abs", **settings}
        rng = np.random.default_rng(seed_for(settings["seed"], stream, depth, "bootstrap"))
        fields.append(ReceptiveField.from_runs(maps["abs"], position, theoretical_rf, described, rng))
        if shape:
            shapes.append(shape_row(fields[-1], maps["abs"]))
            squared = ReceptiveField.from_runs(maps["square"], position, theoretical_rf, described, rng)
            found = moment_statistics(maps["abs"], position, theoretical_rf)
            found["size of g²"] = (squared.size, *squared.interval)
            moments.append(found | {"map of g²": squared.map})
    return fields, shapes, moments


def moments_rows(case: str, fields: list[ReceptiveField], moments: list[dict]) -> list[dict]:
    """Coverage of where the mean map lies, how wide it is and its share near the unit; and of the size of g²."""
    runs, like = fields[0].settings["runs"], fields[0]
    maps, squares = np.stack([field.map for field in fields]), np.stack([one["map of g²"] for one in moments])
    rows = []
    for kind in (kind for kind in moments[0] if kind != "map of g²"):
        if kind == "size of g²":
            truth = truth_of(lambda mean: field_of(mean, like).size, squares)
        else:
            truth = truth_of(
                lambda mean, kind=kind: moment_statistics(mean[None], like.position, like.theoretical_rf)[kind][0], maps
            )
        rows.append(row(kind, case, runs, [one[kind] for one in moments], truth))
    return rows


def drifting_rows(name: str, network: dict, depth: int, experiments: int) -> list[dict]:
    """Coverage of where the mean map of g² of skewed kernels lies and how wide it is, which a claim rests on."""
    found, means = [], []
    for number in range(experiments):
        maps, position, theoretical_rf = run_maps(f"{name}, experiment {number}", network, depth)
        found.append(moment_statistics(maps["square"], position, theoretical_rf))
        means.append(maps["square"].mean(0))
    case = f"{series_name(network)}, g², {counted(network['width'], 'channel')}, {depth} layers"
    rows = []
    for kind in ("drift", "spread"):
        truth = truth_of(
            lambda mean, kind=kind: moment_statistics(mean[None], position, theoretical_rf)[kind][0], np.stack(means)
        )
        rows.append(row(kind, case, network["runs"], [one[kind] for one in found], truth))
    return rows


def field_of(mean: np.ndarray, like: ReceptiveField) -> ReceptiveField:
    return ReceptiveField(mean, like.position, like.theoretical_rf, np.empty(0), settings=like.settings)


def size_rows(case: str, fields: list[ReceptiveField]) -> list[dict]:
    """Coverage of the size of the mean map, and of the mean of the runs' own sizes."""
    runs, maps = fields[0].settings["runs"], np.stack([field.map for field in fields])
    truth = truth_of(lambda mean: field_of(mean, fields[0]).size, maps)
    own = mean_interval(np.concatenate([field.own_sizes for field in fields]))
    return [
        row("size", case, runs, [(field.size, *field.interval) for field in fields], truth),
        row("mean run size", case, runs, [field.mean_run_size for field in fields], own),
    ]


def shape_rows(case: str, fields: list[ReceptiveField], shapes: list[dict]) -> list[dict]:
    """Coverage of the numbers of the shape, whose names in the tables of networks are those below."""
    runs, maps = fields[0].settings["runs"], np.stack([field.map for field in fields])
    position = fields[0].position

    def fit(mean: np.ndarray) -> GaussianFit:
        return field_of(mean, fields[0]).fit_gaussian()

    squared = truth_of(lambda mean: departure(mean, position, fit(mean)) ** 2, maps)  # which has the bias
    truths = {
        "R2": (
            "r2",
            "r2",
            tuple(min(value, 1.0) for value in truth_of(lambda mean: fit(mean).r2, maps)),
        ),
        "box share": ("box_share", "box", truth_of(lambda mean: box_share(mean, position), maps)),
        "kurtosis": (
            "kurtosis",
            "kurtosis",
            truth_of(lambda mean: float(kurtosis(mean, position, fit(mean).sigma)), maps),
        ),
        "departure": ("departure", "departure", tuple(math.sqrt(max(value, 0)) for value in squared)),
    }
    rows = []
    for kind, (name, short, truth) in truths.items():
        estimates = [(shape[name], shape[f"{short}_low"], shape[f"{short}_high"]) for shape in shapes]
        rows.append(row(kind, case, runs, estimates, truth))
    return rows


def slope_rows(case: str, by_depth: list[list[ReceptiveField]]) -> list[dict]:
    """Coverage of the slopes over all depths (ascending) at which theory's ERF is not cut off."""
    used = [fields for fields in by_depth if not cut_off(fields[0])]
    if len(used) < 2:
        return []
    depth = np.array([fields[0].settings["depth"] for fields in used])
    case, runs = f"{case}, {depth[0]}-{depth[-1]} layers", used[0][0].settings["runs"]

    def slope_of_means(*means: np.ndarray) -> float:
        return float(log_log_slope(depth, np.array([field_of(m, f[0]).size for m, f in zip(means, used, strict=True)])))

    def slope_of_sizes(*sizes: float) -> float:
        return float(log_log_slope(depth, np.array(sizes)))

    maps = [np.stack([field.map for field in fields]) for fields in used]
    own = [np.array([field.own_sizes.mean() for field in fields]) for fields in used]
    rows = []
    for kind, per_run, truth in (
        ("slope", False, truth_of(slope_of_means, *maps)),
        ("slope per run", True, truth_of(slope_of_sizes, *own)),
    ):
        slopes = [rows_of(list(fields), per_run)[0] for fields in zip(*used, strict=True)]
        rows.append(row(kind, case, runs, [(one["slope"], one["low"], one["high"]) for one in slopes], truth))
    return rows


def ratio_rows(plain: list[ReceptiveField], other: list[ReceptiveField], seeds: list[int]) -> list[dict]:
    """Coverage of a structure's size as a multiple of the plain stack's, and of means of the logarithm over seeds."""
    settings = other[0].settings
    case = f"{settings['structure']} / plain, {series_name(settings)}, {settings['depth']} layers"
    estimates = [size_ratio(above, below) for below, above in zip(plain, other, strict=True)]
    truth = truth_of(
        lambda below, above: field_of(above, other[0]).size / field_of(below, plain[0]).size,
        *(np.stack([field.map for field in fields]) for fields in (plain, other)),
    )
    rows = [row("size ratio", case, settings["runs"], estimates, truth)]
    below, above = (np.concatenate([field.run_sizes for field in fields]) for fields in (plain, other))
    logs = np.log(above / below)
    logs = logs[np.isfinite(logs)]
    for count in seeds:
        groups = logs[: len(logs) // count * count].reshape(-1, count)
        estimates = [mean_interval(group) for group in groups]
        rows.append(row(f"log ratio over {count} seeds", case, 1, estimates, mean_interval(logs)))
    return rows


def images_rows(settings: dict, experiments: int) -> list[dict]:
    """Coverage of the size of given networks over a few images, as a share of each network's own size over its pool."""
    network, depth, counts = settings["network"], settings["depth"], settings["counts"]
    layers, channels = structure_of(network, depth), network["width"]
    side, pool = stack_rf(theory_stack(layers, network["weights"]))[0], POOL * max(counts)
    position, found = ((side - 1) / 2,) * 2, {count: [] for count in counts}
    for number in range(experiments):
        weights, others = (torch_generator(network["seed"], "images", kind, number) for kind in ("w", "x"))
        model = build_stack(layers, channels, "random", network["activation"], "before", [weights], torch.float32)
        images = torch.randn(pool, channels, side, side, generator=others)
        maps = impact_maps(gradient_of_sum(model, images))
        whole = erf_size(maps.mean(0), position)
        rng = np.random.default_rng(seed_for(network["seed"], "images", "bootstrap", number))
        for count, estimates in found.items():
            chosen = maps[rng.choice(pool, count, replace=False)]
            field = ReceptiveField.from_runs(chosen, position, (side, side), {}, rng)
            estimates.append(tuple(np.array([field.size, *field.interval]) / whole))
    case = f"{series_name(network)}, {counted(channels, 'channel')}, {depth} layers"
    one = (1.0, 1.0, 1.0)
    return [
        row("size over images", f"{case}, {count} images", count, estimates, one) for count, estimates in found.items()
    ]


def numbers(rows: Iterable[dict]) -> dict[str, dict]:
    """Rows of measure_question by what they are of, in words; of many layers or distances the first, the middle and the
    last."""
    rows = list(rows)
    kept = {}
    for condition in ("layer", "distance"):
        places = sorted({one["place"] for one in rows if one["condition"] == condition})
        kept[condition] = {places[0], places[len(places) // 2], places[-1]} if places else set()
    found = {}
    for one in rows:
        if one["place"] in kept.get(one["condition"], (one["place"],)):
            place = "" if math.isnan(one["place"]) else f" {one['place']:.3g}"
            found[f"{one['quantity']}, {one['condition']}{place}"] = one
    return found


def question_rows(question: str, settings: dict, experiments: int) -> list[dict]:
    """Coverage of the numbers of one of the reviewers' questions."""
    (draw, read), count, rows = QUESTIONS[question], settings["runs"], []
    rng = np.random.default_rng(seed_for(settings["seed"], question, "coverage"))
    for case, drawn in draw({**settings, "runs": POOL * count}):
        pool = len(next(iter(drawn.values())))
        truths = numbers(read(settings, case, drawn))
        found: dict[str, list[Estimate]] = {name: [] for name in truths}
        title = f"{series_name({'weights': 'random', **case})}, {counted(case['width'], 'channel')}"
        for _ in tqdm(range(experiments), desc=f"{question}, {title}", mininterval=10):
            chosen = rng.choice(pool, count, replace=False)
            of = numbers(read(settings, case, {name: values[chosen] for name, values in drawn.items()}))
            for name, estimates in found.items():
                estimates.append(tuple(of[name][end] for end in ("value", "low", "high")) if name in of else NONE)
        for name, estimates in found.items():
            quantity, condition = name.split(", ", 1)
            one = truths[name]
            truth = tuple(one[end] for end in ("value", "low", "high"))
            if quantity in ("mean", "cosine"):
                truth = (one["theory"],) * 3
            if np.isfinite(estimates).all(1).any():
                rows.append(row(f"{question}: {quantity}", f"{title}, {condition}", count, estimates, truth))
    return rows


def coverage(settings: dict) -> pd.DataFrame:
    """The table of all kinds and cases."""
    count, rows = settings["experiments"], []
    for name, network in settings["networks"].items():
        case, by_depth = f"{series_name(network)}, {counted(network['width'], 'channel')}", []
        for depth in sorted(settings["depths"]):
            shape = depth in settings["shape_depths"]
            fields, shapes, moments = repeated(name, network, depth, count, shape)
            rows += size_rows(f"{case}, {depth} layers", fields)
            if shape:
                rows += shape_rows(f"{case}, {depth} layers", fields, shapes)
                rows += moments_rows(f"{case}, {depth} layers", fields, moments)
            by_depth.append(fields)
        rows += slope_rows(case, by_depth)
    for name, network in settings["drifting"].items():
        for depth in settings["shape_depths"]:
            rows += drifting_rows(name, network, depth, count)
    measured = [
        repeated(name, network, network["depths"][0], count, False)[0]
        for name, network in settings["structures"].items()
    ]
    (plain,) = (fields for fields in measured if fields[0].settings["structure"] == "plain")
    for other in measured:
        if other is not plain:
            rows += ratio_rows(plain, other, settings["seeds"])
    rows += images_rows(settings["images"], count)
    for question, asked in settings["questions"].items():
        rows += question_rows(question, asked, count)
    return pd.DataFrame(rows).sort_values("kind", kind="stable")


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    add_settings(parser, "the number of experiments, and the networks, depths and structures that they have")
    parser.add_argument("--out", type=Path, required=True, help="table, .csv")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    table = coverage(args.settings)
    write_table(table, args.out)
    print(table[["kind", "case", "coverage", "coverage_low", "coverage_high", "width", "bias"]].to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
