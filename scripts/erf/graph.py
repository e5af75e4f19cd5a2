"""What a model does to an image, as a graph of operations, and which dimensions of a tensor lie along the image's."""

from dataclasses import dataclass, field
from math import prod

import torch
from torch.utils import _pytree as pytree

ROWS, COLUMNS = 0, 1
AXES = (ROWS, COLUMNS)
PLAIN = None  # what lies along neither: samples, channels

# A layout has, for each dimension of a tensor, the factors that it is the product of, outermost first: (axis, size).
# An image that was flattened to tokens has ((PLAIN, n),), ((ROWS, h), (COLUMNS, w)), ((PLAIN, c),).
Factor = tuple[int | None, int]
Layout = tuple[tuple[Factor, ...], ...]
Windows = dict[int, tuple[int, int]]  # for each axis the first and the last row, or column


@dataclass(eq=False)
class Value:
    """One tensor of the graph, without its data."""

    tensor: torch.Tensor  # without data
    layout: Layout
    made_by: "Operation | None" = None  # None for the images
    number: int = 0  # among what that operation returns

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.tensor.dtype

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    def dimension(self, axis: int) -> int | None:
        """The dimension that lies along an axis and nothing else; None if there is none."""
        return next((d for d, factors in enumerate(self.layout) if axis_of(factors) == axis), None)

    @property
    def sizes(self) -> dict[int, int]:
        """Lengths of the axes that the tensor has."""
        return {axis: size for dimension in self.layout for axis, size in dimension if axis is not PLAIN}

    @property
    def whole(self) -> Windows:
        return {axis: (0, size - 1) for axis, size in self.sizes.items()}

    def numbers(self, windows: Windows) -> int:
        """How many it holds, cut to windows."""
        return prod(cut_shape(self.layout, windows))

    @property
    def constant(self) -> bool:
        """Whether it is the same for all images."""
        return self.made_by is not None and self.made_by.constant


@dataclass(eq=False)
class Operand:
    """Use of a value by an operation; `cut` if no gradient flows back through it (detach, no_grad)."""

    value: Value
    cut: bool


@dataclass(eq=False)
class Operation:
    """`function` of `args` and `kwargs`, in which an Operand stands for each tensor that was computed."""

    function: torch._ops.OpOverload
    args: tuple
    kwargs: dict
    module: str  # name of the submodule that performs it
    rule: object = None  # what it does to rows and columns (erf.rules); none for constants
    outputs: list[Value] = field(default_factory=list)

    def __post_init__(self):
        leaves = pytree.tree_leaves((self.args, self.kwargs))
        self.operands = [leaf for leaf in leaves if isinstance(leaf, Operand)]
        self.image_operands = [operand for operand in self.operands if not operand.value.constant]
        self.constant = not self.image_operands

    @property
    def name(self) -> str:
        return self.function.overloadpacket.__name__

    def __str__(self) -> str:
        return f"{self.name} in {self.module!r}" if self.module else self.name

    def argument(self, name: str):
        """An argument by its name in the operation's schema; its default if it was not given, None if there is none."""
        for position, declared in enumerate(self.function._schema.arguments):
            if declared.name == name:
                if position < len(self.args):
                    return self.args[position]
                return self.kwargs.get(name, declared.default_value)
        return None

    def cost(self, here: Windows) -> int:
        """Multiplications for the part `here` of a convolution's or a product's result; numbers, of any other."""
        numbers = self.outputs[0].numbers(here)
        if self.name == "convolution":
            weight = self.argument("weight")
            return numbers * prod((weight.value if isinstance(weight, Operand) else weight).shape[1:])
        if self.name in ("mm", "addmm", "bmm", "baddbmm", "linear"):
            return numbers * self.image_operands[0].value.shape[-1]
        return numbers

    def call(self, replace) -> list:
        """What it returns, always as a list, with `replace(leaf)` in place of every tensor and Operand."""

        def replaced(leaf):
            return replace(leaf) if isinstance(leaf, Operand | torch.Tensor) else leaf

        args, kwargs = pytree.tree_map(replaced, (self.args, self.kwargs))
        return as_list(self.function(*args, **kwargs))


@dataclass(eq=False)
class Graph:
    """What a model does with a batch of images, as far as its output asks for it."""

    images: Value
    operations: list[Operation]  # each after those whose results it uses
    output: Value

    @property
    def random(self) -> bool:
        """Whether it draws random numbers, which would be others the next time."""
        return any(torch.Tag.nondeterministic_seeded in operation.function.tags for operation in self.operations)

    @property
    def numbers(self) -> int:
        """How many are computed for the batch that was traced."""
        return sum(prod(operation.outputs[0].shape) for operation in self.operations if not operation.constant)


def as_list(results) -> list:
    return list(results) if isinstance(results, tuple | list) else [results]


def plain(shape) -> Layout:
    """The layout of a tensor of which no dimension lies along rows or columns, or it is not known which."""
    return tuple(((PLAIN, size),) for size in shape)


def axis_of(dimension: tuple[Factor, ...]) -> int | None:
    """ROWS or COLUMNS for a dimension that lies along this axis and nothing else; PLAIN for others."""
    return dimension[0][0] if len(dimension) == 1 else PLAIN


def is_plain(dimension: tuple[Factor, ...]) -> bool:
    return all(axis is PLAIN for axis, _ in dimension)


def has_each_axis_once(layout: Layout) -> bool:
    axes = [axis for dimension in layout for axis, _ in dimension if axis is not PLAIN]
    return len(axes) == len(set(axes))


def regrouped(layout: Layout, shape: tuple[int, ...]) -> Layout | None:
    """The layout after a view as `shape`, which keeps the order of all elements; None if it takes an axis apart."""
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
        result.append(tuple(taken) or ((PLAIN, 1),))
    return None if pending else tuple(result)


def cut_shape(layout: Layout, windows: Windows) -> list[int]:
    """The shape of a tensor that is cut to windows."""
    return [
        prod(windows[axis][1] - windows[axis][0] + 1 if axis in windows else size for axis, size in dimension)
        for dimension in layout
    ]


def cut(tensor: torch.Tensor, layout: Layout, have: Windows, need: Windows) -> torch.Tensor:
    """A tensor that holds the windows `have`, cut to those of `need`, which lie in them; the others stay."""
    for number, dimension in enumerate(layout):
        moved = [(i, axis) for i, (axis, _) in enumerate(dimension) if axis in need and need[axis] != have[axis]]
        if not moved:
            continue
        if len(dimension) > 1:  # several in one dimension: taken apart for a moment
            tensor = tensor.unflatten(number, cut_shape(tuple((factor,) for factor in dimension), have))
        for place, axis in moved:
            (first, last), start = need[axis], have[axis][0]
            tensor = tensor.narrow(number + place, first - start, last - first + 1)
        if len(dimension) > 1:
            tensor = tensor.flatten(number, number + len(dimension) - 1)
    return tensor
