"""Many models of installed libraries, each measured and held against plain autograd: `make zoo`, or this file alone.

Each model runs in a process of its own, with a time limit, on one thread. It ends in one of these ways:

    right : the float64 map of a few images equals plain autograd's to 1e-9 of its sum, and central differences over
        six pixels equal the gradient to 1e-4 of its largest value. If only the differences agree, it says so: torch's
        gradient of batch norms is wrong behind some transpositions.
    clear : an InputError, or a wrong map together with a warning
    wrong : a wrong map, without a warning
    crashed : another exception, from `erf` alone
    does not run : the plain script fails too, or the model is too large, or takes too long

A model is slow if its first call takes more CPU time than the published script (one image, float32, parameters that ask
for gradients). `whole` marks models of which the whole image was computed although the theoretical field is smaller
than 0.6 of each side. Writes benchmarks/zoo.csv; prints counts, and each model that is not right.

    python tests/zoo.py                       all models
    python tests/zoo.py timm/resnet monai     those whose name contains one of these words
"""

import argparse
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import zoo_models
from erf.errors import InputError
from erf.measuring.layer import last_layer
from erf.measuring.measure import measure
from forked import OutOfTimeError, forked

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 60e6  # parameters
MEMORY = 12 * 2**30  # bytes
AGREEMENT, DIFFERENCES = 1e-9, 1e-4
SMALL_FIELD = 0.6  # of the image's side
COLUMNS = [
    *("model", "outcome", "says", "layer", "channels", "reading", "side", "theoretical_rf", "window", "sees_all"),
    *("whole", "map_error", "difference_error", "off_centre", "first_ratio", "repeat_ratio", "script_seconds"),
    "warnings",
]


def output_of(model: nn.Module, x: torch.Tensor, layer: str | None) -> torch.Tensor:
    """The output of a layer at its first use, in a plain pass of the whole model."""
    if layer is None:
        return model(x)
    seen = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: seen.append(output.clone())
    )
    try:
        model(x)
    finally:
        handle.remove()
    return seen[0]


def readings(output: torch.Tensor, unit: tuple[int, int]) -> Iterator[tuple[str, torch.Tensor]]:
    """The unit's channels (1, K), for each way in which the output may be laid out."""
    row, column = unit
    if output.dim() == 4:
        if row < output.shape[2] and column < output.shape[3]:
            yield "channels first", output[:, :, row, column]
        if row < output.shape[1] and column < output.shape[2]:
            yield "channels last", output[:, row, column]
    elif output.dim() == 3:
        for tokens, words in ((output, "tokens first"), (output.transpose(1, 2), "tokens last")):
            for rows, columns in ((h, w) for h in (2 * row, 2 * row + 1) for w in (2 * column, 2 * column + 1)):
                before = tokens.shape[1] - rows * columns
                if before >= 0 and row < rows and column < columns:
                    yield f"{words}, {before} + {rows} x {columns}", tokens[:, before + row * columns + column]


def summed(values: torch.Tensor, channels: str | int) -> torch.Tensor:
    return values.sum() if channels == "sum" else values[:, channels].sum()


def plain_gradients(model, image, layer, unit, channels) -> dict[str, torch.Tensor]:
    """dy/dx of one image, by each reading of the layer's output."""
    x = image.clone().requires_grad_()
    values = dict(readings(output_of(model, x.clone(), layer), unit))
    found = {}
    for name, one in values.items():
        (gradient,) = torch.autograd.grad(summed(one, channels), x, retain_graph=True, allow_unused=True)
        found[name] = torch.zeros_like(x) if gradient is None else gradient
    return found


