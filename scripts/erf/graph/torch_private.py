"""All that the library takes from torch beyond its public interface: a new torch may change any of it.

Names with an underscore in front, names in modules with one, and what torch's objects have of that kind.
"""

import functools
import sys
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
    "declared_arguments",
    "has_backward_hooks",
    "has_hooks",
    "may_be_compiled",
    "overload_name",
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


READ_NUMBER = torch.ops.aten._local_scalar_dense.default  # tensor.item()


TRACED_CONVOLUTION = torch.ops.aten._convolution.default  # as traced models have it, with four arguments more


def may_be_compiled() -> bool:
    """Whether what torch.compile needs is loaded, so that some model may be compiled."""
    return "torch._dynamo" in sys.modules


@functools.cache
def declared_arguments(function: OpOverload) -> dict[str, tuple[int, object]]:
    """The position and the default of each argument that an operation declares, by its name."""
    declared = function._schema.arguments
    return {one.name: (position, one.default_value) for position, one in enumerate(declared)}


@dataclass(frozen=True)
class Traits:
    """What an operation does to the memory of the tensors that it is given.

    written : position of the argument that it writes into; None if it writes into none
    pure : the operation that gives as a new tensor what it writes; None if there is none
    views : whether its results share memory with its first argument
    """

    written: int | None
    pure: OpOverload | None
    views: bool


@functools.cache
def traits_of(function: OpOverload) -> Traits:
    schema = function._schema
    written = [i for i, given in enumerate(schema.arguments) if given.alias_info and given.alias_info.is_write]
    if not written:
        return Traits(None, None, any(given.alias_info is not None for given in schema.returns))
    name = function.overloadpacket.__name__
    packet = getattr(getattr(torch.ops, function.namespace), name.removesuffix("_"), None)
    pure = getattr(packet, overload_name(function), None) if name.endswith("_") and len(written) == 1 else None
    return Traits(written[0], pure, False)


def has_hooks(tensor: torch.Tensor) -> bool:
    """Whether hooks see or change the gradient of a tensor."""
    return bool(tensor._backward_hooks)


def overload_name(function: OpOverload) -> str:
    """Such as "dim" for aten.mean.dim."""
    return function._overloadname


def has_backward_hooks(model: nn.Module) -> bool:
    """Whether a module of the model, or all modules, have hooks that see or change gradients."""
    own = any(module._backward_hooks or module._backward_pre_hooks for module in model.modules())
    return bool(own or nn.modules.module._global_backward_hooks or nn.modules.module._global_backward_pre_hooks)
