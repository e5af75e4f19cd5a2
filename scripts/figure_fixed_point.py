"""Figure: is there a size that training drives the ERF to, and does it lie where the task needs it?

The same network from several starts at a constant learning rate: its sigma during training; growth per epoch against
sigma, with the line whose zero is the fixed point; the fixed point of networks whose labels are shifted, along the
shift and across it; and where the middle of their impact lies. replication.statistics.fixed_point has the analysis.

Reads tables of measure_snapshots; takes seconds.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from erf.result.intervals import mean_interval
from replication.commands.cli import command, figure_arguments
from replication.drawing.labels import training_title
from replication.drawing.plots import (
    HORIZONTAL,
    VERTICAL,
    WIDTH,
    beside,
    draw_hollow,
    error_bars,
    letter,
    save,
    use_style,
)
from replication.statistics.fixed_point import Estimate, Lines, growth, parallel_lines
from replication.trained.tables import read_sizes

BOTH, ALONG, ACROSS, DRIFT = "sigma", "sigma_columns", "sigma_rows", "drift_columns"
AXES = {ALONG: ("along the shift", HORIZONTAL, "s"), ACROSS: ("across it", VERTICAL, "^")}
KEYS = ["dataset", "training", "start", "shift", "seed"]


def read_series(paths: list[Path]) -> pd.DataFrame:
    """One row per run, epoch and quantity: sigma of both axes (root mean square), along the labels' shift and across
    it, and the drift of the impact along it, pixels. `start` is the residual scale."""
    table = read_sizes(paths).query("snapshot != 'best'")
    table = table.rename(columns={"residual_scale": "start", "label_shift": "shift"})
    table[BOTH] = np.sqrt((table[ACROSS] ** 2 + table[ALONG] ** 2) / 2)
    return table.melt([*KEYS, "epoch"], [BOTH, ALONG, ACROSS, DRIFT], "quantity", "value")


def points(series: pd.DataFrame, quantity: str, window: dict) -> pd.DataFrame:
    """One row a run: `level`, its mean log sigma in the early epochs of a window, and `rate`, its growth per epoch."""
    rows = []
    for key, run in series[series["quantity"] == quantity].groupby(KEYS, sort=False):
        level, rate = growth(run["epoch"], np.log(run["value"]), window["early"], window["late"])
        rows.append(dict(zip(KEYS, key, strict=True)) | {"level": level, "rate": rate})
    return pd.DataFrame(rows)


def lines_of(runs: pd.DataFrame) -> Lines | None:
    return parallel_lines(*(runs[name].tolist() for name in ("shift", "start", "level", "rate")))


def pixels(estimate: Estimate) -> dict:
    """An estimate of a logarithm, as a row of the table has it; an interval without ends goes from 0 to infinity."""
    with np.errstate(over="ignore"):
        return dict(zip(("value", "low", "high"), np.exp(estimate).tolist(), strict=True))


def analysed(runs: pd.DataFrame) -> list[dict]:
    """Rows on the lines through runs of one window: their common pull, that of each shift alone, the fixed points, and
    those of shifted labels as multiples of the one of labels that are not."""
    lines = lines_of(runs)
    if lines is None:
        return []
    names = ("value", "low", "high")
    rows = [{"panel": "pull", **dict(zip(names, lines.pull_interval(), strict=True)), "runs": len(runs)}]
    for shift, count in lines.runs.items():
        told = {"shift": shift, "runs": count}
        own = lines_of(runs[runs["shift"] == shift])
        if own and len(lines.runs) > 1:
            rows.append({"panel": "own pull", **told, **dict(zip(names, own.pull_interval(), strict=True))})
        rows.append({"panel": "fixed point", **told, **pixels(lines.fixed_point(shift))})
        if shift and 0 in lines.runs:
            rows.append({"panel": "displacement", **told, **pixels(lines.displacement(shift, 0))})
    return rows


def tabulate(series: pd.DataFrame, windows: list[dict]) -> pd.DataFrame:
    """Panel "series": the measured `value` of every run, epoch and quantity. "starts": sigma before training, the
    geometric mean over the runs of a start. "runs": of each window, from its `early` to its `late` epochs, a run's
    `level`, the geometric mean of sigma in the early ones, and `value`, its growth per epoch in log sigma. "pull", "own
    pull", "fixed point" and "displacement" as `analysed` has them. Sigma of both axes is of labels that are not shifted
    alone."""
    tables = [series.assign(panel="series")]
    first = series[(series["epoch"] == 0) & (series["shift"] == 0)]
    for (quantity, start), here in first[first["quantity"] != DRIFT].groupby(["quantity", "start"], sort=False):
        told = {"panel": "starts", "quantity": quantity, "start": start, "shift": 0, "epoch": 0, "runs": len(here)}
        tables.append(pd.DataFrame([told | {"value": np.exp(np.log(here["value"]).mean())}]))
    for window in windows:
        named = {name: "-".join(map(str, window[name])) for name in ("early", "late")}
        for quantity in (BOTH, *AXES):
            here = series if quantity != BOTH else series[series["shift"] == 0]
            runs = points(here, quantity, window)
            shown = runs.rename(columns={"rate": "value"}).assign(panel="runs", level=np.exp(runs["level"]))
            tables += [part.assign(quantity=quantity, **named) for part in (shown, pd.DataFrame(analysed(runs)))]
    columns = ["panel", "quantity", "early", "late", *KEYS, "epoch", "level", "value", "low", "high", "runs"]
    return pd.concat(tables, ignore_index=True).reindex(columns=columns)


def draw_line(axes: Axes, place: float, low: float, high: float, horizontal: bool, label: str | None = None) -> None:
    """The fixed point as a line across a panel, with a band for its interval if that has ends."""
    line, band = (axes.axhline, axes.axhspan) if horizontal else (axes.axvline, axes.axvspan)
    if np.isfinite(high):
        band(low, high, color="0.2", alpha=0.12, linewidth=0)
    line(place, color="0.2", linewidth=0.8, linestyle="--", label=label)


def draw_series(axes: Axes, series: pd.DataFrame, styles: dict, window: dict) -> None:
    """Sigma during training, a line a run, coloured by start; the epochs between which growth is taken are shaded."""
    for start, runs in series.groupby("start"):
        colour, marker = styles[start]
        for _, run in runs.groupby("seed"):
            axes.plot(run["epoch"], run["value"], color=colour, linewidth=0.8)
        axes.plot([], [], marker=marker, color=colour, label=f"γ = {start:g}")  # its markers are in other panels
    for name in ("early", "late"):
        axes.axvspan(window[name][0] - 0.3, window[name][1] + 0.3, color="0.85", linewidth=0, zorder=0)
    axes.set(xlabel="epoch", ylabel="σ (pixels)", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain_ticks(axes.yaxis)


def plain_ticks(axis) -> None:
    """Pixels on a logarithmic axis as they are, without powers of ten."""
    axis.set_major_locator(plt.FixedLocator([4, 5, 6, 8, 10, 15, 20, 25, 30, 35, 40, 50, 60, 80, 100, 150, 200]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def draw_growth(axes: Axes, runs: pd.DataFrame, found: pd.DataFrame, styles: dict) -> None:
    """Growth per epoch against sigma, small markers for runs and large ones for the means of the starts, which the line
    goes through."""
    for start, here in runs.groupby("start"):
        colour, marker = styles[start]
        axes.plot(here["level"], 100 * here["value"], marker, color=colour, alpha=0.6)
        mean = np.exp(np.log(here["level"]).mean())
        axes.plot(mean, 100 * here["value"].mean(), marker, color=colour, markersize=7, markeredgecolor="0.2")
    pull = found[found["panel"] == "pull"]
    if len(pull):
        ends = np.array([runs["level"].min(), runs["level"].max()])
        middle, rate = np.log(runs["level"]).mean(), runs["value"].mean()
        axes.plot(ends, 100 * (rate - pull["value"].item() * (np.log(ends) - middle)), color="0.2", linewidth=1)
    axes.axhline(0, color="0.6", linewidth=0.7, linestyle=":")
    axes.set(xlabel="σ in the early epochs (pixels)", ylabel="growth of σ (% an epoch)", xscale="log")
    plain_ticks(axes.xaxis)


def draw_shifts(axes: Axes, found: pd.DataFrame) -> None:
    """Fixed points along the shift and across it, against the shift; a hollow marker where the interval has no ends."""
    shifts, axis_points = sorted(found["shift"].unique()), found.set_index("quantity")
    apart = 0.02 * max(1, *shifts)
    for number, (quantity, (label, colour, marker)) in enumerate(AXES.items()):
        here = axis_points.loc[[quantity]]
        places = here["shift"] + beside(number, len(AXES), apart)
        ends = np.isfinite(here["high"])
        bars = error_bars(here["value"], here["low"].where(ends), here["high"].where(ends))
        axes.errorbar(places, here["value"], bars, fmt=marker, color=colour, elinewidth=0.8, label=label)
        draw_hollow(axes, places[~ends], here["value"][~ends], marker=marker, color=colour)
    base = found[(found["quantity"] == ALONG) & (found["shift"] == 0)]["value"]
    if len(base):
        far = np.linspace(0, max(shifts), 50)
        axes.plot(far, np.hypot(base.item(), far), color="0.5", linewidth=0.8, linestyle=":", label="moved as a whole")
    top = found["high"][np.isfinite(found["high"])].max()
    if np.isfinite(top):
        axes.set_ylim(0, 1.15 * top)
    axes.set(xlabel="shift of the labels (pixels)", ylabel="fixed point of σ (pixels)", xticks=shifts)
    axes.legend()


def draw_drift(axes: Axes, series: pd.DataFrame, styles: dict, window: dict) -> None:
    """How far the impact lies to the left of the unit late in training, by run, and the mean of each shift."""
    first, last = window["late"]
    late = series[series["epoch"].between(first, last)].groupby(KEYS, sort=False)["value"].mean().reset_index()
    shifts = sorted(late["shift"].unique())
    for start, here in late.groupby("start"):
        colour, marker = styles[start]
        axes.plot(here["shift"], -here["value"], marker, color=colour, alpha=0.6)
    means = [mean_interval(-here["value"]) for _, here in late.groupby("shift")]
    axes.plot(shifts, [mean[0] for mean in means], "_", color="0.2", markersize=14)
    axes.plot(shifts, shifts, color="0.5", linewidth=0.8, linestyle=":", label="as far as the labels")
    axes.set(xlabel="shift of the labels (pixels)", ylabel="middle of the impact,\npixels to the left", xticks=shifts)
    axes.legend()


def draw(series: pd.DataFrame, windows: list[dict]):
    table, judged = tabulate(series, windows), windows[0]
    window = {name: "-".join(map(str, judged[name])) for name in ("early", "late")}
    here = table[(table["early"] == window["early"]) & (table["late"] == window["late"])]
    plain = here[here["quantity"] == BOTH]
    starts = sorted(series["start"].unique())
    styles = dict(zip(starts, zip(sns.color_palette("flare", len(starts)), "o^sDvph", strict=False), strict=True))
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 5.4), layout="constrained")
    unshifted = series[(series["quantity"] == BOTH) & (series["shift"] == 0)]
    draw_series(axes[0, 0], unshifted, styles, judged)
    draw_growth(axes[0, 1], plain[plain["panel"] == "runs"], plain, styles)
    for row in plain[plain["panel"] == "fixed point"].itertuples():
        if row.low <= 2 * unshifted["value"].max() and row.value <= 2 * unshifted["value"].max():
            draw_line(axes[0, 0], row.value, row.low, row.high, horizontal=True, label="fixed point")
            draw_line(axes[0, 1], row.value, row.low, row.high, horizontal=False)
    fixed = here[(here["panel"] == "fixed point") & (here["quantity"] != BOTH)]
    if len(fixed):
        draw_shifts(axes[1, 0], fixed)
    draw_drift(axes[1, 1], series[series["quantity"] == DRIFT], styles, judged)
    dataset = series["dataset"].iloc[0]
    figure.suptitle(
        f"{training_title(dataset, dataset, series.groupby('training')['seed'].nunique().max())} of each start"
    )
    letter(*axes.ravel())
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(starts) + 1)
    return figure, table


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, "the windows of epochs", sizes="tables of measure_snapshots, one a run")
    use_style()
    save(*draw(read_series(args.sizes), args.settings["windows"]), args.out)


if __name__ == "__main__":
    sys.exit(main())
