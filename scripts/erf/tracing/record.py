"""How a model becomes a graph of operations: they are recorded while it runs, once, on real images.

The pass is an ordinary one, whose gradient can be used. What a model writes in place is recorded as an operation that
makes a new tensor, so that the graph can be computed again in parts.
"""

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.autograd.function import BackwardCFunction

from erf.graph.axes import of_images, plain
from erf.graph.nodes import Graph, Operand, Operation, Value, as_list, mapped
from erf.graph.torch_private import (
    READ_NUMBER,
    TRACED_CONVOLUTION,
    DispatchMode,
    TorchFunctionMode,
    Traits,
    running_module,
    traits_of,
)
from erf.ops.table import rule_for
from erf.tracing.fusion import fused

# Operations that need only the shape of their operand, with the value that they fill in; None: it is an argument.
FILLED = {"zeros_like": 0, "new_zeros": 0, "ones_like": 1, "new_ones": 1, "full_like": None, "new_full": None}
FILLED |= {"empty_like": 0, "new_empty": 0}
ATEN = torch.ops.aten


class Unfollowed(Exception):  # noqa: N818, not a mistake of anybody's
    """The operations of a pass do not tell how its output depends on the image; the argument says why."""


class Guarding(DispatchMode):
    """Calls `before_write` with each tensor that is about to be written into."""

    def __init__(self, before_write: Callable[[torch.Tensor], None]):
        super().__init__()
        self._before_write = before_write

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        written = traits_of(function).written
        if written is not None and written < len(args) and isinstance(args[written], torch.Tensor):
            self._before_write(args[written])
        return function(*args, **(kwargs or {}))


class _Beside(TorchFunctionMode):
    """Sees what the dispatcher does not: values that leave torch, hooks, and `tensor.data`."""

    def __init__(self, recorder: "Recorder"):
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if (note := BESIDE.get(function)) is not None:
            note(self.recorder, function, args, result)
        return result


@dataclass(eq=False, slots=True)
class _Known:
    """A tensor of the pass: its value, and the view that it is of another tensor.

    tensor : a weak reference, since another tensor gets its identity when it has died
    value : None after a tensor of which it is a view, or a view of that tensor, was written into
    asks : whether a gradient goes through it
    viewed : the tensor of which it is a view, the operation with its other arguments, and which of its results it is
    """

    tensor: weakref.ref
    value: Value | None
    asks: bool
    viewed: tuple | None = None
    views: list["_Known"] = field(default_factory=list)


