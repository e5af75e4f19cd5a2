"""What theory predicts of an untrained network: map, spread, fit and size."""

import functools
import math

import numpy as np

from erf import theory
from erf.result.field import GaussianFit, ReceptiveField
from erf.size import THRESHOLD
from replication.stacks.structures import structure_of, theory_stack
from replication.statistics.moments import moment_statistics


def drifts(settings: dict) -> bool:
    """Whether the kernels are skewed, so that the ERF moves away from the middle of the receptive field with depth."""
    taps = list(settings.get("taps", ()))
    return taps != taps[::-1]


def series_name(settings: dict) -> str:
    """Name in figures and tables of networks that differ in no more than depth: "random + ReLU"."""
    names = {"relu": "ReLU", "leaky_relu": "leaky ReLU", "gelu": "GELU"}
    activation, taps = settings["activation"], settings.get("taps", ())
    profile = f" ({', '.join(f'{tap:g}' for tap in taps)})" if taps else ""
    return f"{settings['weights']}{profile}" + (
        "" if activation == "none" else f" + {names.get(activation, activation)}"
    )


def predicted_map(settings: dict) -> np.ndarray:
    """Theory's exact map, up to a factor, for a measured network without its activation; NaN where there is none."""
    return _predicted(theory.expected_map, settings, np.full((1, 1), np.nan))


def predicted_sigma(settings: dict) -> tuple[float, float]:
    """Sigma (rows, columns; pixels) of the Gaussian limit, for a measured network without its activation.

    The fit to a finite network's map is a little off it: `predicted_fit`. NaN where there is no theory.
    """
    return _predicted(theory.expected_sigma, settings, (math.nan, math.nan))


def predicted_fit(settings: dict) -> GaussianFit:
    """The Gaussian fitted to `predicted_map` as to a measured one."""
    expected = predicted_map(settings)
    middle = tuple((side - 1) / 2 for side in expected.shape)
    return ReceptiveField.from_runs(expected[None], middle, expected.shape).fit_gaussian()


def predicted_moments(settings: dict) -> dict[str, float]:
    """Of theory's exact map, what `moment_statistics` measures; NaN where there is no theory."""
    expected = predicted_map(settings)
    if np.isnan(expected).any():
        expected = np.zeros((1, 1))
    middle = tuple((side - 1) / 2 for side in expected.shape)
    return {name: found[0] for name, found in moment_statistics(expected[None], middle, expected.shape).items()}


def limit_moments(settings: dict) -> tuple[float, float]:
    """Drift and spread (pixels) by the poster's formulas: n (E[X] - (k - 1) / 2) and sqrt(n Var[X]), each layer's in
    units of its dilation and the earlier strides; means over both axes. They are exact for fixed kernels and for
    E[g^2], and the limit of many layers for E|g|. NaN where there is no theory."""
    return _predicted(_limit_moments, settings, (math.nan, math.nan))


def _limit_moments(stack: theory.Stack, weights: str, mode: str) -> tuple[float, float]:
    _, mean, _ = theory.stack_moments(stack)
    middle = (np.array(theory.stack_rf(stack)) - 1) / 2
    sigma = np.array(theory.expected_sigma(stack, weights, mode))
    return float((mean - middle).mean()) + 0.0, float(np.sqrt((sigma**2).mean()))


def predicted_size(settings: dict, threshold: float = THRESHOLD) -> float:
    """Theory's ERF size (pixels) for a measured network without its activation; NaN where there is none. Where the ERF
    drifts, the threshold is a share of the maximum, as in the measurement."""
    options = {"threshold": threshold, "reference": "maximum" if drifts(settings) else "centre"}
    return _predicted(functools.partial(theory.expected_size, **options), settings, math.nan)


def cut_off(field: ReceptiveField) -> bool:
    """Whether the receptive field cuts the ERF of a plain stack off, so that its size belongs in no slope.

    Theory's map of the same depth, kernel, weights and mode decides, so that no noise does; the measured map where
    there is no theory.
    """
    expected = predicted_cut_off(field.settings, field.threshold)
    return field.clipped if expected is None else expected


def predicted_cut_off(settings: dict, threshold: float = THRESHOLD) -> bool | None:
    """Whether the receptive field of a plain stack cuts theory's ERF off; None where there is no theory."""
    weights, mode = settings["weights"], settings["mode"]
    if (weights, mode) == ("random", "signed"):
        return None
    expected = theory.plain_map(settings["depth"], settings["kernel"], weights, mode)
    middle = tuple((side - 1) / 2 for side in expected.shape)
    return ReceptiveField(expected, middle, expected.shape, np.empty(0), threshold=threshold).clipped


def _predicted(quantity, settings: dict, otherwise):
    weights, mode = settings["weights"], settings["mode"]
    if (weights, mode) == ("random", "signed"):
        return otherwise  # the mean of g is zero: what is measured is noise
    if weights != "random" and (mode, settings["structure"]) == ("square", "dropout"):
        return otherwise  # the masks alone are random: paths share them, and neither rule holds
    stack = theory_stack(structure_of(settings, settings["depth"]), weights)
    return quantity(stack, "random" if weights == "random" else "uniform", mode)
