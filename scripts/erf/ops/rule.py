"""Op rules: how an operation maps windows of its results to windows of its operands, and how it computes a crop.

Along one axis a window is the first and the last index on which something depends. Windows of many units are arrays
(2, units) of floats; they are not clipped by the plane, and infinite where all of it is seen. An operation without a
rule of its own sees everything.

This module has the rules of operations that keep rows and columns apart, `erf.ops.sliding` those of operations that see
a neighbourhood. `erf.ops.table` says which operation has which rule.
"""

import math
from collections.abc import Callable

import numpy as np
import torch

from erf.graph.axes import (
    Layout,
    Windows,
    has_each_axis_once,
    plain,
    sizes_of,
    whole_of,
)
from erf.graph.nodes import Operand, Operation
from erf.graph.slicing import crop

EVERYTHING = np.array([[-math.inf], [math.inf]])


Fetch = Callable[[Operand | torch.Tensor, Windows], torch.Tensor]  # a tensor, cropped along the axes that it has


def clipped(window: np.ndarray, size: int) -> tuple[int, int]:
    """One window (2, 1), clipped by a plane; at least one pixel of it."""
    first, last = np.clip(window[:, 0], 0, size - 1)
    return int(min(first, last)), int(last)


class Everything:
    """The op rule of an unknown operation: every result depends on all of every operand."""

    def __init__(self, operation: Operation):
        self.operation = operation

    def layouts(self, shapes: list[tuple[int, ...]]) -> list[Layout]:
        """Layouts of the results, whose shapes are given."""
        return [plain(shape) for shape in shapes]

    def window(self, operand: Operand, axis: int, wanted: np.ndarray) -> np.ndarray:
        """Windows (2, units) of an operand for the windows `wanted` (2, units) of the results, not clipped."""
        return EVERYTHING

    def windows(self, operand: Operand, wanted: Windows) -> Windows:
        """Windows of an operand, clipped by its plane, that the windows `wanted` of the results need."""
        return operand.value.whole

    def compute(self, fetch: Fetch, wanted: Windows) -> list[torch.Tensor]:
        """The results, cropped to the windows `wanted`; `fetch` gives the operands, cropped as asked."""
        return self.operation.call(lambda leaf: fetch(leaf, {}))


class Through(Everything):
    """Every result depends on the row and column of the operands that are its own."""

    def __init__(self, operation: Operation, found: list[Layout]):
        super().__init__(operation)
        self.found = found
        self.sizes = sizes_of(found[0])

    def layouts(self, shapes):
        return self.found

    def window(self, operand, axis, wanted):
        same = axis in self.sizes and operand.value.sizes.get(axis) == self.sizes[axis]  # and it was not broadcast
        return wanted if same else EVERYTHING

    def windows(self, operand, wanted):
        sizes = operand.value.sizes
        return {axis: wanted[axis] if self.sizes.get(axis) == size else (0, size - 1) for axis, size in sizes.items()}

    def compute(self, fetch, wanted):
        whole = whole_of(self.found[0])

        def crop_of(leaf):
            own = leaf.value if isinstance(leaf, Operand) else None
            tensor = fetch(leaf, self.windows(leaf, wanted) if own else {})
            layout = self.layout_of_constant(tuple((own or leaf).shape))
            if layout is None:
                return tensor
            have = {axis: wanted[axis] if own and axis in own.sizes else window for axis, window in whole.items()}
            return crop(tensor, layout, have, wanted)

        return self.applied(crop_of, wanted)

    def applied(self, crop_of: Callable, wanted: Windows) -> list[torch.Tensor]:
        """The operation on `crop_of(leaf)` in place of every tensor."""
        return self.operation.call(crop_of)

    def layout_of_constant(self, shape: tuple[int, ...]) -> Layout | None:
        """How to crop a constant operand of this shape (such as a bias map) to line up with the cropped result.

        None: leave it whole.
        """
        return None


def through(layouts: Callable[[Operation, list], list[Layout] | None], kind: type[Through] = Through):
    """An op rule for operations on plain dimensions.

    layouts : gives the layouts of the results, or None if the operation mixes rows or columns
    """

    def rule(operation: Operation, shapes: list) -> Everything:
        found = layouts(operation, shapes)
        usable = found is not None and has_each_axis_once(found[0])
        return kind(operation, [tuple(layout) for layout in found]) if usable else Everything(operation)

    return rule
