"""A model as a graph: operations, and the tensors that they make and use."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

import torch

from erf.graph.axes import SAMPLES, Layout, Windows, axis_of, cropped_shape, sizes_of, whole_of
from erf.graph.torch_private import OpOverload, Traits, traits_of


@dataclass(eq=False, repr=False, slots=True)
class Value:
    """One tensor of the graph, without its data.

    constant : whether it is the same for all images
    layout, sizes : of which dimensions it has, and lengths of the axes; None until `lie` is called
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    made_by: "Operation | None" = None  # None for the images
    constant: bool = field(init=False)
    layout: Layout | None = None
    sizes: dict[int, int] | None = None

    def __post_init__(self):
        self.constant = self.made_by is not None and self.made_by.constant

    def lie(self, layout: Layout) -> None:
        self.layout, self.sizes = layout, sizes_of(layout)

    def dimension(self, axis: int) -> int | None:
        """The dimension that lies along an axis and nothing else; None if there is none."""
        return next((d for d, factors in enumerate(self.layout) if axis_of(factors) == axis), None)

    @property
    def whole(self) -> Windows:
        return whole_of(self.layout)

    def elements(self, windows: Windows) -> int:
        """How many numbers it holds when it is cropped to windows."""
        return prod(cropped_shape(self.layout, windows))


@dataclass(eq=False, repr=False, slots=True)
class Operand:
    """Use of a value by an operation; `detached` if no gradient goes back through it (detach, no_grad)."""

    value: Value
    detached: bool


@dataclass(eq=False, repr=False, slots=True)
class Operation:
    """`function` of `args` and `kwargs`, in which an Operand stands for each tensor that was computed."""

    function: OpOverload
    args: tuple
    kwargs: dict
    module: str  # name of the submodule that performs it
    operands: list[Operand]  # those among the arguments
    rule: object = None  # its op rule (erf.ops.rule); None for constants
    outputs: list[Value | None] = field(default_factory=list)
    image_operands: list[Operand] = field(init=False)
    constant: bool = field(init=False)
    traits: Traits = field(init=False)
    name: str = field(init=False)

    def __post_init__(self):
        self.image_operands = [operand for operand in self.operands if not operand.value.constant]
        self.constant = not self.image_operands
        self.traits = traits_of(self.function)
        self.name = self.traits.name

    def __str__(self) -> str:
        return f"{self.name} in {self.module!r}" if self.module else self.name

    @property
    def asks(self) -> bool:
        """Whether a gradient goes through it, where it is performed."""
        return torch.is_grad_enabled() and any(not operand.detached for operand in self.operands)

    def argument(self, name: str):
        """An argument by its name in the operation's schema; its default if it was not given, None if there is none."""
        position, default = self.traits.arguments.get(name, (len(self.args), None))
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    def cost(self, wanted: Windows) -> int:
        """Multiplications for the crop `wanted` of the result of a convolution or a product; else its elements."""
        elements = self.outputs[0].elements(wanted)
        if self.name == "convolution":
            weight = self.argument("weight")
            return elements * prod((weight.value if isinstance(weight, Operand) else weight).shape[1:])
        if self.name in ("mm", "addmm", "bmm", "baddbmm", "linear"):
            return elements * self.image_operands[0].value.shape[-1]
        return elements

    def call(self, replace) -> list:
        """Perform it, with `replace(leaf)` in place of every tensor and Operand; returns a list of its results."""
        args, kwargs = mapped((self.args, self.kwargs), replace)
        return as_list(self.function(*args, **kwargs))


@dataclass(eq=False, repr=False)
class Graph:
    """The operations by which a model computes its output from a batch of images."""

    images: Value
    operations: list[Operation]  # each after those whose results it uses
    output: Value
    own_gradients: bool = False  # of functions that are not torch's: what seems detached need not be

    @property
    def repeatable(self) -> bool:
        """Whether a crop of it gives what the whole gives: it draws no random numbers, and does not depend on how
        tensors lie in memory."""
        return not any(
            torch.Tag.nondeterministic_seeded in operation.function.tags or "as_strided" in operation.name
            for operation in self.operations
        )

    @property
    def keeps_samples(self) -> bool:
        """Whether the samples of a batch stay apart in each result, so that several can be computed at once."""
        made = (operation.outputs[0].layout for operation in self.operations if not operation.constant)
        return all(any(axis == SAMPLES for dimension in layout for axis, _ in dimension) for layout in made)

    @functools.cached_property
    def elements(self) -> int:
        """How many numbers are computed for one image."""
        return sum(prod(operation.outputs[0].shape) for operation in self.operations if not operation.constant)


def mapped(value, replace: Callable):
    """A copy of arguments with `replace(leaf)` in place of every tensor and Operand in them."""
    kind = type(value)
    if kind in (int, float, bool, str, type(None)):
        return value
    if kind is Operand or isinstance(value, torch.Tensor):
        return replace(value)
    if kind is dict:
        return {name: mapped(one, replace) for name, one in value.items()}
    if isinstance(value, tuple | list):
        if value and type(value[0]) is int:  # a shape, or the like
            return value
        return kind([mapped(one, replace) for one in value])
    return value


def as_list(results) -> list:
    return list(results) if isinstance(results, tuple | list) else [results]
