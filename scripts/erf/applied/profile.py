"""The receptive fields of all layers of a model, as a table and a figure."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from erf.applied.layers import measurable_layers
from erf.errors import InputError
from erf.measuring.layer import Adapted
from erf.measuring.measure import measure
from erf.result.field import ReceptiveField

__all__ = ["Profile", "profile"]


@dataclass(frozen=True, repr=False)
class Profile:
    """Receptive fields of a model's layers, in the order in which the model finishes them.

    fields : by the layers' names, of each layer's middle unit
    kinds : the layers' classes, by name
    image : (height, width) of the images, in pixels
    """

    fields: dict[str, ReceptiveField]
    kinds: dict[str, str]
    image: tuple[int, ...]

    def __repr__(self) -> str:
        """A line a layer: its name, ERF size and theoretical field, and whether it adds nothing."""
        width, unit = max(map(len, self.fields)), next(iter(self.fields.values())).lengths_in
        return "\n".join(
            f"{row['layer']:{width}}  ERF size {row['size']:7.1f} {unit}  theoretical {row['theoretical']:7.1f} {unit}"
            + ("  adds nothing" if row["adds_nothing"] else "")
            for row in self.rows()
        )

    def rows(self) -> list[dict]:
        """One row a layer: sizes and theoretical fields (sides, pixels), and whether the layer adds nothing.

        A layer adds nothing if the theoretical field of the layer before it already holds the whole image: its kernels
        then see borders, and no pixels that were not seen before (Richter et al., "Should You Go Deeper?", 2021).
        """
        found, seen = [], 0.0
        for name, field in self.fields.items():
            theoretical = float(np.prod(field.theoretical_rf) ** (1 / field.map.ndim))
            row = {"layer": name, "kind": self.kinds[name], "size": field.size, "diameter": field.diameter}
            row |= {"sigma": float(np.prod(field.sigma) ** (1 / field.map.ndim)), "theoretical": theoretical}
            row |= {"ratio": field.ratio, "sees_all": field.settings["sees_all"]}
            found.append(row | {"adds_nothing": seen >= float(np.prod(self.image) ** (1 / len(self.image)))})
            seen = max(seen, theoretical)
        return found

    def table(self):
        """`rows` as a pandas.DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def plot(self, axes=None):
        """Draw ERF sizes and theoretical fields by layer; layers that add nothing are shaded.

        axes : matplotlib Axes to draw on; a new figure if None

        Returns the Axes.
        """
        from matplotlib import pyplot as plt

        rows = self.rows()
        if axes is None:
            _, axes = plt.subplots(figsize=(3.4 + 0.1 * len(rows), 3), layout="constrained")
        places, side = np.arange(len(rows)), float(np.prod(self.image) ** (1 / len(self.image)))
        theoretical = np.array([row["theoretical"] for row in rows])
        axes.plot(places, theoretical, "s", color="0.6", markersize=4, label="theoretical field")
        axes.plot(places, [row["size"] for row in rows], "o", color="C0", markersize=4, label="ERF size")
        axes.axhline(side, color="0.4", linewidth=0.8, linestyle="--", label="image")
        for place in (shaded := [place for place in places if rows[place]["adds_nothing"]]):
            label = "adds nothing" if place == shaded[0] else None
            axes.axvspan(place - 0.5, place + 0.5, color="C3", alpha=0.15, linewidth=0, label=label)
        axes.set(ylabel="side (pixels)", yscale="log", xlim=(-0.5, len(rows) - 0.5))
        axes.set_xticks(places, [row["layer"] for row in rows], rotation=90, fontsize=6)
        axes.legend(fontsize=7)
        return axes


def profile(model: nn.Module, images: torch.Tensor, layers: list[str] | None = None, **options) -> Profile:
    """The receptive field of each layer's middle unit; all layers share one pass of the model for each image.

    Parameters
    ----------
    model : a torch.nn.Module, which is left as it was
    images : (N, C, H, W), floats
    layers : names of submodules; all without submodules of their own that can be measured, if None, but for layer norms
        where channels are summed
    options : as for `erf.measure`

    Returns
    -------
    Profile, with `table()`, `rows()`, `plot()` and the `fields` themselves.

    Raises
    ------
    InputError : as `erf.measure`; no layer that can be measured.

    Examples
    --------
    >>> import erf, torch
    >>> model = torch.nn.Sequential(*[torch.nn.Conv2d(1, 1, 3, padding=1) for _ in range(3)])
    >>> for layer in model:
    ...     weight = torch.nn.init.constant_(layer.weight, 1 / 9)
    >>> found = erf.profile(model, torch.randn(2, 1, 24, 24))
    >>> [(row["layer"], row["theoretical"], round(row["size"], 1)) for row in found.rows()]
    [('0', 3.0, 3.0), ('1', 5.0, 4.9), ('2', 7.0, 6.4)]
    """
    model = Adapted.of(model, options.pop("inputs", None), options.pop("output", None))
    kinds = {name: type(module).__name__ for name, module in model.named_modules()}
    if layers is None:
        # A layer norm's channels have a constant sum, which has no gradient to speak of.
        sums = options.get("channels", "sum") == "sum"
        alone = {
            name
            for name, module in model.named_modules()
            if not any(module.children()) and not (sums and isinstance(module, nn.LayerNorm))
        }
        layers = [one.name for one in measurable_layers(model, tuple(images.shape[1:])) if one.name in alone]
    if not layers:
        raise InputError("no layer of the model has units in a plane: give layers=[...]")
    fields = measure(model, images, list(layers), **options)
    return Profile(dict(zip(layers, fields, strict=True)), kinds, tuple(images.shape[2:]))
