"""How a model becomes a graph of operations: it runs once on tensors without data (torch's FakeTensorMode).

Such a run costs no arithmetic and no memory, whatever the size of the images.
"""

from collections.abc import Callable

import torch
from torch import nn

from erf.errors import InputError
from erf.graph.axes import COLUMNS, PLAIN, ROWS, plain
from erf.graph.nodes import Graph, Operand, Operation, Value, as_list
from erf.graph.torch_private import (
    NAME_OF_LOGGER,
    READ_NUMBER,
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    TorchDispatchMode,
    tree_map,
    unset_fake_temporarily,
)
from erf.ops.table import rule_for
from erf.tracing.fusion import fused
from erf.tracing.isolation import (
    Untraceable,
    left_alone,
    names_of_modules,
    silenced,
    warned_of_kept_tensors,
    with_gradients,
)

# Operations that need only the shape of their operand, with the value that they fill in; None: it is an argument.
FILLED = {"zeros_like": 0, "new_zeros": 0, "ones_like": 1, "new_ones": 1, "full_like": None, "new_full": None}


FILLED |= {"empty_like": 0, "new_empty": 0}


def trace(run: Callable[[torch.Tensor], torch.Tensor], model: nn.Module, images: torch.Tensor) -> Graph:
    """The graph of `run`, a function that calls `model`, for a batch of images (N, C, H, W), of which the shape counts.

    Untraceable if the operations depend on the values of a tensor, or have a gradient that is not torch's own.
    InputError if the result has no gradient.
    """
    recorder = _Recorder(images)
    with warned_of_kept_tensors(recorder.tensors), left_alone(model), names_of_modules(model, recorder.running):
        final, has_gradient, problem = _followed(run, recorder)
    if problem:
        raise Untraceable(problem)
    if final.constant or not has_gradient:
        raise InputError("the unit does not depend on the input by any gradient: choose another layer")
    return Graph(recorder.images, fused(_needed_for(final), final), final)


def _followed(run: Callable[[torch.Tensor], torch.Tensor], recorder: "_Recorder") -> tuple[Value | None, bool, str]:
    """Record `run`: its result, whether that has a gradient, and why it cannot be traced ("" if it can)."""
    without_data, quiet = FakeTensorMode(allow_non_fake_inputs=True), silenced(NAME_OF_LOGGER)
    try:
        with torch.inference_mode(False), torch.enable_grad(), without_data, quiet, with_gradients():
            source = recorder.start()
            with recorder:
                # A copy, which may be written in place; to the recorder functionalize shows no such writing.
                output = torch.func.functionalize(lambda images: run(images.clone()))(source)
    except Exception as error:
        return None, False, _in_words(error.__cause__ or error)
    final = recorder.values.get(id(output))
    return final, output.requires_grad, "" if final else "its output comes from elsewhere"


def _in_words(error: BaseException) -> str:
    if isinstance(error, DataDependentOutputException | DynamicOutputShapeException):
        return f"the values of a tensor decide what is done ({error})"
    return f"it cannot be traced ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"


class _Recorder(TorchDispatchMode):
    """Records every operation on the way forward."""

    def __init__(self, images: torch.Tensor):
        super().__init__()
        samples, channels, height, width = images.shape
        layout = (((PLAIN, samples),), ((PLAIN, channels),), ((ROWS, height),), ((COLUMNS, width),))
        self.images = Value(tuple(images.shape), images.dtype, images.device, layout)
        self.values: dict[int, Value] = {}  # by the identity of tensors
        self.tensors: list[torch.Tensor] = []  # so that no identity is given twice
        self.running = [""]  # names of submodules, the innermost last

    def start(self) -> torch.Tensor:
        """The images, without data."""
        images = self.images
        source = torch.empty(images.shape, dtype=images.dtype, device=images.device, requires_grad=True)
        self.values[id(source)] = images
        self.tensors.append(source)
        return source

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is READ_NUMBER and not isinstance(args[0], FakeTensor):
            with unset_fake_temporarily():  # a number that the model holds
                return function(*args)
        if function.overloadpacket.__name__ == "native_batch_norm" and args[5] is False:
            # Without data torch takes it apart, which is slow; the result is like the operand.
            results = torch.empty_like(args[0]), args[0].new_empty(0), args[0].new_empty(0)
        else:
            results = function(*args, **(kwargs or {}))
        tensors = as_list(results)
        if any(isinstance(tensor, torch.Tensor) for tensor in tensors):
            self.record(function, args, kwargs or {}, tensors)
        return results

    def record(self, function, args: tuple, kwargs: dict, tensors: list) -> None:
        def operand(leaf):
            known = isinstance(leaf, torch.Tensor) and id(leaf) in self.values
            return Operand(self.values[id(leaf)], not leaf.requires_grad) if known else leaf

        operation = Operation(function, *tree_map(operand, (args, kwargs)), self.running[-1])
        if operation.name in FILLED:  # it needs the shape of its operand, not its values
            like, value = tensors[0], FILLED[operation.name]
            value = operation.argument("fill_value") if value is None else value
            where = {"dtype": like.dtype, "device": like.device}
            operation = Operation(torch.ops.aten.full.default, (list(like.shape), value), where, self.running[-1])
        shapes = [tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else () for tensor in tensors]
        if operation.constant:
            layouts = map(plain, shapes)
        else:
            operation.rule = rule_for(operation, shapes)
            layouts = operation.rule.layouts(shapes)
        for tensor, layout in zip(tensors, layouts, strict=True):
            if not isinstance(tensor, torch.Tensor):
                operation.outputs.append(None)
                continue
            operation.outputs.append(Value(tuple(tensor.shape), tensor.dtype, tensor.device, layout, operation))
            self.values[id(tensor)] = operation.outputs[-1]
            self.tensors.append(tensor)


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
