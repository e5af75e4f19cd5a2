"""What operations do to rows and columns: what their results see of their operands, and how a part of them is computed.

Along one axis a window is the first and the last index that is seen. Windows of many units are arrays (2, units)
of floats; they go on beyond the plane as if it had no end, and are infinite where all of it is seen. An operation of
which nothing is known sees everything.

Here are the rules by which operations keep rows and columns apart, `erf.sliding` has those of operations that see a
neighbourhood, and `erf.operations` says which rule is whose.
"""

import math
from collections.abc import Callable

import numpy as np
import torch

from erf.graph import Operand, Operation
from erf.layouts import (
    PLAIN,
    Layout,
    Windows,
    cut,
    cut_shape,
    has_each_axis_once,
    is_plain,
    length_of,
    plain,
    regrouped,
    sizes_of,
    whole_of,
)

BATCH_NORMS = (
    *("native_batch_norm", "_native_batch_norm_legit_no_training", "_batch_norm_no_update"),
    *("cudnn_batch_norm", "miopen_batch_norm"),
)
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


class Elementwise(Through):
    """Operands are broadcast against each other."""

    def borrowed(self, shape):
        return fitted(self.found[0][len(self.found[0]) - len(shape) :], shape)


class Joined(Through):
    """Operands lie side by side along a plain dimension of the result."""

    def borrowed(self, shape):
        layout = list(self.found[0])
        joined = self.operation.argument("dim") % len(layout)
        if self.operation.name == "stack":
            del layout[joined]
        else:
            layout[joined] = ((PLAIN, shape[joined]),)
        return tuple(layout)


class Multiplied(Through):
    """Products of matrices, of which one may be a constant for each row or column."""

    def borrowed(self, shape):
        return (*fitted(self.found[0][:-2], shape[:-2]), *plain(shape[-2:])) if len(shape) == 3 else None


class Copied(Elementwise):
    """One tensor in the shape and type of another; torch has no gradient for it."""

    def applied(self, part, here):
        result, source = self.operation.outputs[0], self.operation.args[1]
        return [part(source).to(result.dtype).expand(cut_shape(result.layout, here))]


class Normed(Through):
    """A batch norm by its running statistics: a gain and a shift for each channel.

    torch's own has a wrong gradient for some small tensors that lie in memory in uncommon ways (torch 2.13).
    """

    def applied(self, part, here):
        tensor = part(self.operation.args[0])
        gain, shift = (x.view(-1, *[1] * (tensor.dim() - 2)) for x in gain_and_shift(self.operation, part))
        first, *others = self.operation.outputs
        return [(tensor * gain + shift).to(first.dtype), *(None for _ in others)]


def gain_and_shift(norm: Operation, fetch: Callable) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each channel, (C,), with `fetch(leaf)` in place of the batch norm's tensors."""
    leaves = (norm.argument(name) for name in ("weight", "bias", "running_mean", "running_var"))
    weight, bias, mean, variance = (leaf if leaf is None else fetch(leaf) for leaf in leaves)
    (eps,) = (norm.argument(name) for name in ("eps", "epsilon") if norm.argument(name) is not None)
    gain = torch.rsqrt(variance + eps) if weight is None else torch.rsqrt(variance + eps) * weight
    return gain, -mean * gain if bias is None else bias - mean * gain


class Reshaped(Through):
    """The operation names the shape of its result, which is another one for a part."""

    def applied(self, part, here):
        tensor, shape = part(self.operation.args[0]), cut_shape(self.found[0], here)
        if list(tensor.shape) == shape:  # or torch would give one sample other strides, which slows what follows
            return [tensor]
        # A part may not lie in memory in a way that allows a view.
        return [tensor.expand(shape) if self.operation.name == "expand" else tensor.reshape(shape)]


def fitted(layout: Layout, shape: tuple[int, ...]) -> Layout:
    """The layout with plain dimensions where the shape has other lengths, having been broadcast."""
    return tuple(
        dimension if length_of(dimension) == length else ((PLAIN, length),)
        for dimension, length in zip(layout, shape, strict=True)
    )


def elementwise(operation: Operation, shapes: list, kind: type[Elementwise] = Elementwise) -> Everything:
    shape = shapes[0]
    found = list(plain(shape))
    for operand in operation.image_operands:
        layout = operand.value.layout
        for place, dimension in enumerate(layout, len(shape) - len(layout)):
            if is_plain(dimension) or length_of(dimension) != shape[place]:
                continue
            if not is_plain(found[place]) and found[place] != dimension:
                return Everything(operation)
            found[place] = dimension
    if not has_each_axis_once(found):
        return Everything(operation)
    return kind(operation, [tuple(found)] * len(shapes))


def through(layouts: Callable[[Operation, list], list[Layout] | None], kind: type[Through] = Through):
    """A rule for operations on plain dimensions, given the layouts of their results; None where they touch an axis."""

    def rule(operation: Operation, shapes: list) -> Everything:
        found = layouts(operation, shapes)
        usable = found is not None and has_each_axis_once(found[0])
        return kind(operation, [tuple(layout) for layout in found]) if usable else Everything(operation)

    return rule