def difference_errors(model, image, layer, unit, channels, slope: np.ndarray) -> dict[str, float]:
    """For each reading, the largest error of a signed map beside central differences, as a share of its largest value.

    Four pixels are drawn by their impact, and moved together, each by a weight of its own; two are drawn from the whole
    image, and most often lie outside of the window. All colours of a pixel move alike. NaN if no two steps give the
    same difference, or if rounding alone makes as much: then the model itself rounds, or jumps.
    """
    generator, impact = np.random.default_rng(0), np.abs(slope).flatten()
    worst: dict[str, float] = {}
    for pixels in (generator.choice(impact.size, 4, p=impact / impact.sum()), generator.choice(impact.size, 2)):
        weights = np.zeros(impact.size)
        weights[pixels] = generator.uniform(0.5, 1, len(pixels))
        weights = weights.reshape(slope.shape)
        direction = torch.from_numpy(weights).expand_as(image)
        found: dict[str, list[float]] = {}
        for step in (1e-5, 1e-3, 1e-6, 1e-4):  # short ones for kinks, long ones for rounding
            with torch.no_grad():
                up, down = (
                    dict(readings(output_of(model, image + end * direction, layer), unit)) for end in (step, -step)
                )
            for reading in up:
                difference = (summed(up[reading], channels) - summed(down[reading], channels)).item()
                expected = image.shape[1] * (weights * slope).sum()
                error = (difference / (2 * step) - expected) / (image.shape[1] * impact.max())
                rounding = np.finfo(float).eps * summed(up[reading].abs(), channels).item()
                shown = rounding / (2 * step) <= DIFFERENCES * image.shape[1] * impact.max()
                found.setdefault(reading, []).append(error if shown else np.nan)
            if any(abs(errors[-1]) <= DIFFERENCES for errors in found.values()):
                break
        for reading, errors in found.items():
            errors = np.sort([error for error in errors if not np.isnan(error)])
            error = np.abs(errors).min(initial=np.inf)
            settled = error <= DIFFERENCES or len(errors) == 1 or np.diff(errors).min(initial=np.inf) <= DIFFERENCES
            worst[reading] = float(np.maximum(error if settled else np.nan, worst.get(reading, 0)))
    return worst


