"""One style for all figures, the panels that several of them share, and how a figure is written."""

from pathlib import Path
from string import ascii_lowercase

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.ndimage import gaussian_filter

from erf.errors import InputError
from erf.result.field import GaussianFit, ReceptiveField, load_fields
from erf.size import THRESHOLD, centre_impact
from erf.system.files import atomic
from replication.drawing.labels import ENOUGH_SEEDS

mpl.use("Agg")

WIDTH = 7.0  # inches: two columns of a journal page
MAP_COLOURS = "viridis"
LARGE = 200  # pixels: side from which on a map is large
_PALETTE = sns.color_palette("colorblind")
COLOURS = {  # of the untrained networks' series, by name, in every figure
    "uniform": _PALETTE[0],
    "random": _PALETTE[1],
    "random + ReLU": _PALETTE[2],
    "random + leaky ReLU": _PALETTE[4],
    "random + GELU": _PALETTE[7],
    "random + tanh": "#8b1a1a",
    "random + sigmoid": _PALETTE[9],
}
MARKERS = dict(zip(COLOURS, "os^Dvphx", strict=False))  # beside the colours: a print may be grey
THEORY_LINES = {"uniform": "-", "random": "--"}  # only these: theory has no activation of its own
SLOPES = {"size": (0.56, 0.5), "ratio": (-0.43, -0.5)}  # against depth: the paper's, and their limit for many layers
SLOPE_LINES = {"paper": ("black", (0, (5, 1.5))), "limit": ("0.5", (0, (1, 1.5)))}
THEORY_TICK = {"marker": "|", "color": "0.2", "markersize": 7, "linestyle": "", "zorder": 4}
VERDICT_STYLES = {  # colour and marker, since a print may be grey; dark enough for text on white
    "reproduced": ("#00664d", "o"),
    "partly": ("#8a5a00", "D"),
    "undecided": ("#5b4b8a", "d"),
    "not reproduced": ("#a8320a", "X"),
    "not comparable": ("#555555", "s"),
    "not run": ("#777777", "_"),
}
BEFORE, AFTER, SCORE, VERTICAL, HORIZONTAL = (_PALETTE[number] for number in (7, 3, 0, 4, 2))


def use_style() -> None:
    """Set matplotlib's defaults: small sans-serif type, thin lines, no frame on top and right."""
    sns.set_theme(
        context="paper",
        style="ticks",
        palette="colorblind",
        font_scale=0.8,
        rc={
            "figure.dpi": 100,
            "savefig.dpi": 300,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "axes.linewidth": 0.7,
            "xtick.major.width": 0.7,
            "ytick.major.width": 0.7,
            "xtick.minor.width": 0.5,
            "ytick.minor.width": 0.5,
            "xtick.major.size": 3,
            "ytick.major.size": 3,
            "xtick.minor.size": 1.5,
            "ytick.minor.size": 1.5,
            "legend.frameon": False,
            "lines.linewidth": 1.0,
            "lines.markersize": 3.5,
            "pdf.fonttype": 42,  # text stays text
        },
    )


def save(figure: Figure, table: pd.DataFrame, path: Path) -> None:
    """Write `path` (.png), and beside it the .pdf and, as .csv, what is plotted; the same bytes for the same figure."""
    for suffix, metadata in ((".png", None), (".pdf", {"CreationDate": None})):
        with atomic(path.with_suffix(suffix)) as temporary:
            figure.savefig(temporary, metadata=metadata)
    with atomic(path.with_suffix(".csv")) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n", encoding="utf-8")


def letter(*panels: Axes) -> None:
    """A bold letter at the upper left corner of each panel, in this order, by which its caption speaks of it."""
    for name, panel in zip(ascii_lowercase, panels, strict=False):
        place = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "va": "bottom"}
        panel.annotate(name, (0, 1), (-4, 4), **place, fontsize="large", fontweight="bold")


