"""How a model becomes a graph of operations: it runs once on tensors without data (torch's FakeTensorMode).

Images of any size cost nothing, and the model does not notice.
"""

import contextlib
import functools
import gc
import logging
import warnings
import weakref
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from erf.errors import InputError
from erf.fusion import fused
from erf.graph import Graph, Operand, Operation, Value, as_list
from erf.layouts import COLUMNS, PLAIN, ROWS, plain
from erf.operations import rule_for

# Operations that take their operand's shape alone, and with what they fill it; None stands for an argument.
FILLED = {"zeros_like": 0, "new_zeros": 0, "ones_like": 1, "new_ones": 1, "full_like": None, "new_full": None}
FILLED |= {"empty_like": 0, "new_empty": 0}

KEPT = (
    "the model was traced with tensors without data, and something outside of its modules, such as a hook or a cache, "
    "has kept some: clear it before you use the model"
)


class Untraceable(Exception):  # noqa: N818, not a mistake of anybody's
    """What the model does cannot be followed; the argument says why."""


def trace(run: Callable[[torch.Tensor], torch.Tensor], model: nn.Module, images: torch.Tensor) -> Graph:
    """What `run`, which calls `model`, does with a batch of images (N, C, H, W), whose values do not count.

    Untraceable if what is done depends on the values of a tensor, or has a gradient that is not torch's own. InputError
    if the result has no gradient.
    """
    recorder = _Recorder(images)
    with _forgotten_elsewhere(recorder.tensors), _left_alone(model), _names_of_modules(model, recorder.running):
        final, has_gradient, problem = _followed(run, recorder)
    if problem:
        raise Untraceable(problem)
    if final.constant or not has_gradient:
        raise InputError("the unit does not depend on the input by any gradient: choose another layer")
    return Graph(recorder.images, fused(_needed_for(final), final), final)


def _followed(run: Callable[[torch.Tensor], torch.Tensor], recorder: "_Recorder") -> tuple[Value | None, bool, str]:
    """What `run` gives, whether that has a gradient, and in words why it cannot be followed. No tensor is left."""
    without_data, quiet = FakeTensorMode(allow_non_fake_inputs=True), _quiet("torch._subclasses.fake_tensor")
    try:
        with torch.inference_mode(False), torch.enable_grad(), without_data, quiet, _with_gradients():
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
    """Takes down every operation on the way forward."""

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
        if function is torch.ops.aten._local_scalar_dense.default and not isinstance(args[0], FakeTensor):
            with unset_fake_temporarily():  # a number that the model holds
                return function(*args)
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
        if operation.name in FILLED:  # it asks for the shape of its operand, and not for what is in it
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
def _names_of_modules(model: nn.Module, running: list[str]) -> Iterator[None]:
    """Put the names of the submodules that are running into a list, the innermost last."""
    handles = []

    def leave(module, inputs, output):
        running.pop()

    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # has no hooks
            continue
        handles.append(module.register_forward_pre_hook(lambda module, inputs, name=name: running.append(name)))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _left_alone(model: nn.Module) -> Iterator[None]:
    """Modules that keep what they compute, such as tables of positions, must not keep tensors without data."""
    modules = (module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule))
    before: dict[int, tuple] = {}
    pending = [vars(module) for module in modules]
    while pending:
        held = pending.pop()
        if id(held) not in before and isinstance(held, dict | list | set | tuple):
            before[id(held)] = held, held if isinstance(held, tuple) else held.copy()
            pending.extend(held.values() if isinstance(held, dict) else held)
    try:
        yield
    finally:
        for held, content in before.values():
            if not isinstance(held, tuple):
                held.clear()
                held.extend(content) if isinstance(held, list) else held.update(content)


@contextlib.contextmanager
def _forgotten_elsewhere(tensors: list[torch.Tensor]) -> Iterator[None]:
    """What else keeps tensors without data, such as a hook or a global table, is found out, and a cache cleared."""
    yield  # an exception that passes, such as Ctrl-C, still holds the tensors of its frames
    left = [weakref.ref(tensor) for tensor in tensors]
    tensors.clear()
    alive = lambda: any(tensor() is not None for tensor in left)  # noqa: E731
    if alive():
        gc.collect()
    if alive():
        for cache in gc.get_objects():
            if type(cache) is functools._lru_cache_wrapper and _holds_no_data(cache):
                cache.cache_clear()
        gc.collect()
    if alive():
        warnings.warn(KEPT, stacklevel=2)


def _holds_no_data(held: object, depth: int = 4) -> bool:
    """Whether a container has a tensor without data in it."""
    if isinstance(held, torch.Tensor):
        return isinstance(held, FakeTensor) or torch._C._functorch.is_functorch_wrapped_tensor(held)
    inner = gc.get_referents(held) if depth and not isinstance(held, type | FunctionType | ModuleType) else []
    return any(_holds_no_data(one, depth - 1) for one in inner)
