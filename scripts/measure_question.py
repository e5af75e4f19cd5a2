"""What the paper's reviewers asked of untrained networks: one question's measurements, as a table.

means : what do maps of random networks show, as the mean gradient is zero? E|g| beside sqrt(E[g^2]), and the mean of g
    over more and more runs.
signed_kernels : the theory has kernels of weights w >= 0. Linear stacks whose weights have a mean and a spread, from
    random to uniform ones.
gates : do a ReLU's gates depend on the gradients that arrive there? Layer by layer; and maps with other gates, which
    cannot depend on them.
batch_norm : do batch norms change the ERF of an untrained ReLU stack?

All stacks are plain. Intervals are 95 %, over runs: jackknives of what is read from mean maps, Student's t for means of
the runs' own numbers. Takes seconds, and half a minute with 64 channels, on one core.
"""

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from erf import theory
from erf.errors import InputError
from erf.result.intervals import jackknife, mean_interval
from erf.size import THRESHOLD, erf_size
from erf.system.seeds import torch_generator
from replication.commands.cli import add_settings, command, new_parser, write_table
from replication.stacks import signed
from replication.stacks.passes import (
    backward,
    coin_gates,
    dependence,
    draw_weights,
    forward,
    permuted_gates,
    with_mean,
)
from replication.statistics.gaussianity import means_without_one

COLUMNS = ("question", "activation", "width", "depth", "kernel", "runs", "dead")
COLUMNS += ("condition", "place", "quantity", "value", "low", "high", "theory")
GROUPS = (1, 2, 5, 10, 20, 50, 100)  # runs over which the gradient is averaged
FEWEST = 4  # groups, for an interval
Interval = tuple[float, float, float]  # value, low, high
Case = tuple[dict, dict[str, np.ndarray]]  # what it is of; and numbers of its runs, each (runs, ...)
CERTAIN = (math.nan, math.nan)  # the interval of a number that does not vary


def middle(maps: np.ndarray) -> tuple[float, float]:
    return tuple((side - 1) / 2 for side in maps.shape[-2:])


def sizes(maps: np.ndarray) -> np.ndarray:
    """ERF sizes (pixels) of maps (..., H, W)."""
    return erf_size(maps, middle(maps))


def sigmas(maps: np.ndarray) -> np.ndarray:
    """Standard deviation (pixels) of maps (..., H, W) about their middle, the root mean square of both axes'."""
    rows, columns = (np.arange(side) - centre for side, centre in zip(maps.shape[-2:], middle(maps), strict=True))
    square = rows[:, None] ** 2 + columns**2
    return np.sqrt((maps * square).sum((-2, -1)) / maps.sum((-2, -1)) / 2)


READINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"size": sizes, "sigma": sigmas}


def of_mean_map(read: Callable, maps: np.ndarray) -> Interval:
    """A reading of the mean of `maps` (runs, H, W); without an interval for a single run."""
    if len(maps) < 2:
        return float(read(maps.mean(0))), *CERTAIN
    return jackknife(float(read(maps.mean(0))), read(means_without_one(maps)))


def ratio_of_mean_maps(read: Callable, maps: np.ndarray, reference: np.ndarray) -> Interval:
    """The reading of one mean map over that of another, of the same runs: both (runs, H, W)."""
    whole = math.log(read(maps.mean(0)) / read(reference.mean(0)))
    return tuple(np.exp(jackknife(whole, np.log(read(means_without_one(maps)) / read(means_without_one(reference))))))


def stacks(settings: dict, *names: object) -> Iterator[tuple[torch.Generator, torch.Generator]]:
    """Each run's streams: of weights, and of all else."""
    for run in range(settings["runs"]):
        yield tuple(torch_generator(settings["seed"], *names, kind, run) for kind in ("w", "x"))


def gradients(settings: dict, width: int, activation: str) -> np.ndarray:
    """Gradients (runs, channels, H, W) of random stacks, dead ones included."""
    depth, kernel, found = settings["depth"], settings["kernel"], []
    side = 1 + depth * (kernel - 1)
    for drawn, other in stacks(settings, "means", width, activation):
        weights, gates = draw_weights(depth, kernel, width, activation, drawn), None
        if activation != "none":
            gates, _ = forward(weights, torch.randn(1, width, side, side, generator=other))
        found.append(backward(weights, gates)[0].numpy())
    return np.stack(found)


