"""The figure of `make bench`: how much faster `erf.measure` is than the published way, and with how much memory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

from replication.drawing.labels import counted
from replication.drawing.plots import WIDTH, beside, letter, use_style

BASELINES = {"script": "the published script", "bare": "the bare script"}


def draw(table: pd.DataFrame, path: Path) -> None:
    use_style()
    names = list(dict.fromkeys(table["model"]))
    figure = plt.figure(figsize=(WIDTH, 2.2 + 0.17 * max(len(names), 12)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.7, 1))
    usual = table[(table["side"] == 224) & (table["what"] == "one unit")]
    speeds = left.subplots(1, 2, sharey=True)
    for panel, (baseline, title) in zip(speeds, BASELINES.items(), strict=True):
        series = usual[usual["baseline"] == baseline].groupby(["call", "images"], sort=False)
        for number, ((call, images), rows) in enumerate(series):
            heights = [names.index(name) + beside(number, len(series), 0.18) for name in rows["model"]]
            spread = np.abs(rows[["ratio_lowest", "ratio_highest"]].to_numpy().T - rows["ratio"].to_numpy())
            style = {"fmt": "osD^"[number], "markersize": 2.5, "elinewidth": 0.6, "color": f"C{number}"}
            label = f"{call} call{'s' * (call == 'later')}, {images} image{'s' * (images > 1)}"
            panel.errorbar(rows["ratio"], heights, xerr=spread, label=label, **style)
        panel.set(xlabel=f"times as fast as\n{title}", xscale="log", ylim=(len(names) - 0.5, -0.5))
        panel.set_yticks(range(len(names)), names)
        mark_one(panel.axvline, panel.xaxis)
    left.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    large_ones = table.loc[table["side"] != 224, "model"]
    large = table[table["model"].isin(large_ones) & (table["what"] == "one unit") & (table["baseline"] == "script")]
    large = large[large["call"].eq("later") & large["images"].eq(large["images"].min())]
    panels = right.subplots(3, 1)
    titles = {"ratio": "times as fast\nas the script", "memory_ratio": "share of the\nscript's memory"}
    for panel, (column, title) in zip(panels, titles.items(), strict=False):
        for (name, rows), marker in zip(large.groupby("model", sort=False), "osD^", strict=False):
            panel.plot(rows["side"], rows[column], f"{marker}-", label=name)
        panel.set(ylabel=title, xlabel="side of the image (pixels)", xscale="log", yscale="log")
        panel.set_xticks(sorted(set(large["side"])), sorted(set(large["side"])))
        panel.minorticks_off()
        mark_one(panel.axhline, panel.yaxis)
    options = {
        "loc": "outside lower center",
        "ncols": 2,
        "title": f"later calls, {counted(large['images'].min(), 'image')}",
    }
    right.legend(*panel.get_legend_handles_labels(), **options)
    many = table[(table["what"] != "one unit") & (table["call"] == "later")]
    panels[2].barh(many["what"] + ", " + many["baseline"], many["ratio"], color="0.6")
    panels[2].tick_params(axis="y", labelsize="small")
    panels[2].invert_yaxis()
    panels[2].axvline(1, color="0.3", linewidth=0.6)
    panels[2].set(xlabel="times as fast in one call")
    letter(*speeds, *panels)
    figure.savefig(path)


def mark_one(line: Callable, axis) -> None:
    """A line at a ratio of 1, and ticks of a logarithmic axis, in plain numbers."""
    line(1, color="0.7", linewidth=0.6, zorder=0)
    wide = np.ptp(np.log10(axis.get_view_interval())) > 1.5
    axis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
