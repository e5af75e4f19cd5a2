"""Operations that see a neighbourhood: convolutions, pooling, padding, slices, interpolation, pixels to channels.

The conventions are those of `erf.rules`, which has the others.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812, everybody's name for it

from erf.convolutions import convolved
from erf.graph import Operand, Operation
from erf.layouts import Windows, axis_of, cut, fastest_format, is_plain, plain
from erf.rules import EVERYTHING, Everything, along_plain, clipped, through

ROUNDING = 1e-9  # of positions between pixels


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


class Convolution(Sliding):
    """With what `erf.fusion` has put into the same step: its result is added to, and passes a ReLU."""

    added: Operand | None = None
    rectified = False

    def __init__(self, operation: Operation):
        super().__init__(operation)
        self.kept: tuple[torch.Tensor, torch.Tensor | None] | None = None

    def geometry(self, axis):
        weight = self.operation.argument("weight")
        kernel = (weight.value if isinstance(weight, Operand) else weight).shape[2 + self.place(axis)]
        names = ("stride", "padding", "dilation")
        return kernel, *(pair(self.operation.argument(name))[self.place(axis)] for name in names)

    def parameters(self, fetch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias, in the order in memory with which convolutions are fastest."""
        if self.kept is None:
            weight, bias = self.combined(fetch)
            self.kept = weight.contiguous(memory_format=fastest_format(weight)), bias
        return self.kept

    def combined(self, fetch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias, with what else is linear in the same step."""
        weight, bias = self.operation.args[1:3]
        return fetch(weight, {}), bias if bias is None else fetch(bias, {})

    def of_whole(self, fetch):
        return self.convolved(fetch(self.operand, {}), self.operation.argument("padding"), fetch)

    def unpadded(self, tensor, fetch):
        return self.convolved(tensor, [0, 0], fetch)

    def convolved(self, tensor: torch.Tensor, padding: list[int], fetch) -> list[torch.Tensor]:
        weight, bias = self.parameters(fetch)
        added = None if self.added is None else fetch(self.added, {})
        stride, dilation, groups = (self.operation.argument(name) for name in ("stride", "dilation", "groups"))
        return [convolved(tensor, weight, bias, added, self.rectified, pair(stride), padding, pair(dilation), groups)]


class TransposedConvolution(Convolution):
    """Result o sees the pixels i with o = i * stride - padding + dilation * (0 ... kernel - 1)."""

    def of_whole(self, fetch):
        return self.operation.call(lambda leaf: fetch(leaf, {}))

    def seen(self, axis, here):
        kernel, stride, padding, dilation = self.geometry(axis)
        first, last = np.full(here.shape[1], math.inf), np.full(here.shape[1], -math.inf)
        for shift in range(stride):  # neighbouring results see different taps
            for tap in range(kernel):
                low, high = ((end + padding - dilation * tap) / stride for end in (here[0] + shift, here[1] - shift))
                first = np.where((low == np.floor(low)) & (here[0] + shift <= here[1]), np.minimum(first, low), first)
                last = np.where((high == np.floor(high)) & (here[1] - shift >= here[0]), np.maximum(last, high), last)
        return np.stack([first, last])

    def of_part(self, tensor, part, here, fetch):
        _, _, _, stride, _, dilation, _, _, groups = self.operation.args
        weight, bias = self.parameters(fetch)
        function = self.operation.function
        result = function(tensor, weight, None, stride, [0, 0], dilation, True, [0, 0], groups)
        margins = {}
        for axis, (first, last) in here.items():
            _, step, padding, _ = self.geometry(axis)
            dimension = self.source.dimension(axis)
            start = part[axis][0] * step - padding  # which result the first one is
            margins[dimension] = (start - first, last - (start + result.shape[dimension] - 1))
        result = padded(result, margins, 0.0)
        return [result if bias is None else result + bias[:, None, None]]


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


class Resampling(Neighbourhood):
    """A linear map of rows and one of columns, whose matrices are what the operation makes of unit vectors."""

    def __init__(self, operation: Operation):
        super().__init__(operation)
        self.matrices: dict[int, torch.Tensor] = {}

    def one_axis(self, place: int, length: int) -> list:
        """Arguments after the first by which the operation maps rows alone, as it maps the dimension `place`, of which
        the results have `length`."""
        raise NotImplementedError

    def matrix(self, axis: int) -> torch.Tensor:
        """(results, pixels)"""
        if axis not in self.matrices:
            length, dimension = self.source.sizes[axis], self.source.dimension(axis)
            units = torch.eye(length, dtype=self.source.dtype, device=self.source.device)[None, :, :, None]
            arguments = self.one_axis(dimension - 2, self.operation.outputs[0].shape[dimension])
            self.matrices[axis] = self.operation.function(units, *arguments)[0, :, :, 0].T.contiguous()
        return self.matrices[axis]

    def part(self, axis, here):
        used = self.matrix(axis)[here[0] : here[1] + 1].ne(0).any(0).nonzero()  # exact at borders, too
        return (int(used[0]), int(used[-1])) if len(used) else (0, 0)

    def of_part(self, tensor, part, here, fetch):
        rows, columns = (
            self.matrix(axis)[here[axis][0] : here[axis][1] + 1, part[axis][0] : part[axis][1] + 1]
            for axis in map(axis_of, self.source.layout[2:])
        )
        return [rows @ tensor @ columns.T]


class AveragePool(Resampling):
    def geometry(self, place: int) -> list[int]:
        kernel, stride, padding = (pair(self.operation.argument(name)) for name in ("kernel_size", "stride", "padding"))
        return [values[place] for values in (kernel, stride or kernel, padding)]

    def seen(self, axis, here):
        kernel, stride, padding = self.geometry(self.place(axis))
        return here * stride - padding + np.array([[0], [kernel - 1]])

    def one_axis(self, place, length):
        ceil_mode, count_include_pad = (self.operation.argument(name) for name in ("ceil_mode", "count_include_pad"))
        sides = [[value, neutral] for value, neutral in zip(self.geometry(place), (1, 1, 0), strict=True)]
        return [*sides, ceil_mode, count_include_pad]


class AdaptivePool(Resampling):
    def seen(self, axis, here):
        ratio = self.source.sizes[axis] / self.operation.outputs[0].sizes[axis]
        return np.stack([np.floor(here[0] * ratio + ROUNDING), np.ceil((here[1] + 1) * ratio - ROUNDING) - 1])

    def one_axis(self, place, length):
        return [[length, 1]]


class MirroredPadding(Resampling):
    """With the image's own pixels; beyond its plane windows go on as if it had no border."""

    def seen(self, axis, here):
        return here - self.operation.args[1][2 - 2 * self.place(axis)]

    def one_axis(self, place, length):
        before, after = self.operation.args[1][2 - 2 * place : 4 - 2 * place]
        return [[0, 0, before, after]]


class Interpolation(Resampling):
    """To another size: nearest, bilinear, bicubic."""

    def seen(self, axis, here):
        name, place = self.operation.name, self.place(axis)
        before, after = self.source.sizes[axis], self.operation.outputs[0].sizes[axis]
        factor = self.operation.argument(("scales_h", "scales_w")[place])
        ratio = 1 / factor if factor else before / after
        if "nearest" in name:
            return np.floor((here + 0.5 * ("exact" in name)) * ratio + ROUNDING)
        if self.operation.argument("align_corners"):
            position = here * ((before - 1) / max(after - 1, 1))
        else:
            position = (here + 0.5) * ratio - 0.5
        between = np.stack([np.floor(position[0] + ROUNDING), np.ceil(position[1] - ROUNDING)])
        if "bicubic" in name:  # one more on each side, unless it falls on a pixel
            between += np.where(np.abs(position - np.round(position)) > ROUNDING, [[-1], [1]], 0)
        return between

    def one_axis(self, place, length):
        factor = self.operation.argument(("scales_h", "scales_w")[place])
        corners = () if "nearest" in self.operation.name else (self.operation.argument("align_corners"),)
        return [[length, 1], *corners, factor, None]


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


def convolution(operation: Operation, shapes: list) -> Everything:
    return on_planes(TransposedConvolution if operation.argument("transposed") else Convolution)(operation, shapes)


def average_pool(operation: Operation, shapes: list) -> Everything:
    """With a divisor of its own it is not the product of two one-dimensional averages."""
    given = operation.argument("divisor_override") is not None
    return Everything(operation) if given else on_planes(AveragePool)(operation, shapes)


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