class Recorder(Guarding):
    """While it is entered, it makes a graph of the operations of a pass.

    It keeps no tensor alive. What it finds:

    not_croppable : "" or why a part of the graph cannot be computed in place of the model
    one_by_one : whether images may not share a pass
    problem : "" or why the graph does not tell how results depend on the images
    own_gradients : whether some gradients are not torch's
    foreign : whether it met tensors that neither the model holds nor torch has computed
    """

    def __init__(self, images: torch.Tensor, model: nn.Module, held: set[int], before_write: Callable):
        """images : (1, C, *axes), which the model will be given; held : identities of tensors that the model holds"""
        super().__init__(before_write)
        self.images = Value(tuple(images.shape), images.dtype, images.device)
        self.images.lie(of_images(images.shape))
        self.not_croppable, self.one_by_one, self.problem, self.own_gradients = "", False, "", False
        self.foreign = False
        self._held, self._names = held, {id(module): name for name, module in model.named_modules()}
        self._known: dict[int, _Known] = {}
        self._operands: list[Operand] = []
        self.operations: dict[int, list[Operation]] = {}  # by the identity of the output, as they were performed
        self._known[id(images)] = _Known(weakref.ref(images), self.images, images.requires_grad)
        self._beside = _Beside(self)

    def __enter__(self):
        self._beside.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._beside.__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = super().__torch_dispatch__(function, types, args, kwargs)
        self.follow(function, args, kwargs or {}, results)
        return results

    def graph_of(self, output: torch.Tensor, like: list[Operation] | None = None) -> Graph | None:
        """The graph of a tensor of the pass; None if it is the same for all images. Unfollowed if it is not known.

        like : the operations of a smaller image's graph, of a pass that had gradients, if this one has none;
            Unfollowed if they are others
        """
        final = self._value(output)
        if self.problem:
            raise Unfollowed(self.problem)
        if final is None:
            raise Unfollowed("its output comes from elsewhere")
        if final.constant:
            return None
        operations = self.operations[id(output)] = _needed_for(final)
        if like is not None:
            _take_gradients(operations, like)
        for operation in operations:
            _understand(operation)
        return Graph(self.images, fused(operations, final), final, self.own_gradients)

    def follow(self, function, args: tuple, kwargs: dict, results) -> None:
        """Take in an operation that has been performed."""
        try:
            self._follow(function, args, kwargs, as_list(results))
        except Exception as error:  # the model itself still serves
            self.problem = self.problem or _not_understood(function, error)

    def refuse_crop(self, reason: str) -> None:
        """Note why a part of the graph cannot be computed in place of the model; the first reason stays."""
        self.not_croppable = self.not_croppable or reason

    def note_leaving(self, tensor: torch.Tensor, how: str) -> None:
        """The values of a tensor have left torch: what is made of them is not seen."""
        value = self._value(tensor)
        if value is not None and not value.constant:
            self.refuse_crop(f"values leave torch ({how})")
            self.one_by_one = True

    def note_assignment(self, tensor: torch.Tensor) -> None:
        """`tensor.data` was assigned."""
        value = self._value(tensor)
        self.refuse_crop("it assigns the data of tensors")
        if value is not None and not value.constant:
            self.problem = self.problem or self.not_croppable

    def look_at(self, nodes: list) -> None:
        """Take in what of the gradient the operations do not tell, from nodes of autograd's graph."""
        for node in nodes:
            if isinstance(node, BackwardCFunction):
                self.own_gradients = True
                self.refuse_crop(f"it has a gradient of its own ({type(node).__name__})")

    def draws_outside(self) -> None:
        """Random numbers were drawn that are not torch's: each image is to have its own."""
        self.one_by_one = True
        self.refuse_crop("it draws random numbers")

    def _operation(self, function, traits: Traits, args: tuple, kwargs: dict) -> Operation:
        self._operands, found = [], list(args)
        for position in traits.tensors:
            if position < len(found):
                found[position] = mapped(found[position], self._operand)
        kwargs = kwargs and mapped(kwargs, self._operand)
        return Operation(function, tuple(found), kwargs, self._names.get(id(running_module()), ""), self._operands)

    def _operand(self, leaf: torch.Tensor) -> Operand | torch.Tensor:
        asks, value = leaf.requires_grad, self._value(leaf)
        if value is not None:
            operand = Operand(value, not asks)
            self._operands.append(operand)
            return operand
        if asks:
            self.problem = self.problem or "it computes with something else than torch's operations"
        elif id(leaf) not in self._held and leaf.numel() > 1:
            self.foreign = True
        return leaf

    def _found(self, tensor) -> _Known | None:
        known = self._known.get(id(tensor))
        return known if known is not None and known.tensor() is tensor else None

    def _value(self, tensor: torch.Tensor) -> Value | None:
        known = self._found(tensor)
        return known and self._of(known)

    def _of(self, known: _Known) -> Value:
        if known.value is None:  # viewed once more, after a write
            base, function, args, kwargs, module, number, shape = known.viewed
            own = Operand(self._of(base), not base.asks)
            like = base.value
            results = [Value(shape, like.dtype, like.device)] * (number + 1)
            known.value = _make(Operation(function, (own, *args), kwargs, module, [own]), results)[number]
        return known.value

    def _follow(self, function, args: tuple, kwargs: dict, results: list) -> None:
        traits = traits_of(function)
        if traits.written is not None:
            self._write(function, traits, args, kwargs)
            return
        if function is TRACED_CONVOLUTION:
            function, args = ATEN.convolution.default, args[:9]
        tensors = [one if isinstance(one, torch.Tensor) else None for one in results]
        operation = self._operation(function, traits, args, kwargs)
        if function is READ_NUMBER:
            if not operation.constant and not _asks_whether_finite(operation):
                self.problem = self.problem or f"the values of a tensor decide what is done ({function})"
            return
        if operation.name in FILLED and not operation.constant:
            like, value = tensors[0], FILLED[operation.name]
            value = operation.argument("fill_value") if value is None else value
            where = {"dtype": like.dtype, "device": like.device}
            operation = Operation(ATEN.full.default, (list(like.shape), value), where, operation.module, [])
        asks = operation.asks
        base = self._found(args[0]) if traits.views and args else None
        for number, (tensor, value) in enumerate(zip(tensors, _make(operation, tensors), strict=True)):
            if value is None or (self._found(tensor) and any(tensor is one for one in args)):
                continue  # it gave back what it was given
            known = self._known[id(tensor)] = _Known(weakref.ref(tensor), value, asks)
            if traits.views:
                known.viewed = (base, function, args[1:], kwargs, operation.module, number, value.shape)
                if base:
                    base.views.append(known)

    def _write(self, function, traits: Traits, args: tuple, kwargs: dict) -> None:
        operation = self._operation(traits.pure or function, traits, args, kwargs)
        target = args[traits.written] if traits.written < len(args) else None
        known = self._found(target)
        if known is None and operation.constant and id(target) in self._held:
            known = self._known[id(target)] = _Known(weakref.ref(target), None, False)  # such as a counter
        if known is None or traits.pure is None:
            self._lost(operation, "it writes into tensors in a way that is not known")
            return
        known.value, known.asks = _make(operation, [target])[0], operation.asks
        _spoil(known, None)
        while known.viewed:
            base, *view = known.viewed
            written = base and self._written_back(base, known, *view)
            if written is None:
                self._lost(operation, "it writes into a part of a tensor")
                return
            base.value, base.asks = written, base.asks or known.asks
            _spoil(base, known)
            known = base

    def _lost(self, operation: Operation, reason: str) -> None:
        """What an operation writes is not known further on; if it is the same for all images, the windows are."""
        if operation.constant:
            self.refuse_crop(reason)
        else:
            self.problem = self.problem or f"{reason} ({operation})"

    def _written_back(self, base: _Known, part: _Known, function, args, kwargs, module, number, _) -> Value | None:
        """The value of `base` after its view `part` was written into; None if that has no operation."""
        whole = self._of(base)
        own, new = Operand(whole, not base.asks), Operand(part.value, not part.asks)
        view = Operation(function, (own, *args), kwargs, module, [own])
        found = _inverse(view, whole.shape, number, own, new)
        if found is None or found is new:
            return found and part.value
        function, args = found
        operands = [leaf for leaf in (own, new) if leaf in args]
        return _make(Operation(function, args, {}, module, operands), [whole])[0]


