"""What is known of a layer's units after one pass of the model: kept between calls, as long as the model lives."""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from erf.errors import InputError
from erf.graph.nodes import Graph
from erf.measuring.layer import device_and_dtype, last_layer, layer_outputs
from erf.measuring.plane import NoPlane, plane_of
from erf.measuring.precision import measuring_mode
from erf.measuring.theoretical import TheoreticalRF, UnitFields, unit_fields
from erf.ops.table import REGISTERED
from erf.tracing.cone import Cone
from erf.tracing.isolation import LeftAlone, no_collection
from erf.tracing.norms import SoundNorms
from erf.tracing.record import Recorder, Recording, Unfollowed

NO_GRADIENT = "the unit does not depend on the input by any gradient: choose another layer"


@dataclass
class Record:
    """A layer's units in images of one shape.

    graph : None if the operations do not tell how the output depends on the image
    not_croppable : "" or why a part of the graph cannot be computed in place of the model
    one_by_one : whether each image needs a pass of its own
    changes_itself : whether the model writes into its weights or buffers, or keeps something, when it runs
    guessed : whether the places of tokens are guessed by their number
    needs_sound_norms : whether torch's own gradient of its batch norms may be wrong
    """

    graph: Graph | None
    fields: UnitFields
    not_croppable: str
    one_by_one: bool
    changes_itself: bool = True
    needs_sound_norms: bool = True
    cones: dict[tuple[int, int], Cone] = field(default_factory=dict)
    guessed: bool = False
    checked: bool = False
    to_check: tuple | None = None


@dataclass
class Pass:
    """A pass whose gradient is still to be taken: what the model was given, and each layer's output."""

    source: torch.Tensor
    outputs: list[torch.Tensor]
    norms: SoundNorms | None = None


_KEPT: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def known_records(model: nn.Module, images: torch.Tensor, layers: Sequence[str | None], layout) -> list[Record] | None:
    """The records of these layers for images (n, C, H, W), if all are kept and the model's structure is as it was."""
    signature, kept = _kept_of(model)
    if kept is None or kept.get("structure") != signature:
        return None
    found = [kept.get(_key(images, layer, layout)) for layer in layers]
    return None if None in found else found


def record(
    model: nn.Module, images: torch.Tensor, layers: Sequence[str | None], layout, guard: LeftAlone
) -> tuple[list[Record], Pass]:
    """Run the model on one image, (1, C, H, W), and keep what its operations tell.

    The model must be in evaluation mode; whoever calls puts back what `guard` holds.
    """
    with no_collection():
        return _recorded(model, images, layers, layout, guard)


def _recorded(model, images, layers, layout, guard: LeftAlone) -> tuple[list[Record], Pass]:
    recorder, random_state = Recorder(guard.before_write), guard.random_state
    source = images.detach().clone().requires_grad_()
    given = source.clone()  # the first operation may be in place
    try:
        with recorder:
            outputs = layer_outputs(model, given, layers)
    except NoPlane as error:
        raise NoPlane(f"{error}{_such_as(model, tuple(given.shape[1:]))}") from None
    recording = Recording(recorder, given, guard.held, model)
    if guard.random_state != random_state:
        recording.draws_outside()
    records = [_record_of(model, recording, given, *one, layout) for one in zip(layers, outputs, strict=True)]
    signature, kept = _kept_of(model)
    if kept is not None:
        if kept.get("structure") != signature:
            kept.clear()
        kept["structure"] = signature
        kept.update({_key(images, layer, layout): one for layer, one in zip(layers, records, strict=True)})
    return records, Pass(source, outputs, recorder.norms)


