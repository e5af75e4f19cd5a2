"""Op rules of operations that see a neighbourhood: max pooling, padding, slices, pixels to channels and back.

A neighbourhood has one, two or three dimensions. Each lies along one axis, or is plain: the pooling of a sound has a
second dimension of length 1.

`erf.ops.rule` says what windows are. Convolutions and interpolation, in modules of their own, build on these classes.
"""

import math
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812, everybody's name for it

from erf.graph.axes import PLAIN, Windows, axis_of, is_plain, plain, resized, window_of
from erf.graph.nodes import Operation
from erf.graph.slicing import crop
from erf.ops.rule import EVERYTHING, Everything, clipped, through
from erf.ops.shapes import along_plain, sliced_beside


class Neighbourhood(Everything):
    """The op rule of an operation on one operand that depends on the images.

    dimensions : of the operand, along which neighbours are seen
    mixes_channels : whether each result depends on all of the operand's second dimension
    """

    mixes_channels = False

    def __init__(self, operation: Operation):
        super().__init__(operation)
        self.operand = operation.image_operands[0]
        self.source = self.operand.value
        self.dimensions = range(2, len(self.source.shape))

    @property
    def usable(self) -> bool:
        """Whether each of the dimensions lies along one axis, or is plain."""
        layout = self.source.layout
        apart = all(len(layout[d]) == 1 and axis_of(layout[d]) in (0, 1, 2, PLAIN) for d in self.dimensions)
        return apart and (is_plain(layout[1]) or not self.mixes_channels)

    def layouts(self, shapes):
        return [resized(self.source.layout, shapes[0]), *map(plain, shapes[1:])]

    def window(self, operand, axis, wanted):
        if axis not in self.source.sizes:
            return EVERYTHING
        dimension = self.dimension(axis)
        return wanted if dimension is None else self.seen(dimension, wanted)

    def dimension(self, axis: int) -> int | None:
        """The dimension along which neighbours on an axis are seen; None if none are."""
        dimension = self.source.dimension(axis)
        return dimension if dimension in self.dimensions else None

    def seen(self, dimension: int, wanted: np.ndarray) -> np.ndarray:
        """First and last pixel of the operand, along one of the dimensions, on which the results `wanted` depend: both
        (2, n), the ends of n windows. They may lie beyond the plane."""
        raise NotImplementedError

    def setting(self, name: str, dimension: int) -> int | None:
        """An argument for one of the dimensions, for all of which it may have one entry; None if it is empty."""
        values = self.operation.argument(name)
        values = [values] if isinstance(values, int) else values
        return values[dimension - 2 if len(values) > 1 else 0] if values else None

    def windows(self, operand, wanted):
        if wanted == self.operation.outputs[0].whole:
            return self.source.whole
        along = {axis: self.dimension(axis) for axis in wanted}
        return {axis: wanted[axis] if d is None else self.clipped_window(d, wanted[axis]) for axis, d in along.items()}

    def clipped_window(self, dimension: int, wanted: tuple[int, int]) -> tuple[int, int]:
        """`windows` of the operand along one of the dimensions."""
        return clipped(self.seen(dimension, np.array(wanted, float)[:, None]), self.source.shape[dimension])

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

    def geometry(self, dimension: int) -> tuple[int, int, int, int]:
        """Kernel, stride, padding and dilation."""
        raise NotImplementedError

    def seen(self, dimension, wanted):
        kernel, stride, padding, dilation = self.geometry(dimension)
        if (kernel, stride, padding) == (1, 1, 0):
            return wanted
        return wanted * stride - padding + np.array([[0], [dilation * (kernel - 1)]])

    def of_crop(self, tensor, have, wanted, fetch):
        margins, layout = {}, self.operation.outputs[0].layout
        for dimension in self.dimensions:
            first, last = window_of(self.source.layout[dimension], have)
            low, high = self.seen(dimension, np.array(window_of(layout[dimension], wanted))[:, None])[:, 0]
            margins[dimension] = (first - int(low), int(high) - last)
        return self.unpadded(padded(tensor, margins, self.fill), fetch)

    def unpadded(self, tensor: torch.Tensor, fetch) -> list[torch.Tensor]:
        """The operation on an operand that has its padding already."""
        raise NotImplementedError


