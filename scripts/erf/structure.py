"""Which input pixels a unit can see at all: read from the graph that autograd records, not from the weights.

Each node of the graph is one operation, with its kernel, stride, padding and dilation. Walking from the unit to the
input turns "unit u" into "pixels stride * u + first ... stride * u + last" for each axis; where paths meet, the union
counts. An operation that is not known to be local is taken to see everything, so an infinite receptive field means that
it is the whole image or that it is not known.
"""

import contextlib
import difflib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from erf.errors import InputError

# Operations whose output pixel depends on the same input pixel only, by the names of their autograd nodes.
POINTWISE = {
    f"{operation}Backward0"
    for operation in (
        *("Add", "Sub", "Mul", "Div", "Neg", "Clone", "ToCopy", "NativeDropout"),
        *("NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm"),
        *("Relu", "LeakyRelu", "PreluKernel", "Elu", "Gelu", "Silu", "Mish", "Tanh", "Sigmoid", "Softplus"),
        *("Hardtanh", "Hardswish", "Hardsigmoid"),
    )
}
POOLS = {"MaxPool2DWithIndicesBackward0", "AvgPool2DBackward0"}


@dataclass(frozen=True)
class Window:
    """Along one axis, unit u sees the pixels stride * u + first ... stride * u + last."""

    stride: float = 1
    first: float = 0
    last: float = 0

    @property
    def length(self) -> float:
        return self.last - self.first + 1

    def centre(self, unit: int) -> float:
        """Pixel in the middle of what `unit` sees; may lie between two pixels, or outside of the image."""
        return self.stride * unit + (self.first + self.last) / 2

    def through(self, kernel: int, stride: int, padding: int, dilation: int) -> "Window":
        """The window in the input of a convolution or pooling, given this one in its output."""
        first, last = self.first * stride - padding, self.last * stride - padding + dilation * (kernel - 1)
        return Window(self.stride * stride, first, last)

    def union(self, other: "Window") -> "Window":
        if self.stride != other.stride:
            return EVERYTHING
        return Window(self.stride, min(self.first, other.first), max(self.last, other.last))


EVERYTHING = Window(0, -math.inf, math.inf)
_ALL = (EVERYTHING, EVERYTHING)


def receptive_windows(output: torch.Tensor, source: torch.Tensor) -> tuple[Window, Window]:
    """Windows (rows, columns) through which units of `output` (N, K, h, w) see the leaf `source` (N, C, H, W)."""
    order = _nodes_towards(output.grad_fn, source) if output.grad_fn is not None else []
    windows = {output.grad_fn: (Window(), Window())}
    for node in order:
        here = windows[node]
        if getattr(node, "variable", None) is source:
            return here
        for (parent, _), there in zip(node.next_functions, _parents(node, here), strict=True):
            if parent in windows:
                there = tuple(a.union(b) for a, b in zip(windows[parent], there, strict=True))
            if parent is not None:
                windows[parent] = there
    raise InputError("the unit does not depend on the input: choose another layer")


def _nodes_towards(root, source: torch.Tensor) -> list:
    """Nodes from which `source` is reached, each before those that it feeds the gradient to."""
    finished, reaches, order, pending = set(), set(), [], [(root, False)]
    while pending:
        node, expanded = pending.pop()
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        if expanded:
            if node not in finished:
                finished.add(node)
                if getattr(node, "variable", None) is source or any(parent in reaches for parent in parents):
                    reaches.add(node)
                    order.append(node)
        elif node not in finished:
            pending.append((node, True))
            pending.extend((parent, False) for parent in parents if parent not in finished)
    return order[::-1]


