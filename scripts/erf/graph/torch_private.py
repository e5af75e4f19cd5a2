"""All that the library takes from torch beyond its public interface: a new torch may change any of it.

Names with an underscore in front, names in modules with one, and what torch's objects have of that kind.
"""

import torch
from torch import nn
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = [
    "NAME_OF_LOGGER",
    "READ_NUMBER",
    "BatchNorm",
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "FakeTensor",
    "FakeTensorMode",
    "OpOverload",
    "TorchDispatchMode",
    "declared_arguments",
    "has_backward_hooks",
    "has_data",
    "overload_name",
    "tree_leaves",
    "tree_map",
    "unset_fake_temporarily",
]

NAME_OF_LOGGER = "torch._subclasses.fake_tensor"
READ_NUMBER = torch.ops.aten._local_scalar_dense.default  # tensor.item()


def declared_arguments(function: OpOverload) -> list:
    """The arguments of an operation as it declares them, each with `name` and `default_value`."""
    return function._schema.arguments


def has_data(tensor: torch.Tensor) -> bool:
    """False for a tensor that was made while a model was traced, of which the shape alone is known."""
    return not (isinstance(tensor, FakeTensor) or torch._is_functional_tensor(tensor))


def overload_name(function: OpOverload) -> str:
    """Such as "dim" for aten.mean.dim."""
    return function._overloadname


def has_backward_hooks(model: nn.Module) -> bool:
    """Whether a module of the model, or all modules, have hooks that see or change gradients."""
    own = any(module._backward_hooks or module._backward_pre_hooks for module in model.modules())
    return bool(own or nn.modules.module._global_backward_hooks or nn.modules.module._global_backward_pre_hooks)