# What do maps of random networks show?


def draw_means(settings: dict) -> Iterator[Case]:
    for width, activation in itertools.product(settings["widths"], settings["activations"]):
        yield {"activation": activation, "width": width}, {"gradient": gradients(settings, width, activation)}


def rows_of_means(settings: dict, case: dict, drawn: dict[str, np.ndarray]) -> Iterator[dict]:
    live = drawn["gradient"][drawn["gradient"].any((1, 2, 3))]
    if len(live) < 2:  # nothing can be said of it
        return
    dead = {"dead": len(drawn["gradient"]) - len(live)}
    yield from (dead | one for one in rows_of_ratio(live, settings, case["width"], case["activation"] == "none"))
    yield from (dead | one for one in rows_of_mean(live))


def rows_of_ratio(live: np.ndarray, settings: dict, width: int, linear: bool) -> Iterator[dict]:
    """E|g| over sqrt(E[g^2]), pixel by pixel, and how wide both are; of gradients (runs, channels, H, W)."""
    first, second = np.abs(live).mean(1, dtype=float), np.square(live, dtype=float).mean(1)  # (runs, H, W)

    def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return a / np.sqrt(b)

    whole, others = (ratio(f(first), f(second)) for f in (lambda maps: maps.mean(0), means_without_one))
    known = (second > 0).sum(0) > 1  # elsewhere one run, or none, has an impact: there is no ratio
    distance = np.hypot.outer(
        *(np.arange(side) - centre for side, centre in zip(whole.shape, middle(whole), strict=True))
    )
    for ring in range(len(whole) // 2 + 1):
        here = known & (np.rint(distance) == ring)
        if here.any():
            value = jackknife(whole[here].mean(), others[:, here].mean(1))
            yield row("distance", distance[here].mean(), "ratio", value, math.sqrt(2 / math.pi))
    inside = known & (first.mean(0) > THRESHOLD * first.mean(0)[tuple(int(centre) for centre in middle(whole))])
    value = jackknife(whole[inside].mean(), others[:, inside].mean(1))
    yield row("in the ERF", math.nan, "ratio", value, math.sqrt(2 / math.pi))
    if linear:  # one path in space leads to a corner
        a, b = (maps[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean(1) for maps in (first, second))  # (runs,)
        without = ratio((a.sum() - a) / (len(a) - 1), (b.sum() - b) / (len(b) - 1))
        exact = signed.corner_ratio(settings["depth"], width)
        yield row("corner", math.nan, "ratio", jackknife(ratio(a.mean(), b.mean()), without), exact)
    expected = theory.uniform_map(settings["depth"], settings["kernel"])
    for name, maps, power in (("abs", first, 0.5), ("square", second, 1)):
        for quantity, read in READINGS.items():
            yield row(name, math.nan, quantity, of_mean_map(read, maps), float(read(expected**power)))
    value = ratio_of_mean_maps(sigmas, first, second)
    yield row("abs / square", math.nan, "sigma ratio", value, float(sigmas(expected**0.5) / sigmas(expected)))


def rows_of_mean(live: np.ndarray) -> Iterator[dict]:
    """The root mean square of the mean of `place` runs' gradients, relative to that of one run; theory: 1 / sqrt(runs).
    And the mean cosine of two runs' gradients; theory: 0. Each run's gradient is scaled to the same energy first, so
    that none outweighs the others."""
    flat = live.reshape(len(live), -1).astype(float)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    for runs in GROUPS:
        groups = len(flat) // runs
        if not groups:
            break
        energies = np.square(flat[: groups * runs].reshape(groups, runs, -1).mean(1)).sum(1)
        value, low, high = mean_interval(energies)
        value = np.sqrt([value, max(low, 0), high] if groups >= FEWEST and runs > 1 else [value, *CERTAIN])
        yield row("runs averaged", runs, "mean", tuple(value), runs**-0.5)
    cosines = flat @ flat.T
    np.fill_diagonal(cosines, 0.0)
    n, total = len(flat), cosines.sum()
    without = (total - 2 * cosines.sum(1)) / ((n - 1) * max(n - 2, 1))
    yield row("between runs", math.nan, "cosine", jackknife(total / (n * (n - 1)), without), 0.0)


# How far does w >= 0 limit the theory?


def draw_signed_kernels(settings: dict) -> Iterator[Case]:
    depth, kernel, drawn = settings["depth"], settings["kernel"], {}
    for width in settings["widths"]:
        streams = stacks(settings, "signed_kernels", width)
        drawn[width] = [draw_weights(depth, kernel, width, "none", own) for own, _ in streams]
    for width, share in itertools.product(settings["widths"], settings["mean_shares"]):
        runs = drawn[width] if share < 1 else drawn[width][:1]  # uniform weights are the same in each run
        found = [backward(with_mean(weights, share))[0].double() for weights in runs]
        maps = {
            name: np.stack([function(gradient).mean(0).numpy() for gradient in found])
            for name, function in (("abs", torch.abs), ("square", torch.square))
        }
        yield {"activation": "none", "width": width, "place": share, "dead": 0, "runs": len(found)}, maps


def rows_of_signed_kernels(settings: dict, case: dict, drawn: dict[str, np.ndarray]) -> Iterator[dict]:
    stack = (settings["depth"], settings["kernel"], case["width"], case["place"])
    expected = {"abs": signed.mean_abs_map(*stack), "square": signed.mean_square_map(*stack)}
    for name, maps in drawn.items():
        for quantity, read in READINGS.items():
            yield row(name, case["place"], quantity, of_mean_map(read, maps), float(read(expected[name])))
    negative = signed.negative_share(*stack[1:])
    yield row("weights", case["place"], "negative share", (negative, *CERTAIN), negative)


# Do the gates depend on the gradients?


KINDS_OF_GATES = ("own", "coin", "permuted", "another run's")
OF_LAYERS = ("correlation", "energy at open gates", "open")


def draw_gates(settings: dict) -> Iterator[Case]:
    depth, kernel = settings["depth"], settings["kernel"]
    side = 1 + depth * (kernel - 1)
    for width in settings["widths"]:
        stacked = []  # of each run: weights, gates, the stream of all else
        for own, other in stacks(settings, "gates", width):
            weights = draw_weights(depth, kernel, width, "relu", own)
            stacked.append((weights, forward(weights, torch.randn(1, width, side, side, generator=other))[0], other))
        drawn = {name: [] for name in (*KINDS_OF_GATES, *OF_LAYERS)}
        for number, (weights, own, other) in enumerate(stacked):
            gradient, arriving = backward(weights, own)
            by_layer = np.full((3, depth - 1), math.nan)
            if gradient.any():
                pairs = [dependence(gate, there) for gate, there in zip(own, arriving, strict=True)]
                by_layer = np.transpose([(*pair, gate.double().mean()) for pair, gate in zip(pairs, own, strict=True)])
            others = coin_gates(own, other), permuted_gates(own, other), stacked[number - 1][1]
            maps = [gradient, *(backward(weights, chosen)[0] for chosen in others)]
            maps = [np.abs(one.numpy()).mean(0, dtype=float) for one in maps]
            for name, value in zip(drawn, (*maps, *by_layer), strict=True):
                drawn[name].append(value)
        yield {"activation": "relu", "width": width}, {name: np.stack(values) for name, values in drawn.items()}


def rows_of_gates(settings: dict, case: dict, drawn: dict[str, np.ndarray]) -> Iterator[dict]:
    maps = {name: drawn[name] for name in KINDS_OF_GATES}
    rows = list(rows_of_maps(maps, "own"))
    if rows:
        dead = {"dead": rows[0]["dead"]}
        yield from (dead | one for one in rows_of_layers({name: drawn[name] for name in OF_LAYERS}))
        yield from rows


def rows_of_layers(found: dict[str, np.ndarray]) -> Iterator[dict]:
    """Each layer's numbers, counted from the input, and the mean over layers; `found` has (runs, layers), NaN for dead
    runs."""
    for quantity, by_layer in found.items():
        expected = 0.5 if quantity == "open" else 0.0
        for layer, column in enumerate(by_layer.T, 1):
            yield row("layer", layer, quantity, mean_interval(column[~np.isnan(column)]), expected)
        known = by_layer[~np.isnan(by_layer).all(1)]
        yield row("all layers", math.nan, quantity, mean_interval(np.nanmean(known, 1)), expected)


def rows_of_maps(maps: dict[str, np.ndarray], reference: str) -> Iterator[dict]:
    """Size and sigma of every kind's mean map (runs, H, W), and relative to the reference's, of the same runs. Runs
    that are dead in one kind are left out; nothing of fewer than two others."""
    live = np.all([each.any((1, 2)) for each in maps.values()], 0)
    if live.sum() < 2:
        return
    dead, maps = {"dead": int((~live).sum())}, {name: own[live] for name, own in maps.items()}
    for name, own in maps.items():
        for quantity, read in READINGS.items():
            yield dead | row(name, math.nan, quantity, of_mean_map(read, own), math.nan)
            if name != reference:
                value = ratio_of_mean_maps(read, own, maps[reference])
                yield dead | row(name, math.nan, f"{quantity} ratio", value, 1.0)


# Do batch norms matter?


def draw_batch_norm(settings: dict) -> Iterator[Case]:
    depth, kernel, images = settings["depth"], settings["kernel"], settings["images"]
    side = 1 + depth * (kernel - 1)
    for width in settings["widths"]:
        maps = {"off": [], "on": []}
        for drawn, other in stacks(settings, "batch_norm", width):
            weights = draw_weights(depth, kernel, width, "relu", drawn)
            inputs = torch.randn(images, width, side, side, generator=other)
            for name, seen in (("off", inputs[:1]), ("on", inputs)):
                gradient, _ = backward(weights, *forward(weights, seen, batch_norm=name == "on"))
                maps[name].append(np.abs(gradient.numpy()).mean(0, dtype=float))
        yield {"activation": "relu", "width": width}, {name: np.stack(each) for name, each in maps.items()}


def rows_of_batch_norm(settings: dict, case: dict, drawn: dict[str, np.ndarray]) -> Iterator[dict]:
    yield from rows_of_maps(drawn, "off")


def row(condition: str, place: float, quantity: str, value: Interval, expected: float) -> dict:
    values = dict(zip(("value", "low", "high"), map(float, value), strict=True))
    return {"condition": condition, "place": place, "quantity": quantity, **values, "theory": expected}


QUESTIONS = {  # what draws each one's cases, with all that the runs give, and what reads them
    "means": (draw_means, rows_of_means),
    "signed_kernels": (draw_signed_kernels, rows_of_signed_kernels),
    "gates": (draw_gates, rows_of_gates),
    "batch_norm": (draw_batch_norm, rows_of_batch_norm),
}


def measure_question(question: str, settings: dict) -> pd.DataFrame:
    """One row for each number, `COLUMNS`; lengths in pixels. `theory` is what theory, or independence, predicts."""
    common = {"question": question, **{key: settings[key] for key in ("depth", "kernel", "runs")}}
    draw, read = QUESTIONS[question]
    rows = [{**common, **case, **one} for case, drawn in draw(settings) for one in read(settings, case, drawn)]
    if not rows:
        raise InputError(f"{question}: all stacks are dead in nearly all runs; give them more channels or runs")
    return pd.DataFrame(rows)[list(COLUMNS)]


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    add_settings(parser, "the question, and its settings")
    parser.add_argument("--out", type=Path, required=True, help="table, .csv")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    table = measure_question(args.settings.pop("question"), args.settings)
    write_table(table, args.out)
    shown = table[~table["condition"].isin(["distance", "layer"])]
    print(shown.drop(columns=["question", "depth", "kernel"]).to_string(index=False))


if __name__ == "__main__":
    sys.exit(main())