def layout_of(operation: Operation) -> Layout:
    """The layout of the first argument; plain if it is a constant."""
    first = operation.args[0]
    return first.value.layout if isinstance(first, Operand) else plain(first.shape)


def same(operation, shapes):
    return [layout_of(operation)]


def viewed(operation, shapes):
    if operation.function._overloadname != "default":  # as another type
        return None
    layout = regrouped(layout_of(operation), shapes[0])
    return layout and [layout]


def expanded(operation, shapes):
    layout, shape = layout_of(operation), shapes[0]
    new = plain(shape[: len(shape) - len(layout)])
    return [(*new, *fitted(layout, shape[len(new) :]))]


def permuted(operation, shapes):
    return [[layout_of(operation)[d] for d in operation.argument("dims")]]


def transposed(operation, shapes):
    layout = list(layout_of(operation))
    i, j = (0, -1) if operation.name == "t" else (operation.argument(name) for name in ("dim0", "dim1"))
    layout[i], layout[j] = layout[j], layout[i]
    return [layout]


def unsqueezed(operation, shapes):
    layout = list(layout_of(operation))
    layout.insert(operation.argument("dim") % len(shapes[0]), ((PLAIN, 1),))
    return [layout]


def squeezed(operation, shapes):
    layout = layout_of(operation)
    overload = operation.function._overloadname
    chosen = dimensions(operation) if overload in ("dim", "dims") else range(len(layout))
    return [[d for i, d in enumerate(layout) if i not in chosen or length_of(d) != 1]]


def dimensions(operation: Operation, dim: str = "dim") -> set[int]:
    """Those that an argument names, all for None."""
    chosen, count = operation.argument(dim), len(layout_of(operation))
    if chosen is None or chosen == []:
        return set(range(count))
    return {d % count for d in ([chosen] if isinstance(chosen, int) else chosen)}


def touches_axis(operation: Operation, chosen: set[int]) -> bool:
    return any(not is_plain(layout_of(operation)[d]) for d in chosen)


def reduced(operation, shapes):
    layout, chosen = layout_of(operation), dimensions(operation)
    if touches_axis(operation, chosen):
        return None
    kept = ((PLAIN, 1),) if operation.argument("keepdim") else None
    found = [kept if i in chosen else d for i, d in enumerate(layout)]
    return [[d for d in found if d is not None]] * len(shapes)


def along_plain(operation, shapes):
    """Whatever changes the length of one plain dimension, or of none."""
    chosen = dimensions(operation, "dims" if operation.name in ("flip", "roll") else "dim")
    if touches_axis(operation, chosen):
        return None
    layout = layout_of(operation)
    return [[((PLAIN, shape[i]),) if i in chosen else d for i, d in enumerate(layout)] for shape in shapes]


def without_one(operation, shapes):
    """select, unbind."""
    chosen = dimensions(operation)
    if touches_axis(operation, chosen):
        return None
    return [[d for i, d in enumerate(layout_of(operation)) if i not in chosen]] * len(shapes)


def joined(operation, shapes):
    """cat, stack, slice_scatter along a plain dimension of what has the same axes in the same places."""
    first = operation.image_operands[0].value.layout
    dim = operation.argument("dim") % len(shapes[0])
    stacked = operation.name == "stack"
    layout = list(first)
    if stacked:
        layout.insert(dim, ((PLAIN, shapes[0][dim]),))
    elif not is_plain(layout[dim]):
        return None
    else:
        layout[dim] = ((PLAIN, shapes[0][dim]),)
    others = [operand.value.layout for operand in operation.image_operands]
    alike = all(len(other) == len(first) and list(map(axes_of, other)) == list(map(axes_of, first)) for other in others)
    return [layout] if alike else None


def axes_of(dimension) -> list[int]:
    return [axis for axis, _ in dimension if axis is not PLAIN]


def multiplied(operation, shapes):
    """mm, bmm, addmm, baddbmm, linear: sums over one plain dimension; the others are those of the two factors."""
    left, right = operation.args[-2:] if operation.name in ("mm", "bmm") else operation.args[:2]
    if operation.name in ("addmm", "baddbmm"):
        left, right = operation.args[1:3]
        if isinstance(operation.args[0], Operand) and not operation.args[0].value.constant:
            return None
    a, b = (x.value.layout if isinstance(x, Operand) else plain(x.shape) for x in (left, right))
    if operation.name == "linear":
        return [[*a[:-1], b[0]]] if is_plain(a[-1]) and all(map(is_plain, b)) else None
    batch = [x[:-2] for x in (a, b) if not all(map(is_plain, x[:-2]))] or [a[:-2]]
    if not (is_plain(a[-1]) and is_plain(b[-2]) and batch[0] == batch[-1]):
        return None
    return [[*batch[0], a[-2], b[-1]]]


def layer_normalised(operation, shapes):
    layout = layout_of(operation)
    normalised = layout[len(layout) - len(operation.argument("normalized_shape")) :]
    return [layout, *map(plain, shapes[1:])] if all(map(is_plain, normalised)) else None


def batch_normalised(operation, shapes):
    """With running statistics; those of the batch see everything."""
    if operation.argument("training"):
        return None
    layout = layout_of(operation)
    return [layout, *map(plain, shapes[1:])] if is_plain(layout[1]) else None
