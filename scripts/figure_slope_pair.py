"""Figure: which protocols give the paper's pair of slopes, 0.56 of the ERF size and -0.43 of its ratio to the RF.

The two slopes differ by the slope of the RF's side, which the depths and the kernel fix: where it is not 0.98 to 1.00
the pair cannot occur. Elsewhere theory's slopes of wide networks without noise are held against the pair, over kernels,
thresholds, ranges of depths, and two ways of measuring an area; and so are repeated experiments with thin networks.

Reads tables of slope_samples; takes seconds.
"""

import sys

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from scipy.stats import binomtest

from erf.size import E2, centre_impact, erf_size
from erf.theory import log_log_slope, moments, uniform_map
from replication.commands.cli import command, figure_arguments, read_table
from replication.drawing.plots import COLOURS, SLOPES, WIDTH, letter, save, use_style
from replication.statistics.slopes import BOX, is_pair, pair_is_possible, rf_slope

# Variances of random weights propagate like uniform weights, and the mean |g| is the root of the mean g² (section 2.2).
MODES = {"uniform |g| or random g²": np.abs, "random |g|": np.sqrt}
COUNTED = (
    "area",
    "pixels",
)  # within the contour; the count of pixels that are above the threshold, as the paper has it
SIGMA = "σ"
VARIANTS = {"abs": ("o", "size of the mean map"), "per run": ("D", "mean of the runs' sizes")}
FAR = 0.08  # from which distance on colours do not change
MET = "tab:orange"
PAIR = "0.85"  # where both slopes are the paper's
NEAR = 0.027  # half the side of the plane's part that is shown


def range_name(depths: list[int]) -> str:
    """ "10–80 ×2" where each depth is twice the one before, "10–100 +10" where it is ten more."""
    depth = np.array(sorted(depths))
    ends = f"{depth[0]}–{depth[-1]}"
    if (depth[1:] == 2 * depth[:-1]).all():
        return f"{ends} ×2"
    steps = set(np.diff(depth).tolist())
    return f"{ends} +{steps.pop()}" if len(steps) == 1 else ends


def threshold_name(threshold: float) -> str:
    return "e⁻²" if round(threshold, 4) == round(E2, 4) else f"{100 * threshold:.3g} %"


def readings(impact: np.ndarray, thresholds: list[float]) -> dict[tuple[str, str], tuple[float, bool]]:
    """Sizes (pixels) of a map (H, W) by threshold and way of counting, each with whether the RF cuts it off."""
    middle = tuple((side - 1) / 2 for side in impact.shape)
    centre = centre_impact(impact, middle)
    edge = max(impact[0].max(), impact[:, 0].max())  # maps of theory are symmetric
    found = {}
    for threshold in thresholds:
        cut_off, name = bool(edge > threshold * centre), threshold_name(threshold)
        found[name, "area"] = (float(erf_size(impact, middle, threshold)), cut_off)
        found[name, "pixels"] = (float(np.sqrt((impact > threshold * centre).sum())), cut_off)
    spread = float(np.sqrt(moments(impact.sum(0))[2].item()))
    return found | {(SIGMA, counted): (spread, False) for counted in COUNTED}


def theory_table(kernels: list[int], thresholds: list[float], ranges: list[list[int]]) -> pd.DataFrame:
    """Theory's two slopes for every setting, a row each; `met`: both are the paper's to its two digits.

    `cut_off` lists the depths at which the ERF reaches the edge of the RF.
    """
    rows = []
    for kernel in kernels:
        for mode, transform in MODES.items():
            depths = sorted({depth for depths in ranges for depth in depths})
            read = {depth: readings(transform(uniform_map(depth, kernel)), thresholds) for depth in depths}
            for threshold, counted in read[depths[0]]:
                for chosen in map(sorted, ranges):
                    sizes, cut = zip(*(read[depth][threshold, counted] for depth in chosen), strict=True)
                    size, rf = float(log_log_slope(np.array(chosen), np.array(sizes))), rf_slope(chosen, kernel)
                    rows.append(
                        {
                            "kernel": kernel,
                            "mode": mode,
                            "threshold": threshold,
                            "counted": counted,
                            "depths": range_name(chosen),
                            "layers": " ".join(map(str, chosen)),
                            "size": size,
                            "ratio": size - rf,
                            "rf_slope": rf,
                            "possible": pair_is_possible(rf),
                            "met": bool(is_pair(size, size - rf)),
                            "cut_off": " ".join(str(depth) for depth, off in zip(chosen, cut, strict=True) if off),
                        }
                    )
    return pd.DataFrame(rows)


