"""Layouts of the results of operations that rearrange, join, reduce or multiply tensors.

None stands for an operation that mixes an axis, which has no op rule.
"""

from erf.graph.axes import (
    PLAIN,
    SAMPLES,
    Among,
    Layout,
    axis_of,
    fitted,
    is_plain,
    length_of,
    plain,
    regrouped,
    sizes_of,
    splits_axis,
)
from erf.graph.nodes import Operand, Operation
from erf.graph.torch_private import overload_name


def layout_of(operation: Operation) -> Layout:
    """The layout of the first argument; plain if it is a constant."""
    first = operation.args[0]
    return first.value.layout if isinstance(first, Operand) else plain(first.shape)


def same(operation, shapes):
    return [layout_of(operation)]


def viewed(operation, shapes):
    if overload_name(operation.function) != "default":  # as another type
        return None
    layout = regrouped(layout_of(operation), shapes[0])
    return layout and [layout]


def expanded(operation, shapes):
    layout, shape = layout_of(operation), shapes[0]
    new = plain(shape[: len(shape) - len(layout)])
    return [(*new, *fitted(layout, shape[len(new) :]))]


def repeated(operation, shapes):
    layout, times = layout_of(operation), operation.argument("repeats")
    new = len(times) - len(layout)
    if any(count > 1 and not is_plain(dimension) for dimension, count in zip(layout, times[new:], strict=True)):
        return None
    old = [((PLAIN, n),) if is_plain(d) else d for d, n in zip(layout, shapes[0][new:], strict=True)]
    return [[*plain(shapes[0][:new]), *old]]


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
    overload = overload_name(operation.function)
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
    """cat, stack, slice_scatter along a plain dimension, of tensors with equal axes in equal dimensions."""
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


def joined_beside(operation, shapes):
    """cat of entries that have places with others that have none, such as class tokens."""
    dim = operation.argument("dim") % len(shapes[0])
    layouts = [x.value.layout if isinstance(x, Operand) else plain(x.shape) for x in operation.args[0]]
    layouts = [layout for layout in layouts if len(layout) == len(shapes[0])]  # empty tensors may have one dimension
    placed = [number for number, layout in enumerate(layouts) if not is_plain(layout[dim])]
    if len(placed) != 1:
        return None
    layout = layouts[placed[0]]
    if splits_axis(layout[dim]) or sizes_of(layout) != sizes_of((layout[dim],)) or SAMPLES in axes_of(layout[dim]):
        return None
    before, after = (
        sum(length_of(other[dim]) for other in others) for others in (layouts[: placed[0]], layouts[placed[0] + 1 :])
    )
    return [[*layout[:dim], _among(before, layout[dim], after), *layout[dim + 1 :]]]


def sliced_beside(operation, shapes):
    """A slice along entries with places and others without, which leaves all of those that have places."""
    layout, dim = layout_of(operation), operation.argument("dim") % len(shapes[0])
    among, length = axis_of(layout[dim]), length_of(layout[dim])
    if not isinstance(among, Among) or operation.argument("step") != 1:
        return None
    first = slice(operation.argument("start"), None).indices(length)[0]
    missing = length - first - shapes[0][dim]  # at the end
    if first > among.before or missing > among.after:
        return None
    return [[*layout[:dim], _among(-first, layout[dim], -missing), *layout[dim + 1 :]]]


def _among(before: int, dimension, after: int):
    """A dimension with so many more entries that have no places on each side, or fewer if negative."""
    if isinstance(among := axis_of(dimension), Among):
        before, dimension, after = before + among.before, among.placed, after + among.after
    if not before and not after:
        return dimension
    return ((Among(before, dimension, after), before + length_of(dimension) + after),)


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
