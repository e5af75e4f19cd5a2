"""The definition, to be read: the map of `erf.measure`, computed in the plainest way, for outputs (N, K, h, w).

Sound, (N, C, T), and volumes or video, (N, C, D, H, W), are measured in the same way, with outputs of as many axes. The
whole image goes forward, and one gradient comes back. Luo et al. (NIPS 2016) define the impact of a pixel x(p) on a
unit y as the scale of dy/dx(p), found by back-propagating a gradient that is 1 at that unit and 0 at all others. The
tests hold `erf.measure` against this module.
"""

import numpy as np
import torch
from torch import nn

__all__ = ["gradient", "impact_map"]


def impact_map(
    model: nn.Module, images: torch.Tensor, layer: str | None = None, unit: int | tuple[int, ...] | None = None
) -> np.ndarray:
    """Impact of each pixel on one unit, float64 (H, W): the mean of |dy/dx| over images and their channels (colours).

    The magnitude comes before the mean: otherwise positive and negative gradients of two images would cancel. Images in
    which the unit is dead (its gradient is zero everywhere) do not count.
    """
    maps = [gradient(model, image, layer, unit)[0].double().abs().mean(0).numpy() for image in images.split(1)]
    return np.mean([one for one in maps if one.any()], axis=0)


def gradient(
    model: nn.Module, images: torch.Tensor, layer: str | None = None, unit: int | tuple[int, ...] | None = None
) -> torch.Tensor:
    """dy/dx for images x (N, C, H, W), of the same shape; y is the unit's value, summed over its channels.

    model : in evaluation mode (`model.eval()`), where batch norm does not mix images and pixels
    layer : name of the submodule whose output (N, K, h, w) has the unit, before any activation that follows it; the
        model's own output if None
    unit : (row, column) in that output; the middle one, (h // 2, w // 2), if None; for one axis it may be a number
    """
    outputs = []

    def keep(module, inputs, output):
        outputs.append(output.clone())  # an activation in place would write over it

    handle = model.get_submodule(layer or "").register_forward_hook(keep)
    x = images.detach().clone().requires_grad_()
    try:
        model(x)
    finally:
        handle.remove()
    middle = [side // 2 for side in outputs[0].shape[2:]]
    y = outputs[0][:, :, *(middle if unit is None else np.atleast_1d(unit))]
    return torch.autograd.grad(y.sum(), x)[0]  # images do not touch each other: one sum serves them all
