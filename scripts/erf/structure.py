"""The theoretical receptive field: which pixels the units of a layer can see at all, whatever the weights are."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from erf.cone import all_windows
from erf.errors import InputError
from erf.graph import Graph
from erf.layers import NoPlane, Plane, evaluating, last_layer, layer_output, plane_of
from erf.trace import Untraceable, trace


@dataclass(frozen=True)
class TheoreticalRF:
    """What the units of a layer can see. Pairs are (rows, columns), in pixels.

    size : height and width of the field, not clipped by the image; infinite where all of it is seen, or where it is not
        known what is seen. The largest, where it depends on the unit, as it does behind interpolation.
    stride : from one unit to the next
    offset : the middle of unit (0, 0)'s field; that of unit u is offset + stride * u, behind interpolation about so
    sees_all : what makes it infinite, if anything does
    """

    size: tuple[float, float]
    stride: tuple[float, float]
    offset: tuple[float, float]
    sees_all: str | None = None


@dataclass(frozen=True)
class Geometry:
    """Where the units of a plane look: windows (2, 2 * units) along rows and along columns (`erf.cone.all_windows`)."""

    plane: Plane
    image: tuple[int, int]
    windows: tuple[np.ndarray, np.ndarray]
    sees_all: str | None = None

    def field(self, unit: tuple[int, int]) -> tuple[tuple[float, float], tuple[float, float]]:
        """Middle (row, column) and size (height, width) of one unit's theoretical field, in pixels.

        A unit that sees everything has no place by its structure; it is put in the middle of its cell in an even
        division of the image.
        """
        position, size = [], []
        for axis, index in enumerate(unit):
            first, last = self.windows[axis][:, index]
            if first > last:
                raise InputError(f"unit {unit} does not depend on the input: choose another")
            cell = self.image[axis] / (self.plane.rows, self.plane.columns)[axis]
            position.append((index + 0.5) * cell - 0.5 if math.isinf(last - first) else (first + last) / 2)
            size.append(last - first + 1)
        return tuple(map(float, position)), tuple(map(float, size))

    def summary(self) -> TheoreticalRF:
        sizes, strides, offsets = [], [], []
        for axis, count in enumerate((self.plane.rows, self.plane.columns)):
            first, last = self.windows[axis][:, : 2 * count]
            sizes.append(float((last - first)[:count].max() + 1))
            if math.isinf(sizes[-1]):
                strides.append(self.image[axis] / count)
                offsets.append((strides[-1] - 1) / 2)
                continue
            middle = (first + last) / 2
            strides.append(float((middle[count:] - middle[:count]).mean() / count))
            offsets.append(float((middle[:count] - strides[-1] * np.arange(count)).mean()))
        return TheoreticalRF(tuple(sizes), tuple(strides), tuple(offsets), self.sees_all)


def geometry(graph: Graph | None, reason: str, plane: Plane, image: tuple[int, int]) -> Geometry:
    """From the graph; without one, for the `reason` given, all units see everything."""
    if graph is None:
        everything = [np.array([[-math.inf], [math.inf]]).repeat(2 * n, 1) for n in (plane.rows, plane.columns)]
        return Geometry(plane, image, tuple(everything), reason)
    rows, columns, culprit = all_windows(graph)
    windows = [
        w if w.shape[1] == 2 * n else w[:, :1].repeat(2 * n, 1)
        for w, n in zip((rows, columns), (plane.rows, plane.columns), strict=True)
    ]
    return Geometry(plane, image, tuple(windows), culprit)


def traced(
    model: nn.Module, images: torch.Tensor, layer: str | None, layout: str | tuple[int, int] | None = None
) -> tuple[Graph | None, Geometry]:
    """The graph of a layer's output for images (N, C, H, W), of which the shape counts, and where its units look.

    None in place of a graph that cannot be known. For a model in evaluation mode.
    """
    graph, reason, image = None, "", tuple(images.shape[2:])
    try:
        try:
            graph = trace(lambda source: layer_output(model, source, layer), model, images)
            shape, known = graph.output.shape, graph.output.layout
        except Untraceable as untraceable:
            reason = str(untraceable)
            with torch.no_grad():
                shape, known = tuple(layer_output(model, images[:1], layer).shape), None
        plane = plane_of(shape, image, known, layout, layer)
    except NoPlane as error:
        raise NoPlane(f"{error}{_such_as(model, tuple(images.shape[1:]))}") from None
    return graph, geometry(graph, reason, plane, image)


def constant_sum(graph: Graph) -> str | None:
    """The layer norm, in words, that makes the sum over the output's channels a constant, without a gradient.

    It does if it has no weights, or equal ones, as it has at first. None if there is none.
    """
    operation = graph.output.made_by
    while operation is not None and operation.name in ("clone", "view", "permute", "transpose", "detach"):
        operation = operation.image_operands[0].value.made_by
    if operation is None or operation.name != "native_layer_norm":
        return None
    weight = operation.argument("weight")
    equal = weight is None or (isinstance(weight, torch.Tensor) and weight.detach().unique().numel() == 1)
    return str(operation) if equal else None


def _such_as(model: nn.Module, input_shape: tuple[int, int, int]) -> str:
    try:
        return f", such as {last_layer(model, input_shape)!r}"
    except InputError:
        return ""


def theoretical_rf(model: nn.Module, layer: str | None = None, *, input_shape: tuple[int, int, int]) -> TheoreticalRF:
    """Theoretical receptive field of the units of `layer` (the model's own output if None).

    input_shape is (C, H, W) of an image that the model accepts. Raises InputError for a layer that is unknown, unused
    or has no units in a plane, and for images that the model does not accept.
    """
    if len(input_shape) != 3:
        raise InputError(f"input_shape must be (channels, height, width), not {tuple(input_shape)}")
    parameter = next(model.parameters(), torch.empty(0))
    images = torch.zeros(1, *input_shape, dtype=parameter.dtype, device=parameter.device)
    with evaluating(model):
        return traced(model, images, layer)[1].summary()
