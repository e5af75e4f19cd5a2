"""Figure: the ERF grows like the root of the depth, and shrinks relative to the theoretical RF.

ERF size and its ratio to the theoretical RF against depth on logarithmic axes; slopes fitted over all depths, with 95 %
intervals from a bootstrap over runs, and theory's sizes at the same depths.
"""

import sys

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from cli import command, figure_arguments
from erf.field import ReceptiveField, erf_size
from erf.intervals import basic_interval
from erf.plots import SERIES, WIDTH, legend_below, save, use_style, with_interval
from erf.theory import expected_map, log_log_slope

QUANTITIES = {"size": "ERF size (pixels)", "ratio": "ERF size / RF size"}


def theory_size(settings: dict, depth: int) -> float:
    """Size (pixels) of theory's map: a stack with ReLU is held against the one without."""
    expected = expected_map(depth, settings["kernel"], settings["weights"], settings["mode"])
    middle = (expected.shape[0] - 1) / 2
    return float(erf_size(expected, (middle, middle)))


def tabulate(fields: list[ReceptiveField]) -> pd.DataFrame:
    """One row per network and quantity; `low` and `high` are its 95 % interval over runs."""
    rows = []
    for field in fields:
        settings, side = field.settings, field.theoretical_rf[0]
        name, _ = SERIES[settings["weights"], settings["activation"]]
        expected = theory_size(settings, settings["depth"])
        common = {"kind": "network", "series": name, "depth": settings["depth"], "rf": side, "clipped": field.clipped}
        common |= {"runs": settings["runs"], "dead": field.dead}
        for quantity, scale in (("size", 1), ("ratio", 1 / side)):
            value, (low, high) = field.size * scale, np.multiply(field.interval, scale)
            rows.append({**common, "quantity": quantity, "value": value, "low": low, "high": high})
            rows[-1]["theory"] = expected * scale
    return pd.DataFrame(rows).sort_values(["quantity", "series", "depth"], ascending=[False, True, True])


def slopes(fields: list[ReceptiveField]) -> pd.DataFrame:
    """Slope of log size and log ratio against log depth per series, as `tabulate`'s rows of kind "slope"."""
    rows = []
    for key, (name, _) in SERIES.items():
        chosen = [f for f in fields if (f.settings["weights"], f.settings["activation"]) == key]
        chosen.sort(key=lambda field: field.settings["depth"])
        if len(chosen) < 2:
            continue
        depth = np.array([field.settings["depth"] for field in chosen])
        side = np.array([field.theoretical_rf[0] for field in chosen])
        sizes = np.array([field.size for field in chosen])
        replicates = np.stack([field.bootstrap for field in chosen], -1)  # (replicates, depths), drawn independently
        expected = np.array([theory_size(field.settings, field.settings["depth"]) for field in chosen])
        for quantity, scale in (("size", 1), ("ratio", 1 / side)):
            value, theory = (float(log_log_slope(depth, y * scale)) for y in (sizes, expected))
            low, high = basic_interval(value, log_log_slope(depth, replicates * scale))
            rows.append({"kind": "slope", "series": name, "quantity": quantity, "value": value, "theory": theory})
            rows[-1] |= {"low": low, "high": high}
    return pd.DataFrame(rows)


def draw(fields: list[ReceptiveField]):
    points, fits = tabulate(fields), slopes(fields)
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.9), layout="constrained")
    depths = sorted(points["depth"].unique())
    span = np.array([depths[0], depths[-1]])
    for panel, (quantity, label) in zip(axes, QUANTITIES.items(), strict=True):
        for name, colour in SERIES.values():
            here = points[(points["quantity"] == quantity) & (points["series"] == name)]
            fit = fits[(fits["quantity"] == quantity) & (fits["series"] == name)]
            if here.empty:
                continue
            errors = np.array([here["value"] - here["low"], here["high"] - here["value"]]).clip(0)
            legend = name
            if not fit.empty:
                slope = fit.iloc[0]
                legend = f"{name}: slope {with_interval(slope['value'], slope['low'], slope['high'], 3)}"
                logs = np.log(here["value"]).mean() + slope["value"] * (np.log(span) - np.log(here["depth"]).mean())
                panel.plot(span, np.exp(logs), color=colour, linewidth=1)
            panel.errorbar(here["depth"], here["value"], errors, fmt="o", color=colour, capsize=2, label=legend)
            clipped = here[here["clipped"]]
            panel.plot(clipped["depth"], clipped["value"], "o", color="white", markersize=1.8, zorder=5)
            # Theory has no ReLU of its own: its open markers would hide the random series'.
            if name != SERIES["random", "relu"][0]:
                label_once = "theory, same depths" if name == SERIES["random", "none"][0] else None
                panel.plot(
                    here["depth"],
                    here["theory"],
                    "s",
                    mfc="none",
                    color="0.35",
                    markersize=7,
                    mew=0.7,
                    label=label_once,
                )
        panel.set(xscale="log", yscale="log", xlabel="layers", ylabel=label)
        panel.set_xticks(depths, labels=map(str, depths))
        panel.minorticks_off()
        low, high = panel.get_ylim()
        ticks = [t for t in (0.1, 0.2, 0.3, 0.5, 0.7, 1, 5, 10, 20, 30, 50, 100) if low <= t <= high]
        panel.set_yticks(ticks, labels=[f"{t:g}" for t in ticks])
        panel.plot([], [], "o", color="0.35", markerfacecolor="white", markeredgewidth=1.2, label="clipped by the RF")
        legend_below(panel)
    return figure, pd.concat([points, fits])


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(__doc__, argv, fields="results of measure_network, .npz")
    use_style()
    save(*draw([ReceptiveField.load(path) for path in args.fields]), args.out)


if __name__ == "__main__":
    sys.exit(main())
