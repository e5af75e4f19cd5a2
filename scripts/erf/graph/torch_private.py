"""All that the library takes from torch beyond its public interface: a new torch may change any of it.

Names with an underscore in front, names in modules with one, and what torch's objects have of that kind.
"""

import contextlib
import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch._ops import OpOverload
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = [
    "READ_NUMBER",
    "TRACED_CONVOLUTION",
    "BatchNorm",
    "DispatchMode",
    "OpOverload",
    "TorchFunctionMode",
    "Traits",
    "eager",
    "evaluated_batch_norm",
    "has_backward_hooks",
    "modules_of",
    "nodes_behind",
    "overload_name",
    "own_buffers",
    "own_parameters",
    "running_module",
    "traits_of",
]


class DispatchMode(TorchDispatchMode):
    """A mode that sees every operation. torch's own base class would load torch.compile's machinery, in a second."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


CALL = nn.Module._call_impl.__code__


def running_module() -> nn.Module | None:
    """The innermost module that is being called."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code is not CALL:
        frame = frame.f_back
    return frame and frame.f_locals["self"]


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """What torch.compile has compiled runs as it was written."""
    if "torch._dynamo" not in sys.modules:  # then nothing is compiled
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


TRACED_CONVOLUTION = torch.ops.aten._convolution.default  # torch.jit.trace's, with three more arguments
READ_NUMBER = torch.ops.aten._local_scalar_dense.default  # tensor.item()


@dataclass(frozen=True, slots=True)
class Traits:
    """What torch declares of an operation.

    name : such as "mean", of aten.mean.dim
    arguments : the position and the default of each argument, by its name
    pointwise : whether torch marks it as computing each position by itself
    tensors : positions of the arguments that may be tensors, or hold some
    written : position of the argument that it writes into; None if it writes into none
    pure : the operation that gives as a new tensor what it writes; None if there is none
    views : whether its results share memory with its first argument
    """

    name: str
    arguments: dict[str, tuple[int, object]]
    pointwise: bool
    tensors: tuple[int, ...]
    written: int | None
    pure: OpOverload | None
    views: bool


@functools.cache
def traits_of(function: OpOverload) -> Traits:
    schema, name = function._schema, function.overloadpacket.__name__
    tensors = tuple(i for i, given in enumerate(schema.arguments) if "Tensor" in str(given.type))
    arguments = {one.name: (position, one.default_value) for position, one in enumerate(schema.arguments)}
    declared = name, arguments, torch.Tag.pointwise in function.tags, tensors
    written = [i for i, given in enumerate(schema.arguments) if given.alias_info and given.alias_info.is_write]
    if not written:
        return Traits(*declared, None, None, any(given.alias_info is not None for given in schema.returns))
    packet = getattr(getattr(torch.ops, function.namespace), name.removesuffix("_"), None)
    pure = getattr(packet, overload_name(function), None) if name.endswith("_") and len(written) == 1 else None
    return Traits(*declared, written[0], pure, False)


def nodes_behind(tensors: list[torch.Tensor]) -> list:
    """All nodes of autograd's graph that the gradients of some tensors go through."""
    pending = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    found = dict.fromkeys(pending)
    while pending:
        for node, _ in pending.pop().next_functions:
            if node is not None and node not in found:
                found[node] = None
                pending.append(node)
    return list(found)


def evaluated_batch_norm(node) -> tuple | None:
    """Of the node of a batch norm by running statistics: the strides of its operand, variance, weight and epsilon."""
    if "BatchNorm" not in node.name() or getattr(node, "_saved_training", True) or node._saved_running_var is None:
        return None
    epsilon = node._saved_eps if hasattr(node, "_saved_eps") else node._saved_epsilon  # cuDNN's
    return node._saved_input.stride(), node._saved_running_var, node._saved_weight, epsilon


def overload_name(function: OpOverload) -> str:
    """Such as "dim" for aten.mean.dim."""
    return function._overloadname


def modules_of(model: nn.Module) -> list[nn.Module]:
    """All modules of a model, in the order of model.modules(), which takes longer."""
    found, pending = {}, [model]
    while pending:
        module = pending.pop()
        if module is not None and id(module) not in found:
            found[id(module)] = module
            pending += reversed(module._modules.values())
    return list(found.values())


def own_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Those of a module alone; torch's iterator takes many times longer, since it hashes each."""
    return [one for one in module._parameters.values() if one is not None]


def own_buffers(module: nn.Module) -> list[torch.Tensor]:
    """As `own_parameters`."""
    return [one for one in module._buffers.values() if one is not None]


def has_backward_hooks(model: nn.Module) -> bool:
    """Whether a module of the model, or all modules, have hooks that see or change gradients."""
    own = any(module._backward_hooks or module._backward_pre_hooks for module in modules_of(model))
    return bool(own or nn.modules.module._global_backward_hooks or nn.modules.module._global_backward_pre_hooks)