def _parents(node, here: tuple[Window, Window]) -> list[tuple[Window, Window]]:
    """Windows in each of the operation's inputs, given those in its output."""
    name, count = node.name(), len(node.next_functions)
    if name in POINTWISE or (name == "CatBackward0" and node._saved_dim == 1):
        # A smaller operand was broadcast: each of its pixels acts on several.
        return [here if _plane(parent, index) == _plane(node, 0) else _ALL for parent, index in node.next_functions]
    if name == "SliceBackward0":
        return [_before_slicing(node, here)]
    if name == "ConvolutionBackward0" and not node._saved_transposed and len(node._saved_stride) == 2:
        kernel, dilation = node._saved_weight.shape[2:], node._saved_dilation
    elif name in POOLS:
        kernel, dilation = node._saved_kernel_size, getattr(node, "_saved_dilation", (1, 1))
    else:
        return [_ALL] * count
    stride = node._saved_stride or kernel  # a pooling's default stride is its kernel
    rows, columns = zip(kernel, stride, node._saved_padding, dilation, strict=True)
    local = here[0].through(*rows), here[1].through(*columns)
    return [local] + [_ALL] * (count - 1)  # the others are weight and bias


def _before_slicing(node, here: tuple[Window, Window]) -> tuple[Window, Window]:
    """Windows in what x[..., start::step] was taken from."""
    sizes = node._saved_self_sym_sizes
    dimension, start = (_signed(value) for value in (node._saved_dim, node._saved_start))
    dimension %= len(sizes)
    start = min(max(start + (sizes[dimension] if start < 0 else 0), 0), sizes[dimension])
    axis = dimension - (len(sizes) - 2)  # 0 for rows, 1 for columns; a slice of samples or channels moves nothing
    return tuple(
        window.through(1, node._saved_step, -start, 1) if index == axis else window for index, window in enumerate(here)
    )


def _signed(value: int) -> int:
    """autograd shows negative numbers as unsigned ones."""
    return value - 2**64 if value >= 2**63 else value


def _plane(node, index: int) -> tuple[int, ...] | None:
    """Height and width of what the operation computes; None for a constant."""
    return None if node is None else tuple(node._input_metadata[index].shape[-2:])


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, with every module's own mode restored: in training mode batch norm mixes all pixels."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class _Reached(Exception):  # noqa: N818, not an error
    """The layer has been computed: nothing after it is needed."""


def layer_output(model: nn.Module, images: torch.Tensor, layer: str | None) -> torch.Tensor:
    """Output (N, K, h, w) of the submodule named `layer` at its first use, or of the model if None."""
    output = model(images) if layer is None else _submodule_output(model, images, layer)
    if not isinstance(output, torch.Tensor) or output.dim() != 4:
        source = "the model" if layer is None else f"layer {layer!r}"
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise InputError(f"{source} gives {shape}, not units in a plane (N, K, h, w): choose a layer that does")
    return output


def _submodule_output(model: nn.Module, images: torch.Tensor, layer: str) -> torch.Tensor:
    modules = dict(model.named_modules())
    if layer not in modules:
        near = difflib.get_close_matches(layer, modules, n=3) or list(modules)[1:6]
        raise InputError(f"unknown layer {layer!r}: did you mean {', '.join(near)}?")
    seen = []

    def stop(module, inputs, output):
        # A copy: an in-place activation right after the layer would otherwise change what was read.
        seen.append(output.clone() if isinstance(output, torch.Tensor) else output)
        raise _Reached

    handle = modules[layer].register_forward_hook(stop)
    try:
        model(images)
    except _Reached:
        return seen[0]
    finally:
        handle.remove()
    raise InputError(f"layer {layer!r} is not used when the model runs: choose another")


def theoretical_rf(model: nn.Module, input_size: tuple[int, int, int], layer: str | None = None) -> tuple[float, float]:
    """Theoretical receptive field (height, width) in pixels of a unit of `layer`, unclipped by the image.

    input_size is (C, H, W) of an image that the model accepts. Infinite where an operation sees the whole image, or
    where it is not known what it sees.
    """
    parameter = next(model.parameters(), torch.empty(0))
    source = torch.zeros(1, *input_size, dtype=parameter.dtype, device=parameter.device, requires_grad=True)
    with evaluating(model), torch.enable_grad():
        rows, columns = receptive_windows(layer_output(model, source, layer), source)
    return rows.length, columns.length
