"""How a model becomes a graph of operations: they are recorded while it runs, once, on real images.

The pass is an ordinary one, whose gradient can be used. What a model writes in place is recorded as an operation that
makes a new tensor, so that the graph can be computed again in parts.
"""

import math
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
    Traits,
    has_hooks,
    running_module,
    traits_of,
)
from erf.ops.table import rule_for
from erf.tracing.fusion import fused
from erf.tracing.norms import SoundNorms, is_sound

# Operations that need only the shape of their operand, with the value that they fill in; None: it is an argument.
FILLED = {"zeros_like": 0, "new_zeros": 0, "ones_like": 1, "new_ones": 1, "full_like": None, "new_full": None}
FILLED |= {"empty_like": 0, "new_empty": 0}
ATEN = torch.ops.aten


# By which values leave torch. What a model makes of them is not recorded.
LEAVING = {
    torch.Tensor.numpy,
    torch.Tensor.__array__,
    torch.Tensor.tolist,
    torch.Tensor.__dlpack__,
    torch.Tensor.data_ptr,
}
GET_DATA, SET_DATA = torch.Tensor.data.__get__, torch.Tensor.data.__set__


class Unfollowed(Exception):  # noqa: N818, not a mistake of anybody's
    """The operations of a pass do not tell how its output depends on the image; the argument says why."""


class Recorder(DispatchMode):
    """Keeps every operation of a pass, in order, with its tensors.

    before_write : called with each tensor that is about to be written into
    """

    def __init__(self, before_write: Callable[[torch.Tensor], None]):
        super().__init__()
        self.before_write = before_write
        self.calls: list[tuple] = []
        self.made: set[int] = set()
        self.left: list[tuple[torch.Tensor, str]] = []  # tensors whose values left torch
        self._beside = self.norms = _Beside(self)

    def __enter__(self):
        self._beside.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._beside.__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        written = traits_of(function).written
        if written is not None:
            target = args[written] if written < len(args) else None
            if isinstance(target, torch.Tensor):
                self.before_write(target)
        results = function(*args, **kwargs)
        self.note(function, args, kwargs, results)
        return results

    def note(self, function, args: tuple, kwargs: dict, results) -> None:
        self.calls.append((function, args, kwargs, results, running_module()))
        for tensor in as_list(results):
            self.made.add(id(tensor))


class _Beside(SoundNorms):
    """Notes what the dispatcher does not see: values that leave torch, and `tensor.data`."""

    def __init__(self, recorder: Recorder):
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = super().__torch_function__(function, types, args, kwargs)
        if function == GET_DATA:
            self.recorder.note(ATEN.detach.default, args[:1], {}, result)
        elif function in LEAVING or function == SET_DATA:
            self.recorder.left.append((args[0], getattr(function, "__name__", "data")))
        return result


@dataclass
class _Known:
    """A tensor of the pass: its value, and the operation by which it is a view of another.

    value : None after a tensor of which it is a view, or a view of that tensor, was written into
    """

    tensor: torch.Tensor
    value: Value | None
    viewed: tuple | None = None  # the call, and which of its results this is
    views: list["_Known"] = field(default_factory=list)


