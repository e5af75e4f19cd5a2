"""What is known of a layer's units after one pass of the model: kept between calls, as long as the model lives."""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType

import torch
from torch import nn

from erf.errors import InputError, is_out_of_memory
from erf.graph.axes import splits_axis
from erf.graph.nodes import Graph, Operation
from erf.graph.torch_private import modules_of, nodes_behind
from erf.measuring.layer import Adapted, device_and_dtype, last_layer, layer_outputs
from erf.measuring.plane import NoPlane, plane_of
from erf.measuring.precision import measuring_mode
from erf.measuring.theoretical import TheoreticalRF, UnitFields, unit_fields
from erf.ops.pointwise import JoinedBeside
from erf.ops.table import REGISTERED
from erf.tracing.cone import Cone
from erf.tracing.isolation import LeftAlone, no_collection
from erf.tracing.norms import SoundNorms
from erf.tracing.record import Recorder, Unfollowed

# By how much a cone may differ from the model, as a share; in float32 rounding closes gates of ReLUs.
AGREEMENT = {torch.float32: 1e-2, torch.float64: 1e-6}
PILOTS, SMALLEST_PILOT = 4, 96  # side of a large image over that of its pilot, and the smallest such, in pixels


NO_GRADIENT = "the unit does not depend on the input by any gradient: choose another layer"


@dataclass
class Record:
    """A layer's units in images of one shape.

    graph : None if the operations do not tell how the output depends on the image
    not_croppable : "" or why a part of the graph cannot be computed in place of the model
    one_by_one : whether each image needs a pass of its own
    operations : of the graph, as they were performed
    foreign : whether it has tensors that neither the model holds nor torch has computed, which may be others next time
    changes_itself : whether the model writes into its weights or buffers, or keeps something, when it runs
    guessed : whether the places of tokens are guessed by their number
    needs_sound_norms : whether torch's own gradient of its batch norms may be wrong
    """

    graph: Graph | None
    fields: UnitFields
    not_croppable: str
    one_by_one: bool
    operations: list[Operation]
    foreign: bool
    changes_itself: bool = True
    needs_sound_norms: bool = True
    cones: dict[tuple[int, int], Cone] = field(default_factory=dict)
    guessed: bool = False
    checked: bool = False
    to_check: tuple | None = None

    def cone(self, unit: tuple[int, int]) -> Cone:
        """The cone of one unit."""
        if unit not in self.cones:
            self.cones[unit] = Cone(self.graph, {axis: (unit[axis],) * 2 for axis in self.graph.output.sizes})
        return self.cones[unit]

    def values_of_cone(self, unit: tuple[int, int], window: torch.Tensor) -> torch.Tensor:
        """The unit's values (n, K), for images that are cropped to its window."""
        index, plane = self.fields.plane.cropped(unit, self.graph.output.sizes)
        return plane.values(self.cone(unit).run(window), index)


@dataclass
class Pass:
    """A pass whose gradient is still to be taken: what the model was given, and each layer's output."""

    source: torch.Tensor
    outputs: list[torch.Tensor]
    norms: SoundNorms | None = None


_KEPT: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def known_records(model: nn.Module, images: torch.Tensor, layers: Sequence[str | None], layout) -> list[Record] | None:
    """The records of these layers for images (n, C, H, W), if all are kept and the model's structure is as it was."""
    kept = _kept_of(model)
    if not kept or kept["structure"] != _structure_of(model):
        return None
    found = [kept.get(_key(images, layer, layout)) for layer in layers]
    return None if None in found else found


def record(
    model: nn.Module, images: torch.Tensor, layers: Sequence[str | None], layout, guard: LeftAlone
) -> tuple[list[Record], Pass]:
    """Run the model on one image, (1, C, H, W), and keep what its operations tell.

    The model must be in evaluation mode; whoever calls puts back what `guard` holds.
    """
    guard.structure = guard.structure or _structure_of(model)  # before the model can change itself
    with no_collection():
        return _recorded(model, images, layers, layout, guard)