def beside(index: int, count: int, apart: float) -> float:
    """How far the `index`-th of `count` series is moved, so that no marker hides another; they lie `apart`."""
    return apart * (index - (count - 1) / 2)


def slope_guides(axes: Axes, quantity: str) -> None:
    """Named vertical lines at the paper's slope of a quantity, and at its limit for many layers."""
    for slope, (name, (colour, dashes)) in zip(SLOPES[quantity], SLOPE_LINES.items(), strict=True):
        axes.axvline(slope, color=colour, linestyle=dashes, linewidth=0.8, zorder=0)
        place = {"xycoords": ("data", "axes fraction"), "xytext": (0, 2), "textcoords": "offset points"}
        side = "left" if name == "paper" else "right"  # its slope is the larger one
        axes.annotate(name, (slope, 1), **place, color=colour, fontsize="small", ha=side, va="bottom")


def beside_rows(axes: Axes, heading: str, texts: dict[float, str]) -> None:
    """A column of numbers at the right of a panel whose rows are at these heights, under a heading that names them."""
    place = {"textcoords": "offset points", "fontsize": "small"}
    for height, text in texts.items():
        axes.annotate(text, (1, height), (5, 0), xycoords=("axes fraction", "data"), va="center", **place)
    axes.annotate(heading, (1, 1), (5, 2), xycoords="axes fraction", va="bottom", color="0.35", **place)


def on_map(label: str, **style) -> tuple[tuple[Patch, Line2D], str]:
    """Legend entry of a line on a heat map, in the line's own colour on the map's."""
    ground = Patch(facecolor=mpl.colormaps[MAP_COLOURS](0.0), linewidth=0)
    return (ground, Line2D([], [], **style)), label


def drawn_fields(paths: list[Path], depths: list[int] | None = None) -> list[ReceptiveField]:
    """The fields in results of measure_network that figures draw: of the variant "abs", at `depths` if given.

    InputError if there are none.
    """
    fields = [field for path in paths for field in load_fields(path)]
    shown = [f for f in fields if f.settings["variant"] == "abs" and (depths is None or f.settings["depth"] in depths)]
    if not shown:
        raise InputError(
            f"nothing to draw: no variant abs{f' at {depths} layers' if depths else ''} in {paths[0]}, ..."
        )
    return shown


def relative_map(field: ReceptiveField, fit: GaussianFit) -> np.ndarray:
    """The map over the peak of the Gaussian fitted to it, which is steadier than the one pixel in the middle.

    Over its maximum where no Gaussian fits.
    """
    peak = fit.peak if np.isfinite(fit.peak) else np.abs(field.map).max()
    return np.abs(field.map) / (peak or 1)


def shape_label(field: ReceptiveField, fit: GaussianFit) -> str:
    """What every map of an untrained network says of itself; dead runs too, where there were any."""
    dead = f", {field.dead} of {len(field.run_sizes)} runs dead" if field.dead else ""
    kurtosis = f"{np.mean(field.kurtosis):.2f}".replace("-", "\N{MINUS SIGN}")
    return f"ERF {field.size:.1f} px{dead}\nR² {fit.r2:.3f}\nexcess kurt. {kurtosis}"


def draw_image(axes: Axes, image: np.ndarray, position: tuple[float, float], **options) -> AxesImage:
    """An image (H, W) or (H, W, 3) in pixels from `position`, (row, column), without a frame; options as in imshow."""
    height, width = image.shape[:2]
    row, column = position
    sns.despine(ax=axes, left=True, bottom=True)
    axes.tick_params(length=0, pad=1)
    return axes.imshow(image, extent=(-column - 0.5, width - column - 0.5, height - row - 0.5, -row - 0.5), **options)


