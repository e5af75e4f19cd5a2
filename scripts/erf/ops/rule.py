"""What operations do to rows and columns: what their results see of their operands, and how a part of them is computed.

Along one axis a window is the first and the last index that is seen. Windows of many units are arrays (2, units)
of floats; they go on beyond the plane as if it had no end, and are infinite where all of it is seen. An operation of
which nothing is known sees everything.

Here are the rules by which operations keep rows and columns apart, `erf.ops.sliding` has those of operations that see a
neighbourhood, and `erf.ops.table` says which rule is whose.
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
from erf.graph.slicing import cut

EVERYTHING = np.array([[-math.inf], [math.inf]])


Fetch = Callable[[Operand | torch.Tensor, Windows], torch.Tensor]  # a tensor, cut to the windows of what axes it has


def clipped(window: np.ndarray, size: int) -> tuple[int, int]:
    """One window (2, 1) within a plane; at least one pixel of it."""
    first, last = np.clip(window[:, 0], 0, size - 1)
    return int(min(first, last)), int(last)


class Everything:
    """The rule where nothing is known: every result depends on all of every operand."""

    def __init__(self, operation: Operation):
        self.operation = operation

    def layouts(self, shapes: list[tuple[int, ...]]) -> list[Layout]:
        """Layouts of the results, which have these shapes."""
        return [plain(shape) for shape in shapes]

    def window(self, operand: Operand, axis: int, here: np.ndarray) -> np.ndarray:
        """Windows in an operand, given those in the results."""
        return EVERYTHING

    def parts(self, operand: Operand, here: Windows) -> Windows:
        """What has to be there of an operand, for the part `here` of the results to be computed."""
        return operand.value.whole

    def compute(self, fetch: Fetch, here: Windows) -> list[torch.Tensor]:
        """The part `here` of the results."""
        return self.operation.call(lambda leaf: fetch(leaf, {}))


class Through(Everything):
    """Every result depends on its own row and column of the operands."""

    def __init__(self, operation: Operation, found: list[Layout]):
        super().__init__(operation)
        self.found = found
        self.sizes = sizes_of(found[0])

    def layouts(self, shapes):
        return self.found

    def window(self, operand, axis, here):
        same = axis in self.sizes and operand.value.sizes.get(axis) == self.sizes[axis]  # and it was not broadcast
        return here if same else EVERYTHING

    def parts(self, operand, here):
        sizes = operand.value.sizes
        return {axis: here[axis] if self.sizes.get(axis) == size else (0, size - 1) for axis, size in sizes.items()}

    def compute(self, fetch, here):
        whole = whole_of(self.found[0])

        def part(leaf):
            own = leaf.value if isinstance(leaf, Operand) else None
            tensor = fetch(leaf, self.parts(leaf, here) if own else {})
            layout = self.borrowed(tuple((own or leaf).shape))
            if layout is None:
                return tensor
            have = {axis: here[axis] if own and axis in own.sizes else window for axis, window in whole.items()}
            return cut(tensor, layout, have, here)

        return self.applied(part, here)

    def applied(self, part: Callable, here: Windows) -> list[torch.Tensor]:
        """The operation on `part(leaf)` in place of every tensor."""
        return self.operation.call(part)

    def borrowed(self, shape: tuple[int, ...]) -> Layout | None:
        """The layout by which an operand without axes of its own, of this shape, meets the results; None if it does not
        meet their axes."""
        return None


def through(layouts: Callable[[Operation, list], list[Layout] | None], kind: type[Through] = Through):
    """A rule for operations on plain dimensions, given the layouts of their results; None where they touch an axis."""

    def rule(operation: Operation, shapes: list) -> Everything:
        found = layouts(operation, shapes)
        usable = found is not None and has_each_axis_once(found[0])
        return kind(operation, [tuple(layout) for layout in found]) if usable else Everything(operation)

    return rule
