"""Batch norms by their running statistics, with the gradient that follows from their definition.

torch's own gradient (2.13) is wrong if a single sample and the gradient on its way back lie differently in memory, as
behind a transposition.
"""

import torch
from torch.nn import functional as F  # noqa: N812, everybody's name for it

from erf.graph.torch_private import TorchFunctionMode


class SoundNorms(TorchFunctionMode):
    """While it is entered, batch norms in evaluation mode have their gradient from here.

    needed : whether a gradient came back that lies in memory unlike the tensor that went forward
    """

    def __init__(self):
        super().__init__()
        self.needed = False

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.batch_norm:
            return self._normed(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _normed(self, tensor, mean, variance, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
        """As torch.nn.functional.batch_norm, which has these arguments."""
        if training:
            return F.batch_norm(tensor, mean, variance, weight, bias, True, momentum, eps)
        return _Sound.apply(self, tensor, weight, bias, mean, variance, eps)


class _Sound(torch.autograd.Function):
    @staticmethod
    def forward(ctx, norms, tensor, weight, bias, mean, variance, eps):
        gain = torch.rsqrt(variance + eps)
        gain = gain if weight is None else gain * weight
        ctx.norms, ctx.stride = norms, tensor.stride()
        ctx.save_for_backward(gain)
        return F.batch_norm(tensor, mean, variance, weight, bias, False, 0, eps)

    @staticmethod
    def backward(ctx, gradient):
        (gain,) = ctx.saved_tensors
        if gradient.stride() != ctx.stride:
            ctx.norms.needed = True
        back = gradient * gain.view(-1, *[1] * (gradient.dim() - 2))
        return None, back.to(gradient.dtype), *[None] * 5


def is_sound(grad_fn) -> bool:
    """Whether a gradient is that of a batch norm from here."""
    return type(grad_fn).__name__ == f"{_Sound.__name__}Backward"
