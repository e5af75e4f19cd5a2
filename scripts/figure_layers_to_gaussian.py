"""Figure: how many layers it takes until the ERF is clearly Gaussian.

Three measures of a map's shape against depth, for plain stacks: the variance that a Gaussian leaves unexplained, excess
kurtosis, and the departure of the profile's logarithm from a line; all without the noise of few runs, with 95 %
intervals. Beside them theory's values for a network without an activation, and the limits of "Gaussian" and
"near-Gaussian".

Reads tables of measure_network; takes seconds.
"""

import sys

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from erf.result.field import ReceptiveField
from erf.theory import uniform_map
from replication.commands.cli import command, figure_arguments, read_table
from replication.drawing.plots import COLOURS, MARKERS, THEORY_LINES, WIDTH, beside, error_bars, letter, save, use_style
from replication.statistics.gaussianity import LIMITS, departure, kurtosis, shape_class

MEASURES = ("unexplained", "kurtosis", "departure")
LABELS = {
    "unexplained": "unexplained variance, 1 − R²",
    "kurtosis": "excess kurtosis",
    "departure": "departure of the profile's logarithm",
}
LIMIT_LINES = {"Gaussian": (0, (1, 1.5)), "near-Gaussian": (0, (5, 1.5))}


def tabulate(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """One row per network, depth and measure; `low` and `high` are the 95 % interval over runs, if there are several.

    `shape` is the class of the map by its estimates, `sure` the narrowest class that all ends of the intervals are in.
    """
    table, rows = pd.concat(tables).query("variant == 'abs'").drop_duplicates(["series", "depth"]), []
    for row in table.sort_values(["series", "depth"], kind="stable").itertuples():
        found = {
            "unexplained": (1 - row.r2, 1 - row.r2_high, 1 - row.r2_low, 1 - row.theory_r2),
            "kurtosis": (row.kurtosis, row.kurtosis_low, row.kurtosis_high, row.theory_kurtosis),
            "departure": (row.departure, row.departure_low, row.departure_high, row.theory_departure),
        }
        if row.runs == 1:  # uniform weights: every run is the same
            found = {name: (value, value, value, theory) for name, (value, _, _, theory) in found.items()}
        shape = shape_class(row.r2, row.kurtosis, row.departure)
        sure = shape_class(1 - found["unexplained"][2], farthest(*found["kurtosis"][1:3]), found["departure"][2])
        for measure, (value, low, high, theory) in found.items():
            rows.append({"kind": "network", "series": row.series, "depth": row.depth, "measure": measure})
            rows[-1] |= {"value": value, "low": low, "high": high, "theory": theory, "runs": row.runs}
            rows[-1] |= {"dead": row.dead, "clipped": row.clipped, "shape": shape, "sure": sure}
    return pd.DataFrame(rows)


def farthest(low: float, high: float) -> float:
    """Of the ends of an interval, the one that is farther from 0; NaN where there is no interval."""
    return max(abs(low), abs(high)) if low == low else np.nan


def theory_curve(weights: str, kernel: int, depths: list[int]) -> pd.DataFrame:
    """Measures of theory's exact maps at all depths from 3 to 20 layers, and at some up to the deepest network's."""
    deep = np.geomspace(20, max(*depths, 20), 7).round().astype(int) if max(depths) > 20 else []
    rows = []
    for depth in sorted({*range(3, min(max(depths), 20) + 1), *map(int, deep)}):
        impact = uniform_map(depth, kernel)
        impact = np.sqrt(impact) if weights == "random" else impact
        middle = ((len(impact) - 1) / 2,) * 2
        fit = ReceptiveField.from_runs(impact[None], middle, impact.shape).fit_gaussian()
        excess, apart = float(kurtosis(impact, middle, fit.sigma)), departure(impact, middle, fit)
        for measure, value in zip(MEASURES, (1 - fit.r2, excess, apart), strict=True):
            rows.append({"kind": "theory", "series": weights, "depth": depth, "measure": measure, "value": value})
            rows[-1] |= {"shape": shape_class(fit.r2, excess, apart), "runs": 1}
    return pd.DataFrame(rows)


def first_depth(rows: pd.DataFrame, name: str) -> int | None:
    """From which depth on all maps of a series are in a class, or in a narrower one; None if the deepest is not."""
    classes = list(LIMITS)[: list(LIMITS).index(name) + 1]
    first = None
    for row in rows.drop_duplicates("depth").sort_values("depth", ascending=False).itertuples():
        if row.shape not in classes:
            break
        first = int(row.depth)
    return first


def in_words(rows: pd.DataFrame) -> str:
    """ "Gaussian from 10 layers on, at 20, 40 with the whole interval", or at the one depth that was measured."""
    alone = rows["depth"].min() == rows["depth"].max()
    for place, name in enumerate(LIMITS, 1):
        first = first_depth(rows, name)
        if first is None:
            continue
        if (rows["runs"] == 1).all():  # exact
            return f"{name} from {first} layers on"
        surely = rows[rows["sure"].isin(list(LIMITS)[:place]) & (rows["depth"] >= first)]["depth"].unique()
        depths = ", ".join(map(str, sorted(surely)))
        if alone:
            return f"{name} at {first} layers" + (", with the whole interval" if depths else "")
        return f"{name} from {first} layers on" + (f", with the whole interval at {depths}" if depths else "")
    return f"not near-Gaussian at {rows['depth'].max()} layers"


def draw_panel(panel, points: pd.DataFrame, curves: pd.DataFrame, measure: str) -> None:
    series = list(points["series"].unique())
    for order, name in enumerate(series):
        here = points[points["series"] == name]
        moved = 1.06 ** beside(order, len(series), 1)
        errors = error_bars(here["value"], here["low"], here["high"])
        style = {"fmt": MARKERS[name], "color": COLOURS[name], "markersize": 3.5, "capsize": 1.5, "elinewidth": 0.8}
        panel.errorbar(here["depth"] * moved, here["value"], errors, **style)
    for name, here in curves.groupby("series", sort=False):
        panel.plot(here["depth"], here["value"], THEORY_LINES[name], color="0.3", linewidth=0.8, zorder=0)
    for name, limits in LIMITS.items():
        limit = 1 - limits.r2 if measure == "unexplained" else getattr(limits, measure)
        for sign in (1, -1) if measure == "kurtosis" else (1,):
            panel.axhline(sign * limit, color="0.55", linewidth=1, linestyle=LIMIT_LINES[name], zorder=0)
    depths = sorted(points["depth"].unique())
    panel.set(xscale="log", xlabel="layers", ylabel=LABELS[measure], xlim=(0.8 * depths[0], 1.25 * depths[-1]))
    panel.set_xticks(depths, labels=map(str, depths))
    panel.minorticks_off()
    widest = limit  # the last
    highest = max(1.2 * widest, 1.05 * points["high"].max(), 1.05 * points["value"].max())
    lowest = min(-1.2 * widest, 1.05 * points["low"].min()) if measure == "kurtosis" else -0.02 * highest
    panel.set_ylim(lowest, highest)


def draw(tables: list[pd.DataFrame]):
    points = tabulate(tables)
    order = [name for name in COLOURS if name in set(points["series"])]
    points = pd.concat(points[points["series"] == name] for name in order)
    depths, kernel = sorted(points["depth"].unique()), int(tables[0]["kernel"].iloc[0])
    weights = [name for name in THEORY_LINES if any(series.split(" + ")[0] == name for series in order)]
    curves = pd.concat(theory_curve(name, kernel, depths) for name in weights)
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 4.0), layout="constrained")
    for panel, measure in zip(axes, MEASURES, strict=True):
        draw_panel(panel, points[points["measure"] == measure], curves[curves["measure"] == measure], measure)
    letter(*axes)
    handles = []
    for name in order:
        style = {"marker": MARKERS[name], "color": COLOURS[name], "linestyle": "", "markersize": 4}
        handles.append(Line2D([], [], **style, label=f"{name}: {in_words(points[points['series'] == name])}"))
    for name in weights:
        style = {"color": "0.3", "linewidth": 0.8, "linestyle": THEORY_LINES[name]}
        handles.append(Line2D([], [], **style, label=f"theory, {name}: {in_words(curves[curves['series'] == name])}"))
    for name, dashes in LIMIT_LINES.items():
        handles.append(Line2D([], [], color="0.55", linestyle=dashes, label=f"limit of {name}"))
    figure.legend(handles=handles, loc="outside lower center", ncols=1)
    return figure, pd.concat([points, curves, first_depths(points, curves)])


def first_depths(points: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """From which depth on each series is in each class, by its estimates and in theory."""
    rows = []
    for kind, table in (("first depth", points), ("first depth in theory", curves)):
        for series, here in table.groupby("series", sort=False):
            for name in LIMITS:
                rows.append({"kind": kind, "series": series, "depth": first_depth(here, name), "shape": name})
    return pd.DataFrame(rows)


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, tables="tables of measure_network, .csv")
    use_style()
    save(*draw([read_table(path, "variant", "kurtosis", "departure", "theory_r2") for path in args.tables]), args.out)


if __name__ == "__main__":
    sys.exit(main())
