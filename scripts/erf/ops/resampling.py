"""Rules of operations that mix positions at varying distances: averages, interpolation, mirrored padding."""

import numpy as np
import torch

from erf.graph.axes import axis_of
from erf.graph.nodes import Operation
from erf.ops.rule import Everything
from erf.ops.sliding import Neighbourhood, on_planes, pair

ROUNDING = 1e-9  # of positions between pixels


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


def average_pool(operation: Operation, shapes: list) -> Everything:
    """With a divisor of its own it is not the product of two one-dimensional averages."""
    given = operation.argument("divisor_override") is not None
    return Everything(operation) if given else on_planes(AveragePool)(operation, shapes)