def theoretical_rf(model: nn.Module, layer: str | None = None, *, input_shape: tuple[int, ...]) -> TheoreticalRF:
    """Theoretical receptive field of the units of a layer: all pixels that can matter to them, whatever the weights.

    The field follows from the kernels, strides, paddings and dilations of the operations that the model performs on an
    image of noise. A model on the device "meta" performs them without any arithmetic.

    Parameters
    ----------
    model : a torch.nn.Module, which is left as it was
    layer : name of the submodule, as in `model.named_modules()`; None for the model's own output
    input_shape : (C, H, W) of an image that the model accepts, (C, T) of a sound, or (C, D, H, W) of a volume or video

    Returns
    -------
    TheoreticalRF: size, stride and offset along each axis, (rows, columns) for images, in pixels of the input.

    Raises
    ------
    InputError : a layer that does not exist, is not used, or has no units in a plane; an image that the model refuses.

    Examples
    --------
    The first layers of a ResNet:

    >>> import erf, torch
    >>> stem = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 7, stride=2, padding=3), torch.nn.MaxPool2d(3, 2, padding=1))
    >>> erf.theoretical_rf(stem, input_shape=(3, 224, 224))
    TheoreticalRF(size=(11.0, 11.0), stride=(4.0, 4.0), offset=(0.0, 0.0), sees_all=None)
    """
    if not isinstance(input_shape, tuple | list | torch.Size) or len(input_shape) not in (2, 3, 4):
        shapes = "(channels, height, width), (channels, time) or (channels, depth, height, width)"
        raise InputError(f"input_shape must be {shapes}, not {input_shape}")
    place = device_and_dtype(model)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, *input_shape, generator=generator).to(**place)
    with measuring_mode(model, images.device.type):
        records = known_records(model, images, [layer], None)
        if records is None:
            guard = LeftAlone(model)
            try:
                records, _ = record(model, images, [layer], None, guard)
            finally:
                guard.put_back()
    return records[0].fields.summary()


def _record_of(model, recording: Recording, given, layer, output, layout) -> Record:
    graph, reason, image = None, "", tuple(given.shape[2:])
    if not output.requires_grad:
        raise InputError(NO_GRADIENT)
    try:
        graph = recording.graph_of(output)
        if graph is None:
            raise InputError(NO_GRADIENT)
    except Unfollowed as unfollowed:
        reason = str(unfollowed)
    try:
        plane = plane_of(tuple(output.shape), 1, image, graph and graph.output.layout, layout, layer)
    except NoPlane as error:
        raise NoPlane(f"{error}{_such_as(model, tuple(given.shape[1:]))}") from None
    fields = unit_fields(graph, reason, plane, image)
    not_croppable, one_by_one = recording.croppable or reason, recording.one_by_one
    if graph is not None:
        one_by_one |= not graph.keeps_samples
        if not graph.repeatable:
            not_croppable = not_croppable or "it draws random numbers, or asks how tensors lie in memory"
    else:
        one_by_one = True
    known = graph is not None and len(graph.output.sizes) == len(image)
    return Record(graph, fields, not_croppable, one_by_one, guessed=not known and layout is None and output.dim() == 3)


def _such_as(model: nn.Module, input_shape: tuple[int, ...]) -> str:
    try:
        return f", such as {last_layer(model, input_shape)!r}"
    except InputError:
        return ""


def _key(images: torch.Tensor, layer: str | None, layout) -> tuple:
    layout = tuple(layout) if isinstance(layout, list) else layout
    return layer, layout, tuple(images.shape[1:]), images.dtype, images.device


def _kept_of(model: nn.Module) -> tuple[tuple, dict | None]:
    """The model's structure, and the records that are kept for it; None for a model for which none can be."""
    try:
        return _structure_of(model), _KEPT.setdefault(model, {})
    except TypeError:  # it cannot be hashed, or not be referred to weakly
        return (), None


def _structure_of(model: nn.Module) -> tuple:
    """Whatever decides which operations a model performs, but for code: its modules, their settings and weights."""
    plain = {bool, int, float, str, tuple, type(None)}
    found = [len(REGISTERED)]
    for module in model.modules():
        settings = vars(module)
        found.append(id(module))
        found += [value for value in settings.values() if type(value) in plain]
        for name in ("_parameters", "_buffers", "_forward_hooks", "_forward_pre_hooks"):
            found += map(id, settings.get(name, {}).values())
        found.append(settings.get("forward"))
    return tuple(found)