def shares(samples: pd.DataFrame) -> pd.DataFrame:
    """How many repeated experiments have the pair, and how many a size slope that is printed as 0.56 or more, of those
    that have slopes; with 95 % Wilson intervals of the shares."""
    rows = []
    for keys, found in samples.dropna(subset="size").groupby(["depths", "network", "weights", "variant"], sort=False):
        row = dict(zip(("depths", "network", "weights", "variant"), keys, strict=True)) | {"experiments": len(found)}
        for name, hits in (("pairs", found["pair"].sum()), ("sizes", (found["size"] >= BOX["size"][0]).sum())):
            interval = binomtest(int(hits), len(found)).proportion_ci(method="wilson")
            row |= {name: hits, f"{name}_low": interval.low, f"{name}_high": interval.high}
        rows.append(row)
    return pd.DataFrame(rows)


def draw_plane(axes, theory: pd.DataFrame, samples: pd.DataFrame) -> None:
    """Lines of slope one in the plane of the two slopes, the box that rounds to the paper's pair, and points."""
    (low, high), (steep, flat) = BOX["size"], BOX["ratio"]
    size, ratio = (SLOPES[quantity][0] for quantity in ("size", "ratio"))
    axes.add_patch(Rectangle((low, steep), high - low, flat - steep, facecolor=PAIR, linewidth=0, zorder=0))
    shown, ends = np.array([size - NEAR, size + NEAR]), (ratio - NEAR, ratio + NEAR)
    for rf, rows in theory[theory["kernel"] == 3].groupby("rf_slope"):
        style = {"color": "0.3", "linewidth": 0.7} if rows["possible"].all() else {"color": "0.75", "linewidth": 0.7}
        axes.plot(shown, shown - rf, linestyle="-" if rows["possible"].all() else "--", zorder=1, **style)
    for number, (depths, rows) in enumerate(samples.groupby("depths", sort=False)):
        rf = float((rows["size"] - rows["ratio"]).mean())
        y = ratio + NEAR * (0.8 - 0.3 * (number % 2))  # neighbours are not side by side
        text = {
            "rotation": 45,
            "rotation_mode": "anchor",
            "transform_rotates_text": True,
            "ha": "center",
            "va": "center",
        }
        paper = {"boxstyle": "square,pad=0.1", "facecolor": "w", "linewidth": 0}
        axes.text(y + rf, y, depths.replace("-", "–"), **text, bbox=paper, fontsize="small", clip_on=True)
    for weights, rows in samples.groupby("weights", sort=False):
        axes.plot(rows["size"], rows["ratio"], ".", color=COLOURS[weights], markersize=3, alpha=0.6, zorder=2)
    for counted, marker in zip(COUNTED, "^v", strict=True):
        rows = theory[(theory["kernel"] == 3) & (theory["counted"] == counted)]
        full, cut = rows[rows["cut_off"] == ""], rows[rows["cut_off"] != ""]
        axes.plot(full["size"], full["ratio"], marker, color="k", markersize=3.5, linestyle="", zorder=3)
        axes.plot(cut["size"], cut["ratio"], marker, color="k", mfc="white", markersize=3.5, linestyle="", zorder=3)
    axes.set(xlim=shown, ylim=ends, aspect="equal", xlabel="slope of the size", ylabel="slope of the ratio")


