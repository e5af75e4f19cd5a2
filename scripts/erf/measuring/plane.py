"""Where the units of a layer lie in its output: which dimensions are rows and columns."""

import math
import operator
from dataclasses import dataclass

import torch

from erf.errors import InputError
from erf.graph.axes import AXES, COLUMNS, ROWS, Layout, sizes_of

CLASS_TOKENS = 16  # tokens at most that stand in front of those of the plane


class NoPlane(InputError):  # noqa: N818, it reads better
    """A layer that has no units in a plane."""


def described(layer: str | None) -> str:
    return "the model" if layer is None else f"layer {layer!r}"


@dataclass(frozen=True)
class Plane:
    """Where the units of a layer lie in its output.

    rows, columns : of units
    dimensions : of the output, that of rows and that of columns, or the one of tokens, row after row
    before : tokens in front of those of the plane, such as a class token
    """

    rows: int
    columns: int
    dimensions: tuple[int, ...]
    before: int = 0

    def values(self, output: torch.Tensor, unit: tuple[int, int]) -> torch.Tensor:
        """The unit's values (n, K) in an output of n samples, for all K channels."""
        indices = dict(zip(self.dimensions, unit, strict=False))
        if len(self.dimensions) == 1:
            indices = {self.dimensions[0]: self.before + unit[0] * self.columns + unit[1]}
        for dimension in sorted(indices, reverse=True):
            output = output.select(dimension, indices[dimension])
        return output.flatten(1)

    def cropped(self, unit: tuple[int, int], axes) -> tuple[tuple[int, int], "Plane"]:
        """The unit and the plane after the output was cropped to the unit along these axes."""
        index = tuple(0 if axis in axes else unit[axis] for axis in AXES)
        rows, columns = (1 if axis in axes else (self.rows, self.columns)[axis] for axis in AXES)
        return index, Plane(rows, columns, self.dimensions, self.before)

    def chosen(self, unit: str | tuple[int, int]) -> tuple[int, int]:
        """(row, column) of a unit, "center" for the middle one; InputError if there is no such unit."""
        if isinstance(unit, str) and unit == "center":
            return self.rows // 2, self.columns // 2
        try:
            row, column = map(operator.index, unit)
        except (TypeError, ValueError):
            raise InputError(f"unknown unit {unit!r}: 'center', (row, column), or a list of such pairs") from None
        if not (0 <= row < self.rows and 0 <= column < self.columns):
            plane = f"{self.rows} x {self.columns}"
            raise InputError(f"unit ({row}, {column}) is outside of the layer's plane of {plane} units")
        return row, column


def plane_of(
    shape: tuple[int, ...],
    samples: int,
    image: tuple[int, int],
    known: Layout | None,
    given: str | tuple[int, int] | None,
    layer: str | None,
) -> Plane:
    """The plane in a layer's output of this shape, for `samples` images of (height, width).

    known : the output's layout if the model was recorded, else None
    given : the argument `layout` of `measure`, for an output whose layout is not known
    """
    if not shape or shape[0] != samples:
        raise NoPlane(f"{described(layer)} gives {shape} for {samples} images: choose a layer")
    dimension_of = {axis: d for d, factors in enumerate(known or ()) for axis, _ in factors if axis in AXES}
    if len(dimension_of) == len(AXES) and len(shape) > 2:
        sizes = sizes_of(known)
        dimensions = tuple(dict.fromkeys((dimension_of[ROWS], dimension_of[COLUMNS])))
        if len(dimensions) == 2 or [axis for axis, _ in known[dimensions[0]] if axis in AXES] == [ROWS, COLUMNS]:
            return Plane(sizes[ROWS], sizes[COLUMNS], dimensions)
        raise NoPlane(f"{described(layer)} gives tokens that do not lie row after row: choose a layer")
    if given not in (None, "channels_first", "channels_last") and not isinstance(given, tuple | list):
        raise InputError(f"unknown layout {given!r}: channels_first, channels_last, or (rows, columns) of tokens")
    if len(shape) == 4 and not isinstance(given, tuple | list):
        first, last = misfit(*shape[2:], image), misfit(*shape[1:3], image)
        if given is None and min(first, last) > 1:
            words = "has not the image's proportions: give layout='channels_first' or 'channels_last'"
            raise InputError(f"{described(layer)} gives {shape}, which {words}")
        likely = "channels_first" if first <= last else "channels_last"
        return Plane(*shape[2:], (2, 3)) if (given or likely) == "channels_first" else Plane(*shape[1:3], (1, 2))
    if len(shape) == 3 and not isinstance(given, str):
        return _plane_of_tokens(shape[1], image, given)
    raise NoPlane(f"{described(layer)} gives {shape}, not units in a plane: choose a layer")


def misfit(rows: int, columns: int, image: tuple[int, int]) -> float:
    """By how many rows a plane differs from the image's proportions."""
    return abs(rows - columns * image[0] / image[1])


def _plane_of_tokens(count: int, image: tuple[int, int], given: tuple[int, int] | None) -> Plane:
    if given is not None:
        if math.prod(given) > count:
            raise InputError(f"the layer gives {count} tokens, fewer than {given[0]} x {given[1]}")
        return Plane(*given, (1,), count - math.prod(given))
    for side in range(1, min(image) + 1):  # of square patches
        rows, columns = image[0] // side, image[1] // side
        if 0 <= count - rows * columns <= CLASS_TOKENS:
            return Plane(rows, columns, (1,), count - rows * columns)
    image = f"{image[0]} x {image[1]}"
    raise InputError(f"how {count} tokens lie in an image of {image} is not clear: give layout=(rows, columns)")