def script(model: nn.Module, image: torch.Tensor, layer: str | None) -> None:
    """The published script: parameters ask for gradients, and all are computed."""
    x = image.clone().requires_grad_()
    output = output_of(model, x, layer)
    (output[:, :, output.shape[2] // 2, output.shape[3] // 2] if output.dim() == 4 else output[:, -1]).sum().backward()
    model.zero_grad()


def cpu_seconds(function: Callable, model: nn.Module, images: torch.Tensor, *args) -> list[float]:
    """Of the first call and of the second, each of one image; NaN for a script that runs only once."""
    taken = []
    for image in images[:2].split(1):
        start = time.process_time()
        try:
            function(model, image, *args)
        except RuntimeError:  # models that keep a part of the graph
            if not taken:
                raise
            return [*taken, np.nan]
        taken.append(time.process_time() - start)
    return taken


def chosen_layer(model: nn.Module, images: torch.Tensor) -> str | None:
    """None if the model's own output is a plane; else the last layer whose output is one."""
    with torch.no_grad():
        output = model(images[:1].clone())
    plane = torch.is_tensor(output) and output.dim() == 4 and min(output.shape[2:]) > 1
    return None if plane else last_layer(model, tuple(images.shape[1:]))


def judge(name: str) -> dict:
    """All columns of one model."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    told = {"model": name, "outcome": "does not run"}
    try:
        model, shape = zoo_models.build(name)
        if sum(parameter.numel() for parameter in model.parameters()) > LARGEST:
            return told | {"says": "too large"}
        images = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
        told["side"] = shape[1]
        told["layer"] = layer = forked(chosen_layer, model, images)
        plain = forked(cpu_seconds, script, model, images, layer)
    except InputError as error:
        return told | {"outcome": "clear", "says": line(error)}
    except Exception as error:
        return told | {"says": f"without erf: {line(error)}"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            told["channels"], taken = "sum", None
            try:
                taken = forked(cpu_seconds, measure, model, images, layer)
            except InputError as error:
                if "sum over channels is constant" not in str(error):
                    raise
                told["channels"] = 3
                taken = forked(cpu_seconds, measure, model, images, layer, "center", 3)
            told |= {
                "first_ratio": plain[0] / taken[0],
                "repeat_ratio": plain[1] / taken[1],
                "script_seconds": plain[0],
            }
            told |= measured(model, images, layer, told["channels"])
        except InputError as error:
            told |= {"outcome": "clear", "says": line(error)}
        except Exception as error:
            told |= {"outcome": "crashed", "says": line(error)}
    own = dict.fromkeys(str(one.message) for one in caught if "/erf/" in one.filename)
    told["warnings"] = "; ".join(own)
    if told["outcome"] == "wrong" and own:
        told["outcome"] = "clear"
    return told


def measured(model: nn.Module, images: torch.Tensor, layer: str | None, channels: str | int) -> dict:
    """The map in double precision, held against plain autograd and differences."""
    model, images = model.double(), images[:3].double()  # the first is recorded, the others may be cropped
    field = measure(model, images, layer, channels=channels)
    sides, unit = field.map.shape, tuple(field.settings["unit"])
    window = [last - first + 1 for first, last in field.settings["window"]]
    told: dict = {
        "theoretical_rf": field.theoretical_rf[0],
        "window": window[0],
        "sees_all": field.settings["sees_all"],
    }
    small = all(size < SMALL_FIELD * side for size, side in zip(field.theoretical_rf, sides, strict=True))
    told["whole"] = small and tuple(window) == sides
    sums: dict[str, np.ndarray] = {}
    for image in images.split(1):
        gradients = plain_gradients(model, image, layer, unit, channels)
        for reading, gradient in gradients.items():
            sums[reading] = sums.get(reading, 0) + gradient[0].abs().mean(0).numpy() / len(images)
    errors = {reading: np.abs(one - field.map).sum() / max(one.sum(), 1e-300) for reading, one in sums.items()}
    slope = measure(model, image, layer, channels=channels, mode="signed").map
    differences = difference_errors(model, image, layer, unit, channels, slope)
    equal = min(errors.values()) <= AGREEMENT
    reading = (
        min(errors, key=errors.get)
        if equal
        else min(differences, key=lambda one: np.nan_to_num(differences[one], nan=np.inf))
    )
    error = differences[reading]
    told |= {"reading": reading, "map_error": errors[reading], "difference_error": error}
    middle = [float((field.map.sum(1 - axis) * np.arange(sides[axis])).sum() / field.map.sum()) for axis in (0, 1)]
    told["off_centre"] = max(abs(m - p) / s for m, p, s in zip(middle, field.position, sides, strict=True))
    says = [] if equal else [f"another map than plain autograd, by {errors[reading]:.2g}"]
    if error <= DIFFERENCES:
        says += [] if equal else ["which differences contradict"]
    elif error > DIFFERENCES:
        says.append(f"another gradient than by differences, by {error:.2g}")
    else:
        says.append("the model rounds or jumps: differences tell nothing")
    right = error <= DIFFERENCES or (equal and not error > DIFFERENCES)
    return told | {"outcome": "right" if right else "wrong", "says": ", ".join(says)}


def line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"


def run(name: str, limit: int) -> dict:
    try:
        return forked(judge, name, limit=limit)
    except OutOfTimeError:
        return {"model": name, "outcome": "does not run", "says": f"not done in {limit} seconds of CPU time"}
    except Exception as error:
        return {"model": name, "outcome": "crashed", "says": line(error)}


def report(table: pd.DataFrame) -> None:
    table = table.fillna({"says": "", "warnings": "", "whole": False})
    print("\n".join(f"{count:4d} {outcome}" for outcome, count in table["outcome"].value_counts().items()))
    ratio, whole = pd.to_numeric(table["first_ratio"]), table["whole"].astype(bool)
    print(f"{(ratio < 1).sum():4d} slower at the first call, {whole.sum()} computed whole though the field is small")
    print("see the whole image by:", "; ".join(f"{n} {what}" for what, n in table["sees_all"].value_counts().items()))
    for row in table[(table["outcome"] != "right") | whole | table["warnings"].ne("")].itertuples():
        words = ["the whole image was computed"] * bool(row.whole) + [row.says, row.warnings]
        print(f"{row.outcome}: {row.model} ({row.layer}): {'; '.join(filter(None, words))}")
    print(table[ratio < 1].sort_values("first_ratio")[["model", "first_ratio", "repeat_ratio"]].to_string(index=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="parts of models' names; all models without any")
    parser.add_argument("--limit", type=int, default=60, help="seconds of CPU time for a model")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/zoo.csv")
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(exist_ok=True)
    rows = []
    for name in (name for library in zoo_models.LIBRARIES for name in zoo_models.names(library)):
        if not arguments.words or any(word in name for word in arguments.words):
            rows.append(run(name, arguments.limit))
            print(f"{len(rows):4d} {name}: {rows[-1]['outcome']} {rows[-1].get('says', '')}", flush=True)
            table = pd.DataFrame(rows).reindex(columns=COLUMNS)
            table.to_csv(arguments.out, index=False, float_format="%.4g")
    report(table) if rows else print("no such model")


if __name__ == "__main__":
    main()
