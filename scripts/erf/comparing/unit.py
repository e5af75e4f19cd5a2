"""A unit's value on whole images, by a plain forward pass: nothing is recorded and nothing is cropped."""

import numpy as np
import torch
from torch import nn

from erf.errors import InputError
from erf.measuring.layer import device_and_dtype

Layout = str | tuple[int, int] | None


def checked_images(model: nn.Module, images: torch.Tensor | np.ndarray) -> torch.Tensor:
    """Images (N, C, *axes) on the model's device and in its dtype; InputError if they are not images."""
    if not isinstance(images, torch.Tensor | np.ndarray):
        raise InputError(f"images must be one tensor or array (N, C, H, W), not a {type(images).__name__}")
    images = torch.as_tensor(images)
    if images.dim() not in (3, 4, 5) or not len(images):
        others = "(or (N, C, T), or (N, C, D, H, W))"
        raise InputError(f"images must be (N, C, H, W) with N of at least 1, not {tuple(images.shape)} {others}")
    if not images.is_floating_point():
        raise InputError(f"images are {images.dtype}: give floats, scaled and normalised as the model expects")
    if not images.isfinite().all():
        raise InputError("the images hold values that are not finite")
    return images.detach().to(**device_and_dtype(model))


def gradient_of(value: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """The gradient of a scalar with respect to `source`; InputError if the scalar does not depend on it."""
    gradient = torch.autograd.grad(value, source, allow_unused=True)[0] if value.requires_grad else None
    if gradient is None:
        raise InputError("the unit does not depend on the input by any gradient: choose another layer")
    return gradient
