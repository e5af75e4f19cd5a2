"""Gradients of one unit: which units, which channels, and how a batch is measured."""

import contextlib
import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from erf.errors import InputError, is_out_of_memory
from erf.graph.torch_private import has_backward_hooks, nodes_behind
from erf.measuring.layer import device_and_dtype, layer_output, layer_outputs
from erf.measuring.plane import described
from erf.measuring.recorded import (
    AGREEMENT,
    NO_GRADIENT,
    Pass,
    Record,
    distance,
    known_records,
    pilot_of,
    record,
    record_large,
)
from erf.system.seeds import seed_for
from erf.tracing.cone import Cone
from erf.tracing.isolation import LeftAlone
from erf.tracing.norms import SoundNorms
from erf.tracing.record import Guarding

# Bytes of activations for which a batch is chosen: of crops, and of whole images, whose batches save less time. On the
# CPU a batch of crops also holds no more than one whole image does.
AT_ONCE = {"cpu": 2**27, "gpu": 2**30}
WHOLE_AT_ONCE = {"cpu": 2**25, "gpu": 2**30}


LARGEST_BATCH = 64


WORTHWHILE = 0.6  # of the arithmetic for the whole image: the cone is computed apart if it takes a smaller share


Pair = tuple[int, int]


@dataclass(frozen=True)
class Unit:
    """One measured unit: its index (row, column) in the layer, where it looks, and which window was computed.

    image : height and width of what the model was given
    window : first and last row, first and last column of the crop of the image that was computed on
    sees_all : the operation that sees the whole image, or that is unknown; None if there is none
    has_one_middle : whether theory says where it looks; if not, its impact does
    """

    index: Pair
    position: tuple[float, float]
    theoretical_rf: tuple[float, float]
    image: Pair
    window: tuple[Pair, Pair]
    sees_all: str | None
    has_one_middle: bool = True

    @property
    def slices(self) -> tuple[slice, slice]:
        """Of the image's axes: the window."""
        return tuple(slice(first, last + 1) for first, last in self.window)


class Channels:
    """The channels whose values are differentiated: the argument `channels` of `measure`."""

    def __init__(self, choice: str | int, rng: np.random.Generator | None):
        self.choice = choice
        self.rng = rng or np.random.default_rng(seed_for(0, "channels"))
        self.drawn: list[int] = []

    def weights(self, values: torch.Tensor) -> torch.Tensor:
        """Of each value, for values (n, K), in the sum that is differentiated. Samples are independent in evaluation
        mode, so that one sum serves the whole batch."""
        samples, count = values.shape
        weights = torch.zeros_like(values, requires_grad=False)
        if self.choice == "sum":
            return weights.fill_(1)
        if self.choice == "each":
            while len(self.drawn) < samples:  # all of them before any comes again
                self.drawn += self.rng.permutation(count).tolist()
            chosen, self.drawn = self.drawn[:samples], self.drawn[samples:]
            weights[range(samples), chosen] = 1
            return weights
        if isinstance(self.choice, int | np.integer) and not isinstance(self.choice, bool) and 0 <= self.choice < count:
            weights[:, self.choice] = 1
            return weights
        raise InputError(f"unknown channels {self.choice!r}: 'sum', 'each' or a number from 0 to {count - 1}")


@dataclass
class Target:
    """A unit that is measured: of which layer (by its number), which unit, and which of its channels."""

    layer: int
    unit: str | Pair
    channels: Channels
    sum_checked: bool = False