def draw_rf(axes, theory: pd.DataFrame) -> None:
    """Slope of the RF by range of depths and kernel; where the pair can occur at all is shaded."""
    names = list(theory["depths"].unique())
    (low, high), (steep, flat) = BOX["size"], BOX["ratio"]
    axes.axvspan(low - flat, high - steep, color=PAIR, linewidth=0, zorder=0)
    kernels = theory["kernel"].unique()
    for kernel, marker, shade in zip(kernels, "osD^vph", np.linspace(0.75, 0, len(kernels)), strict=False):
        rows = theory[theory["kernel"] == kernel].drop_duplicates("depths")
        y = [names.index(name) for name in rows["depths"]]
        axes.plot(rows["rf_slope"], y, marker, color=str(shade), markersize=3, linestyle="", label=f"{kernel}")
    axes.set_yticks(range(len(names)), labels=names, fontsize="small")
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel="slope of the RF")
    axes.legend(title="side of\nkernel", fontsize="small", title_fontsize="small", handletextpad=0.1, loc="lower left")


def draw_shares(axes, counts: pd.DataFrame) -> None:
    """Shares of the repeated experiments, in per cent: full markers for the pair, hollow ones for the size alone."""
    names, y = [], 0.0
    for depths, group in counts.groupby("depths", sort=False):
        for row in group.itertuples():
            marker, colour, n = VARIANTS[row.variant][0], COLOURS[row.weights], row.experiments
            axes.plot([100 * row.pairs_low, 100 * row.pairs_high], [y, y], color=colour, linewidth=0.8)
            axes.plot([100 * row.pairs / n], [y], marker, color=colour, markersize=3)
            axes.plot([100 * row.sizes / n], [y], marker, color=colour, mfc="white", markersize=3)
            y += 1
        names.append((y - (len(group) + 1) / 2, f"{depths.replace('-', '–')}\n({group['experiments'].max()})"))
        y += 1
    axes.set_yticks([place for place, _ in names], labels=[name for _, name in names], fontsize="small")
    axes.set(xlim=(-3, 103), ylim=(y - 1, -1), xlabel="share of experiments (%)")


def draw_map(axes, theory: pd.DataFrame, mode: str, counted: str):
    """How far theory is from the pair, the farther of its two slopes; a row for each range of depths."""
    rows = theory[(theory["mode"] == mode) & (theory["counted"] == counted)]
    names, columns = list(rows["depths"].unique()), list(rows.groupby(["threshold", "kernel"], sort=False).groups)
    columns.sort(key=lambda column: list(rows["threshold"].unique()).index(column[0]))  # kernels side by side
    distance = np.full((len(names), len(columns)), np.nan)
    for row in rows.itertuples():
        y, x = names.index(row.depths), columns.index((row.threshold, row.kernel))
        if row.possible:
            distance[y, x] = max(abs(row.size - SLOPES["size"][0]), abs(row.ratio - SLOPES["ratio"][0]))
        if row.met:
            axes.plot(x, y, "s", color=MET, mfc="white" if row.cut_off else MET, markersize=4, markeredgewidth=1.3)
        elif row.cut_off and row.possible:
            axes.plot(x, y, ".", color="k", markersize=1.2)
    axes.set_facecolor("0.88")
    image = axes.imshow(distance, cmap="Blues_r", norm=Normalize(0, FAR), aspect="auto")
    axes.set_xticks(range(len(columns)), labels=[str(kernel) for _, kernel in columns], fontsize="small")
    axes.set_yticks(range(len(names)), labels=names, fontsize="small")
    axes.tick_params(length=1, pad=1)
    kernels = len(rows["kernel"].unique())
    for start in range(0, len(columns), kernels):
        if start:
            axes.axvline(start - 0.5, color="w", linewidth=1.5)
        where = {"xycoords": ("data", "axes fraction"), "xytext": (0, -9), "textcoords": "offset points"}
        middle = start + (kernels - 1) / 2
        axes.annotate(columns[start][0], (middle, 0), **where, fontsize="small", ha="center", va="top")
    return image


