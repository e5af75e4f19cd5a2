"""Op rules of operations that mix positions at varying distances: averages, interpolation, mirrored padding."""

import functools

import numpy as np
import torch

from erf.graph.axes import window_of
from erf.graph.nodes import Operation
from erf.ops.sliding import Neighbourhood

ROUNDING = 1e-9  # of positions between pixels


AT_ONCE = 256  # results that one matrix gives: of a long sound it would else be large


class Resampling(Neighbourhood):
    """A linear map along each dimension. Its matrix is known by the operation's results for some pixels alone.

    Most entries of a matrix are zero: a band is kept, (results, pixels side by side), and the first pixel of each
    result. The band is exact at borders, too.
    """

    def __init__(self, operation: Operation):
        super().__init__(operation)
        self.band = functools.cache(self.band_along)

    def one_dimension(self, dimension: int, length: int) -> list:
        """Arguments, after the first, with which the operation maps the first dimension in the way it maps this one,
        and leaves the others alone.

        length : of the results along that dimension
        """
        raise NotImplementedError

    def applied(self, dimension: int, lines: torch.Tensor) -> torch.Tensor:
        """The operation along one dimension alone, of lines (n, pixels): (n, results)."""
        arguments = self.one_dimension(dimension, self.operation.outputs[0].shape[dimension])
        lines = lines.to(dtype=self.source.dtype, device=self.source.device)
        return self.operation.function(lines.view(1, *lines.shape, *self.others(1)), *arguments).view(len(lines), -1)

    def others(self, neutral) -> list:
        """A value for each dimension but one."""
        return [neutral] * (len(self.dimensions) - 1)

    def ends(self, dimension: int) -> np.ndarray:
        """First and last pixel that each result may see, (2, results)."""
        results = np.tile(np.arange(self.operation.outputs[0].shape[dimension]), (2, 1))
        return self.seen(dimension, results).clip(0, self.source.shape[dimension] - 1).astype(int)

    def band_along(self, dimension: int) -> tuple[torch.Tensor, torch.Tensor]:
        """First pixel of each result, (results,), and the weights of those from it on, (results, width)."""
        first, last = self.ends(dimension)
        first, width = first - 1, int((last - first).max()) + 3  # one more on each side, for torch's own rounding
        combs = torch.arange(self.source.shape[dimension]) % width == torch.arange(width)[:, None]
        places = torch.from_numpy(first)[:, None] + torch.arange(width)
        # Each comb has one tooth among the pixels that a result may see.
        return torch.from_numpy(first), self.applied(dimension, combs).cpu().T.gather(1, places % width)

    def weights(self, dimension: int, wanted: tuple[int, int]) -> tuple[torch.Tensor, ...]:
        """Of some results all weights that are not zero: number of the result, pixel, weight, (n,) each."""
        first, weights = (one[wanted[0] : wanted[1] + 1] for one in self.band(dimension))
        results, places = weights.nonzero(as_tuple=True)
        return results, first[results] + places, weights[results, places]

    def clipped_window(self, dimension, wanted):
        _, pixels, _ = self.weights(dimension, wanted)
        return (int(pixels.min()), int(pixels.max())) if len(pixels) else (0, 0)

    def of_crop(self, tensor, have, wanted, fetch):
        for dimension in self.dimensions:
            start, _ = window_of(self.source.layout[dimension], have)
            first, last = window_of(self.operation.outputs[0].layout[dimension], wanted)
            lines, parts = tensor.movedim(dimension, -2), []
            for one in range(first, last + 1, AT_ONCE):
                count = min(AT_ONCE, last + 1 - one)
                results, pixels, weights = self.weights(dimension, (one, one + count - 1))
                low, high = (int(pixels.min()), int(pixels.max())) if len(pixels) else (start, start)
                matrix = torch.zeros(count, high + 1 - low, dtype=weights.dtype)
                matrix[results, pixels - low] = weights
                parts.append(matrix.to(tensor.device) @ lines.narrow(-2, low - start, high + 1 - low))
            tensor = (parts[0] if len(parts) == 1 else torch.cat(parts, -2)).movedim(-2, dimension)
        return [tensor]


class Average(Resampling):
    """All pixels that a result sees have one weight."""

    def band_along(self, dimension):
        first, last = map(torch.from_numpy, self.ends(dimension))
        count = last - first + 1
        weight = self.applied(dimension, torch.ones(1, self.source.shape[dimension]))[0].cpu() / count
        return first, weight[:, None] * (torch.arange(int(count.max())) < count[:, None])


class AveragePool(Average):
    @property
    def usable(self):
        """With `divisor_override` it is not the product of averages along each dimension."""
        return self.operation.argument("divisor_override") is None and super().usable

    def geometry(self, dimension: int) -> list[int]:
        kernel, stride, padding = (self.setting(name, dimension) for name in ("kernel_size", "stride", "padding"))
        return [kernel, stride or kernel, padding]

    def seen(self, dimension, wanted):
        kernel, stride, padding = self.geometry(dimension)
        return wanted * stride - padding + np.array([[0], [kernel - 1]])

    def one_dimension(self, dimension, length):
        sides = zip(self.geometry(dimension), (1, 1, 0), strict=True)
        names = ("ceil_mode", "count_include_pad")
        return [*([value, *self.others(neutral)] for value, neutral in sides), *map(self.operation.argument, names)]


class AdaptivePool(Average):
    def seen(self, dimension, wanted):
        ratio = self.source.shape[dimension] / self.operation.outputs[0].shape[dimension]
        return np.stack([np.floor(wanted[0] * ratio + ROUNDING), np.ceil((wanted[1] + 1) * ratio - ROUNDING) - 1])

    def one_dimension(self, dimension, length):
        return [[length, *self.others(1)]]


class MirroredPadding(Resampling):
    """Repeats the image's own pixels beyond its border; windows are those of an image without a border."""

    def margins(self, dimension: int) -> list[int]:
        """Pixels that are added before and after."""
        place = 2 * (self.dimensions[-1] - dimension)
        return self.operation.args[1][place : place + 2]

    def seen(self, dimension, wanted):
        return wanted - self.margins(dimension)[0]

    def ends(self, dimension):
        numbers = self.applied(dimension, torch.arange(self.source.shape[dimension])[None])
        return numbers.expand(2, -1).cpu().numpy().astype(int)

    def one_dimension(self, dimension, length):
        return [[*self.others(0), *self.others(0), *self.margins(dimension)]]


class Interpolation(Resampling):
    """To another size: nearest, linear, cubic."""

    def factor(self, dimension: int) -> float | None:
        """By which the image grows, if the operation was told; the last arguments that it declares are these."""
        names = [*self.operation.traits.arguments][-len(self.dimensions) :]
        return self.operation.argument(names[dimension - 2])

    def seen(self, dimension, wanted):
        name, factor = self.operation.name, self.factor(dimension)
        before, after = self.source.shape[dimension], self.operation.outputs[0].shape[dimension]
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

    def one_dimension(self, dimension, length):
        corners = () if "nearest" in self.operation.name else (self.operation.argument("align_corners"),)
        return [[length, *self.others(1)], *corners, self.factor(dimension), *self.others(None)]