# By which values leave torch. What a model makes of them is not recorded.
LEAVING = (
    torch.Tensor.numpy,
    torch.Tensor.__array__,
    torch.Tensor.tolist,
    torch.Tensor.__dlpack__,
    torch.Tensor.data_ptr,
)
# What the dispatcher does not see: how the recorder notes a call, of a function, its arguments and its result.
BESIDE: dict[Callable, Callable] = {
    **dict.fromkeys(LEAVING, lambda recorder, function, args, _: recorder.note_leaving(args[0], function.__name__)),
    torch.Tensor.data.__get__: lambda recorder, _, args, got: recorder.follow(ATEN.detach.default, args[:1], {}, got),
    torch.Tensor.data.__set__: lambda recorder, _, args, __: recorder.note_assignment(args[0]),
    torch.Tensor.register_hook: lambda recorder, *_: recorder.refuse_crop("it has hooks on tensors"),
}


# From a test of each value to one answer for all.
COMBINES = {"any", "all", "logical_or", "logical_and", "logical_not", "bitwise_or", "bitwise_and", "bitwise_not", "mul"}


def _asks_whether_finite(read: Operation) -> bool:
    """Whether a value that is read tells only if others are finite: of what is measured, all are."""
    pending = [read.image_operands[0].value.made_by]
    while pending:
        operation = pending.pop()
        if operation is None:
            return False
        if operation.name in ("isnan", "isinf", "isfinite"):
            continue
        operands = operation.image_operands
        if operation.name in ("ne", "eq") and (
            (len(operands) == 2 and operands[0].value is operands[1].value) or operation.args[1] == math.inf
        ):
            continue
        if operation.name not in COMBINES:
            return False
        pending += [operand.value.made_by for operand in operands]
    return True


