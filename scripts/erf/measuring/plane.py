"""Where the units of a layer lie in its output: which dimensions are the axes of the images."""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch

from erf.errors import InputError
from erf.graph.axes import Among, Layout, axis_of, sizes_of

CLASS_TOKENS = 16  # tokens at most that stand in front of those of the plane


# How units, and tokens of a plane, are given, by the number of axes.
INDEX = {1: "an index", 2: "(row, column)", 3: "(depth, row, column)"}
COUNTS = {1: "(count,)", 2: "(rows, columns)", 3: "(depth, rows, columns)"}


class NoPlane(InputError):  # noqa: N818, it reads better
    """A layer that has no units in a plane."""


class OneUnit(InputError):  # noqa: N818
    """A layer that has one unit alone, as behind a pooling of the whole plane, and not the one that is wanted."""


def described(layer: str | None) -> str:
    return "the model" if layer is None else f"layer {layer!r}"


@dataclass(frozen=True)
class Plane:
    """Where the units of a layer lie in its output: in a plane for images, and so on for one or three axes.

    units : their number along each axis
    dimensions : of the output, for each axis; one and the same for axes that lie in it, the first axis outermost, as
        those of tokens do
    before : tokens in front of those of the plane, such as a class token
    """

    units: tuple[int, ...]
    dimensions: tuple[int, ...]
    before: int = 0

    def values(self, output: torch.Tensor, unit: tuple[int, ...]) -> torch.Tensor:
        """The unit's values (n, K) in an output of n samples, for all K channels."""
        indices = dict.fromkeys(self.dimensions, 0)
        for dimension, count, index in zip(self.dimensions, self.units, unit, strict=True):
            indices[dimension] = indices[dimension] * count + index
        for dimension in sorted(indices, reverse=True):
            output = output.select(dimension, self.before + indices[dimension])
        return output.reshape(len(output), -1)

    def cropped(self, unit: tuple[int, ...], axes) -> tuple[tuple[int, ...], "Plane"]:
        """The unit and the plane after the output was cropped to the unit along these axes."""
        index = tuple(0 if axis in axes else one for axis, one in enumerate(unit))
        units = tuple(1 if axis in axes else count for axis, count in enumerate(self.units))
        return index, Plane(units, self.dimensions, self.before)

    def chosen(self, unit: str | int | tuple[int, ...]) -> tuple[int, ...]:
        """The index of a unit along each axis, "center" for the middle one; InputError if there is no such unit."""
        if isinstance(unit, str) and unit == "center":
            return tuple(count // 2 for count in self.units)
        axes = len(self.units)
        try:
            index = tuple(map(operator.index, unit if axes > 1 or isinstance(unit, tuple) else (unit,)))
        except TypeError:
            index = ()
        if len(index) != axes:
            several = "a list of such pairs" if axes == 2 else "a list of these"
            raise InputError(f"unknown unit {unit!r}: 'center', {INDEX[axes]}, or {several}")
        if not all(0 <= one < count for one, count in zip(index, self.units, strict=True)):
            words = f"is outside of the layer's plane of {' x '.join(map(str, self.units))} units"
            kind = OneUnit if math.prod(self.units) == 1 else InputError
            raise kind(f"unit {index if axes > 1 else index[0]} {words}")
        return index


@dataclass(frozen=True)
class Scalar(Plane):
    """A function of a layer's output in place of a unit, such as a class's logit: it has no place of its own.

    function : is given the output of n samples, and gives n values, or (n, K)
    """

    function: Callable | None = None

    def values(self, output, unit):
        found = self.function(output)
        if not isinstance(found, torch.Tensor) or found.numel() % len(output) or not found.numel():
            what = tuple(found.shape) if isinstance(found, torch.Tensor) else f"a {type(found).__name__}"
            raise InputError(
                f"the unit is a function, and must give a number for each of {len(output)} images, not {what}"
            )
        return found.reshape(len(output), -1)


def plane_of(
    shape: tuple[int, ...],
    samples: int,
    image: tuple[int, ...],
    known: Layout | None,
    given: str | tuple[int, ...] | Callable | None,
    layer: str | None,
) -> Plane:
    """The plane in a layer's output of this shape, for `samples` images with these sides.

    known : the output's layout if the model was recorded, else None
    given : the argument `layout` of `measure`, for an output whose layout is not known; or a function as a unit
    """
    if callable(given):
        return Scalar((1,) * len(image), (), function=given)
    if not shape or shape[0] != samples:
        raise NoPlane(f"{described(layer)} gives {shape} for {samples} images: choose a layer")
    axes, words = len(image), "give layout='channels_first' or 'channels_last'"
    dimension_of = {axis: d for d, factors in enumerate(known or ()) for axis in sizes_of((factors,))}
    if len(dimension_of) == axes and (len(shape) > 2 or axis_of(known[-1]) == 0):
        dimensions = tuple(dimension_of[axis] for axis in range(axes))
        order = [list(sizes_of((known[d],))) for d in dimensions]
        if any(one != sorted(one) for one in order):
            raise NoPlane(f"{described(layer)} gives tokens that do not lie row after row: choose a layer")
        sizes = sizes_of(known)
        before = sum(axis.before for axis, _ in known[dimensions[0]] if isinstance(axis, Among))
        return Plane(tuple(sizes[axis] for axis in range(axes)), dimensions, before)
    if given not in (None, "channels_first", "channels_last") and not isinstance(given, tuple | list):
        raise InputError(f"unknown layout {given!r}: channels_first, channels_last, or {COUNTS[axes]} of tokens")
    if len(shape) == axes + 2 and not isinstance(given, tuple | list):
        first, last = misfit(shape[2:], image), misfit(shape[1:-1], image)
        if given is None and axes == 1:
            reason = f"{described(layer)} gives {shape} for a sound, and may have its channels first or last: {words}"
            raise InputError(f"{reason}. If it is no sound: images must be (N, C, H, W)")
        if given is None and min(first, last) > 1:
            raise InputError(f"{described(layer)} gives {shape}, which has not the image's proportions: {words}")
        likely = "channels_first" if first <= last else "channels_last"
        start = 2 if (given or likely) == "channels_first" else 1
        return Plane(shape[start : start + axes], tuple(range(start, start + axes)))
    if len(shape) == 3 and not isinstance(given, str):
        return _plane_of_tokens(shape[1], image, given)
    raise NoPlane(f"{described(layer)} gives {shape}, not units in a plane: choose a layer")


def misfit(units: tuple[int, ...], image: tuple[int, ...]) -> float:
    """By how many rows a plane differs from the image's proportions; of three axes the last two count."""
    if len(image) == 1:
        return 0
    (rows, columns), (height, width) = units[-2:], image[-2:]
    return abs(rows - columns * height / width)


def _plane_of_tokens(count: int, image: tuple[int, ...], given: tuple[int, ...] | None) -> Plane:
    axes, sides = len(image), " x ".join(map(str, image))
    if given is not None and len(given) == axes:
        if math.prod(given) > count:
            raise InputError(f"the layer gives {count} tokens, fewer than {' x '.join(map(str, given))}")
        return Plane(tuple(given), (1,) * axes, count - math.prod(given))
    for side in range(1, min(image) + 1 if axes == 2 and given is None else 1):  # of square patches
        rows, columns = image[0] // side, image[1] // side
        if 0 <= count - rows * columns <= CLASS_TOKENS:
            return Plane((rows, columns), (1, 1), count - rows * columns)
    raise InputError(f"how {count} tokens lie in an image of {sides} is not clear: give layout={COUNTS[axes]}")
