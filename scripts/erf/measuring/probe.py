"""Gradients of one unit: which units, which channels, and how a batch is measured."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from erf.errors import InputError, is_out_of_memory
from erf.graph.torch_private import has_backward_hooks, has_data
from erf.measuring.layer import layer_output
from erf.measuring.plane import described
from erf.measuring.theoretical import traced
from erf.system.seeds import seed_for
from erf.tracing.cone import Cone
from erf.tracing.isolation import KEPT

AT_ONCE = {"cpu": 2**27, "gpu": 2**30}  # bytes of activations for which a batch is chosen


LARGEST_BATCH = 64


WORTHWHILE = 0.87  # of the arithmetic for the whole image: the cone is computed apart if it takes a smaller share


Pair = tuple[int, int]


@dataclass(frozen=True)
class Unit:
    """One measured unit: its index (row, column) in the layer, where it looks, and which window was computed.

    image : height and width of what the model was given
    window : first and last row, first and last column of the crop of the image that was computed on
    sees_all : the operation that sees the whole image, or that is unknown; None if there is none
    """

    index: Pair
    position: tuple[float, float]
    theoretical_rf: tuple[float, float]
    image: Pair
    window: tuple[Pair, Pair]
    sees_all: str | None

    @property
    def slices(self) -> tuple[slice, slice]:
        """Of rows and columns: the window."""
        return tuple(slice(first, last + 1) for first, last in self.window)


class Channels:
    """The channels whose values are differentiated: the argument `channels` of `measure`."""

    def __init__(self, choice: str | int, rng: np.random.Generator | None):
        self.choice = choice
        self.rng = rng or np.random.default_rng(seed_for(0, "channels"))
        self.drawn: list[int] = []

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """The scalar to differentiate, for values (n, K). Samples are independent in evaluation mode, so that one sum
        serves the whole batch."""
        samples, count = values.shape
        if self.choice == "sum":
            return values.sum()
        if self.choice == "each":
            while len(self.drawn) < samples:  # all of them before any comes again
                self.drawn += self.rng.permutation(count).tolist()
            chosen, self.drawn = self.drawn[:samples], self.drawn[samples:]
            return values[range(samples), chosen].sum()
        if isinstance(self.choice, int | np.integer) and not isinstance(self.choice, bool) and 0 <= self.choice < count:
            return values[:, self.choice].sum()
        raise InputError(f"unknown channels {self.choice!r}: 'sum', 'each' or a number from 0 to {count - 1}")


class Probe:
    """Gradients of units of a layer with respect to batches of images of one shape, in evaluation mode."""

    def __init__(self, model: nn.Module, images: torch.Tensor, layer: str | None, layout, crop: bool):
        self.model, self.layer = model, layer
        self.graph, self.fields = traced(model, images, layer, layout)
        self.plane = self.fields.plane
        # A backward hook is seen by the model alone.
        usable = crop and self.graph is not None and self.graph.repeatable and not has_backward_hooks(model)
        self.mixes_samples = self.graph is not None and self.graph.mixes_samples
        self.croppable = self.graph if usable else None
        self.sum_checked = False
        self.cones: dict[Pair, Cone | None] = {}

    def cone(self, index: Pair) -> Cone | None:
        """The cone of a unit; None if the whole image costs little more."""
        if self.croppable is None:
            return None
        if index not in self.cones:
            axes = self.croppable.output.sizes
            cone = Cone(self.croppable, {axis: (index[axis],) * 2 for axis in axes})
            self.cones[index] = cone if cone.share < WORTHWHILE else None
        return self.cones[index]

    def unit(self, unit: str | Pair) -> Unit:
        index = self.plane.chosen(unit)
        cone = self.cone(index)
        window = tuple((0, side - 1) for side in self.fields.image) if cone is None else cone.window
        return Unit(index, *self.fields.field(index), self.fields.image, window, self.fields.sees_all)

    def batch_size(self, units: list) -> int:
        """Images at once whose activations stay within AT_ONCE; the probe is one for a single image."""
        if self.graph is None:
            return 1
        cones = [self.cone(self.plane.chosen(unit)) for unit in units]
        elements = max(self.graph.elements if cone is None else cone.elements for cone in cones)
        limit = AT_ONCE["cpu" if self.graph.images.device.type == "cpu" else "gpu"]
        return int(np.clip(limit // (1 + elements * self.graph.images.dtype.itemsize), 1, LARGEST_BATCH))

    def gradient(self, images: torch.Tensor, unit: str | Pair, channels: "Channels") -> torch.Tensor:
        """(n, C, h, w) in the unit's window, of images (n, C, H, W) on the model's device."""
        values, source = self.values(images, unit)
        if not has_data(values):
            raise InputError(KEPT)
        gradient = _backwards(channels.of(values), source) if values.requires_grad else None
        if gradient is None:
            raise InputError("the unit does not depend on the input by any gradient: choose another layer")
        if not (gradient.isfinite().all() and values.isfinite().all()):
            raise InputError(describe_not_finite(self.model, images, self.layer))
        if channels.choice == "sum" and not self.sum_checked:
            self.sum_checked = True
            self.check_sum(gradient, values, images, unit)
        return gradient

    def values(self, images: torch.Tensor, unit: str | Pair) -> tuple[torch.Tensor, torch.Tensor]:
        """The unit's values (n, K), and the images, cropped to the window on which they depend."""
        index = self.plane.chosen(unit)
        cone = self.cone(index)
        # A copy: the caller's images keep their own graph and get no gradient.
        source = images[:, :, *self.unit(unit).slices].detach().clone().requires_grad_()
        if cone is None:
            output = layer_output(self.model, source.clone(), self.layer)  # the first operation may be in place
            return self.plane.values(output, index), source
        try:
            output = cone.run(source)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            warnings.warn(f"measured on the whole image, since a crop of it failed: {error}", stacklevel=2)
            self.croppable = None
            return self.values(images, unit)
        index, plane = self.plane.cropped(index, cone.graph.output.sizes)
        return plane.values(output, index), source

    def check_sum(self, gradient: torch.Tensor, values: torch.Tensor, images: torch.Tensor, unit: str | Pair) -> None:
        """InputError if the channels' sum has no gradient but rounding, though the channels have."""
        largest = gradient.abs().max()
        if largest * images.abs().max() > 1e-3 * values.abs().max():
            return
        values, source = self.values(images, unit)
        signs = torch.arange(values.shape[1], device=values.device) % 2 * 2 - 1
        other = _backwards((values * signs).sum(), source).abs().max()
        if other > 0 and largest <= 1000 * torch.finfo(values.dtype).eps * other:
            words = "the sum over channels is constant, as it is behind a layer norm or a softmax"
            raise InputError(f"{words}: take channels='each', or one by its number")


def _backwards(value: torch.Tensor, source: torch.Tensor) -> torch.Tensor | None:
    try:
        return torch.autograd.grad(value, source, allow_unused=True)[0]
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise InputError(f"the model has no gradient: {str(error).splitlines()[0]}") from error


def describe_not_finite(model: nn.Module, source: torch.Tensor, layer: str | None) -> str:
    """Say where a value that is not finite first appears on the way to the layer."""
    culprits: list[str] = []

    def check(name):
        def hook(module, inputs, output):
            if isinstance(output, torch.Tensor) and not output.isfinite().all():
                culprits.append(name)

        return hook

    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(check(name)) for name, module in leaves]
    try:
        with torch.no_grad():
            output = layer_output(model, source, layer)
    finally:
        for handle in handles:
            handle.remove()
    if culprits:
        return f"layer {culprits[0]!r} gives values that are not finite: check its weights, or measure model.double()"
    if not output.isfinite().all():
        return f"{described(layer)} gives values that are not finite, though its layers do not: measure model.double()"
    return "the gradient is not finite on the way back: measure model.double(), or another layer"