def _inverse(view: Operation, base: tuple[int, ...], number: int, own: Operand, new: Operand):
    """Function and arguments that put a view, `new`, back into its base, `own` of shape `base`.

    `new` itself where both are one; None if there is no such function.
    """
    name, argument = view.name, view.argument
    if name in ("alias", "detach", "lift_fresh"):
        return new
    if name in ("view", "_unsafe_view", "squeeze"):
        return ATEN.view.default, (new, list(base))
    if name == "unsqueeze":
        return ATEN.squeeze.dim, (new, argument("dim"))
    if name in ("transpose", "t"):
        return view.function, (new, *view.args[1:])
    if name == "permute":
        dims = [d % len(base) for d in argument("dims")]
        return ATEN.permute.default, (new, [dims.index(d) for d in range(len(dims))])
    if name == "slice":
        rest = [argument(one) for one in ("dim", "start", "end", "step")]
        return ATEN.slice_scatter.default, (own, new, *rest)
    if name == "select":
        return ATEN.select_scatter.default, (own, new, argument("dim"), argument("index"))
    if name == "unbind":
        return ATEN.select_scatter.default, (own, new, argument("dim"), number)
    if name in ("split", "split_with_sizes"):
        dim, length = argument("dim"), base[argument("dim")]
        sizes = argument("split_sizes") or [argument("split_size")] * -(-length // argument("split_size"))
        first = sum(sizes[:number])
        return ATEN.slice_scatter.default, (own, new, dim, first, min(first + sizes[number], length), 1)
    return None


def _spoil(known: _Known, but: _Known | None) -> None:
    """Views of a tensor that was written into have to be taken anew."""
    for view in known.views:
        if view is not but:
            view.value = None
            _spoil(view, None)


def _make(operation: Operation, tensors: list) -> list[Value | None]:
    """The values of an operation's results, of which the shapes count; None for what is no tensor."""
    operation.outputs = [
        None if one is None else Value(tuple(one.shape), one.dtype, one.device, operation) for one in tensors
    ]
    return operation.outputs


def _understand(operation: Operation) -> None:
    """Give an operation its rule, and its results their layouts. Unfollowed if the rule does not serve."""
    if operation.rule is not None:  # it is in another layer's graph
        return
    shapes = [() if value is None else value.shape for value in operation.outputs]
    try:
        rule = None if operation.constant else rule_for(operation, shapes)
        layouts = map(plain, shapes) if operation.constant else rule.layouts(shapes)
        for value, layout in zip(operation.outputs, layouts, strict=True):
            if value is not None:
                value.lie(tuple(layout))
        operation.rule = rule
    except Exception as error:
        raise Unfollowed(_not_understood(operation.function, error)) from error


def _not_understood(function, error: Exception) -> str:
    return f"{function} is not understood ({type(error).__name__}: {error})"


def _take_gradients(operations: list[Operation], like: list[Operation]) -> None:
    """Which operands are detached, from a pass that had gradients; Unfollowed if that has other operations."""
    if len(operations) != len(like):
        raise Unfollowed("another number of operations")
    for operation, known in zip(operations, like, strict=True):
        same = (operation.function, operation.module) == (known.function, known.module)
        if not same or len(operation.operands) != len(known.operands):
            raise Unfollowed(f"other operations: {operation} in place of {known}")
        for operand, its in zip(operation.operands, known.operands, strict=True):
            operand.detached = its.detached


def _needed_for(output: Value) -> list[Operation]:
    """Operations that `output` depends on, each after those that it depends on itself."""
    order, met, pending = [], set(), [(output.made_by, False)]
    while pending:
        operation, expanded = pending.pop()
        if expanded:
            order.append(operation)
        elif operation is not None and operation not in met:
            met.add(operation)
            pending.append((operation, True))
            pending.extend((operand.value.made_by, False) for operand in operation.operands)
    return order
