"""Isolation of a trace: afterwards the model is as it was, and nothing holds a tensor without data unnoticed."""

import contextlib
import gc
import logging
import warnings
import weakref
from collections.abc import Iterator

import torch
from torch import nn

KEPT = (
    "the model was traced with tensors without data, and something outside of its modules, such as a hook or a cache, "
    "has kept some: clear it, and run the model once on such images before you measure or use it"
)


class Untraceable(Exception):  # noqa: N818, not a mistake of anybody's
    """The model cannot be traced; the argument says why."""


@contextlib.contextmanager
def with_gradients() -> Iterator[None]:
    """Make a model take the path on which gradients exist: while it is traced, its tensors do not ask for them.

    torch's attention takes no short cut without gradients. Hooks on tensors make the model untraceable.
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
def silenced(name: str) -> Iterator[None]:
    """Silence a logger of torch, whose errors are reported by this library."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@contextlib.contextmanager
def names_of_modules(model: nn.Module, running: list[str]) -> Iterator[None]:
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
def left_alone(model: nn.Module) -> Iterator[None]:
    """Restore what modules keep, such as tables of positions, so that they keep no tensors without data."""
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
def warned_of_kept_tensors(tensors: list[torch.Tensor]) -> Iterator[None]:
    """Warn if anything outside of the model's modules, such as a hook or a cache, keeps tensors without data.

    Nothing outside of the model is changed, and so they stay there.
    """
    yield  # an exception that passes, such as Ctrl-C, still holds the tensors of its frames
    left = [weakref.ref(tensor) for tensor in tensors]
    tensors.clear()
    alive = lambda: any(tensor() is not None for tensor in left)  # noqa: E731
    if alive():
        gc.collect()
    if alive():
        warnings.warn(KEPT, stacklevel=2)
