"""Figure: why the ERF is Gaussian, without a network.

Many layers convolve a kernel with itself: its Fourier transform is raised to a power (Eq. 1), the coefficients are
binomial for two taps and extended binomial for more, and the central limit theorem makes a Gaussian of any kernel.

The poster's inverse transform lacks the factor exp(j w t). Without it the integral has one value for every t, which the
table has beside the coefficients.

Reads nothing but its settings; takes seconds.
"""

import sys

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt

from erf.theory import clt_error, clt_map, extended_binomial, fourier_map, uniform_taps
from replication.commands.cli import command, figure_arguments
from replication.drawing.plots import WIDTH, letter, save, use_style

# Besides the uniform kernels, two of the kind that the central limit theorem is for.
WEIGHTED = {"0.25, 0.5, 0.25": np.array([0.25, 0.5, 0.25]), "0.7, 0.2, 0.1": np.array([0.7, 0.2, 0.1])}


def draw_transforms(axes, kernel: int, depths: list[int], colours) -> pd.DataFrame:
    """Magnitude of (sum over m < k of exp(-j w m) / k)^n against the frequency."""
    frequency = np.linspace(0, np.pi, 201)
    transform = np.exp(-1j * np.outer(frequency, np.arange(kernel))).mean(1)
    tables = []
    for depth, colour in zip(depths, colours, strict=True):
        value = np.abs(transform) ** depth
        axes.plot(frequency, value, color=colour, label=f"{depth}")
        tables.append(pd.DataFrame({"kernel": kernel, "depth": depth, "x": frequency, "value": value}))
    axes.set(xlabel="frequency ω", ylabel=f"|F(ω)|ⁿ, {kernel} taps", ylim=(0, None))
    axes.set_xticks([0, np.pi / 2, np.pi], labels=["0", "π/2", "π"])
    return pd.concat(tables).assign(panel="fourier transform")


def without_factor(taps: np.ndarray, depth: int) -> float:
    """The poster's inverse transform as printed, without exp(j w t): the mean of F(w)^n over all frequencies.

    It does not depend on t, and is the coefficient at t = 0: taps[0]^n. The mean over as many frequencies as there are
    coefficients is exact.
    """
    length = depth * (len(taps) - 1) + 1
    return float((np.fft.fft(taps, length) ** depth).mean().real)


def draw_coefficients(axes, kernel: int, depths: list[int], colours) -> pd.DataFrame:
    """Exact coefficients as dots, by Fourier transform as crosses in the table only, the limit as a line."""
    tables, taps = [], uniform_taps(kernel, axes=1)
    for depth, colour in zip(depths, colours, strict=True):
        exact = np.array([coefficient / kernel**depth for coefficient in extended_binomial(kernel, depth)])
        offset = np.arange(len(exact)) - (len(exact) - 1) / 2
        fourier, gaussian = fourier_map(taps, depth), clt_map(taps, depth)
        near = np.abs(offset) <= 16
        axes.plot(offset[near], exact[near], "o", color=colour, markersize=2.5)
        fine = np.linspace(-16, 16, 321)
        variance = depth * (kernel**2 - 1) / 12
        axes.plot(
            fine, np.exp(-(fine**2) / (2 * variance)) / np.sqrt(2 * np.pi * variance), color=colour, linewidth=0.8
        )
        columns = {"kernel": kernel, "depth": depth, "x": offset, "value": exact, "fourier": fourier}
        columns["without_factor"] = without_factor(taps, depth)
        tables.append(pd.DataFrame({**columns, "gaussian": gaussian}))
    name = "binomial" if kernel == 2 else "extended binomial"
    axes.plot([], [], "o", color="0.4", markersize=2.5, label="exact")
    axes.plot([], [], color="0.4", linewidth=0.8, label="limit")
    axes.legend()
    axes.set(xlabel="pixels from the middle", ylabel=f"{name} coefficients / {kernel}ⁿ", ylim=(0, None))
    return pd.concat(tables).assign(panel="coefficients")


def draw_limit(axes, kernels: list[int]) -> pd.DataFrame:
    """Distance from the Gaussian against depth."""
    depths = np.unique(np.geomspace(1, 200, 24).round().astype(int))
    named = {f"uniform, {kernel} taps": uniform_taps(kernel, axes=1) for kernel in kernels} | WEIGHTED
    tables = []
    for (name, taps), marker in zip(named.items(), "osD^v", strict=False):
        error = [clt_error(taps, int(depth)) for depth in depths]
        axes.plot(depths, error, marker=marker, markersize=2.5, linewidth=0.8, label=name)
        tables.append(pd.DataFrame({"kernel": name, "depth": depths, "value": error}))
    for power, label in ((-1, "1/n"), (-0.5, "1/√n")):
        guide = 0.09 * (depths / depths[0]) ** power
        axes.plot(depths, guide, ":", color="0.5", linewidth=0.8)
        axes.annotate(label, (depths[-1], guide[-1]), xytext=(5, 0), textcoords="offset points", fontsize="small")
    axes.set(xscale="log", yscale="log", xlabel="layers n", ylabel="total variation distance")
    axes.legend(handlelength=1.5)
    return pd.concat(tables).assign(panel="total variation distance")


def draw(kernels: list[int], depths: list[int]):
    figure = plt.figure(figsize=(WIDTH, 4.6), layout="constrained")
    panels = figure.subplots(2, -(-(len(kernels) + 2) // 2)).ravel()
    colours = sns.color_palette("viridis", len(depths))
    tables = [draw_transforms(panels[0], kernels[-1], depths, colours)]
    tables += [
        draw_coefficients(panel, kernel, depths, colours) for panel, kernel in zip(panels[1:], kernels, strict=False)
    ]
    tables.append(draw_limit(panels[len(kernels) + 1], kernels))
    for panel in panels[len(kernels) + 2 :]:
        panel.set_axis_off()
    panels[0].legend(title="layers n")
    letter(*panels[: len(kernels) + 2])
    return figure, pd.concat(tables)


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, "sides of uniform kernels, and depths")
    use_style()
    save(*draw(args.settings["kernels"], args.settings["depths"]), args.out)


if __name__ == "__main__":
    sys.exit(main())
