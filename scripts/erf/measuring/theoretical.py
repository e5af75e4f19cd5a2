"""The theoretical receptive field: which pixels the units of a layer can see at all, whatever the weights are."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from erf.errors import InputError
from erf.graph.axes import AXES
from erf.graph.nodes import Graph
from erf.measuring.layer import device_and_dtype, evaluating, last_layer, layer_output
from erf.measuring.plane import NoPlane, Plane, plane_of
from erf.ops.rule import EVERYTHING
from erf.tracing.isolation import Untraceable
from erf.tracing.trace import trace
from erf.tracing.windows import windows_of


@dataclass(frozen=True)
class TheoreticalRF:
    """Theoretical receptive field of a layer's units. Pairs are (rows, columns), in pixels of the input.

    size : height and width, not clipped by the image. It is infinite if the units see the whole image, or if an
        operation is unknown. If it differs between units, as behind interpolation, it is the largest.
    stride : distance between the fields of neighbouring units
    offset : middle of the field of unit (0, 0). The middle for unit u is offset + stride * u; behind interpolation that
        is an approximation. If some paths see everything, stride and offset belong to the other, local paths; if all
        do, to an even division of the image.
    sees_all : the operation that makes the size infinite; None if it is finite
    """

    size: tuple[float, float]
    stride: tuple[float, float]
    offset: tuple[float, float]
    sees_all: str | None = None


@dataclass(frozen=True)
class UnitFields:
    """The theoretical receptive fields of all units of a plane.

    windows : along rows and along columns, (2, 2 * units): the pixels that each unit sees, as
        `erf.tracing.windows.windows_of` gives them
    local_windows : the pixels that it sees by local paths alone, (2, 2 * units); the unit looks at their middle. Where
        all paths see everything, both ends are the middle of the unit's cell when the image is divided evenly
    """

    plane: Plane
    image: tuple[int, int]
    windows: tuple[np.ndarray, np.ndarray]
    local_windows: tuple[np.ndarray, np.ndarray]
    sees_all: str | None = None

    def field(self, unit: tuple[int, int]) -> tuple[tuple[float, float], tuple[float, float]]:
        """Middle (row, column) and size (height, width) of one unit's theoretical field, in pixels."""
        position, size = [], []
        for axis, index in enumerate(unit):
            first, last = self.windows[axis][:, index]
            if first > last:
                raise InputError(f"unit {unit} does not depend on the input: choose another")
            position.append(self.local_windows[axis][:, index].mean())
            size.append(last - first + 1)
        return tuple(map(float, position)), tuple(map(float, size))

    def summary(self) -> TheoreticalRF:
        sizes, strides, offsets = [], [], []
        for axis, count in enumerate((self.plane.rows, self.plane.columns)):
            first, last = self.windows[axis][:, :count]
            sizes.append(float((last - first).max() + 1))
            middle = self.local_windows[axis].mean(0)
            strides.append(float((middle[count:] - middle[:count]).mean() / count))
            offsets.append(float((middle[:count] - strides[-1] * np.arange(count)).mean()))
        return TheoreticalRF(tuple(sizes), tuple(strides), tuple(offsets), self.sees_all)


def unit_fields(graph: Graph | None, reason: str, plane: Plane, image: tuple[int, int]) -> UnitFields:
    """The fields of a plane's units in an image (height, width). Without a graph all units see everything: `reason`."""
    windows, local_windows, culprits = [], [], [reason] if graph is None else []
    for axis, count, side in zip(AXES, (plane.rows, plane.columns), image, strict=True):
        found, local = EVERYTHING, None
        if graph is not None:
            found, culprit = windows_of(graph, axis)
            local, _ = windows_of(graph, axis, local=True)
            culprits += [culprit] if culprit else []
        if found is None:
            raise InputError("the unit does not depend on the input by any gradient: choose another layer")
        middle = (np.arange(2 * count) + 0.5) * (side / count) - 0.5
        usable = local is not None and local.shape[1] == 2 * count
        windows.append(np.broadcast_to(found, (2, 2 * count)))
        local_windows.append(np.where(local[0] <= local[1], local, middle) if usable else np.stack([middle, middle]))
    return UnitFields(plane, image, tuple(windows), tuple(local_windows), culprits[0] if culprits else None)


def traced(
    model: nn.Module, images: torch.Tensor, layer: str | None, layout: str | tuple[int, int] | None = None
) -> tuple[Graph | None, UnitFields]:
    """The graph of a layer's output for images (N, C, H, W), and the theoretical receptive fields of its units.

    Only the shape of the images counts. The graph is None for a model that cannot be traced. The model must be in
    evaluation mode.
    """
    graph, reason, image = None, "", tuple(images.shape[2:])
    try:
        try:
            graph = trace(lambda source: layer_output(model, source, layer), model, images)
            shape, known, samples = graph.output.shape, graph.output.layout, len(images)
        except Untraceable as untraceable:
            reason = str(untraceable)
            source = images[:1].clone().requires_grad_()
            shape, known, samples = tuple(layer_output(model, source.clone(), layer).shape), None, 1
        plane = plane_of(shape, samples, image, known, layout, layer)
    except NoPlane as error:
        raise NoPlane(f"{error}{_such_as(model, tuple(images.shape[1:]))}") from None
    return graph, unit_fields(graph, reason, plane, image)


def _such_as(model: nn.Module, input_shape: tuple[int, int, int]) -> str:
    try:
        return f", such as {last_layer(model, input_shape)!r}"
    except InputError:
        return ""


def theoretical_rf(model: nn.Module, layer: str | None = None, *, input_shape: tuple[int, int, int]) -> TheoreticalRF:
    """Theoretical receptive field of the units of a layer: all pixels that can matter to them, whatever the weights.

    The field follows from the kernels, strides, paddings and dilations of the operations that the model performs. No
    image is computed.

    Parameters
    ----------
    model : a torch.nn.Module, which is left as it was
    layer : name of the submodule, as in `model.named_modules()`; None for the model's own output
    input_shape : (C, H, W) of an image that the model accepts

    Returns
    -------
    TheoreticalRF: size, stride and offset along (rows, columns), in pixels of the input.

    Raises
    ------
    InputError : a layer that does not exist, is not used, or has no units in a plane; an image that the model refuses.

    Examples
    --------
    The first layers of a ResNet:

    >>> import erf, torch
    >>> stem = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 7, stride=2, padding=3), torch.nn.MaxPool2d(3, 2, padding=1))
    >>> erf.theoretical_rf(stem, input_shape=(3, 224, 224))
    TheoreticalRF(size=(11.0, 11.0), stride=(4.0, 4.0), offset=(0.0, 0.0), sees_all=None)
    """
    if not isinstance(input_shape, tuple | list | torch.Size) or len(input_shape) != 3:
        raise InputError(f"input_shape must be (channels, height, width), not {input_shape}")
    images = torch.zeros(1, *input_shape, **device_and_dtype(model))
    with evaluating(model):
        return traced(model, images, layer)[1].summary()