def pilot_of(images: torch.Tensor) -> torch.Tensor | None:
    """The middle of images so large that a backward pass through all of them is to be spared; None if they are not."""
    sides = [max(SMALLEST_PILOT, length // (32 * PILOTS) * 32) for length in images.shape[2:]]
    if any(PILOTS * side > length for side, length in zip(sides, images.shape[2:], strict=True)):
        return None
    starts = [(length - side) // 2 for side, length in zip(sides, images.shape[2:], strict=True)]
    return images[:, :, *(slice(start, start + side) for start, side in zip(starts, sides, strict=True))]


def record_large(
    model: nn.Module, images: torch.Tensor, pilot: torch.Tensor, layers: Sequence[str | None], layout, guard: LeftAlone
) -> list[Record] | None:
    """As `record`, for a large image, of which `pilot` is the crop that `pilot_of` gives.

    The pilot is recorded with its gradient, by which the cone is checked. The image itself only goes forward: its
    operations must be the pilot's, and its values those of the cone. None if cropping would not pay, or if anything
    differs.
    """
    try:
        pilots, found = record(model, pilot, layers, layout, guard)
        if not all(_is_small(one, images) for one in pilots):
            return None
        for one, output in zip(pilots, found.outputs, strict=True):
            unit = one.fields.plane.chosen("center")
            values = one.fields.plane.values(output, unit)
            weights = torch.linspace(1, 2, values.shape[1], dtype=values.dtype, device=values.device).expand_as(values)
            (expected,) = torch.autograd.grad(values, found.source, weights, retain_graph=True)
            cone = one.cone(unit)
            source = pilot[:, :, *cone.slices].detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(one.values_of_cone(unit, source), source, weights)
            inside = expected[:, :, *cone.slices]
            if not inside.any() or inside.count_nonzero() != expected.count_nonzero() or _differ(gradient, inside):
                return None
        needs_sound_norms = found.norms.needed
        del found
        with no_collection():
            records, outputs = _recorded_forward(model, images, layers, layout, guard, pilots)
        for one, output in zip(records, outputs, strict=True):
            unit = one.fields.plane.chosen("center")
            with torch.no_grad():
                values = one.values_of_cone(unit, images[:, :, *one.cone(unit).slices])
            if one.not_croppable or _differ(values, one.fields.plane.values(output, unit)):
                return None
            one.checked, one.needs_sound_norms = True, needs_sound_norms
    except Exception as error:  # whatever the model or its cone does not bear: the whole image is still there
        if is_out_of_memory(error):
            raise
        return None
    return records


def _is_small(one: Record, images: torch.Tensor) -> bool:
    """Whether the fields of units are so much smaller than the images that a crop is worth a pilot."""
    if one.not_croppable or one.graph is None:
        return False
    sizes = one.fields.field(one.fields.plane.chosen("center"))[1]
    return all(size < 0.6 * side for size, side in zip(sizes, images.shape[2:], strict=True))


def _differ(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return not distance(found, expected) <= AGREEMENT.get(found.dtype, 0)


def _recorded_forward(model, images, layers, layout, guard: LeftAlone, pilots: list[Record]):
    """The records of a pass without gradients, and its outputs."""
    given = images.clone()
    recorder = Recorder(given, model, guard.held, guard.before_write)
    with recorder:
        outputs = layer_outputs(model, given, layers)
    found = zip(layers, outputs, pilots, strict=True)
    records = [_record_of(model, recorder, given, *one, layout, its.operations) for *one, its in found]
    _keep(model, images, layers, layout, records, guard.structure)
    return records, outputs


def _recorded(model, images, layers, layout, guard: LeftAlone) -> tuple[list[Record], Pass]:
    random_state = guard.random_state
    source = images.detach().clone().requires_grad_()
    given = source.clone()  # the first operation may be in place
    recorder = Recorder(given, model, guard.held, guard.before_write)
    try:
        with recorder:
            outputs = layer_outputs(model, given, layers)
    except NoPlane as error:
        raise NoPlane(f"{error}{such_as(model, tuple(given.shape[1:]))}") from None
    if guard.random_state != random_state:
        recorder.draws_outside()
    recorder.look_at(nodes := nodes_behind(outputs))
    records = [_record_of(model, recorder, given, *one, layout) for one in zip(layers, outputs, strict=True)]
    _keep(model, images, layers, layout, records, guard.structure)
    return records, Pass(source, outputs, SoundNorms(nodes))


def _keep(model, images, layers, layout, records: list[Record], signature: tuple) -> None:
    kept = _kept_of(model)
    if kept is not None and not any(one.foreign for one in records):
        if kept.get("structure") != signature:
            kept.clear()
        kept["structure"] = signature
        kept.update({_key(images, layer, layout): one for layer, one in zip(layers, records, strict=True)})


def theoretical_rf(
    model: nn.Module,
    layer: str | None = None,
    *,
    input_shape: tuple[int, ...],
    inputs: Mapping | Callable | None = None,
    output: str | int | Callable | None = None,
) -> TheoreticalRF:
    """Theoretical receptive field of the units of a layer: all pixels that can matter to them, whatever the weights.

    The field follows from the kernels, strides, paddings and dilations of the operations that the model performs on an
    image of noise. A model on the device "meta" performs them without any arithmetic.

    Parameters
    ----------
    model : a torch.nn.Module, which is left as it was
    layer : name of the submodule, as in `model.named_modules()`; None for the model's own output
    input_shape : (C, H, W) of an image that the model accepts, (C, T) of a sound, or (C, D, H, W) of a volume or video
    inputs, output : as in `erf.measure`: further inputs of the model, and which part of its own output holds the units

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
    model = Adapted.of(model, inputs, output)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(1, *input_shape, generator=generator).to(**device_and_dtype(model))
    with measuring_mode(model, images.device.type):
        return fields_of(model, images, layer, None).summary()


def fields_of(model: nn.Module, image: torch.Tensor, layer: str | None, layout) -> UnitFields:
    """The fields of a layer's units in an image (1, C, *axes) on the model's device, with `measuring_mode` entered."""
    records = known_records(model, image, [layer], layout)
    if records is None:
        guard = LeftAlone(model)
        try:
            records, _ = record(model, image, [layer], layout, guard)
        finally:
            guard.put_back()
    return records[0].fields


def _record_of(model, recorder: Recorder, given, layer, output, layout, like=None) -> Record:
    graph, reason, image = None, "", tuple(given.shape[2:])
    if not output.requires_grad and like is None:
        raise InputError(NO_GRADIENT)
    try:
        graph = recorder.graph_of(output, like)
        if graph is None:
            raise InputError(NO_GRADIENT)
        if callable(layout):
            graph, reason = None, "a function of the output"
        elif any(map(splits_axis, graph.output.layout)):
            graph, reason = None, f"{graph.operations[-1]}, whose units divide those of a layer before"
    except Unfollowed as unfollowed:
        if like is not None:
            raise
        reason = str(unfollowed)
    try:
        plane = plane_of(tuple(output.shape), 1, image, graph and graph.output.layout, layout, layer)
    except NoPlane as error:
        raise NoPlane(f"{error}{such_as(model, tuple(given.shape[1:]))}") from None
    fields = unit_fields(graph, reason, plane, image)
    not_croppable, one_by_one = recorder.not_croppable or reason, recorder.one_by_one
    if graph is not None:
        one_by_one |= not graph.keeps_samples
        if any(isinstance(operation.rule, JoinedBeside) for operation in graph.operations):
            not_croppable = not_croppable or "entries without places stand beside those of the plane"
        if not graph.repeatable:
            not_croppable = not_croppable or "it draws random numbers, or asks how tensors lie in memory"
    else:
        one_by_one = True
    known = graph is not None and len(graph.output.sizes) == len(image)
    operations = recorder.operations.get(id(output), [])
    guessed = not known and layout is None and output.dim() == 3
    foreign = recorder.foreign or callable(layout)
    return Record(graph, fields, not_croppable, one_by_one, operations, foreign, guessed=guessed)


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Summed difference, as a share of what is expected."""
    found, expected = found.detach(), expected.detach()
    return float((found - expected).abs().sum() / expected.abs().sum().clamp_min(torch.finfo(expected.dtype).tiny))


def such_as(model: nn.Module, input_shape: tuple[int, ...]) -> str:
    """The end of an error about a layer: the last one that has units in a plane; empty if there is none."""
    try:
        return f", such as {last_layer(model, input_shape)!r}"
    except InputError:
        return ""


def _key(images: torch.Tensor, layer: str | None, layout) -> tuple:
    layout = tuple(layout) if isinstance(layout, list) else layout
    return layer, layout, tuple(images.shape[1:]), images.dtype, images.device


def _kept_of(model: nn.Module) -> dict | None:
    """The records that are kept for a model; None for a model for which none can be."""
    try:
        return _KEPT.setdefault(model, {})
    except TypeError:  # it cannot be hashed, or not be referred to weakly
        return None


SIMPLE = frozenset({bool, int, float, str, type(None)})
CONTAINERS = frozenset({dict, OrderedDict, list, tuple, set})
NAMED = (torch.Tensor, nn.Module, ModuleType, type)  # are noted by their identity


def _structure_of(model: nn.Module) -> tuple:
    """Whatever decides which operations a model performs, but for code: its modules, their settings and weights."""
    found: list = [len(REGISTERED)]
    met: set[int] = set()
    for module in modules_of(model):
        found.append(id(module))
        _note_settings(vars(module).values(), found, met, 3)
    return tuple(found)


def _note_settings(values: Iterable, found: list, met: set[int], depth: int) -> None:
    """Numbers and words as they are, what holds such by what it holds, and anything else by its identity."""
    for value in values:  # thousands before each measurement
        kind = type(value)
        if kind in SIMPLE:
            found.append(value)
        elif kind in CONTAINERS and not value:
            found.append(kind)
        elif not depth or isinstance(value, NAMED) or callable(value):
            found.append(id(value))
        else:
            inner = value if isinstance(value, dict) else getattr(value, "__dict__", None)
            if not (inner or kind in (tuple, list)):
                found.append(id(value))
            elif id(value) not in met:
                met.add(id(value))
                _note_settings(value if kind in (tuple, list) else inner.values(), found, met, depth - 1)
