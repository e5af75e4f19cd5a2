"""A convolution, an addition and a ReLU in one step, with a gradient written by hand. Weights get no gradient.

Why it is worth its lines: torch writes the result of each of the three operations to memory of its own. One step writes
them over each other and keeps the last one alone, so that less memory is moved. It also takes faster ways for kernels
of 1 x 1 and for the gradient of a first layer with strides. ResNets, made of such steps, are measured faster on large
images; networks with few of them, such as ConvNeXt, gain nothing.
"""

import torch
from torch.nn import functional as F  # noqa: N812, everybody's name for it

from erf.graph.slicing import format_of, sliced

FEW = 4  # channels, such as an image's


def convolved(
    tensor: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    added: torch.Tensor | None,
    rectified: bool,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> torch.Tensor:
    """The convolution of a tensor (n, C, *axes), plus `added`; if `rectified`, negative values are made zero."""
    if max(weight.shape[2:]) == 1 and not any(padding):  # strides only leave pixels out
        tensor = sliced(tensor, [slice(None), slice(None), *(slice(None, None, step) for step in stride)])
        stride = [1] * len(stride)
    return _Convolved.apply(tensor, weight, bias, added, rectified, (stride, padding, dilation), groups)


class _Convolved(torch.autograd.Function):
    """Intermediate results are written over, since no gradient needs them: only the last one is kept."""

    @staticmethod
    def forward(ctx, tensor, weight, bias, added, rectified, geometry, groups):
        ctx.shape, ctx.format, ctx.geometry, ctx.groups = tensor.shape, format_of(tensor), geometry, groups
        ctx.product = weight.shape[2:] == (1, 1) and geometry[:2] == ([1, 1], [0, 0]) and groups == 1
        ctx.product = ctx.product and ctx.format == torch.channels_last
        if ctx.product:
            result = _product(tensor, weight, bias, added)
        else:
            function, beyond = torch.ops.aten.convolution.default, [0] * len(geometry[0])
            result = function(tensor, weight, bias, *geometry, False, beyond, groups)
            if added is not None:
                result.add_(added)
        if rectified:
            result.relu_()
        ctx.save_for_backward(weight, result if rectified else None)
        return result

    @staticmethod
    def backward(ctx, gradient):
        weight, rectified = ctx.saved_tensors
        if rectified is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, rectified, 0)
        stride, padding, dilation = ctx.geometry
        few = weight.dim() == 4 and weight.shape[1] <= FEW
        if ctx.product:
            back = _as_rows(gradient) @ weight.flatten(1)
            back = back.view(ctx.shape[0], *ctx.shape[2:], ctx.shape[1]).permute(0, 3, 1, 2)
        elif few and ctx.groups == max(dilation) == 1 < max(stride) and not any(padding):
            back = _of_few_channels(gradient, weight, stride, ctx.shape)
        else:
            like = torch.empty(ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=ctx.format)
            rest = (None, *ctx.geometry, False, [0] * len(stride), ctx.groups, [True, False, False])
            back = torch.ops.aten.convolution_backward(gradient, like, weight, *rest)[0]
        return back, None, None, gradient if ctx.needs_input_grad[3] else None, None, None, None


def _as_rows(tensor: torch.Tensor) -> torch.Tensor:
    """(n, C, h, w) as (n * h * w, C)."""
    return tensor.permute(0, 2, 3, 1).reshape(-1, tensor.shape[1])


def _product(tensor, weight, bias, added) -> torch.Tensor:
    """A 1 x 1 convolution as a product of matrices, which is faster if channels come last."""
    shape = (tensor.shape[0], len(weight), *tensor.shape[2:])
    result = torch.empty(shape, dtype=tensor.dtype, device=tensor.device, memory_format=torch.channels_last)
    rows = result.permute(0, 2, 3, 1).view(-1, len(weight))
    tensor, weight = _as_rows(tensor), weight.flatten(1).T
    if added is None and bias is None:
        torch.mm(tensor, weight, out=rows)
    elif added is None:
        torch.addmm(bias, tensor, weight, out=rows)
    else:
        result.copy_(added) if bias is None else torch.add(added, bias[:, None, None], out=result)
        rows.addmm_(tensor, weight)
    return result


def _of_few_channels(gradient: torch.Tensor, weight: torch.Tensor, stride: list[int], shape: torch.Size):
    """The gradient of a convolution with strides, as a convolution without, which is faster for few channels.

    In a block of stride x stride pixels each pixel has its own taps of the kernel. They are computed as channels, and
    then put side by side.
    """
    (down, right), kernel = stride, weight.shape[2:]
    rows, columns = taps = [-(-length // step) for length, step in zip(kernel, stride, strict=True)]
    split = F.pad(weight, (0, columns * right - kernel[1], 0, rows * down - kernel[0]))
    split = split.unflatten(3, (columns, right)).unflatten(2, (rows, down))  # (outputs, C, rows, down, columns, right)
    phases = split.permute(1, 3, 5, 0, 2, 4).flatten(0, 2).flip(2, 3).contiguous(memory_format=format_of(gradient))
    pixels = F.conv2d(gradient, phases, padding=[count - 1 for count in taps]).unflatten(1, (-1, down, right))
    whole = pixels.permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
    return F.pad(whole, (0, shape[3] - whole.shape[3], 0, shape[2] - whole.shape[2]))
