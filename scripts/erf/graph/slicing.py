"""How tensors are cropped to windows, and the memory order in which convolutions are fastest."""

from math import prod

import torch

from erf.graph.axes import SAMPLES, Layout, Windows, cropped_shape


def crop(tensor: torch.Tensor, layout: Layout, have: Windows, need: Windows) -> torch.Tensor:
    """Crop a tensor, which holds the windows `have`, to the windows `need` inside them; other axes stay whole."""
    if all(need.get(axis, window) == window for axis, window in have.items()):
        return tensor
    samples = tensor.numel() // prod(cropped_shape(layout, have))
    slices, shape = [], []  # of the factors, each as a dimension
    for dimension in layout:
        for axis, size in dimension:
            start, end = have.get(axis, (0, (samples if axis == SAMPLES else size) - 1))
            first, last = need.get(axis, (start, end))
            slices.append(slice(first - start, last - start + 1))
            shape.append(end - start + 1)
    if len(shape) == tensor.dim():
        return sliced(tensor, slices)
    return sliced(tensor.reshape(shape), slices).reshape(cropped_shape(layout, {**have, **need}, samples))


def sliced(tensor: torch.Tensor, slices: list[slice]) -> torch.Tensor:
    """tensor[slices], whose gradient takes one pass, where torch takes one for each dimension."""
    whole = all(s.indices(length) == (0, length, 1) for s, length in zip(slices, tensor.shape, strict=True))
    return tensor if whole else _Sliced.apply(tensor, tuple(slices))


def fastest_format(tensor: torch.Tensor) -> torch.memory_format:
    """The order in memory with which convolutions are fastest: of planes in float32, on the CPU, channels come last."""
    last = tensor.dim() == 4 and tensor.device.type == "cpu" and tensor.dtype == torch.float32
    return torch.channels_last if last else torch.contiguous_format


def format_of(tensor: torch.Tensor) -> torch.memory_format:
    """The order in which a tensor lies in memory: its channels last, or row after row."""
    last = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


class _Sliced(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor, slices):
        ctx.shape, ctx.slices, ctx.format = tensor.shape, slices, format_of(tensor)
        return tensor[slices]

    @staticmethod
    def backward(ctx, gradient):
        whole = torch.empty(ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=ctx.format)
        part = whole
        for dimension, (chosen, length) in enumerate(zip(ctx.slices, ctx.shape, strict=True)):
            first, last, step = chosen.indices(length)
            if step > 1:
                part.zero_()
            else:  # only what lies outside
                part.narrow(dimension, 0, first).zero_()
                part.narrow(dimension, last, length - last).zero_()
            part = part[(slice(None),) * dimension + (chosen,)]
        part.copy_(gradient)
        return whole, None
