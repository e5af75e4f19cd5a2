"""Op rules of operations that mix positions at varying distances: averages, interpolation, mirrored padding."""

import numpy as np
import torch

from erf.graph.axes import axis_of
from erf.graph.nodes import Operation
from erf.ops.rule import Everything
from erf.ops.sliding import Neighbourhood, on_planes, pair

ROUNDING = 1e-9  # of positions between pixels


class Resampling(Neighbourhood):
    """A linear map of rows and one of columns; their matrices are the operation's results for unit vectors."""

    def __init__(self, operation: Operation):
        super().__init__(operation)
        self.matrices: dict[int, torch.Tensor] = {}

    def one_axis(self, index: int, length: int) -> list:
        """Arguments, after the first, with which the operation maps rows alone in the way it maps one axis.

        index : 0 for the first, 1 for the second of the two dimensions of the plane
        length : of the results along that axis
        """
        raise NotImplementedError

    def matrix(self, axis: int) -> torch.Tensor:
        """(results, pixels)"""
        if axis not in self.matrices:
            length, dimension = self.source.sizes[axis], self.source.dimension(axis)
            units = torch.eye(length, dtype=self.source.dtype, device=self.source.device)[None, :, :, None]
            arguments = self.one_axis(dimension - 2, self.operation.outputs[0].shape[dimension])
            self.matrices[axis] = self.operation.function(units, *arguments)[0, :, :, 0].T.contiguous()
        return self.matrices[axis]

    def clipped_window(self, axis, wanted):
        used = self.matrix(axis)[wanted[0] : wanted[1] + 1].ne(0).any(0).nonzero()  # exact at borders, too
        return (int(used[0]), int(used[-1])) if len(used) else (0, 0)

    def of_crop(self, tensor, have, wanted, fetch):
        rows, columns = (
            self.matrix(axis)[wanted[axis][0] : wanted[axis][1] + 1, have[axis][0] : have[axis][1] + 1]
            for axis in map(axis_of, self.source.layout[2:])
        )
        return [rows @ tensor @ columns.T]


class AveragePool(Resampling):
    def geometry(self, index: int) -> list[int]:
        kernel, stride, padding = (pair(self.operation.argument(name)) for name in ("kernel_size", "stride", "padding"))
        return [values[index] for values in (kernel, stride or kernel, padding)]

    def seen(self, axis, wanted):
        kernel, stride, padding = self.geometry(self.spatial_index(axis))
        return wanted * stride - padding + np.array([[0], [kernel - 1]])

    def one_axis(self, index, length):
        ceil_mode, count_include_pad = (self.operation.argument(name) for name in ("ceil_mode", "count_include_pad"))
        sides = [[value, neutral] for value, neutral in zip(self.geometry(index), (1, 1, 0), strict=True)]
        return [*sides, ceil_mode, count_include_pad]


class AdaptivePool(Resampling):
    def seen(self, axis, wanted):
        ratio = self.source.sizes[axis] / self.operation.outputs[0].sizes[axis]
        return np.stack([np.floor(wanted[0] * ratio + ROUNDING), np.ceil((wanted[1] + 1) * ratio - ROUNDING) - 1])

    def one_axis(self, index, length):
        return [[length, 1]]


class MirroredPadding(Resampling):
    """Repeats the image's own pixels beyond its border; windows are those of an image without a border."""

    def seen(self, axis, wanted):
        return wanted - self.operation.args[1][2 - 2 * self.spatial_index(axis)]

    def one_axis(self, index, length):
        before, after = self.operation.args[1][2 - 2 * index : 4 - 2 * index]
        return [[0, 0, before, after]]


class Interpolation(Resampling):
    """To another size: nearest, bilinear, bicubic."""

    def seen(self, axis, wanted):
        name, index = self.operation.name, self.spatial_index(axis)
        before, after = self.source.sizes[axis], self.operation.outputs[0].sizes[axis]
        factor = self.operation.argument(("scales_h", "scales_w")[index])
        ratio = 1 / factor if factor else before / after
        if "nearest" in name:
            return np.floor((wanted + 0.5 * ("exact" in name)) * ratio + ROUNDING)
        if self.operation.argument("align_corners"):
            position = wanted * ((before - 1) / max(after - 1, 1))
        else:
            position = (wanted + 0.5) * ratio - 0.5
        between = np.stack([np.floor(position[0] + ROUNDING), np.ceil(position[1] - ROUNDING)])
        if "bicubic" in name:  # one more on each side, unless it falls on a pixel
            between += np.where(np.abs(position - np.round(position)) > ROUNDING, [[-1], [1]], 0)
        return between

    def one_axis(self, index, length):
        factor = self.operation.argument(("scales_h", "scales_w")[index])
        corners = () if "nearest" in self.operation.name else (self.operation.argument("align_corners"),)
        return [[length, 1], *corners, factor, None]


def average_pool(operation: Operation, shapes: list) -> Everything:
    """With `divisor_override` it is not the product of two one-dimensional averages."""
    given = operation.argument("divisor_override") is not None
    return Everything(operation) if given else on_planes(AveragePool)(operation, shapes)
