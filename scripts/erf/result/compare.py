"""Several fields side by side, on one scale of colours and one of lengths. matplotlib only."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from erf.errors import InputError
from erf.result.display import DARK_EDGE, FLOOR, LIGHT_EDGE, SMOOTHED, THEORY
from erf.result.field import ReceptiveField
from erf.size import erf_size, reference_impact

try:
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm, Normalize, PowerNorm
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle
except ImportError as error:
    raise InputError("drawing needs matplotlib: python -m pip install matplotlib") from error

POWER = 0.25
SCALES = {
    "linear": (lambda: Normalize(0, 1), "linear scale"),
    "log": (lambda: LogNorm(FLOOR, 1), "log scale, display only"),
    "power": (lambda: PowerNorm(POWER, 0, 1), f"power scale, exponent {POWER:g}, display only"),
}
COLUMNS = 4  # of panels, at most
WIDTH = 7.0  # inches of a full row: two columns of a journal
LABEL = 2.6  # inches of a label in the legend


def compare(
    fields: Mapping[str, ReceptiveField] | Sequence[ReceptiveField] | ReceptiveField, *, scale: str = "log"
) -> Figure:
    """Draw several fields side by side: before and after a training, several layers, several models.

    All panels have one scale of colours, the impact as a share of each map's own maximum, and one scale of lengths, in
    pixels from the unit. They show where some map has a thousandth of its maximum, and the theoretical receptive fields
    that are finite. Each has the bound of the ERF, with its size in the title. The scale changes colours alone: bounds
    and sizes are those of the linear maps. Where many pixels are shown the bound is smoothed to be legible, as in
    `ReceptiveField.plot`.

    Parameters
    ----------
    fields : by their labels, or a list of them, which are then numbered, or one alone; maps (H, W)
    scale : "log" (from a thousandth of the maximum on), "power" (exponent 0.25) or "linear"

    Returns
    -------
    A matplotlib Figure, which pyplot does not manage: `figure.savefig(path)` writes it, and a notebook shows it. All
    panels share their limits: `figure.axes[0].set(xlim=(-50, 50), ylim=(50, -50))` shows a part.

    Raises
    ------
    InputError : no fields, maps that are not (H, W), an unknown scale, or no matplotlib.

    Examples
    --------
    >>> import erf
    >>> def gaussian(sigma):
    ...     runs = erf.theory.gaussian_map(sigma, shape=(61, 61), position=(30, 30))[None]
    ...     return erf.ReceptiveField.from_runs(runs, position=(30, 30), theoretical_rf=(51, 51))
    >>> figure = erf.compare({"before": gaussian(3), "after": gaussian(6)}, scale="log")
    >>> [axes.get_title() for axes in figure.axes if axes.get_title()]
    ['before\\n13.2 px', 'after\\n26.4 px']
    """
    if scale not in SCALES:
        raise InputError(f"unknown scale {scale!r}: choose one of {', '.join(SCALES)}")
    if isinstance(fields, ReceptiveField):
        fields = [fields]
    if not isinstance(fields, Iterable):
        raise InputError(f"fields must be a list, or a dict by their labels, not a {type(fields).__name__}")
    if not isinstance(fields, Mapping):
        fields = {f"{number}": field for number, field in enumerate(fields, 1)}
    if not fields:
        raise InputError("there are no fields to compare: give at least one")
    for label, field in fields.items():
        if not isinstance(field, ReceptiveField) or field.map.ndim != 2:
            raise InputError(f"{label} is no receptive field with a map (H, W): give what erf.measure returns")
    maps = list(fields.values())
    (top, bottom), (left, right) = (_limits(maps, axis) for axis in (0, 1))
    columns = min(len(maps), COLUMNS)
    rows = math.ceil(len(maps) / columns)
    width = min(WIDTH / columns, WIDTH / 3)  # of a panel, inches
    height = width * min(max((bottom - top) / (right - left), 0.3), 3)
    figure = Figure(figsize=(width * columns + 0.9, height * rows + 0.9), dpi=300, layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    make_norm, words = SCALES[scale]
    norm = make_norm()
    blur = _blur(max(bottom - top, right - left))
    for number, (label, field) in enumerate(fields.items()):
        axes = panels.flat[number]
        shown = _draw_field(field, axes, norm, blur)
        size = erf_size(np.abs(field.map), field.position, field.threshold, field.reference)
        axes.set_title(f"{label}\n{size:.1f} px", fontsize="small")
        axes.tick_params(labelsize="small", labelbottom=number + columns >= len(maps))
    panels[0, 0].set(xlim=(left, right), ylim=(bottom, top))
    for axes in panels.flat[len(maps) :]:
        axes.set_axis_off()
    bar = figure.colorbar(shown, ax=panels, extend="min" if scale == "log" else "neither", pad=0.02)
    bar.set_label(f"impact / maximum\n({words})", size="small")
    bar.ax.tick_params(labelsize="small")
    if scale == "power":
        bar.set_ticks([0, 1e-3, 1e-2, 1e-1, 1], labels=["0", "0.001", "0.01", "0.1", "1"])
    figure.supxlabel("columns from the unit (pixels)", fontsize="small")
    figure.supylabel("rows from the unit (pixels)", fontsize="small")
    legend = {"ncols": max(1, int(figure.get_figwidth() / LABEL)), "fontsize": "small", "frameon": False}
    figure.legend(handles=_legend(maps, blur), loc="outside upper left", **legend)
    return figure


def _limits(fields: list[ReceptiveField], axis: int) -> tuple[float, float]:
    """First and last edge of all panels along an axis, pixels from the unit."""
    ends = []
    for field in fields:
        impact, centre = np.abs(field.map), field.position[axis]
        (seen,) = np.nonzero((impact >= FLOOR * impact.max()).any(1 - axis))
        first, last = seen[0], seen[-1]
        if math.isfinite(field.theoretical_rf[axis]):
            start, end = field.theoretical_ends[axis]
            first, last = min(first, start), max(last, end)
        room = 0.05 * (last - first) + 1
        side = field.map.shape[axis]
        ends.append((max(first - room, 0) - 0.5 - centre, min(last + room, side - 1) + 0.5 - centre))
    return min(first for first, _ in ends), max(last for _, last in ends)


def _blur(span: float) -> float:
    """Standard deviation (pixels) by which maps are smoothed before bounds are drawn in panels of `span` pixels."""
    return span / 100 if span >= SMOOTHED else 0.0


def _draw_field(field: ReceptiveField, axes: Axes, norm: Normalize, blur: float) -> AxesImage:
    """The map with its bound, its theoretical field and its unit, which lies at (0, 0)."""
    (row, column), (height, width) = field.position, field.map.shape
    relative = np.abs(field.map) / (np.abs(field.map).max() or 1)
    extent = (-column - 0.5, width - column - 0.5, height - row - 0.5, -row - 0.5)
    style = {"norm": norm, "cmap": "viridis", "interpolation": "nearest", "extent": extent}
    shown = axes.imshow(np.maximum(relative, norm.vmin), **style)
    axes.set_facecolor("0.85")  # outside of the image
    smooth = gaussian_filter(relative, blur)
    level = field.threshold * reference_impact(relative, field.position, field.reference)
    if min(smooth.shape) > 1 and smooth.min() < level < smooth.max():
        columns, rows = np.arange(width) - column, np.arange(height) - row
        bound = axes.contour(columns, rows, smooth, levels=[level], colors="white", linewidths=1)
        bound.set_path_effects(DARK_EDGE)
    if np.isfinite(field.theoretical_rf).all():
        (top, bottom), (start, end) = field.theoretical_ends
        style = {"fill": False, "color": THEORY, "linewidth": 1, "linestyle": "--"}
        corner = start - 0.5 - column, top - 0.5 - row
        axes.add_patch(Rectangle(corner, end + 1 - start, bottom + 1 - top, **style))
    axes.plot(0, 0, "k+", markersize=5, markeredgewidth=0.8, path_effects=LIGHT_EDGE)
    return shown


def _legend(fields: list[ReceptiveField], blur: float) -> list[Line2D]:
    label = f"ERF, size in the title{' (outline smoothed)' if blur else ''}"
    handles = [Line2D([], [], color="white", linewidth=1, path_effects=DARK_EDGE, label=label)]
    if any(np.isfinite(field.theoretical_rf).all() for field in fields):
        handles.append(Line2D([], [], color=THEORY, linewidth=1, linestyle="--", label="theoretical field"))
    unit = {"color": "k", "marker": "+", "markersize": 5, "linestyle": "", "path_effects": LIGHT_EDGE}
    return [*handles, Line2D([], [], **unit, label="unit")]
