"""Which dimensions of a tensor lie along an image's axes, and which along its batch of samples.

Axes are numbered from 0 in the images' order. Sound has one, images have rows and columns, and volumes and video have
three.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

SAMPLES = -1  # a batch is recorded with one sample; how many there are shows when it is computed


PLAIN = None  # channels and the like


# A layout has, for each dimension of a tensor, the factors that it is the product of, outermost first: (axis, size).
# An image that was flattened to tokens has ((SAMPLES, 1),), ((0, h), (1, w)), ((PLAIN, c),).
Factor = tuple["int | Among | None", int]


Layout = tuple[tuple[Factor, ...], ...]


@dataclass(frozen=True)
class Among:
    """In a factor in place of an axis: entries with places in the image among others that have none.

    Patches behind a class token have ((Among(1, ((0, h), (1, w)), 0), 1 + h * w),).

    before, after : how many others stand on each side
    placed : the factors of the entries between
    """

    before: int
    placed: tuple[Factor, ...]
    after: int


Windows = dict[int, tuple[int, int]]  # for each axis the first and the last index


# Networks repeat their blocks, and so the same few shapes and layouts.
kept = functools.lru_cache(maxsize=4096)


@kept
def plain(shape: tuple[int, ...]) -> Layout:
    """The layout of a tensor without axes, or of one whose dimensions are unknown."""
    return tuple(((PLAIN, size),) for size in shape)


def of_images(shape) -> Layout:
    """The layout of images (1, C, T), (1, C, H, W) or (1, C, D, H, W)."""
    _, channels, *sides = shape
    return ((SAMPLES, 1),), ((PLAIN, channels),), *(((axis, side),) for axis, side in enumerate(sides))


def factors_of(dimension: tuple[Factor, ...]) -> Iterator[Factor]:
    """The factors of a dimension, with those of the entries that stand among others."""
    for axis, size in dimension:
        yield from axis.placed if isinstance(axis, Among) else [(axis, size)]


def axis_of(dimension: tuple[Factor, ...]) -> int | None:
    """The axis, SAMPLES, or Among, for a dimension that lies along it and nothing else, PLAIN for any other."""
    return dimension[0][0] if len(dimension) == 1 else PLAIN


@kept
def is_plain(dimension: tuple[Factor, ...]) -> bool:
    return all(axis is PLAIN for axis, _ in dimension)


def splits_axis(dimension: tuple[Factor, ...]) -> bool:
    """Whether several entries of a dimension stand for one entry of an axis, as behind channels that became pixels."""
    axes = [axis for axis, _ in dimension if axis not in (PLAIN, SAMPLES)]
    return bool(axes) and any(axis is PLAIN and size > 1 for axis, size in dimension)


@kept
def length_of(dimension: tuple[Factor, ...]) -> int:
    return prod(size for _, size in dimension)


@kept
def sizes_of(layout: Layout) -> dict[int, int]:
    """Lengths of the axes that a tensor has."""
    return {axis: size for dimension in layout for axis, size in factors_of(dimension) if axis not in (PLAIN, SAMPLES)}


def has_samples(layout: Layout) -> bool:
    """Whether the first dimension of a tensor is that of samples, and nothing else."""
    return bool(layout) and axis_of(layout[0]) == SAMPLES


def whole_of(layout: Layout) -> Windows:
    """Windows that hold the whole length of each axis."""
    return {axis: (0, size - 1) for axis, size in sizes_of(layout).items()}


def window_of(dimension: tuple[Factor, ...], windows: Windows) -> tuple[int, int]:
    """First and last index of a dimension, which lies along one axis or is plain, after a crop to windows."""
    return windows.get(axis_of(dimension), (0, length_of(dimension) - 1))


@kept
def has_each_axis_once(layout: Layout) -> bool:
    axes = [axis for dimension in layout for axis, _ in factors_of(dimension) if axis is not PLAIN]
    return len(axes) == len(set(axes))


@kept
def regrouped(layout: Layout, shape: tuple[int, ...]) -> Layout | None:
    """The layout after a view as `shape`, which keeps the order of all elements; None if the view splits an axis."""
    pending = [factor for dimension in layout for factor in dimension if factor != (PLAIN, 1)]
    result = []
    for size in shape:
        taken, left = [], size
        while pending and (left > 1 or (size == 1 and not taken and pending[0][1] == 1)):
            axis, length = pending.pop(0)
            if left % length == 0:
                taken.append((axis, length))
                left //= length
            elif axis is PLAIN and length % left == 0:
                pending.insert(0, (PLAIN, length // left))
                taken.append((PLAIN, left))
                left = 1
            else:
                return None
        if left != 1:
            return None
        result.append(tuple(_merged(taken)) or ((PLAIN, 1),))
    if pending == [(SAMPLES, 1)] and result:  # a batch of one sample, which may stand anywhere
        result[-1] = (*result[-1], *pending)
        pending = []
    return None if pending else tuple(result)


def _merged(factors: list[Factor]) -> list[Factor]:
    """Factors with plain neighbours merged into one."""
    merged: list[Factor] = []
    for axis, size in factors:
        if merged and axis is PLAIN and merged[-1][0] is PLAIN:
            size *= merged.pop()[1]
        merged.append((axis, size))
    return merged


def cropped_shape(layout: Layout, windows: Windows, samples: int = 1) -> list[int]:
    """The shape of a tensor of so many samples that is cropped to windows."""
    lengths = {axis: last - first + 1 for axis, (first, last) in windows.items()} | {SAMPLES: samples}
    return [prod(lengths.get(axis, size) for axis, size in dimension) for dimension in layout]


def samples_of(shape, layout: Layout, windows: Windows) -> int:
    """How many samples a tensor of this shape has, which is cropped to windows."""
    for length, dimension, one in zip(shape, layout, cropped_shape(layout, windows), strict=True):
        if any(axis == SAMPLES for axis, _ in dimension):
            return length // one
    return 1


@kept
def broadcast(layouts: tuple[Layout, ...], shape: tuple[int, ...]) -> Layout | None:
    """The layout of a result of this shape, to which tensors with these are broadcast; None if they do not agree."""
    found = list(plain(shape))
    for layout in layouts:
        for place, dimension in enumerate(layout, len(shape) - len(layout)):
            if is_plain(dimension) or length_of(dimension) != shape[place]:
                continue
            if not is_plain(found[place]) and found[place] != dimension:
                return None
            found[place] = dimension
    return tuple(found) if has_each_axis_once(tuple(found)) else None


@kept
def resized(layout: Layout, shape: tuple[int, ...]) -> Layout:
    """The layout of a tensor of this shape, whose dimensions lie along the axes of those of `layout`."""
    pairs = zip(layout, shape, strict=True)
    return tuple(((axis_of(one), length),) if len(one) == 1 else one for one, length in pairs)


def fitted(layout: Layout, shape: tuple[int, ...]) -> Layout:
    """The layout of a tensor that is broadcast to, or from, `shape`: plain where the lengths differ."""
    return tuple(
        dimension if length_of(dimension) == length else ((PLAIN, length),)
        for dimension, length in zip(layout, shape, strict=True)
    )
