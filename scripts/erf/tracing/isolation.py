"""Isolation of a measurement: afterwards the model is as it was, whatever it writes into itself when it runs."""

import contextlib
import gc
import random
from collections import OrderedDict
from collections.abc import Iterator
from operator import is_

import numpy as np
import torch
from torch import nn

from erf.graph.torch_private import modules_of

SIMPLE = frozenset({bool, int, float, str, type(None), OrderedDict})  # types of values that hold no tensors of a model
CONTAINERS = frozenset({dict, list, tuple, set})
GENERATORS = (random.Random, np.random.Generator, np.random.RandomState)


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """No search for cycles: thousands of new objects would start one, which takes longer than all that made them."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


class LeftAlone:
    """What a model holds, put back after it has run: its weights and buffers, and what its modules keep in attributes.

    held : identities of all tensors among these
    """

    def __init__(self, model: nn.Module):
        self._containers: dict[int, tuple] = {}
        self._weights: list[tuple[torch.Tensor, torch.Tensor]] = []  # with what they share memory with
        self._written: list[tuple[torch.Tensor, torch.Tensor]] = []  # with a copy
        self._memory: set[int] | None = None
        self.held: set[int] = set()
        self.structure: tuple | None = None  # the model's, as erf.measuring.recorded has it, once it is known
        self._generators = [random, np.random]
        pending = [vars(module) for module in modules_of(model) if not isinstance(module, torch.jit.ScriptModule)]
        while pending:
            container = pending.pop()
            if id(container) in self._containers:
                continue
            self._containers[id(container)] = container, container if type(container) is tuple else container.copy()
            for value in container.values() if isinstance(container, dict) else container:
                kind = type(value)
                if kind in SIMPLE:
                    continue
                if kind in CONTAINERS:
                    pending.append(value)
                elif isinstance(value, torch.Tensor):
                    if id(value) not in self.held:
                        self.held.add(id(value))
                        self._weights.append((value, value.data))
                elif isinstance(value, GENERATORS):
                    self._generators.append(value)

    @property
    def random_state(self) -> list:
        """Of the generators of Python and numpy, those that the model holds included."""
        return [_state_of(generator) for generator in self._generators]

    def before_write(self, tensor: torch.Tensor) -> None:
        """Keep a copy of a tensor that is about to be written into, if the model holds its memory."""
        if self._memory is None:
            self._memory = {data.untyped_storage().data_ptr() for _, data in self._weights}
        if tensor.untyped_storage().data_ptr() in self._memory:
            self._written.append((tensor, tensor.detach().clone()))

    def put_back(self) -> bool:
        """Returns whether anything had to be."""
        changed = bool(self._written)
        with torch.no_grad():
            for tensor, copy in reversed(self._written):
                tensor.data.copy_(copy)
        self._written.clear()
        for value, data in self._weights:
            if value.data_ptr() != data.data_ptr():
                value.data, changed = data, True
        for container, content in self._containers.values():
            if (container or content) and not _alike(container, content):
                changed = True
                container.clear()
                container.extend(content) if isinstance(container, list) else container.update(content)
        return changed


def _state_of(generator):
    if isinstance(generator, np.random.Generator):
        return _plain(generator.bit_generator.state)
    if hasattr(generator, "getstate"):
        return generator.getstate()
    _, key, *rest = generator.get_state()
    return key.tobytes(), rest


def _plain(state):
    """A state of numpy as values that can be compared."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    return state.tobytes() if isinstance(state, np.ndarray) else state


def _alike(container: dict | list | set, content: dict | list | set) -> bool:
    """Whether two containers hold the same objects, in the same order."""
    if len(container) != len(content):
        return False
    if type(container) is tuple:
        return True
    if isinstance(container, dict) and not all(map(is_, container.values(), content.values())):
        return False
    return isinstance(container, set) or all(map(is_, container, content))