class MaxPool(Sliding):
    fill = -math.inf

    def geometry(self, dimension):
        names = ("kernel_size", "stride", "padding", "dilation")
        kernel, stride, padding, dilation = (self.setting(name, dimension) for name in names)
        return kernel, stride or kernel, padding, dilation

    def unpadded(self, tensor, fetch):
        kernel, stride, dilation = (self.operation.argument(name) for name in ("kernel_size", "stride", "dilation"))
        return list(self.operation.function(tensor, kernel, stride, 0, dilation))


class Padding(Sliding):
    """With a constant, of any dimensions."""

    def __init__(self, operation: Operation):
        super().__init__(operation)
        self.fill = operation.argument("value")
        pads, last = operation.argument("pad"), len(self.source.shape) - 1
        self.before = {last - i: pads[2 * i] for i in range(len(pads) // 2) if any(pads[2 * i : 2 * i + 2])}
        self.dimensions = list(self.before)

    def geometry(self, dimension):
        return 1, 1, self.before[dimension], 1

    def unpadded(self, tensor, fetch):
        return [tensor]


class Slice(Sliding):
    """x[..., start::step] along an axis."""

    def __init__(self, operation: Operation):
        super().__init__(operation)
        start, end, step = (operation.argument(name) for name in ("start", "end", "step"))
        everything = not start and step == 1 and (end is None or end == sys.maxsize)  # in traced models
        self.dimensions = [] if everything else [operation.argument("dim") % len(self.source.shape)]

    def geometry(self, dimension):
        start, step = (self.operation.argument(name) for name in ("start", "step"))
        length, start = self.source.shape[dimension], start or 0
        return 1, step, -min(max(start + (length if start < 0 else 0), 0), length), 1

    def unpadded(self, tensor, fetch):
        ahead = (slice(None),) * (self.operation.argument("dim") % tensor.dim())
        return [tensor[(*ahead, slice(None, None, self.operation.argument("step")))]]


class PixelShuffle(Neighbourhood):
    """Channels to pixels: each pixel becomes factor x factor."""

    mixes_channels = True

    def seen(self, dimension, wanted):
        return np.floor(wanted / self.operation.args[1])

    def of_crop(self, tensor, have, wanted, fetch):
        factor = self.operation.args[1]
        made = dict(wanted)
        for axis in filter(self.dimension, have):
            made[axis] = have[axis][0] * factor, (have[axis][1] + 1) * factor - 1
        (result,) = self.operation.call(lambda leaf: tensor)
        return [crop(result, self.operation.outputs[0].layout, made, wanted)]


class PixelUnshuffle(Neighbourhood):
    """Pixels to channels: factor x factor pixels become one."""

    mixes_channels = True

    def seen(self, dimension, wanted):
        factor = self.operation.args[1]
        return wanted * factor + np.array([[0], [factor - 1]])

    def of_crop(self, tensor, have, wanted, fetch):
        return self.operation.call(lambda leaf: tensor)


def on_axes(kind: Callable[[Operation], Neighbourhood]):
    """An op rule for operations whose only image operand is the first."""

    def rule(operation: Operation, shapes: list) -> Everything:
        first = operation.args[0]
        alone = len(operation.image_operands) == 1 and operation.image_operands[0] is first
        found = kind(operation) if alone and first.value.sizes else None
        return found if found is not None and found.usable else Everything(operation)

    return rule


def on_planes(kind: Callable[[Operation], Neighbourhood], count: int):
    """`on_axes`, where neighbours are seen along `count` dimensions, behind those of samples and channels."""

    def rule(operation: Operation, shapes: list) -> Everything:
        batch = len(operation.image_operands[0].value.shape) == count + 2
        return on_axes(kind)(operation, shapes) if batch else Everything(operation)

    return rule


def slicing(operation: Operation, shapes: list) -> Everything:
    for layouts in (along_plain, sliced_beside):
        rule = through(layouts)(operation, shapes)
        if type(rule) is not Everything:
            return rule
    return on_axes(Slice)(operation, shapes)


def padded(tensor: torch.Tensor, margins: dict[int, tuple[int, int]], fill: float) -> torch.Tensor:
    """Dimensions made longer at both ends, or shorter where margins are negative."""
    if not any(before or after for before, after in margins.values()):
        return tensor
    pads = [side for d in range(tensor.dim() - 1, -1, -1) for side in margins.get(d, (0, 0))]
    return F.pad(tensor, pads, value=fill)
