"""Op rules of operations that see a neighbourhood: max pooling, padding, slices, pixels to channels and back.

`erf.ops.rule` says what windows are. Convolutions and interpolation, in modules of their own, build on these classes.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812, everybody's name for it

from erf.graph.axes import Windows, axis_of, is_plain, plain
from erf.graph.nodes import Operation
from erf.graph.slicing import crop
from erf.ops.rule import EVERYTHING, Everything, clipped, through
from erf.ops.shapes import along_plain


class Neighbourhood(Everything):
    """The op rule of an operation on one operand that depends on the images; each axis is a dimension of its own."""

    def __init__(self, operation: Operation):
        super().__init__(operation)
        self.operand = operation.image_operands[0]
        self.source = self.operand.value

    def layouts(self, shapes):
        first = tuple(
            ((axis_of(dimension), length),) if len(dimension) == 1 else dimension
            for dimension, length in zip(self.source.layout, shapes[0], strict=True)
        )
        return [first, *map(plain, shapes[1:])]

    def window(self, operand, axis, wanted):
        return self.seen(axis, wanted) if axis in self.source.sizes else EVERYTHING

    def seen(self, axis: int, wanted: np.ndarray) -> np.ndarray:
        """First and last pixel of the operand, along an axis that it has, on which the results `wanted` depend: both
        (2, n), the ends of n windows. They may lie beyond the plane."""
        raise NotImplementedError

    def spatial_index(self, axis: int) -> int:
        """0 for the first, 1 for the second of the two dimensions of the plane."""
        return self.source.dimension(axis) - 2

    def windows(self, operand, wanted):
        if wanted == self.operation.outputs[0].whole:
            return self.source.whole
        return {axis: self.clipped_window(axis, window) for axis, window in wanted.items()}

    def clipped_window(self, axis: int, wanted: tuple[int, int]) -> tuple[int, int]:
        """`windows` of the operand along one axis."""
        return clipped(self.seen(axis, np.array(wanted, float)[:, None]), self.source.sizes[axis])

    def compute(self, fetch, wanted):
        if wanted == self.operation.outputs[0].whole:
            return self.of_whole(fetch)
        have = self.windows(self.operand, wanted)
        return self.of_crop(fetch(self.operand, have), have, wanted, fetch)

    def of_whole(self, fetch) -> list[torch.Tensor]:
        return self.operation.call(lambda leaf: fetch(leaf, {}))

    def of_crop(self, tensor: torch.Tensor, have: Windows, wanted: Windows, fetch) -> list[torch.Tensor]:
        """The results, cropped to the windows `wanted`, from the operand, cropped to the windows `have`."""
        raise NotImplementedError


class Sliding(Neighbourhood):
    """Result u sees the pixels u * stride - padding + dilation * (0 ... kernel - 1), `fill` beyond the plane."""

    fill = 0.0

    def geometry(self, axis: int) -> tuple[int, int, int, int]:
        """Kernel, stride, padding and dilation."""
        names = ("kernel_size", "stride", "padding", "dilation")
        return tuple(pair(self.operation.argument(name))[self.spatial_index(axis)] for name in names)

    def seen(self, axis, wanted):
        kernel, stride, padding, dilation = self.geometry(axis)
        return wanted * stride - padding + np.array([[0], [dilation * (kernel - 1)]])

    def of_crop(self, tensor, have, wanted, fetch):
        margins = {}
        for axis, (first, last) in have.items():
            low, high = self.seen(axis, np.array(wanted[axis])[:, None])[:, 0]
            if self.source.dimension(axis) is not None:
                margins[self.source.dimension(axis)] = (first - int(low), int(high) - last)
        return self.unpadded(padded(tensor, margins, self.fill), fetch)

    def unpadded(self, tensor: torch.Tensor, fetch) -> list[torch.Tensor]:
        """The operation on an operand that has its padding already."""
        raise NotImplementedError


class MaxPool(Sliding):
    fill = -math.inf

    def geometry(self, axis):
        kernel, stride, padding, dilation = (
            pair(self.operation.argument(name)) for name in ("kernel_size", "stride", "padding", "dilation")
        )
        return tuple(values[self.spatial_index(axis)] for values in (kernel, stride or kernel, padding, dilation))

    def unpadded(self, tensor, fetch):
        kernel, stride, dilation = (self.operation.argument(name) for name in ("kernel_size", "stride", "dilation"))
        return list(self.operation.function(tensor, kernel, stride, 0, dilation))


class Padding(Sliding):
    """With a constant, of any dimensions."""

    def __init__(self, operation: Operation):
        super().__init__(operation)
        self.fill = operation.argument("value")
        pads, last = operation.argument("pad"), len(self.source.shape) - 1
        self.margins = {last - i: (pads[2 * i], pads[2 * i + 1]) for i in range(len(pads) // 2)}

    def geometry(self, axis):
        return 1, 1, self.margins.get(self.source.dimension(axis), (0, 0))[0], 1

    def unpadded(self, tensor, fetch):
        return [padded(tensor, {d: m for d, m in self.margins.items() if is_plain(self.source.layout[d])}, self.fill)]


class Slice(Sliding):
    """x[..., start::step] along an axis."""

    def geometry(self, axis):
        dimension, start, step = (self.operation.argument(name) for name in ("dim", "start", "step"))
        if self.source.dimension(axis) != dimension % len(self.source.shape):
            return 1, 1, 0, 1
        length, start = self.source.sizes[axis], start or 0
        return 1, step, -min(max(start + (length if start < 0 else 0), 0), length), 1

    def unpadded(self, tensor, fetch):
        dimension, step = self.operation.argument("dim") % tensor.dim(), self.operation.argument("step")
        return [tensor[(slice(None),) * dimension + (slice(None, None, step),)]]


class PixelShuffle(Neighbourhood):
    """Channels to pixels: each pixel becomes factor x factor."""

    def seen(self, axis, wanted):
        return np.floor(wanted / self.operation.args[1])

    def of_crop(self, tensor, have, wanted, fetch):
        factor = self.operation.args[1]
        made = {axis: (first * factor, (last + 1) * factor - 1) for axis, (first, last) in have.items()}
        (result,) = self.operation.call(lambda leaf: tensor)
        return [crop(result, self.operation.outputs[0].layout, made, wanted)]


class PixelUnshuffle(Neighbourhood):
    """Pixels to channels: factor x factor pixels become one."""

    def seen(self, axis, wanted):
        factor = self.operation.args[1]
        return wanted * factor + np.array([[0], [factor - 1]])

    def of_crop(self, tensor, have, wanted, fetch):
        return self.operation.call(lambda leaf: tensor)


def on_axes(kind: Callable[[Operation], Neighbourhood]):
    """An op rule for operations whose only image operand is the first, each of its axes a dimension of its own."""

    def rule(operation: Operation, shapes: list) -> Everything:
        first = operation.args[0]
        alone = len(operation.image_operands) == 1 and operation.image_operands[0] is first
        usable = alone and first.value.sizes and all(first.value.dimension(a) is not None for a in first.value.sizes)
        return kind(operation) if usable else Everything(operation)

    return rule


def on_planes(kind: Callable[[Operation], Neighbourhood]):
    """`on_axes`, where rows and columns are the last two of four dimensions."""

    def rule(operation: Operation, shapes: list) -> Everything:
        value = operation.image_operands[0].value
        planes = len(value.layout) == 4 and not any(is_plain(dimension) for dimension in value.layout[2:])
        return on_axes(kind)(operation, shapes) if planes else Everything(operation)

    return rule


def slicing(operation: Operation, shapes: list) -> Everything:
    rule = through(along_plain)(operation, shapes)
    return rule if type(rule) is not Everything else on_axes(Slice)(operation, shapes)


def pair(values: int | list[int]) -> list[int]:
    """One number for each of the two dimensions; [] stays [], which for a stride means the kernel."""
    values = [values] if isinstance(values, int) else list(values)
    return values * 2 if len(values) == 1 else values


def padded(tensor: torch.Tensor, margins: dict[int, tuple[int, int]], fill: float) -> torch.Tensor:
    """Dimensions made longer at both ends, or shorter where margins are negative."""
    if not any(before or after for before, after in margins.values()):
        return tensor
    pads = [side for d in range(tensor.dim() - 1, -1, -1) for side in margins.get(d, (0, 0))]
    return F.pad(tensor, pads, value=fill)
