"""A layer of a model: how it is found, and how its output is computed by the model itself."""

import contextlib
import inspect
import itertools
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import nn

from erf.errors import InputError, did_you_mean, is_out_of_memory
from erf.graph.torch_private import modules_of, own_buffers, own_parameters
from erf.measuring.plane import NoPlane, described, misfit, plane_of


def device_and_dtype(model: nn.Module) -> dict:
    """Device and dtype of a model's first floating-point parameter, to which its images go."""
    found = (parameter for parameter in model.parameters() if parameter.is_floating_point())
    parameter = next(found, None)
    return {} if parameter is None else {"device": parameter.device, "dtype": parameter.dtype}


def uncompiled(model: nn.Module) -> nn.Module:
    """The model that torch.compile was given, which shares its weights, or the model itself."""
    return getattr(model, "_orig_mod", model)


def require_model(model: nn.Module) -> nn.Module:
    """The model; InputError if it is something else."""
    if isinstance(model, nn.Module):
        return model
    given, fix = f"a {type(model).__name__}", ""
    if isinstance(model, type) and issubclass(model, nn.Module):
        given, fix = "a class", f": make one, such as {model.__name__}()"
    elif isinstance(model, Mapping):
        fix = ": load the weights into a model, by model.load_state_dict(...)"
    elif inspect.isroutine(model):
        fix = f": give what it returns, such as {model.__name__}()"
    raise InputError(f"a model is a torch.nn.Module, not {given}{fix}")


def require_weights(model: nn.Module) -> None:
    """InputError for a model whose weights have no values; a warning if they have few digits."""
    kinds = set()
    modules = modules_of(model)
    for weight in itertools.chain(*map(own_parameters, modules), *map(own_buffers, modules)):
        if isinstance(weight, torch.nn.parameter.UninitializedTensorMixin):
            raise InputError(f"{_name_of(weight, model)} has no shape yet: run the model once on such images")
        if weight.is_meta:
            reason = "is on the device 'meta' and has no values: load the model's weights"
            raise InputError(f"{_name_of(weight, model)} {reason}")
        kinds.add(weight.dtype)
    if rough := kinds & {torch.float16, torch.bfloat16}:
        names = sorted(str(dtype).removeprefix("torch.") for dtype in rough)
        words = f"the model is in {' and '.join(names)}, whose rounding changes its maps"
        warnings.warn(f"{words}: measure model.float()", stacklevel=2)


def _name_of(weight: torch.Tensor, model: nn.Module) -> str:
    named = itertools.chain(model.named_parameters(), model.named_buffers())
    return next(name for name, one in named if one is weight)