def draw_map(
    axes: Axes, relative: np.ndarray, position: tuple[float, float], smoothing: float = 0.0, colour: str = "white"
) -> AxesImage:
    """Heat map on a scale common to all panels, in pixels from the unit, with the contour that bounds the ERF."""
    shown = draw_image(axes, relative, position, cmap=MAP_COLOURS, vmin=0, vmax=1, interpolation="nearest")
    draw_contour(axes, relative, position, smoothing, colors=[colour], linewidths=0.8)
    return shown


def draw_contour(
    axes: Axes, impact: np.ndarray, position: tuple[float, float], smoothing: float = 0.0, **options
) -> None:
    """The contour that bounds the ERF, in pixels from the unit; none where it would lie outside of the map.

    smoothing : sigma (pixels) of a Gaussian that makes a noisy map's contour legible. The level is that of the map as
        it is, and so are all numbers.
    """
    level = THRESHOLD * centre_impact(impact, position)
    if impact.min() < level < impact.max():
        rows, columns = (np.arange(side) - centre for side, centre in zip(impact.shape, position, strict=True))
        shown = gaussian_filter(impact, smoothing) if smoothing else impact
        axes.contour(columns, rows, shown, levels=[level], **options)


def smoothing(impact: np.ndarray) -> float:
    """Sigma (pixels) with which contours are smoothed: a hundredth of a large map's side; small maps are left alone."""
    return impact.shape[0] / 100 if impact.shape[0] >= LARGE else 0.0


def map_table(relative: np.ndarray, position: tuple[float, float], **labels) -> pd.DataFrame:
    """One row a pixel: the labels, its row and column in pixels from the unit, and its impact."""
    rows, columns = np.indices(relative.shape)
    table = {"row": rows.ravel() - position[0], "column": columns.ravel() - position[1], "impact": relative.ravel()}
    return pd.DataFrame({**labels, **table})


def draw_seeds(axes: Axes, table: pd.DataFrame, x: str, colour, label: str, marker: str = "o") -> None:
    """Each seed's values as dots, their mean as a line, and from three seeds on its 95 % interval as a band.

    `table` has `x`, seed and value, and in its rows of seed "mean" low and high if it has any. Where it has the column
    clipped, dots of values that the receptive field or the image cuts off, and which are too small, are hollow.
    """
    runs, mean = table[table["seed"] != "mean"], table[table["seed"] == "mean"].sort_values(x)
    dots = {"marker": marker, "color": colour, "markersize": 2.5}
    axes.plot(runs[x], runs["value"], linestyle="", alpha=0.7, **dots)
    axes.plot(mean[x], mean["value"], "-", color=colour)
    axes.plot([], [], "-", label=label, **dots)
    if "low" in mean and runs.groupby(x).size().min() >= ENOUGH_SEEDS:
        axes.fill_between(mean[x], mean["low"], mean["high"], color=colour, alpha=0.15, linewidth=0)
    if "clipped" in runs:
        clipped = runs[runs["clipped"].astype(bool)]
        draw_hollow(axes, clipped[x], clipped["value"], **dots, markeredgewidth=0.7)


def draw_hollow(axes: Axes, x: pd.Series, y: pd.Series, **style) -> None:
    """Hollow markers over the full ones of the same points, for values that are bounds."""
    axes.plot(x, y, **style, linestyle="none", markerfacecolor="white", zorder=3)  # errorbar's own are at 2.1


def error_bars(value: pd.Series, low: pd.Series, high: pd.Series) -> np.ndarray:
    """Intervals as matplotlib wants them, (2, n): how far they reach below and above; a basic one may do neither."""
    return np.array([value - low, high - value]).clip(0)


def seed_bars(value: pd.Series, low: pd.Series, high: pd.Series, seeds: pd.Series) -> np.ndarray:
    """The same for means over seeds; none where the seeds are too few."""
    return error_bars(value, low.where(seeds >= ENOUGH_SEEDS), high.where(seeds >= ENOUGH_SEEDS))


def legend_below(axes: Axes) -> None:
    """Legend under the panel, where it can hide nothing."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18))
