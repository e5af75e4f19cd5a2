"""How a model becomes a graph of operations: it runs once on tensors without data (torch's FakeTensorMode).

Images of any size cost nothing, and the model does not notice.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from erf.errors import InputError
from erf.fusion import fused
from erf.graph import Graph, Operand, Operation, Value, as_list
from erf.layouts import COLUMNS, PLAIN, ROWS, plain
from erf.operations import rule_for


class Untraceable(Exception):  # noqa: N818, not a mistake of anybody's
    """What the model does cannot be followed; the argument says why."""


def trace(run: Callable[[torch.Tensor], torch.Tensor], model: nn.Module, images: torch.Tensor) -> Graph:
    """What `run`, which calls `model`, does with a batch of images (N, C, H, W), whose values do not count.

    Untraceable if what is done depends on the values of a tensor, or has a gradient that is not torch's own. InputError
    if the result has no gradient.
    """
    without_data = FakeTensorMode(allow_non_fake_inputs=True)
    with _left_alone(model), _names_of_modules(model) as running, torch.inference_mode(False), torch.enable_grad():
        try:
            with without_data, _quiet("torch._subclasses.fake_tensor"), _with_gradients():
                source = torch.empty(images.shape, dtype=images.dtype, device=images.device, requires_grad=True)
                recorder = _Recorder(source, running)
                with recorder:
                    # A copy, which may be written in place; to the recorder functionalize shows no such writing.
                    output = torch.func.functionalize(lambda images: run(images.clone()))(source)
        except Exception as error:
            raise Untraceable(_in_words(error.__cause__ or error)) from error
    final = recorder.values.get(id(output))
    if final is None:
        raise Untraceable("its output comes from elsewhere")
    if final.constant or not output.requires_grad:
        raise InputError("the unit does not depend on the input by any gradient: choose another layer")
    return Graph(recorder.images, fused(_needed_for(final), final), final)


def _in_words(error: BaseException) -> str:
    if isinstance(error, DataDependentOutputException | DynamicOutputShapeException):
        return f"the values of a tensor decide what is done ({error})"
    return f"it cannot be traced ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"


class _Recorder(TorchDispatchMode):
    """Takes down every operation on the way forward."""

    def __init__(self, source: torch.Tensor, running: list[str]):
        super().__init__()
        samples, channels, height, width = source.shape
        layout = (((PLAIN, samples),), ((PLAIN, channels),), ((ROWS, height),), ((COLUMNS, width),))
        self.images = Value(source, layout)
        self.values = {id(source): self.images}  # which keep the tensors, so that no identity is given twice
        self.running = running

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ == "native_batch_norm" and args[5] is False:
            # Without data torch takes it apart, which is slow; the result is like the operand.
            results = torch.empty_like(args[0]), args[0].new_empty(0), args[0].new_empty(0)
        else:
            results = function(*args, **(kwargs or {}))
        tensors = as_list(results)
        if any(isinstance(tensor, torch.Tensor) for tensor in tensors):
            self.take_down(function, args, kwargs or {}, tensors)
        return results

    def take_down(self, function, args: tuple, kwargs: dict, tensors: list) -> None:
        def operand(leaf):
            known = isinstance(leaf, torch.Tensor) and id(leaf) in self.values
            return Operand(self.values[id(leaf)], not leaf.requires_grad) if known else leaf

        operation = Operation(function, *pytree.tree_map(operand, (args, kwargs)), self.running[-1])
        shapes = [tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else () for tensor in tensors]
        if operation.constant:
            layouts = map(plain, shapes)
        else:
            operation.rule = rule_for(operation, shapes)
            layouts = operation.rule.layouts(shapes)
        for tensor, layout in zip(tensors, layouts, strict=True):
            operation.outputs.append(Value(tensor, layout, operation))
            if isinstance(tensor, torch.Tensor):
                self.values[id(tensor)] = operation.outputs[-1]


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


@contextlib.contextmanager
def _with_gradients() -> Iterator[None]:
    """What a model does when it is asked for gradients, although tensors do not tell that while they are traced.

    Attention takes no short cut that has none; hooks on tensors cannot be followed.
    """

    def refuse(tensor, hook):
        raise Untraceable("it has hooks on tensors")

    fast, register = torch.backends.mha.get_fastpath_enabled(), torch.Tensor.register_hook
    torch.backends.mha.set_fastpath_enabled(False)
    torch.Tensor.register_hook = refuse
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.Tensor.register_hook = register


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without what a logger says of an error, which is said here."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@contextlib.contextmanager
def _names_of_modules(model: nn.Module) -> Iterator[list[str]]:
    """The names of the submodules that are running, the innermost last."""
    running, handles = [""], []

    def leave(module, inputs, output):
        running.pop()

    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # has no hooks
            continue
        handles.append(module.register_forward_pre_hook(lambda module, inputs, name=name: running.append(name)))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield running
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _left_alone(model: nn.Module) -> Iterator[None]:
    """Modules that keep what they compute, such as tables of positions, must not keep tensors without data."""
    modules = (module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule))
    attributes = [(vars(module), dict(vars(module))) for module in modules]
    contents = [
        (value, value.copy())
        for _, before in attributes
        for value in before.values()
        if isinstance(value, dict | list | set)
    ]
    try:
        yield
    finally:
        for held, before in [*attributes, *contents]:
            held.clear()
            held.extend(before) if isinstance(held, list) else held.update(before)