def handles() -> list[list]:
    """Legends of the points above and of the maps below."""
    point, black = ({"linestyle": "", "color": colour, "markersize": 3} for colour in ("0.3", "k"))
    above = [Patch(facecolor=PAIR, label="printed as 0.56 and −0.43")]
    above += [Line2D([], [], **black, marker=m, label=f"theory, {c}") for c, m in zip(COUNTED, "^v", strict=True)]
    above += [Line2D([], [], **black, marker="^", mfc="white", label="cut off by the RF at some depth")]
    above += [
        Line2D([], [], **{**point, "color": COLOURS[weights]}, marker=".", label=f"1 channel, {weights}")
        for weights in ("random", "random + ReLU")
    ]
    above += [Line2D([], [], **point, marker=marker, label=name) for marker, name in VARIANTS.values()]
    above += [Line2D([], [], **point, marker="o", label="both slopes, with 95 % interval")]
    above += [Line2D([], [], **point, marker="o", mfc="white", label="slope of the size 0.56 or more")]
    square = {"linestyle": "", "marker": "s", "color": MET, "markersize": 4, "markeredgewidth": 1.3}
    below = [
        Line2D([], [], **square, label="both slopes met"),
        Line2D([], [], **square, mfc="white", label="met, but cut off by the RF at some depth"),
        Line2D([], [], linestyle="", marker=".", color="k", markersize=2, label="cut off at some depth"),
        Patch(facecolor="0.88", label="the pair is impossible"),
    ]
    return [above, below]


def draw(theory: pd.DataFrame, samples: pd.DataFrame):
    counts = shares(samples)
    figure = plt.figure(figsize=(WIDTH, 8.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.45])
    panels = above.subplots(1, 3, width_ratios=[1.35, 1, 1])
    draw_plane(panels[0], theory, samples)
    draw_rf(panels[1], theory)
    draw_shares(panels[2], counts)
    of_points, of_maps = handles()
    above.legend(handles=of_points, loc="outside upper center", ncols=3, fontsize="small", handletextpad=0.3)
    maps = below.subplots(len(COUNTED), len(MODES), sharey=True)
    for line, counted in zip(maps, COUNTED, strict=True):
        for axes, mode in zip(line, MODES, strict=True):
            image = draw_map(axes, theory, mode, counted)
            axes.set_title(f"{mode}, {'areas' if counted == 'area' else 'counts of pixels'}")
    letter(*panels, *maps.ravel())
    for axes in maps[-1]:
        axes.set_xlabel("side of the kernel, under each threshold", labelpad=12)
    bar = below.colorbar(image, ax=maps, shrink=0.5, aspect=30, extend="max")
    bar.set_label("distance from the pair")
    below.legend(handles=of_maps, loc="outside lower center", ncols=4, fontsize="small", handletextpad=0.3)
    points = samples[["network", "weights", "variant", "depths", "sample", "size", "ratio", "pair"]]
    table = [theory.assign(panel="theory"), counts.assign(panel="shares"), points.assign(panel="experiments")]
    return figure, pd.concat(table).pipe(lambda rows: rows[["panel", *rows.columns.drop("panel")]])


@command
def main(argv: list[str] | None = None) -> None:
    args = figure_arguments(
        __doc__,
        argv,
        "sides of kernels, thresholds and depths (a list of ranges)",
        samples="tables of slope_samples, .csv",
    )
    use_style()
    samples = pd.concat(read_table(path, "sample", "pair") for path in args.samples)
    theory = theory_table(*(args.settings[key] for key in ("kernels", "thresholds", "depths")))
    save(*draw(theory, samples), args.out)


if __name__ == "__main__":
    sys.exit(main())
