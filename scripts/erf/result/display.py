"""One field as a picture, for a notebook or a script. matplotlib only, whose settings and backend stay as they are."""

import numpy as np
from scipy.ndimage import gaussian_filter

from erf.errors import InputError
from erf.result.field import AXIS_NAMES, ReceptiveField, length_format
from erf.size import centre_impact, reference_impact

try:
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke
except ImportError as error:
    raise InputError("drawing needs matplotlib: python -m pip install matplotlib") from error

FLOOR = 1e-3  # of the maximum: weaker pixels have the last colour of the scale
SMOOTHED = 200  # pixels: from this side on, the bound is smoothed by a hundredth of the side
# Inches, by the number of axes; a journal's columns are 3.5 wide.
FIGURES = {1: (3.5, 2.6), 2: (3.5, 3.3), 3: (7.2, 3.3)}
IMPACT = "impact / maximum (log scale)"
THEORY = "#e68a00"  # seen on the map's dark rim as well as on the legend's white
DARK_EDGE, LIGHT_EDGE = ([withStroke(linewidth=2, foreground=colour)] for colour in ("0.15", "white"))  # for the same


def draw_field(field: ReceptiveField, axes: Axes | None = None) -> Axes:
    """|impact| relative to its maximum, on a logarithmic scale; lengths are in the field's unit, pixels or other.

    A map of one axis is a line, in which the ERF is filled. An image is a heat map. Of a volume the three slices
    through the unit are heat maps, in insets side by side, and their titles say where they lie.

    Over a heat map lie the bound of the ERF, which is smoothed on large maps to be legible (the size written is the
    map's own), the theoretical receptive field where it is finite and has an edge inside the map, and the unit's
    position.

    axes : where to draw; a new figure, one journal column wide, for a volume two, if None
    """
    if axes is None:
        _, axes = plt.subplots(figsize=FIGURES[field.map.ndim], layout="constrained")
    relative = np.abs(field.map)
    relative /= relative.max() or 1
    level = field.threshold * reference_impact(relative, field.position, field.reference)
    {1: _draw_line, 2: _draw_image, 3: _draw_slices}[field.map.ndim](axes, field, relative, level)
    return axes


def _draw_line(axes: Axes, field: ReceptiveField, relative: np.ndarray, level: float) -> None:
    (spacing,) = field.spacing or (1,)
    (position,), ((first, last),) = field.position, field.theoretical_ends
    times, shown = np.arange(len(relative)) * spacing, np.maximum(relative, FLOOR)
    axes.plot(times, shown, color="0.15", linewidth=1)
    if relative.min() < level < relative.max():
        style = {"color": "0.75", "linewidth": 0, "label": _size_label(field)}
        axes.fill_between(times, max(level, FLOOR), shown, where=shown > level, interpolate=True, **style)
    if _has_an_edge_inside(field, (0,)):
        for end, label in ((first - 0.5, _theory_label(field)), (last + 0.5, None)):
            axes.axvline(end * spacing, color=THEORY, linewidth=1, linestyle="--", label=label)
    peak = max(float(centre_impact(relative, field.position)), FLOOR)
    axes.plot(position * spacing, peak, "k+", markersize=6, markeredgewidth=0.8, path_effects=LIGHT_EDGE, label="unit")
    axes.set(xlim=(-0.5 * spacing, (len(relative) - 0.5) * spacing), yscale="log", ylim=(FLOOR, 1.5))
    axes.set_xlabel(_axis_label(field, 0), size="small")
    axes.set_ylabel(IMPACT, size="small")
    axes.tick_params(labelsize="small")
    _add_legend(axes, *axes.get_legend_handles_labels())


def _draw_image(axes: Axes, field: ReceptiveField, relative: np.ndarray, level: float) -> None:
    shown, bound = _draw_plane(axes, field, relative, level, (0, 1))
    _add_bar(axes, shown, bound, (1.04, 0, 0.05, 1))  # as high as the map
    _add_legend(axes, *axes.get_legend_handles_labels())


def _draw_slices(axes: Axes, field: ReceptiveField, relative: np.ndarray, level: float) -> None:
    """Slices in insets of `axes`, whose own coordinates are lengths, from the left and from below.

    All are of one scale, but that no side is drawn shorter than a third of the longest.
    """
    axes.axis("off")
    spacing = field.spacing or (1, 1, 1)
    sides = np.array(relative.shape) * spacing
    sides = np.maximum(sides, sides.max() / 3)
    highest, gap, left = max(sides[:2]), 0.3 * max(sides), 0.0
    legend, bounds = {}, []
    for across, plane in enumerate(((1, 2), (0, 2), (0, 1))):
        down, right = (sides[axis] for axis in plane)
        inset = axes.inset_axes((left, highest - down, right, down), transform=axes.transData)
        place = int(np.clip(np.floor(field.position[across] + 0.5), 0, relative.shape[across] - 1))
        shown, bound = _draw_plane(inset, field, relative.take(place, across), level, plane)
        bounds += [bound] if bound else []
        inset.set_aspect("auto")
        name = AXIS_NAMES[3][across].removesuffix("s")
        unit = "" if field.spacing is None else f" {field.lengths_in}"
        inset.set_title(f"slice at {name} {place * spacing[across]:g}{unit}", size="small")
        legend |= {label: handle for handle, label in zip(*inset.get_legend_handles_labels(), strict=True)}
        left += right + gap
    legend["unit"] = legend.pop("unit")  # last
    axes.set(xlim=(0, left - gap), ylim=(0, highest), aspect="equal")
    _add_bar(axes, shown, bounds[0] if bounds else None, (1.04, 0, 0.02, 1))
    _add_legend(axes, legend.values(), legend.keys(), above=1.15)


