"""Op rules: how an operation maps windows of its results to windows of its operands, and how it computes a crop.

Along one axis a window is the first and the last index on which something depends. Windows of many units are arrays
(2, units) of floats; they are not clipped by the plane, and infinite where all of it is seen. An operation without a
rule of its own sees everything.

This module has the rules of operations that keep the axes apart, `erf.ops.sliding` those of operations that see
a neighbourhood. `erf.ops.table` says which operation has which rule.
"""

import math
from collections.abc import Callable

import numpy as np
import torch

from erf.graph.axes import (
    SAMPLES,
    Layout,
    Windows,
    has_each_axis_once,
    has_samples,
    plain,
    sizes_of,
    whole_of,
)
from erf.graph.nodes import Operand, Operation, as_list, mapped
from erf.graph.slicing import crop

EVERYTHING = np.array([[-math.inf], [math.inf]])


# Unknown operations that keep the samples apart, each with the position of the argument that says how many there are.
KEEPS_SAMPLES = {
    **dict.fromkeys(("view", "_unsafe_view", "expand"), 1),
    "native_group_norm": 3,
    **dict.fromkeys(("mean", "sum", "amax", "amin", "var", "var_mean", "std", "linalg_vector_norm", "logsumexp")),
    **dict.fromkeys(("_softmax", "_log_softmax", "cumsum", "flip", "roll", "cat", "stack", "slice", "select")),
    **dict.fromkeys(("split", "split_with_sizes", "index_select", "constant_pad_nd", "im2col", "bmm", "baddbmm")),
    **dict.fromkeys(("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention")),
    **dict.fromkeys(("_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention")),
    **dict.fromkeys(("native_layer_norm", "convolution", "avg_pool2d", "avg_pool3d", "grid_sampler_2d")),
    **dict.fromkeys(("grid_sampler_3d", "_fft_c2c", "_fft_r2c", "_fft_c2r", "slice_scatter", "select_scatter")),
    **dict.fromkeys(("gather", "topk", "sort", "addmm", "mm", "linear")),
}


Fetch = Callable[[Operand | torch.Tensor, Windows], torch.Tensor]  # a tensor, cropped along the axes that it has


def clipped(window: np.ndarray, size: int) -> tuple[int, int]:
    """One window (2, 1), clipped by a plane; at least one pixel of it."""
    first, last = np.clip(window[:, 0], 0, size - 1)
    return int(min(first, last)), int(last)


def _dimensions(operation: Operation) -> set[int]:
    """Those that an operation's argument `dim` or `dims` names, all if it is empty; none without such an argument."""
    count = len(operation.image_operands[0].value.shape)
    for name in ("dim", "dims"):
        if name in operation.traits.arguments:
            chosen = operation.argument(name)
            chosen = [chosen] if isinstance(chosen, int) else chosen or range(count)
            return {d % count for d in chosen}
    return set()


class Everything:
    """The op rule of an unknown operation: every result depends on all of every operand."""

    def __init__(self, operation: Operation):
        self.operation = operation

    def layouts(self, shapes: list[tuple[int, ...]]) -> list[Layout]:
        """Layouts of the results, whose shapes are given."""
        if not self._keeps_samples():
            return [plain(shape) for shape in shapes]
        first = (((SAMPLES, 1),),)
        return [(*first, *plain(shape[1:])) if shape[:1] == (1,) else plain(shape) for shape in shapes]

    def _keeps_samples(self) -> bool:
        """Whether the samples stay apart, and in the first dimension."""
        operation = self.operation
        if not all(has_samples(operand.value.layout) for operand in operation.image_operands):
            return False
        if operation.traits.pointwise:
            return True
        return operation.name in KEEPS_SAMPLES and 0 not in _dimensions(operation)

    def forget(self) -> None:
        """Drop what follows from the weights, which may have changed."""

    def window(self, operand: Operand, axis: int, wanted: np.ndarray) -> np.ndarray | None:
        """Windows (2, units) of an operand for the windows `wanted` (2, units) of the results, not clipped.

        None if the results do not depend on this operand.
        """
        return EVERYTHING

    def local_window(self, operand: Operand, axis: int, wanted: np.ndarray) -> np.ndarray:
        """`window`, but for a result that depends most on its own place, though on all others, too."""
        return self.window(operand, axis, wanted)

    def windows(self, operand: Operand, wanted: Windows) -> Windows:
        """Windows of an operand, clipped by its plane, that the windows `wanted` of the results need."""
        return operand.value.whole

    def compute(self, fetch: Fetch, wanted: Windows) -> list[torch.Tensor]:
        """The results, cropped to the windows `wanted`; `fetch` gives the operands, cropped as asked."""
        position = KEEPS_SAMPLES.get(self.operation.name)
        if position is None or not has_samples(self.operation.outputs[0].layout):
            return self.operation.call(lambda leaf: fetch(leaf, {}))
        tensor, *rest = self.operation.args
        tensor = fetch(tensor, {})
        given = rest[position - 1]
        rest[position - 1] = len(tensor) if isinstance(given, int) else [len(tensor), *given[1:]]
        rest = mapped(rest, lambda leaf: fetch(leaf, {}))
        return as_list(self.operation.function(tensor, *rest))


class KeepsPlaces(Everything):
    """Every result depends on all of an operand, but has the place of one entry of it, such as a group norm's."""

    def layouts(self, shapes):
        return [self.operation.image_operands[0].value.layout, *super().layouts(shapes)[1:]]

    def local_window(self, operand, axis, wanted):
        return wanted


class Through(Everything):
    """Every result depends on the place of the operands that is its own."""

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

    layouts : gives the layouts of the results, or None if the operation mixes an axis
    """

    def rule(operation: Operation, shapes: list) -> Everything:
        found = layouts(operation, shapes)
        found = None if found is None else [tuple(layout) for layout in found]
        usable = found is not None and has_each_axis_once(found[0])
        return kind(operation, found) if usable else Everything(operation)

    return rule
