"""Impact maps: how strongly each input pixel moves one unit, by back-propagating a gradient that is 1 at that unit."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from erf.errors import InputError
from erf.field import ReceptiveField
from erf.structure import evaluating, layer_output, receptive_windows

MODES = {"abs": torch.abs, "square": torch.square, "signed": lambda gradient: gradient}


@dataclass(frozen=True)
class Unit:
    """Which unit of a layer was measured, (row, column), and where it looks."""

    index: tuple[int, int]
    position: tuple[float, float]
    theoretical_rf: tuple[float, float]


def input_gradients(
    model: nn.Module,
    images: torch.Tensor,
    layer: str | None = None,
    unit: tuple[int, int] | None = None,
    channels: str | int = "sum",
    batch_size: int = 32,
) -> Iterator[tuple[torch.Tensor, Unit]]:
    """The unit's gradients with respect to the images, (n, C, H, W) per batch; arguments and errors as in `measure`."""
    if images.dim() != 4 or not len(images):
        raise InputError(f"images must be (N, C, H, W) with N of at least 1, not {tuple(images.shape)}")
    if not images.isfinite().all():
        raise InputError("the images hold values that are not finite")
    parameter = next(model.parameters(), images)
    with evaluating(model), _full_precision(parameter.device.type):
        for batch in images.split(batch_size):
            # A detached copy: the caller's images keep their own graph and get no gradient.
            source = batch.detach().to(parameter.device, parameter.dtype, copy=True).requires_grad_()
            output = layer_output(model, source, layer)  # (n, K, h, w)
            chosen = _chosen_unit(output, unit)
            where = Unit(chosen, *_geometry(output, source, chosen))
            (gradient,) = torch.autograd.grad(_unit_value(output, chosen, channels), source)  # (n, C, H, W)
            if not gradient.isfinite().all():
                raise InputError(_not_finite(model, source))
            yield gradient, where


def impact_maps(gradient: torch.Tensor, mode: str = "abs") -> np.ndarray:
    """Impact maps float64 (n, H, W) of gradients (n, C, H, W): the mean over channels of their magnitude, or as `mode`
    says."""
    if mode not in MODES:
        raise InputError(f"unknown mode {mode!r}: choose one of {', '.join(MODES)}")
    return MODES[mode](gradient.double()).mean(1).cpu().numpy()


def measure(
    model: nn.Module,
    images: torch.Tensor,
    layer: str | None = None,
    unit: tuple[int, int] | None = None,
    channels: str | int = "sum",
    mode: str = "abs",
    batch_size: int = 32,
    rng: np.random.Generator | None = None,
) -> ReceptiveField:
    """Effective receptive field of a unit of `layer`, averaged over `images`.

    A pixel's impact is the scale of the partial derivative dy/dx(p) (Luo et al. 2016): here, where the paper leaves it
    open, the mean over images and input channels of its magnitude, which is taken before any mean. The model runs in
    evaluation mode, which is restored, and its parameters get no gradients.

    Parameters
    ----------
    images : (N, C, H, W), moved to the model's device and type. For float64 results give a float64 model.
    layer : name of the submodule (`model.named_modules()`) whose output holds the unit; the model's own output if None
    unit : (row, column) in that output; the middle one if None
    channels : "sum" adds the output channels at the unit; an integer takes one
    mode : "abs", "square" or "signed": what is averaged
    batch_size : images per backward pass; changes memory and time, not the result
    rng : if given, ERF sizes are bootstrapped over images with it

    Returns
    -------
    ReceptiveField, its map float64 (H, W), one run per image.

    Raises
    ------
    InputError : an unknown layer, unit, channel or mode; a value that is not finite, with the layer where it first
        appears; a unit whose gradient is zero in every image.
    """
    maps = []
    for gradient, found in input_gradients(model, images, layer, unit, channels, batch_size):
        maps.append(impact_maps(gradient, mode))
        where = found  # the same for every batch
    settings = {"layer": layer, "unit": list(where.index), "channels": channels, "mode": mode, "images": len(images)}
    result = ReceptiveField.from_runs(np.concatenate(maps), where.position, where.theoretical_rf, settings, rng)
    if result.dead == len(images):
        raise InputError(f"the unit is dead in all {len(images)} images (zero gradient): read it before its activation")
    return result


def _chosen_unit(output: torch.Tensor, unit: tuple[int, int] | None) -> tuple[int, int]:
    height, width = output.shape[2:]
    row, column = (height // 2, width // 2) if unit is None else unit
    if not (0 <= row < height and 0 <= column < width):
        raise InputError(f"unit ({row}, {column}) is outside of the layer's plane of {height} x {width} units")
    return row, column


def _unit_value(output: torch.Tensor, unit: tuple[int, int], channels: str | int) -> torch.Tensor:
    """The scalar to differentiate. Samples are independent in evaluation mode, so one sum serves the whole batch."""
    values = output[:, :, unit[0], unit[1]]  # (n, K)
    if channels == "sum":
        return values.sum()
    if isinstance(channels, int) and 0 <= channels < values.shape[1]:
        return values[:, channels].sum()
    raise InputError(f"unknown channels {channels!r}: 'sum' or a number from 0 to {values.shape[1] - 1}")


def _geometry(output: torch.Tensor, source: torch.Tensor, unit: tuple[int, int]):
    """Position of the unit in the input and its theoretical receptive field, (row, column) and (height, width).

    A unit that sees the whole image, or of which it is not known what it sees, has no place by its structure; it is put
    in the middle of its cell in an even division of the image.
    """
    windows = receptive_windows(output, source)
    position = []
    for axis, window, index in zip((2, 3), windows, unit, strict=True):
        cell = source.shape[axis] / output.shape[axis]
        position.append(window.centre(index) if np.isfinite(window.length) else (index + 0.5) * cell - 0.5)
    return tuple(position), (windows[0].length, windows[1].length)


@contextlib.contextmanager
def _full_precision(device: str) -> Iterator[None]:
    """Gradients on, autocast, TF32 and the like off; the caller's choices come back afterwards."""
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # torch 2.9 and later, which forbid to mix the two ways
        kinds = [getattr(torch.backends.mkldnn, name) for name in ("matmul", "conv")]
        switches = [torch.backends.cuda.matmul, torch.backends.cudnn.conv, *kinds]
        attribute, full = "fp32_precision", "ieee"
    else:
        switches, attribute, full = [torch.backends.cuda.matmul, torch.backends.cudnn], "allow_tf32", False
    before = [getattr(switch, attribute) for switch in switches]
    try:
        for switch in switches:
            setattr(switch, attribute, full)
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
            yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            setattr(switch, attribute, value)


def _not_finite(model: nn.Module, source: torch.Tensor) -> str:
    """Say where a value that is not finite first appears on the way forward."""
    culprits: list[str] = []

    def check(name):
        def hook(module, inputs, output):
            if isinstance(output, torch.Tensor) and not output.isfinite().all():
                culprits.append(name)

        return hook

    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(check(name)) for name, module in leaves]
    try:
        with torch.no_grad():
            model(source)
    finally:
        for handle in handles:
            handle.remove()
    if culprits:
        return f"layer {culprits[0]!r} gives values that are not finite: check its weights, or measure model.double()"
    return "the gradient overflows on the way back: measure model.double()"
