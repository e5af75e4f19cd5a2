"""Operations that see a neighbourhood: convolutions, pooling, padding, slices, interpolation, pixels to channels.

The conventions are those of `erf.ops.rule`, which has the others.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812, everybody's name for it

from erf.graph.axes import Windows, axis_of, is_plain, plain
from erf.graph.nodes import Operation
from erf.graph.slicing import cut
from erf.ops.rule import EVERYTHING, Everything, clipped, through
from erf.ops.shapes import along_plain


class Neighbourhood(Everything):
    """One operand depends on the images; its axes are dimensions of their own."""

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

    def window(self, operand, axis, here):
        return self.seen(axis, here) if axis in self.source.sizes else EVERYTHING

    def seen(self, axis: int, here: np.ndarray) -> np.ndarray:
        """`window` of the one operand, along an axis that it has."""
        raise NotImplementedError

    def place(self, axis: int) -> int:
        """0 for the first, 1 for the second of the two dimensions of the plane."""
        return self.source.dimension(axis) - 2

    def parts(self, operand, here):
        if here == self.operation.outputs[0].whole:
            return self.source.whole
        return {axis: self.part(axis, window) for axis, window in here.items()}

    def part(self, axis: int, here: tuple[int, int]) -> tuple[int, int]:
        """`parts` along one axis."""
        return clipped(self.seen(axis, np.array(here, float)[:, None]), self.source.sizes[axis])

    def compute(self, fetch, here):
        if here == self.operation.outputs[0].whole:
            return self.of_whole(fetch)
        part = self.parts(self.operand, here)
        return self.of_part(fetch(self.operand, part), part, here, fetch)

    def of_whole(self, fetch) -> list[torch.Tensor]:
        return self.operation.call(lambda leaf: fetch(leaf, {}))

    def of_part(self, tensor: torch.Tensor, part: Windows, here: Windows, fetch) -> list[torch.Tensor]:
        """The part `here` of the results, from the part `part` of the operand."""
        raise NotImplementedError


class Sliding(Neighbourhood):
    """Result u sees the pixels u * stride - padding + dilation * (0 ... kernel - 1), `fill` beyond the plane."""

    fill = 0.0

    def geometry(self, axis: int) -> tuple[int, int, int, int]:
        """Kernel, stride, padding and dilation."""
        names = ("kernel_size", "stride", "padding", "dilation")
        return tuple(pair(self.operation.argument(name))[self.place(axis)] for name in names)

    def seen(self, axis, here):
        kernel, stride, padding, dilation = self.geometry(axis)
        return here * stride - padding + np.array([[0], [dilation * (kernel - 1)]])

    def of_part(self, tensor, part, here, fetch):
        margins = {}
        for axis, (first, last) in part.items():
            wanted = self.seen(axis, np.array(here[axis])[:, None])[:, 0]
            if self.source.dimension(axis) is not None:
                margins[self.source.dimension(axis)] = (first - int(wanted[0]), int(wanted[1]) - last)
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
        return tuple(values[self.place(axis)] for values in (kernel, stride or kernel, padding, dilation))

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

    def seen(self, axis, here):
        return np.floor(here / self.operation.args[1])

    def of_part(self, tensor, part, here, fetch):
        factor = self.operation.args[1]
        have = {axis: (first * factor, (last + 1) * factor - 1) for axis, (first, last) in part.items()}
        (result,) = self.operation.call(lambda leaf: tensor)
        return [cut(result, self.operation.outputs[0].layout, have, here)]


class PixelUnshuffle(Neighbourhood):
    """Pixels to channels: factor x factor pixels become one."""

    def seen(self, axis, here):
        factor = self.operation.args[1]
        return here * factor + np.array([[0], [factor - 1]])

    def of_part(self, tensor, part, here, fetch):
        return self.operation.call(lambda leaf: tensor)


def on_axes(kind: Callable[[Operation], Neighbourhood]):
    """A rule for operations on one image operand, their first, with axes that are dimensions of their own."""

    def rule(operation: Operation, shapes: list) -> Everything:
        first = operation.args[0]
        alone = len(operation.image_operands) == 1 and operation.image_operands[0] is first
        usable = alone and first.value.sizes and all(first.value.dimension(a) is not None for a in first.value.sizes)
        return kind(operation) if usable else Everything(operation)

    return rule


def on_planes(kind: Callable[[Operation], Neighbourhood]):
    """The same with rows and columns for the last two of four dimensions."""

    def rule(operation: Operation, shapes: list) -> Everything:
        value = operation.image_operands[0].value
        planes = len(value.layout) == 4 and not any(is_plain(dimension) for dimension in value.layout[2:])
        return on_axes(kind)(operation, shapes) if planes else Everything(operation)

    return rule


def slicing(operation: Operation, shapes: list) -> Everything:
    rule = through(along_plain)(operation, shapes)
    return rule if type(rule) is not Everything else on_axes(Slice)(operation, shapes)


def pair(values: int | list[int]) -> list[int]:
    """One number for both dimensions, or one for each; none, for a stride that is the kernel."""
    values = [values] if isinstance(values, int) else list(values)
    return values * 2 if len(values) == 1 else values


def padded(tensor: torch.Tensor, margins: dict[int, tuple[int, int]], fill: float) -> torch.Tensor:
    """Dimensions made longer at both ends, or shorter where margins are negative."""
    if not any(before or after for before, after in margins.values()):
        return tensor
    pads = [side for d in range(tensor.dim() - 1, -1, -1) for side in margins.get(d, (0, 0))]
    return F.pad(tensor, pads, value=fill)
