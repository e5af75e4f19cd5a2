"""Op rules of convolutions and transposed convolutions."""

import math

import numpy as np
import torch

from erf.graph.axes import window_of
from erf.graph.convolutions import convolved
from erf.graph.nodes import Operand, Operation
from erf.graph.slicing import fastest_format
from erf.ops.rule import Everything
from erf.ops.sliding import Sliding, on_axes, padded


class Convolution(Sliding):
    """In a step of `erf.tracing.fusion`, `added` is added to the result, which is then `rectified` by a ReLU."""

    added: Operand | None = None
    rectified = False
    mixes_channels = True

    def __init__(self, operation: Operation):
        super().__init__(operation)
        self.kept: tuple[torch.Tensor, torch.Tensor | None] | None = None

    def geometry(self, dimension):
        weight = self.operation.argument("weight")
        kernel = (weight.value if isinstance(weight, Operand) else weight).shape[dimension]
        return kernel, *(self.setting(name, dimension) for name in ("stride", "padding", "dilation"))

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
        return self.convolved(fetch(self.operand, {}), self.settings("padding"), fetch)

    def unpadded(self, tensor, fetch):
        return self.convolved(tensor, [0 for _ in self.dimensions], fetch)

    def settings(self, name: str) -> list[int]:
        """An argument for each of the dimensions."""
        return [self.setting(name, dimension) for dimension in self.dimensions]

    def convolved(self, tensor: torch.Tensor, padding: list[int], fetch) -> list[torch.Tensor]:
        weight, bias = self.parameters(fetch)
        added = None if self.added is None else fetch(self.added, {})
        stride, dilation, groups = self.settings("stride"), self.settings("dilation"), self.operation.argument("groups")
        return [convolved(tensor, weight, bias, added, self.rectified, stride, padding, dilation, groups)]


class TransposedConvolution(Convolution):
    """Result u sees the pixels i with u = i * stride - padding + dilation * (0 ... kernel - 1)."""

    def of_whole(self, fetch):
        return self.operation.call(lambda leaf: fetch(leaf, {}))

    def seen(self, dimension, wanted):
        kernel, stride, padding, dilation = self.geometry(dimension)
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
        none = [0 for _ in self.dimensions]
        result = self.operation.function(tensor, weight, None, stride, none, dilation, True, none, groups)
        margins, layout = {}, self.operation.outputs[0].layout
        for dimension in self.dimensions:
            _, step, padding, _ = self.geometry(dimension)
            first, last = window_of(layout[dimension], wanted)
            start = window_of(self.source.layout[dimension], have)[0] * step - padding  # which result the first one is
            margins[dimension] = (start - first, last - (start + result.shape[dimension] - 1))
        result = padded(result, margins, 0.0)
        return [result if bias is None else result + bias.view(-1, *[1 for _ in self.dimensions])]


def convolution(operation: Operation, shapes: list) -> Everything:
    return on_axes(TransposedConvolution if operation.argument("transposed") else Convolution)(operation, shapes)