class Probe:
    """Gradients of units of layers with respect to images of one shape, in evaluation mode."""

    def __init__(self, model: nn.Module, layers: Sequence[str | None], targets: list[Target], layout, crop: bool):
        self.model, self.layers, self.targets, self.layout = model, list(layers), targets, layout
        self.crop = crop and not has_backward_hooks(model)  # such a hook is seen by the model alone
        self.guard: LeftAlone | None = None
        self.records: list[Record] | None = None

    def next_batch(self, images: torch.Tensor, given: int | None) -> int:
        """How many of the images, (n, C, H, W) on any device, go into the next pass."""
        if self.records is None:
            place = device_and_dtype(self.model)
            self.records = known_records(self.model, images[:1].to(**place), self.layers, self.layout)
            if self.records is None or any(one.changes_itself for one in self.records):
                self.guard = LeftAlone(self.model)
            if self.records is None and self.crop and (pilot := pilot_of(images[:1])) is not None:
                self.records = self._records_of_large(images[:1].to(**place), pilot.to(**place))
            if self.records is None:
                return 1  # the pass that is recorded
            for one in self.records:
                for cone in one.cones.values():
                    cone.forget()
        if any(one.one_by_one for one in self.records):
            return 1
        return given or min(self._at_once(images, target) for target in self.targets)

    def _records_of_large(self, image: torch.Tensor, pilot: torch.Tensor) -> list[Record] | None:
        try:
            found = record_large(self.model, image, pilot, self.layers, self.layout, self.guard)
        finally:
            changed = self.guard.put_back()
        for one in found or []:
            one.changes_itself = changed
        return None if changed else found

    def _at_once(self, images: torch.Tensor, target: Target) -> int:
        """Images whose activations stay within the memory that pays."""
        record, cone = self.records[target.layer], self.cone(target)
        device = device_and_dtype(self.model).get("device", images.device).type
        kind = "cpu" if device == "cpu" else "gpu"
        elements = record.graph.elements if cone is None else cone.elements
        limit = (WHOLE_AT_ONCE if cone is None else AT_ONCE)[kind]
        if kind == "cpu" and cone is not None:
            limit = min(limit, record.graph.elements * images.dtype.itemsize)
        return int(np.clip(limit // (1 + elements * images.dtype.itemsize), 1, LARGEST_BATCH))

    def cone(self, target: Target) -> Cone | None:
        """The cone of a unit; None if the whole image costs little more, or nothing less is known."""
        record = self.records[target.layer]
        if not self.crop or record.not_croppable or record.graph.images.dtype not in (torch.float32, torch.float64):
            return None
        index = record.fields.plane.chosen(target.unit)
        if WORTHWHILE < 1 and record.fields.covers_image(index):
            return None
        cone = record.cone(index)
        return cone if cone.share < WORTHWHILE else None

    def unit(self, target: Target) -> Unit:
        record = self.records[target.layer]
        index, cone = record.fields.plane.chosen(target.unit), self.cone(target)
        window = tuple((0, side - 1) for side in record.fields.image) if cone is None else cone.window
        fields = record.fields
        return Unit(index, *fields.field(index), fields.image, window, fields.sees_all, fields.has_one_middle(index))

    def gradients(self, images: torch.Tensor) -> list[tuple[torch.Tensor, Unit]]:
        """Of each target the gradient, (n, C, h, w), in its unit's window, by images (n, C, H, W) on its device."""
        if self.records is None:
            try:
                self.records, first = record(self.model, images, self.layers, self.layout, self.guard)
                found = self._of_pass(images, first, self.targets)
            finally:
                changed = self.guard.put_back()
            for one in self.records:
                one.needs_sound_norms, one.changes_itself = first.norms.needed, changed
            return found
        cropped = [target for target in self.targets if self.cone(target)]
        found = {id(target): self._of_cone(images, target) for target in cropped}
        whole = [target for target in self.targets if found.get(id(target)) is None]
        if whole:
            found |= dict(zip(map(id, whole), self._of_model(images, whole), strict=True))
        return [found[id(target)] for target in self.targets]

    def _of_model(self, images: torch.Tensor, targets: list[Target]) -> list[tuple[torch.Tensor, Unit]]:
        source = images.detach().clone().requires_grad_()
        itself = any(one.changes_itself for one in self.records)
        try:
            with Guarding(self.guard.before_write) if itself else contextlib.nullcontext():
                outputs = layer_outputs(self.model, source.clone(), self.layers)
            if any(one.needs_sound_norms for one in self.records):
                SoundNorms(nodes_behind(outputs))
            return self._of_pass(images, Pass(source, outputs), targets)
        finally:
            if itself:
                self.guard.put_back()

    def _of_pass(self, images, found: Pass, targets: list[Target]) -> list[tuple[torch.Tensor, Unit]]:
        """The gradients of a pass of the model; of one image, what its cone will be checked by is kept."""
        results = []
        for number, target in enumerate(targets):
            record, unit, cone = self.records[target.layer], self.unit(target), self.cone(target)
            values = record.fields.plane.values(found.outputs[target.layer], unit.index)
            weights = target.channels.weights(values)
            gradient = self._backwards(values, weights, found.source, number < len(targets) - 1 or self._sum(target))
            self._require_finite(gradient, values, images, target)
            self._check_sum(gradient, values, images, target, found.source, number < len(targets) - 1)
            if record.guessed:
                self._look_for_place(record, gradient, unit, target)
            if cone is not None:
                inside = gradient[:, :, *unit.slices]
                if inside.count_nonzero() != gradient.count_nonzero():
                    self._refuse_crop(record, "its gradient reaches beyond what theory says")
                    unit = self.unit(target)
                elif record.to_check is None and not record.checked:
                    kept = (images[:1, :, *unit.slices], inside[:1], values[:1].detach(), weights[:1])
                    record.to_check = (unit.index, *(one.clone() for one in kept))
            results.append((gradient[:, :, *unit.slices], unit))
        return results

    def _look_for_place(self, record: Record, gradient: torch.Tensor, unit: Unit, target: Target) -> None:
        """Warn if a unit, whose place among tokens was guessed by their number, depends most on another place."""
        record.guessed = False
        plane = record.fields.plane.units
        cells = functional.adaptive_avg_pool2d(gradient[:1].abs().mean(1, keepdim=True), plane)[0, 0]
        strongest = divmod(int(cells.argmax()), plane[1])
        if cells[strongest] > 2 * cells[unit.index]:
            which = f"{described(self.layers[target.layer])} gives tokens, which are taken to lie row after row behind"
            words = (
                f"{which} {record.fields.plane.before} others, but that of unit {unit.index} depends most on the place"
            )
            warnings.warn(
                f"{words} of {strongest}: if they lie so, give layout={plane}, else another layer", stacklevel=2
            )

    def _of_cone(self, images: torch.Tensor, target: Target) -> tuple[torch.Tensor, Unit] | None:
        """None if the cone is not to be trusted: then the model does it."""
        record, unit = self.records[target.layer], self.unit(target)
        try:
            if not record.checked and not self._check(record, images, target):
                return None
            source = images[:, :, *unit.slices].detach().clone().requires_grad_()
            values = record.values_of_cone(unit.index, source)
        except Exception as error:
            if is_out_of_memory(error) or isinstance(error, InputError):
                raise
            if len(images) > 1:
                record.one_by_one = True
                return self._one_by_one(images, target)
            self._refuse_crop(record, str(error))
            return None
        weights = target.channels.weights(values)
        gradient = self._backwards(values, weights, source, self._sum(target))
        self._require_finite(gradient, values, images, target)
        self._check_sum(gradient, values, images, target, source, False)
        return gradient, unit

    def _one_by_one(self, images: torch.Tensor, target: Target) -> tuple[torch.Tensor, Unit] | None:
        found = [self._of_cone(image, target) for image in images.split(1)]
        return None if None in found else (torch.cat([gradient for gradient, _ in found]), found[0][1])

    def _check(self, record: Record, images: torch.Tensor, target: Target) -> bool:
        """Whether a cone gives what the model gives, for the image that was recorded, or for one of these."""
        for _ in range(2):
            if record.to_check is None:  # the weights have changed since, or there was no cone
                self._of_model(images[:1], [dataclasses.replace(target, channels=Channels("sum", None))])
            if record.not_croppable:
                return False
            index, crop, expected, values, weights = record.to_check
            source = crop.detach().clone().requires_grad_()
            found = record.values_of_cone(index, source)
            gradient = self._backwards(found, weights, source, False)
            error = max(distance(gradient, expected), distance(found, values))
            record.to_check = None
            if error <= AGREEMENT[gradient.dtype]:
                record.checked = bool(expected.any())  # of a dead unit, equality tells nothing
                return True
        self._refuse_crop(record, f"it gives another gradient, by {100 * error:.2g} %")
        return False

    def _refuse_crop(self, record: Record, reason: str) -> None:
        warnings.warn(f"measured on the whole image, since a crop of it failed: {reason}", stacklevel=2)
        record.not_croppable = reason

    def _backwards(self, values: torch.Tensor, weights, source: torch.Tensor, again: bool) -> torch.Tensor:
        gradient = None
        if values.requires_grad:
            try:
                if any("CheckpointFunction" in one.not_croppable for one in self.records):  # grad() is not for these
                    source.grad = None
                    values.backward(weights, retain_graph=again)
                    gradient, source.grad = source.grad, None
                else:
                    (gradient,) = torch.autograd.grad(values, source, weights, retain_graph=again, allow_unused=True)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                raise InputError(f"the model has no gradient: {str(error).splitlines()[0]}") from error
        if gradient is None:
            raise InputError(NO_GRADIENT)
        return gradient

    def _require_finite(self, gradient, values, images: torch.Tensor, target: Target) -> None:
        # Whatever is not finite is the smallest or the largest; to ask each value takes many times longer.
        if not (torch.stack(gradient.aminmax()).isfinite().all() and values.isfinite().all()):
            raise InputError(describe_not_finite(self.model, images, self.layers[target.layer]))

    @staticmethod
    def _sum(target: Target) -> bool:
        """Whether it is still to be seen that the channels' sum is not constant."""
        return not target.sum_checked and isinstance(target.channels.choice, str) and target.channels.choice == "sum"

    def _check_sum(self, gradient, values, images, target: Target, source: torch.Tensor, again: bool) -> None:
        """InputError if the channels' sum has no gradient but rounding, though the channels have."""
        if not self._sum(target):
            return
        target.sum_checked = True
        largest = gradient.abs().max()
        if largest * images.abs().max() > 1e-3 * values.abs().max():
            return
        signs = (torch.arange(values.shape[1], device=values.device) % 2 * 2 - 1).to(values.dtype)
        other = self._backwards(values, signs.expand_as(values), source, again).abs().max()
        if other > 0 and largest <= 1000 * torch.finfo(values.dtype).eps * other:
            words = "the sum over channels is constant, as it is behind a layer norm or a softmax"
            raise InputError(f"{words}: take channels='each', or one by its number")


def describe_not_finite(model: nn.Module, source: torch.Tensor, layer: str | None) -> str:
    """Say where a value that is not finite first appears on the way to the layer."""
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
            output = layer_output(model, source, layer)
    finally:
        for handle in handles:
            handle.remove()
    if culprits:
        return f"layer {culprits[0]!r} gives values that are not finite: check its weights, or measure model.double()"
    if not output.isfinite().all():
        return f"{described(layer)} gives values that are not finite, though its layers do not: measure model.double()"
    return "the gradient is not finite on the way back: measure model.double(), or another layer"
