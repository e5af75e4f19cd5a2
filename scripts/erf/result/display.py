"""One field as a heat map, for a notebook or a script. matplotlib only, whose settings and backend stay as they are."""

import numpy as np
from scipy.ndimage import gaussian_filter

from erf.errors import InputError
from erf.result.field import ReceptiveField
from erf.size import reference_impact

try:
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke
except ImportError as error:
    raise InputError("drawing needs matplotlib: python -m pip install matplotlib") from error

FLOOR = 1e-3  # of the maximum: weaker pixels have the last colour of the scale
SMOOTHED = 200  # pixels: from this side on, the bound is smoothed by a hundredth of the side
THEORY = "#e68a00"  # seen on the map's dark rim as well as on the legend's white
DARK_EDGE, LIGHT_EDGE = ([withStroke(linewidth=2, foreground=colour)] for colour in ("0.15", "white"))  # for the same


def draw_field(field: ReceptiveField, axes: Axes | None = None) -> Axes:
    """Heat map of |impact| relative to its maximum, on a logarithmic scale; axes are the image's pixels.

    Over it lie the bound of the ERF, which is smoothed on large maps to be legible (the size written is the map's own),
    the theoretical receptive field where it is finite and has an edge inside the map, and the unit's position.

    axes : where to draw; a new figure, one journal column wide, if None
    """
    if axes is None:
        _, axes = plt.subplots(figsize=(3.5, 3.3), layout="constrained")
    impact = np.abs(field.map)
    relative = impact / (impact.max() or 1)
    shown = axes.imshow(np.maximum(relative, FLOOR), norm=LogNorm(FLOOR, 1), cmap="viridis", interpolation="nearest")
    bar = axes.figure.colorbar(shown, cax=axes.inset_axes((1.04, 0, 0.05, 1)), extend="min")  # as high as the map
    bar.set_label("impact / maximum (log scale)", size="small")

    sigma = max(impact.shape) / 100 if max(impact.shape) >= SMOOTHED else 0
    smooth = gaussian_filter(relative, sigma)
    level = field.threshold * reference_impact(relative, field.position, field.reference)
    if min(impact.shape) > 1 and smooth.min() < level < smooth.max():
        bound = axes.contour(smooth, levels=[level], colors="white", linewidths=1)
        bound.set_path_effects(DARK_EDGE)
        bar.add_lines(bound)
        label = f"ERF, size {field.size:.1f} px{' (outline smoothed)' if sigma else ''}"
        axes.plot([], [], color="white", linewidth=1, path_effects=DARK_EDGE, label=label)
    if _has_an_edge_inside(field):
        height, width = field.theoretical_rf
        corner = (field.position[1] - width / 2, field.position[0] - height / 2)
        label = f"theoretical field, {height:.0f} × {width:.0f} px"
        style = {"fill": False, "color": THEORY, "linewidth": 1, "linestyle": "--", "label": label}
        axes.add_patch(Rectangle(corner, width, height, **style))
    row, column = field.position
    axes.plot(column, row, "k+", markersize=6, markeredgewidth=0.8, path_effects=LIGHT_EDGE, label="unit")
    axes.set(xlim=(-0.5, impact.shape[1] - 0.5), ylim=(impact.shape[0] - 0.5, -0.5))
    axes.set_xlabel("column (pixels)", size="small")
    axes.set_ylabel("row (pixels)", size="small")
    for one in (axes, bar.ax):
        one.tick_params(labelsize="small")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, fontsize="small", frameon=False)
    return axes


def _has_an_edge_inside(field: ReceptiveField) -> bool:
    """Whether the theoretical field is finite and its rectangle does not enclose the whole map."""
    return np.isfinite(field.theoretical_rf).all() and any(
        centre - length / 2 > -0.5 or centre + length / 2 < side - 0.5
        for centre, length, side in zip(field.position, field.theoretical_rf, field.map.shape, strict=True)
    )