def warn_of_bytes(images: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> None:
    """A warning for images (n, C, *axes) from `low` to `high` that seem to hold the bytes of photographs.

    These are whole numbers from 0 to 255 in three colours. Normalised images have fractions, volumes one channel.
    """
    colours = images.dim() > 3 and images.shape[1] == 3
    if colours and low >= 0 and 20 < high <= 255 and bool((images == images.round()).all()):
        words = "images hold whole numbers from 0 to 255: divide them by 255, and normalise them as the model expects"
        warnings.warn(f"{words} (if it does so itself, all is well)", stacklevel=2)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, in which batch norm does not mix all pixels, and parameters that ask for no gradients.

    Every module's own mode and every parameter's own flag come back.
    """
    training, asking = [], []
    try:
        for module in modules_of(model):
            if module.training:
                training.append(module)
                module.training = False  # not eval(), which a module may use to change its weights
            for parameter in own_parameters(module):
                if parameter.requires_grad:
                    asking.append(parameter)
                    parameter.requires_grad_(False)
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in asking:
            parameter.requires_grad_(True)


class _Reached(BaseException):
    """The layer has been computed: nothing after it is needed."""


def layer_output(model: nn.Module, images: torch.Tensor, layer: str | None) -> torch.Tensor:
    """Output of the submodule `layer` at its first use, or of the model if None; InputError if it is no tensor."""
    return layer_outputs(model, images, [layer])[0]


def layer_outputs(model: nn.Module, images: torch.Tensor, layers: Sequence[str | None]) -> list[torch.Tensor]:
    """Outputs of several submodules in one pass, which ends with the last of them; as `layer_output` gives each."""
    places = {layer: _place(model, layer) for layer in layers if layer is not None}
    seen: dict[str | None, object] = {}
    wanted = set(layers)

    def keep(layer, path):
        def hook(module, inputs, output):
            if layer not in seen:
                output = picked(output, path, described(layer)) if path else output
                # A copy: an in-place activation right after the layer would otherwise change what was read.
                seen[layer] = output.clone() if isinstance(output, torch.Tensor) else output
                if len(seen) == len(wanted):
                    raise _Reached

        return hook

    handles = [module.register_forward_hook(keep(layer, path)) for layer, (module, path) in places.items()]
    try:
        seen[None] = model(images)
    except _Reached:
        pass
    except InputError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        size, reason = " x ".join(map(str, images.shape)), (str(error).strip().splitlines() or [""])[0][:300]
        hint = ". One image is (1, C, H, W)" if images.dim() == 3 else ""
        if images.dim() == 4 and images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
            hint = ". Channels come second: images.permute(0, 3, 1, 2)"
        raise InputError(f"the model fails on images of {size}: {type(error).__name__}: {reason}{hint}") from error
    finally:
        for handle in handles:
            handle.remove()
    for layer in layers:
        if layer not in seen:
            raise InputError(f"layer {layer!r} is not used when the model runs: choose another")
        if not isinstance(output := seen[layer], torch.Tensor):
            content = f" of {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
            words = f"{described(layer)} gives a {type(output).__name__}{content}, not a tensor"
            raise NoPlane(f"{words}: {_hint_of_part(output, layer, model)}choose a layer")
    return [seen[layer] for layer in layers]


def _hint_of_part(output, layer: str | None, model: nn.Module) -> str:
    """How to name a tensor in an output that is none, such as 'give output="logits", or '; empty if it has none."""
    found = dict(_tensors_in(output))
    given = model.output if layer is None and isinstance(model, Adapted) else None
    if not found or callable(given):
        return ""
    path = next((path for path, dimensions in found.items() if dimensions > 2), next(iter(found)))
    if layer is not None:
        return f'give layer="{layer}{path}", or '
    if given is not None:
        return f'give output="{given}{path}", or '
    first, _, rest = path[1:].partition("]")
    return f'give output="{path if first.isdecimal() else first + rest}", or '


def _tensors_in(output, path: str = "", depth: int = 3) -> Iterator[tuple[str, int]]:
    """Tensors of floats in an output: their paths, as `picked` takes them, and their numbers of dimensions."""
    if isinstance(output, torch.Tensor):
        if output.is_floating_point():
            yield path, output.dim()
        return
    parts = output if isinstance(output, Mapping) else getattr(output, "__dict__", {})
    if isinstance(output, tuple | list):
        parts = dict(enumerate(output))
    for name, part in parts.items() if depth else ():
        yield from _tensors_in(part, f"{path}[{name}]", depth - 1)


def _place(model: nn.Module, layer: str) -> tuple[nn.Module, str]:
    """The submodule that a layer names, and where in its output the tensor is, such as [1] for "stage[1]"."""
    name, bracket, path = layer.partition("[") if isinstance(layer, str) else (layer, "", "")
    if not bracket:
        return _submodule(model, layer), ""
    return _submodule(model, name), bracket + path


def picked(output, path: str | int | Callable, where: str):
    """A part of an output: by a path such as "logits", "[1]" or "out[0].features", by a number, or by a function."""
    if callable(path):
        return path(output)
    for step in [path] if isinstance(path, int) else re.findall(r"[^\[\].]+", path):
        number = int(step) if str(step).lstrip("-").isdecimal() else None
        try:
            if isinstance(output, Mapping) and step in output:
                output = output[step]
            else:
                output = getattr(output, step) if number is None else output[number]
        except (AttributeError, IndexError, KeyError, TypeError):
            has = (
                f"has {', '.join(map(str, output))}" if isinstance(output, Mapping) else f"is a {type(output).__name__}"
            )
            raise InputError(f"{where}: its output has no {step!r}, but {has}") from None
    return output


class Adapted(nn.Module):
    """A model whose call takes images alone and gives one tensor: with its other inputs, and a part of its output.

    Its submodules have the model's own names.

    inputs : keyword arguments, in which tensors of one sample are repeated for each image; or a function that is given
        the images, and gives all arguments: a tuple, or a dict of keyword arguments
    output : as `picked` takes it; None for all of it
    """

    def __init__(self, model: nn.Module, inputs: Mapping | Callable | None, output: str | int | Callable | None):
        super().__init__()
        self.model, self.inputs, self.output = model, inputs, output

    def forward(self, images: torch.Tensor):
        if callable(self.inputs):
            given = self.inputs(images)
            output = self.model(**given) if isinstance(given, Mapping) else self.model(*given)
        else:
            output = self.model(
                images, **{name: self._for(value, images) for name, value in (self.inputs or {}).items()}
            )
        return output if self.output is None else picked(output, self.output, "the model")

    @classmethod
    def of(cls, model: nn.Module, inputs, output) -> nn.Module:
        """The model itself if its call takes images alone and all of its output is wanted; InputError if it is none."""
        model = require_model(model)
        return model if inputs is None and output is None else cls(uncompiled(model), inputs, output)

    @staticmethod
    def _for(value, images: torch.Tensor):
        if not isinstance(value, torch.Tensor):
            return value
        value = value.to(images.device)
        return value.expand(len(images), *value.shape[1:]) if value.dim() and len(value) == 1 else value

    def named_modules(self, *args, **kwargs):
        yield "", self
        yield from self.model.named_modules(*args, **kwargs)

    def get_submodule(self, target: str) -> nn.Module:
        return self.model.get_submodule(target)


def _submodule(model: nn.Module, layer: str) -> nn.Module:
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(f"layer {layer!r} cannot be read in a scripted model: measure the model that was scripted")
    if isinstance(layer, str):
        with contextlib.suppress(AttributeError):
            found = model.get_submodule(layer)
            if isinstance(found, torch.jit.ScriptModule):
                raise InputError(f"layer {layer!r} is scripted, and cannot be read: measure the model before that")
            return found
    names = [name for name, _ in model.named_modules()]
    if not isinstance(layer, str):
        raise InputError(f"a layer is given by its name, such as {names[-1]!r}, not by {type(layer).__name__}")
    first = f": the model has {', '.join(names[1:6])}, ..."
    raise InputError(f"unknown layer {layer!r}{did_you_mean(layer, names) or first}")


def last_layer(model: nn.Module, input_shape: tuple[int, ...]) -> str:
    """Name of the last layer with more than one unit, for images of `input_shape` (C, H, W), or of one or three axes.

    InputError if there is none.
    """
    found, sides = [], input_shape[1:]
    layout = "channels_first" if len(sides) == 1 else None  # of sound the proportions do not tell

    def note(name):
        def hook(module, inputs, output):
            if isinstance(output, torch.Tensor) and output.dim() in (3, len(sides) + 2):
                with contextlib.suppress(InputError):
                    plane = plane_of(tuple(output.shape), 1, sides, None, layout, name)
                    if math.prod(plane.units) > 1 and misfit(plane.units, sides) <= 1:
                        found.append(name)

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in model.named_modules() if name]
    try:
        with evaluating(model), torch.no_grad(), contextlib.suppress(InputError):
            layer_output(model, torch.zeros(1, *input_shape, **device_and_dtype(model)), None)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise InputError(f"no layer of the model has units in a plane for images of shape {tuple(input_shape)}")
    return found[-1]
