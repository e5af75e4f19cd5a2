"""Which layers of a model can be measured, and how their units lie in the image."""

import contextlib
from dataclasses import dataclass

import torch
from torch import nn

from erf.errors import InputError, is_out_of_memory
from erf.measuring.layer import device_and_dtype
from erf.measuring.precision import measuring_mode
from erf.measuring.recorded import theoretical_rf
from erf.system.seeds import torch_generator


@dataclass(frozen=True)
class Layer:
    """A layer that can be measured, for images of one size. Tuples have one entry for each axis of the image.

    name : of the submodule, as in `model.named_modules()`; None for the model's own output
    kind : its class
    shape : of its output for one image
    dimensions : of the output, along which the units lie; one dimension for tokens
    units : number of them along each axis
    stride : distance of neighbouring units, pixels
    """

    name: str | None
    kind: str
    shape: tuple[int, ...]
    dimensions: tuple[int, ...]
    units: tuple[int, ...]
    stride: tuple[float, ...]

    @property
    def channels(self) -> int:
        return self.shape[-1] if 1 in self.dimensions else self.shape[1]


def measurable_layers(model: nn.Module, input_shape: tuple[int, ...], until: str | None = None) -> list[Layer]:
    """The layers that `erf.measure` takes, in the order in which the model finishes them.

    The model runs once, on one image of noise. Layers whose outputs have one shape are taken to have one stride, which
    is that of the first of them.

    input_shape : (C, H, W) of an image that the model accepts, or (C, T), or (C, D, H, W)
    until : name of the last layer that counts; None for the model's own output

    InputError if the model fails on such images.
    """
    noise = torch.randn(1, *input_shape, generator=torch_generator(0, "noise for layers"))
    finished = _outputs(model, noise.to(**device_and_dtype(model)))
    names = list(finished)
    if (until or "") in names:
        names = names[: names.index(until or "") + 1]
    strides: dict[tuple[int, ...], tuple[float, ...]] = {}  # by the shape of the output
    found = []
    for name in names:
        kind, shape = finished[name]
        if len(shape) > 2 and shape not in strides:
            with contextlib.suppress(InputError):  # it has no units, or does not depend on the image
                strides[shape] = theoretical_rf(model, name or None, input_shape=input_shape).stride
        if shape in strides:
            found.append(_layer(name or None, kind, shape, strides[shape], input_shape[1:]))
    return found


def _outputs(model: nn.Module, images: torch.Tensor) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Class and shape of the first output of every submodule that gives a tensor, by name, in order."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}

    def note(name):
        def hook(module, inputs, output):
            if isinstance(output, torch.Tensor) and name not in found:
                found[name] = type(module).__name__, tuple(output.shape)

        return hook

    handles = [
        module.register_forward_hook(note(name))
        for name, module in model.named_modules()
        if (name or module is model) and not isinstance(module, torch.jit.ScriptModule)  # which has no hooks
    ]
    try:
        with measuring_mode(model, images.device.type), torch.no_grad():
            model(images)
    except Exception as error:
        if is_out_of_memory(error) or isinstance(error, InputError):
            raise
        size, reason = " x ".join(map(str, images.shape)), (str(error).strip().splitlines() or [""])[0][:300]
        raise InputError(f"the model fails on images of {size}: {type(error).__name__}: {reason}") from error
    finally:
        for handle in handles:
            handle.remove()
    return found


def _layer(
    name: str | None, kind: str, shape: tuple[int, ...], stride: tuple[float, ...], image: tuple[int, ...]
) -> Layer:
    axes = len(image)
    if len(shape) != axes + 2 and axes > 1:  # tokens
        units = tuple(round(side / step) for side, step in zip(image, stride, strict=True))
        return Layer(name, kind, shape, (1,), units, stride)

    def misfit(first: int) -> float:
        """By how many pixels the units, if they lie along dimensions from `first` on, miss the image's sides."""
        sides = zip(shape[first:], stride, image, strict=False)
        return sum(abs(count * step - side) for count, step, side in sides)

    first = min(range(len(shape) - axes, 0, -1), key=misfit)
    return Layer(name, kind, shape, tuple(range(first, first + axes)), shape[first : first + axes], stride)