class Recording:
    """The graph of what a `Recorder` kept.

    croppable : "" or why a part of the graph cannot be computed in place of the model
    one_by_one : whether images may not share a pass
    """

    def __init__(self, recorder: Recorder, images: torch.Tensor, own: set[int], model: nn.Module):
        """images : (1, C, *axes), which the model was given; own : identities of tensors that the model holds"""
        self._names = {id(module): name for name, module in model.named_modules()}
        self._operands: list[Operand] = []
        self.images = Value(tuple(images.shape), images.dtype, images.device, of_images(images.shape))
        self.croppable, self.one_by_one, self.problem, self.own_gradients = "", False, "", False
        self._own, self._made = own, recorder.made
        self._known = {id(images): _Known(images, self.images)}
        for call in recorder.calls:
            self._follow(*call)
        for tensor, how in recorder.left:
            value = self._value(tensor)
            if value is not None and not value.constant:
                self._not_croppable(f"values leave torch ({how})")
                self.one_by_one = True
            elif how == "__set__":
                self._not_croppable("it assigns weights")

    def graph_of(self, output: torch.Tensor) -> Graph | None:
        """The graph of a tensor of the pass; None if it is the same for all images. Unfollowed if it is not known."""
        final = self._value(output)
        if self.problem:
            raise Unfollowed(self.problem)
        if final is None:
            raise Unfollowed("its output comes from elsewhere")
        if final.constant:
            return None
        return Graph(self.images, fused(_needed_for(final), final), final, self.own_gradients)

    def draws_outside(self) -> None:
        """Random numbers were drawn that are not torch's: each image is to have its own."""
        self.one_by_one = True
        self._not_croppable("it draws random numbers")

    def _not_croppable(self, reason: str) -> None:
        self.croppable = self.croppable or reason

    def _operation(self, function, args: tuple, kwargs: dict, module: nn.Module | None) -> Operation:
        self._operands = []
        args, kwargs = mapped(args, self._operand), kwargs and mapped(kwargs, self._operand)
        return Operation(function, args, kwargs, self._names.get(id(module), ""), self._operands)

    def _follow(self, function, args: tuple, kwargs: dict, results, module: nn.Module | None) -> None:
        traits = traits_of(function)
        if traits.written is not None:
            self._write(function, traits, args, kwargs, module)
            return
        if function is TRACED_CONVOLUTION:
            function, args = ATEN.convolution.default, args[:9]
        tensors = [one if isinstance(one, torch.Tensor) else None for one in as_list(results)]
        operation = self._operation(function, args, kwargs, module)
        if function is READ_NUMBER:
            if not operation.constant and not _asks_whether_finite(operation):
                self.problem = self.problem or f"the values of a tensor decide what is done ({function})"
            return
        if operation.name in FILLED and not operation.constant:
            like, value = tensors[0], FILLED[operation.name]
            value = operation.argument("fill_value") if value is None else value
            where = {"dtype": like.dtype, "device": like.device}
            operation = Operation(ATEN.full.default, (list(like.shape), value), where, operation.module, [])
        values = _make(operation, tensors)
        base = self._known.get(id(args[0])) if traits.views and args else None
        for number, (tensor, value) in enumerate(zip(tensors, values, strict=True)):
            if value is None or id(tensor) in self._known:
                continue
            known = self._known[id(tensor)] = _Known(tensor, value)
            if traits.views:
                known.viewed = (base, function, args, kwargs, module, number)
                if base:
                    base.views.append(known)
            if not value.constant:
                self._look_at(tensor)

    def _look_at(self, tensor: torch.Tensor) -> None:
        """Note what of a gradient the operations do not tell."""
        if isinstance(tensor.grad_fn, BackwardCFunction) and not is_sound(tensor.grad_fn):
            self.own_gradients = True
            self._not_croppable(f"it has a gradient of its own ({type(tensor.grad_fn).__name__})")
        if has_hooks(tensor):
            self._not_croppable("it has hooks on tensors")

    def _operand(self, leaf: torch.Tensor) -> Operand | torch.Tensor:
        value = self._value(leaf)
        if value is not None:
            operand = Operand(value, not leaf.requires_grad)
            self._operands.append(operand)
            return operand
        if leaf.requires_grad:
            self.problem = self.problem or "it computes with something else than torch's operations"
        return leaf

    def _value(self, tensor: torch.Tensor) -> Value | None:
        known = self._known.get(id(tensor))
        return known and self._of(known)

    def _of(self, known: _Known) -> Value | None:
        if known.value is None:  # viewed once more, after a write
            base, function, args, kwargs, module, number = known.viewed
            self._of(base)
            operation = self._operation(function, args, kwargs, module)
            known.value = _make(operation, [known.tensor] * (number + 1))[number]
        return known.value

    def _write(self, function, traits: Traits, args: tuple, kwargs: dict, module: nn.Module | None) -> None:
        operation = self._operation(function, args, kwargs, module)
        target = args[traits.written] if traits.written < len(args) else None
        known = self._known.get(id(target))
        if known is None and operation.constant and id(target) in self._own:
            known = self._known[id(target)] = _Known(target, None)  # such as a counter
        if known is None or traits.pure is None:
            self._lost(operation, "it writes into tensors in a way that is not known")
            return
        operation = Operation(traits.pure, operation.args, operation.kwargs, operation.module, operation.operands)
        known.value = _make(operation, [target])[0]
        _spoil(known, None)
        while known.viewed:
            base, *call, number = known.viewed
            written = self._written_back(base, known, *call, number)
            if written is None:
                self._lost(operation, "it writes into a part of a tensor")
                return
            base.value = written
            _spoil(base, known)
            known = base

    def _lost(self, operation: Operation, reason: str) -> None:
        """What an operation writes is not known further on; if it is the same for all images, the windows are."""
        if operation.constant:
            self._not_croppable(reason)
        self.problem = self.problem or ("" if operation.constant else f"{reason} ({operation})")

    def _written_back(self, base: _Known | None, part: _Known, function, args, kwargs, module, number) -> Value | None:
        """The value of `base` after its view `part` was written into; None if that has no operation."""
        if base is None:
            return None
        view = Operation(function, args, kwargs, self._names.get(id(module), ""), [])
        own, new = (
            Operand(self._of(base), not base.tensor.requires_grad),
            Operand(part.value, not part.tensor.requires_grad),
        )
        found = _inverse(view, base.tensor, number, own, new)
        if found is None or found is new:
            return found and part.value
        function, args = found
        operands = [leaf for leaf in (own, new) if leaf in args]
        return _make(Operation(function, args, {}, view.module, operands), [base.tensor])[0]


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


def _inverse(view: Operation, base: torch.Tensor, number: int, own: Operand, new: Operand):
    """Function and arguments that put a view, `new`, back into its base, `own`; `new` itself where both are one."""
    name, argument = view.name, view.argument
    if name in ("alias", "detach", "lift_fresh"):
        return new
    if name in ("view", "_unsafe_view", "squeeze"):
        return ATEN.view.default, (new, list(base.shape))
    if name == "unsqueeze":
        return ATEN.squeeze.dim, (new, argument("dim"))
    if name in ("transpose", "t"):
        return view.function, (new, *view.args[1:])
    if name == "permute":
        dims = [d % base.dim() for d in argument("dims")]
        return ATEN.permute.default, (new, [dims.index(d) for d in range(len(dims))])
    if name == "slice":
        rest = [argument(one) for one in ("dim", "start", "end", "step")]
        return ATEN.slice_scatter.default, (own, new, *rest)
    if name == "select":
        return ATEN.select_scatter.default, (own, new, argument("dim"), argument("index"))
    if name == "unbind":
        return ATEN.select_scatter.default, (own, new, argument("dim"), number)
    if name in ("split", "split_with_sizes"):
        dim, length = argument("dim"), base.shape[argument("dim")]
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
    shapes = [() if tensor is None else tuple(tensor.shape) for tensor in tensors]
    if operation.constant:
        layouts = map(plain, shapes)
    else:
        operation.rule = rule_for(operation, shapes)
        layouts = operation.rule.layouts(shapes)
    for tensor, shape, layout in zip(tensors, shapes, layouts, strict=True):
        made = None if tensor is None else Value(shape, tensor.dtype, tensor.device, tuple(layout), operation)
        operation.outputs.append(made)
    return operation.outputs


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
