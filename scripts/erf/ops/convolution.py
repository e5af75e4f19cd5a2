"""Op rules of convolutions and transposed convolutions."""

import math

import numpy as np
import torch

from erf.graph.convolutions import convolved
from erf.graph.nodes import Operand, Operation
from erf.graph.slicing import fastest_format
from erf.ops.rule import Everything
from erf.ops.sliding import Sliding, on_planes, padded, pair


class Convolution(Sliding):
    """In a step of `erf.tracing.fusion`, `added` is added to the result, which is then `rectified` by a ReLU."""

    added: Operand | None = None
    rectified = False

    def __init__(self, operation: Operation):
        super().__init__(operation)
        self.kept: tuple[torch.Tensor, torch.Tensor | None] | None = None

    def geometry(self, axis):
        weight = self.operation.argument("weight")
        kernel = (weight.value if isinstance(weight, Operand) else weight).shape[2 + self.spatial_index(axis)]
        names = ("stride", "padding", "dilation")
        return kernel, *(pair(self.operation.argument(name))[self.spatial_index(axis)] for name in names)

    def forget(self):
        self.kept = None

    def parameters(self, fetch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias, in the order in memory with which convolutions are fastest."""
        if self.kept is None:
            weight, bias = self.combined(fetch)
            self.kept = weight.contiguous(memory_format=fastest_format(weight)), bias
        return self.kept

    def combined(self, fetch) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias, which in a step with a batch norm include its gain and shift."""
        weight, bias = self.operation.args[1:3]
        return fetch(weight, {}), bias if bias is None else fetch(bias, {})

    def of_whole(self, fetch):
        return self.convolved(fetch(self.operand, {}), self.operation.argument("padding"), fetch)

    def unpadded(self, tensor, fetch):
        return self.convolved(tensor, [0, 0], fetch)

    def convolved(self, tensor: torch.Tensor, padding: list[int], fetch) -> list[torch.Tensor]:
        weight, bias = self.parameters(fetch)
        added = None if self.added is None else fetch(self.added, {})
        stride, dilation, groups = (self.operation.argument(name) for name in ("stride", "dilation", "groups"))
        return [convolved(tensor, weight, bias, added, self.rectified, pair(stride), padding, pair(dilation), groups)]


class TransposedConvolution(Convolution):
    """Result u sees the pixels i with u = i * stride - padding + dilation * (0 ... kernel - 1)."""

    def of_whole(self, fetch):
        return self.operation.call(lambda leaf: fetch(leaf, {}))

    def seen(self, axis, wanted):
        kernel, stride, padding, dilation = self.geometry(axis)
        first, last = np.full(wanted.shape[1], math.inf), np.full(wanted.shape[1], -math.inf)
        for shift in range(stride):  # neighbouring results see different taps
            for tap in range(kernel):
                ends = wanted[0] + shift, wanted[1] - shift
                low, high = ((end + padding - dilation * tap) / stride for end in ends)
                first = np.where((low == np.floor(low)) & (ends[0] <= wanted[1]), np.minimum(first, low), first)
                last = np.where((high == np.floor(high)) & (ends[1] >= wanted[0]), np.maximum(last, high), last)
        return np.stack([first, last])

    def of_crop(self, tensor, have, wanted, fetch):
        _, _, _, stride, _, dilation, _, _, groups = self.operation.args
        weight, bias = self.parameters(fetch)
        function = self.operation.function
        result = function(tensor, weight, None, stride, [0, 0], dilation, True, [0, 0], groups)
        margins = {}
        for axis, (first, last) in wanted.items():
            _, step, padding, _ = self.geometry(axis)
            dimension = self.source.dimension(axis)
            start = have[axis][0] * step - padding  # which result the first one is
            margins[dimension] = (start - first, last - (start + result.shape[dimension] - 1))
        result = padded(result, margins, 0.0)
        return [result if bias is None else result + bias[:, None, None]]


def convolution(operation: Operation, shapes: list) -> Everything:
    return on_planes(TransposedConvolution if operation.argument("transposed") else Convolution)(operation, shapes)