def _draw_plane(axes: Axes, field: ReceptiveField, values: np.ndarray, level: float, plane: tuple[int, int]):
    """Heat map of two of the field's axes, the vertical one first: (image, contour of the ERF or None)."""
    down, right = ((field.spacing or (1,) * field.map.ndim)[axis] for axis in plane)
    row, column = (field.position[axis] for axis in plane)
    height, width = values.shape
    edges = (-0.5 * right, (width - 0.5) * right, (height - 0.5) * down, -0.5 * down)
    colours = {"norm": LogNorm(FLOOR, 1), "cmap": "viridis", "interpolation": "nearest"}
    shown = axes.imshow(np.maximum(values, FLOOR), extent=edges, **colours)

    bound, sigma = None, max(values.shape) / 100 if max(values.shape) >= SMOOTHED else 0
    smooth = gaussian_filter(values, sigma)
    if min(values.shape) > 1 and smooth.min() < level < smooth.max():
        places = np.arange(width) * right, np.arange(height) * down
        bound = axes.contour(*places, smooth, levels=[level], colors="white", linewidths=1)
        bound.set_path_effects(DARK_EDGE)
        label = _size_label(field) + (" (outline smoothed)" if sigma else "")
        axes.plot([], [], color="white", linewidth=1, path_effects=DARK_EDGE, label=label)
    if _has_an_edge_inside(field, plane):
        (top, bottom), (start, end) = (field.theoretical_ends[axis] for axis in plane)
        style = {"fill": False, "color": THEORY, "linewidth": 1, "linestyle": "--", "label": _theory_label(field)}
        corner = (start - 0.5) * right, (top - 0.5) * down
        axes.add_patch(Rectangle(corner, (end + 1 - start) * right, (bottom + 1 - top) * down, **style))
    mark = {"markersize": 6, "markeredgewidth": 0.8, "path_effects": LIGHT_EDGE, "label": "unit"}
    axes.plot(column * right, row * down, "k+", **mark)
    axes.set(xlim=edges[:2], ylim=edges[2:])
    axes.set_xlabel(_axis_label(field, plane[1]), size="small")
    axes.set_ylabel(_axis_label(field, plane[0]), size="small")
    axes.tick_params(labelsize="small")
    return shown, bound


def _add_bar(axes: Axes, shown, bound, place: tuple[float, float, float, float]) -> Colorbar:
    """The scale of colours, beside the axes; place in their coordinates."""
    bar = axes.figure.colorbar(shown, cax=axes.inset_axes(place), extend="min")
    bar.set_label(IMPACT, size="small")
    bar.ax.tick_params(labelsize="small")
    if bound:
        bar.add_lines(bound)


def _add_legend(axes: Axes, handles, labels, above: float = 1.0) -> None:
    style = {"borderaxespad": 0.2, "fontsize": "small", "frameon": False}
    axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, above), **style)


def _axis_label(field: ReceptiveField, axis: int) -> str:
    unit = "pixels" if field.spacing is None else field.lengths_in
    return f"{AXIS_NAMES[field.map.ndim][axis].removesuffix('s')} ({unit})"


def _size_label(field: ReceptiveField) -> str:
    return f"ERF, size {field.size:{length_format(field)}} {field.lengths_in}"


def _theory_label(field: ReceptiveField) -> str:
    lengths = zip(field.theoretical_rf, field.spacing or (1,) * field.map.ndim, strict=True)
    digits = ".0f" if field.spacing is None else length_format(field)
    sides = " × ".join(f"{pixels * length:{digits}}" for pixels, length in lengths).replace("inf", "∞")
    return f"theoretical field, {sides} {field.lengths_in}"


def _has_an_edge_inside(field: ReceptiveField, axes: tuple[int, ...]) -> bool:
    """Whether the theoretical field is finite along these axes, and does not enclose the whole map along them."""
    ends = [(*field.theoretical_ends[axis], field.map.shape[axis] - 1) for axis in axes]
    return np.isfinite(ends).all() and any(first > 0 or last < side for first, last, side in ends)
