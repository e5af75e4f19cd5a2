"""What the report's explorer needs beside its formulas: limits, colours, and the measured maps."""

import base64

import numpy as np
from matplotlib import colormaps

from erf.result.field import ReceptiveField
from erf.size import THRESHOLD, centre_impact
from replication.drawing.labels import counted
from replication.drawing.plots import MAP_COLOURS
from replication.stacks.predictions import predicted_fit, series_name
from replication.stacks.structures import special_layers

LIMITS = {"depth": 40, "kernels": [3, 5, 7, 9, 11], "stride": 4, "dilation": 4}  # of its controls
LARGEST = 1200  # pixels of a side that it draws


def measured_map(field: ReceptiveField) -> dict:
    """A measured map for the explorer: the settings by which it is found, its pixels and its numbers."""
    settings, fit, impact = field.settings, field.fit_gaussian(), np.abs(field.map)
    scale = 65535 / impact.max()
    runs = settings["runs"] - field.dead
    channels = counted(settings["width"], "channel")
    unit = [] if settings["reading"] == "before" else ["unit after its activation"]
    alive = counted(runs, "run") + (f" ({field.dead} more were dead)" if field.dead else "")
    return {
        **{name: settings[name] for name in ("depth", "kernel", "weights", "structure")},
        "special": list(special_layers(settings)),
        "label": ", ".join([series_name(settings), channels, *unit, alive]),
        "height": impact.shape[0],
        "width": impact.shape[1],
        "values": base64.b64encode((impact * scale).round().astype("<u2").tobytes()).decode(),
        "peak": scale * (fit.peak if np.isfinite(fit.peak) else impact.max()),
        "level": scale * THRESHOLD * float(centre_impact(impact, field.position)),
        "size": f"{field.size:.1f}",
        "sigma": f"{np.mean(fit.sigma):.2f}",
        "theory": f"{np.mean(predicted_fit(settings).sigma):.2f}",
        "ratio": f"{field.ratio:.3f}",
    }


def explorer_data(fields: list[ReceptiveField]) -> dict:
    """What the explorer needs beside its formulas."""
    even = [field for field in fields if not field.settings["centre_light"] and not field.settings.get("taps")]
    shown = [field for field in even if field.dead < field.settings["runs"]]
    shown = [field for field in shown if field.settings["depth"] <= LIMITS["depth"]]
    shown.sort(key=lambda field: (-field.settings["width"], -field.settings["runs"]))
    colours = (colormaps[MAP_COLOURS](np.arange(256), bytes=True)[:, :3]).tolist()
    return {"threshold": THRESHOLD, "largest": LARGEST, "colours": colours, "measured": list(map(measured_map, shown))}
