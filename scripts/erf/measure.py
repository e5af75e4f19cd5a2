"""Impact maps: how strongly each input pixel moves one unit, by back-propagating a gradient that is 1 at that unit."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from erf.cone import Cone
from erf.devices import full_precision
from erf.errors import InputError, is_out_of_memory
from erf.field import ReceptiveField
from erf.layers import described, evaluating, layer_output, place_of
from erf.seeds import seed_for
from erf.structure import traced

MODES = {
    "abs": torch.abs,
    "square": torch.square,
    "signed": lambda gradient: gradient,
    "positive": torch.relu,  # as RepLKNet's script has it (Ding et al. 2022); it loses what lowers the unit
}
AT_ONCE = {"cpu": 2**27, "gpu": 2**30}  # bytes of activations for which a batch is chosen
LARGEST_BATCH = 64
WORTHWHILE = 0.87  # share of the arithmetic from which on the cone is not computed apart

Pair = tuple[int, int]
Images = torch.Tensor | np.ndarray


@dataclass(frozen=True)
class Unit:
    """Which unit of a layer was measured, (row, column), where it looks, and what was computed for it.

    image : height and width of what the model was given
    window : first and last row, first and last column of the part of the image that was computed on
    sees_all : what makes that the whole image: the operation that sees all of it, or of which it is not known what it
        sees; None if there is none
    """

    index: Pair
    position: tuple[float, float]
    theoretical_rf: tuple[float, float]
    image: Pair
    window: tuple[Pair, Pair]
    sees_all: str | None

    @property
    def slices(self) -> tuple[slice, slice]:
        """Of rows and columns: the window."""
        return tuple(slice(first, last + 1) for first, last in self.window)


def measure(
    model: nn.Module,
    images: Images | Iterable[Images],
    layer: str | None = None,
    unit: str | Pair | list[Pair] = "center",
    channels: str | int = "sum",
    mode: str = "abs",
    *,
    layout: str | Pair | None = None,
    batch_size: int | None = None,
    crop: bool = True,
    rng: np.random.Generator | None = None,
    progress: bool = False,
) -> ReceptiveField | list[ReceptiveField]:
    """Effective receptive field of a unit of `layer`, averaged over `images`.

    A pixel's impact is the scale of the partial derivative dy/dx(p) (Luo et al. 2016): here, where the paper leaves it
    open, the mean over images and input channels of its magnitude, which is taken before any mean. The model runs in
    evaluation mode and in full precision, its parameters get no gradients, and it is left as it was.

    Only the part of each layer is computed on which the unit depends; the result is that of the whole image, to
    rounding. A unit that sees everything (attention, squeeze-and-excitation, global pooling) takes the whole image, and
    `settings["sees_all"]` names the operation.

    Parameters
    ----------
    images : (N, C, H, W), normalised as the model expects; or any iterable of such batches of one size, or of tuples
        that begin with one, as a DataLoader gives. Moved to the model's device and type: for float64 results give a
        float64 model.
    layer : name of the submodule (`model.named_modules()`) whose output holds the unit; the model's own output if None.
        It is a map (N, K, h, w) or (N, h, w, K), or tokens (N, [class tokens +] h * w, K).
    unit : "center", (row, column) in that map, or a list of such pairs
    channels : "sum" adds the output channels at the unit, an integer takes one; with "each" every image takes another
        one, so that the mean is that of maps of single channels
    mode : "abs", "square", "signed" or "positive": what is averaged
    layout : where the units are, if it cannot be told: "channels_first", "channels_last", (rows, columns) of tokens
    batch_size : images per backward pass; changes memory and time, not the result; None chooses
    crop : False computes all of every layer
    rng : if given, ERF sizes are bootstrapped over images with it, and channels are drawn with it
    progress : show a bar

    Returns
    -------
    ReceptiveField, its map float64 (H, W), one run per image; a list of them for a list of units.

    Raises
    ------
    InputError : an unknown layer, unit, channel or mode; images that the model does not accept; a value that is not
        finite, with the layer where it first appears; a unit whose gradient is zero in every image.
    """
    units = unit if isinstance(unit, list) and unit else [unit]
    found: list[list[tuple[np.ndarray, Unit]]] = [[] for _ in units]
    total = len(images) if isinstance(images, Images) else None
    with tqdm(total=total, unit=" images", disable=not progress) as bar:
        for batch in _gradients(model, images, layer, units, channels, layout, batch_size, crop, rng):
            for own, (gradient, where) in zip(found, batch, strict=True):
                own.append((impact_maps(gradient, mode), where))
            bar.update(len(gradient))
    if not all(found):
        raise InputError("there are no images")
    fields = []
    for own in found:
        if len({where.window for _, where in own}) > 1:
            own = [_in_the_whole(*one) for one in own]
        runs, where = np.concatenate([maps for maps, _ in own]), own[0][1]
        settings = {"layer": layer, "unit": list(where.index), "channels": channels, "mode": mode, "images": len(runs)}
        settings |= {"window": [list(ends) for ends in where.window], "sees_all": where.sees_all}
        fields.append(_field(runs, where, settings, rng))
        if fields[-1].dead == len(runs):
            raise InputError(
                f"the unit is dead in all {len(runs)} images (zero gradient): read it before its activation"
            )
    return fields if isinstance(unit, list) else fields[0]


def _in_the_whole(maps: np.ndarray, where: Unit) -> tuple[np.ndarray, Unit]:
    """Maps (n, h, w) of a unit's window, put into maps of the whole image, (n, H, W)."""
    whole = np.zeros((len(maps), *where.image))
    whole[:, *where.slices] = maps
    return whole, replace(where, window=tuple((0, side - 1) for side in where.image))


def _field(runs: np.ndarray, where: Unit, settings: dict, rng: np.random.Generator | None) -> ReceptiveField:
    """The field of runs (n, h, w) of the unit's window; beyond it they are zero, and need not be gone through."""
    if any(not first <= middle <= last for middle, (first, last) in zip(where.position, where.window, strict=True)):
        runs, where = _in_the_whole(runs, where)  # it looks at a place that is not in its window
    position = tuple(middle - first for middle, (first, _) in zip(where.position, where.window, strict=True))
    field = ReceptiveField.from_runs(runs, position, where.theoretical_rf, settings, rng)
    whole = np.zeros(where.image)
    whole[where.slices] = field.map
    return replace(field, map=whole, position=where.position)


def gradient_of_sum(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Gradient (n, C, H, W) of the sum of all that a model gives for images (n, C, H, W), as `measure` computes it.

    For a model that gives one unit for each of its independent parts, where nothing has to be found out.
    """
    with _measuring(model, images.device.type):
        source = images.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(source).sum(), source)
        if not gradient.isfinite().all():
            raise InputError(_not_finite(model, images, None))
        return gradient


def impact_maps(gradient: torch.Tensor, mode: str = "abs") -> np.ndarray:
    """Impact maps float64 (n, H, W) of gradients (n, C, H, W): the mean over channels of their magnitude, or as `mode`
    says."""
    if mode not in MODES:
        raise InputError(f"unknown mode {mode!r}: choose one of {', '.join(MODES)}")
    return MODES[mode](gradient.cpu().double()).mean(1).numpy()  # not every device has float64


def _gradients(model, images, layer, units, channels, layout, batch_size, crop, rng) -> Iterator[list]:
    """For each batch a list with, for each unit, its gradient in its window, and where it is."""
    picks = [_Channels(channels, rng) for _ in units]
    probes: dict[int, _Probe] = {}  # by the number of images
    size = None
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise InputError(f"batch_size must be a whole number from 1, not {batch_size!r}")
    if not isinstance(model, nn.Module):
        raise InputError(f"a model is a torch.nn.Module, not a {type(model).__name__}")

    def probe(batch: torch.Tensor) -> _Probe:
        if len(batch) not in probes:
            probes[len(batch)] = _Probe(model, batch, layer, layout, crop)
        return probes[len(batch)]

    for chunk in _chunks(images):
        place = place_of(model)
        device = place.get("device", chunk.device).type
        if size is None:
            with _measuring(model, device):
                first = probe(chunk[: batch_size or 1].to(**place))  # the probe of one image tells how many may be
                size = 1 if first.mixes_samples else batch_size or first.batch_size(units)
        for batch in chunk.split(size):
            with _measuring(model, device):
                batch = batch.to(**place)
                here = probe(batch)
                found = [
                    (here.gradient(batch, unit, pick), here.unit(unit)) for unit, pick in zip(units, picks, strict=True)
                ]
            yield found


def _chunks(images: Images | Iterable) -> Iterator[torch.Tensor]:
    """Tensors (N, C, H, W) of one size; InputError for what is no such images."""
    shape = None
    if not isinstance(images, Images | Iterable):
        raise InputError(f"images must be (N, C, H, W), or batches of such, not a {type(images).__name__}")
    for chunk in [images] if isinstance(images, Images) else images:
        chunk = chunk[0] if isinstance(chunk, tuple | list) and chunk else chunk
        if isinstance(chunk, np.ndarray) and chunk.dtype.kind in "iufb":  # with torch's order of bytes, and strides
            chunk = torch.from_numpy(np.array(chunk, chunk.dtype.newbyteorder("="), order="C"))
        if not isinstance(chunk, torch.Tensor) or chunk.dim() != 4 or not len(chunk):
            found = tuple(chunk.shape) if isinstance(chunk, torch.Tensor) else f"a {type(chunk).__name__}"
            raise InputError(f"images must be (N, C, H, W) with N of at least 1, not {found}")
        if not chunk.is_floating_point():
            raise InputError(f"images are {chunk.dtype}: give floats, scaled and normalised as the model expects")
        if not torch.stack(chunk.aminmax()).isfinite().all():
            raise InputError("the images hold values that are not finite")
        if shape not in (None, chunk.shape[1:]):
            raise InputError(f"images of different sizes, {tuple(shape)} and {tuple(chunk.shape[1:])}: make them alike")
        shape = chunk.shape[1:]
        yield chunk


class _Channels:
    """Which channel of the output the gradient is of, as `measure` has it."""

    def __init__(self, choice: str | int, rng: np.random.Generator | None):
        self.choice = choice
        self.rng = rng or np.random.default_rng(seed_for(0, "channels"))
        self.drawn: list[int] = []

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """The scalar to differentiate, for values (n, K). Samples are independent in evaluation mode, so that one sum
        serves the whole batch."""
        samples, count = values.shape
        if self.choice == "sum":
            return values.sum()
        if self.choice == "each":
            while len(self.drawn) < samples:  # all of them before any comes again
                self.drawn += self.rng.permutation(count).tolist()
            chosen, self.drawn = self.drawn[:samples], self.drawn[samples:]
            return values[range(samples), chosen].sum()
        if isinstance(self.choice, int | np.integer) and not isinstance(self.choice, bool) and 0 <= self.choice < count:
            return values[:, self.choice].sum()
        raise InputError(f"unknown channels {self.choice!r}: 'sum', 'each' or a number from 0 to {count - 1}")


class _Probe:
    """Gradients of units of a layer with respect to batches of images of one shape, in evaluation mode."""

    def __init__(self, model: nn.Module, images: torch.Tensor, layer: str | None, layout, crop: bool):
        self.model, self.layer = model, layer
        self.graph, self.geometry = traced(model, images, layer, layout)
        self.plane = self.geometry.plane
        # A backward hook is seen by the model alone.
        hooked = any(module._backward_hooks or module._backward_pre_hooks for module in model.modules())
        hooked = hooked or nn.modules.module._global_backward_hooks or nn.modules.module._global_backward_pre_hooks
        usable = crop and self.graph is not None and self.graph.repeatable and not hooked
        self.mixes_samples = self.graph is not None and self.graph.mixes_samples
        self.croppable = self.graph if usable else None
        self.sum_checked = False
        self.cones: dict[Pair, Cone | None] = {}

    def cone(self, index: Pair) -> Cone | None:
        """What a unit depends on, if that is enough less than the whole image."""
        if self.croppable is None:
            return None
        if index not in self.cones:
            axes = self.croppable.output.sizes
            cone = Cone(self.croppable, {axis: (index[axis],) * 2 for axis in axes})
            self.cones[index] = cone if cone.share < WORTHWHILE else None
        return self.cones[index]

    def unit(self, unit: str | Pair) -> Unit:
        index = self.plane.chosen(unit)
        cone = self.cone(index)
        window = tuple((0, side - 1) for side in self.geometry.image) if cone is None else cone.window
        return Unit(index, *self.geometry.field(index), self.geometry.image, window, self.geometry.sees_all)

    def batch_size(self, units: list) -> int:
        """Images at once whose activations stay within AT_ONCE; the probe is one for a single image."""
        if self.graph is None:
            return 1
        cones = [self.cone(self.plane.chosen(unit)) for unit in units]
        numbers = max(self.graph.numbers if cone is None else cone.numbers for cone in cones)
        limit = AT_ONCE["cpu" if self.graph.images.device.type == "cpu" else "gpu"]
        return int(np.clip(limit // (1 + numbers * self.graph.images.dtype.itemsize), 1, LARGEST_BATCH))

    def gradient(self, images: torch.Tensor, unit: str | Pair, channels: "_Channels") -> torch.Tensor:
        """(n, C, h, w) in the unit's window, of images (n, C, H, W) on the model's device."""
        values, source = self.values(images, unit)
        gradient = _backwards(channels.of(values), source) if values.requires_grad else None
        if gradient is None:
            raise InputError("the unit does not depend on the input by any gradient: choose another layer")
        if not (gradient.isfinite().all() and values.isfinite().all()):
            raise InputError(_not_finite(self.model, images, self.layer))
        if channels.choice == "sum" and not self.sum_checked:
            self.sum_checked = True
            self.check_sum(gradient, values, images, unit)
        return gradient

    def values(self, images: torch.Tensor, unit: str | Pair) -> tuple[torch.Tensor, torch.Tensor]:
        """The unit's values (n, K), and the part of the images on which they depend."""
        index = self.plane.chosen(unit)
        cone = self.cone(index)
        # A copy: the caller's images keep their own graph and get no gradient.
        source = images[:, :, *self.unit(unit).slices].detach().clone().requires_grad_()
        if cone is None:
            output = layer_output(self.model, source.clone(), self.layer)  # the first operation may be in place
            return self.plane.values(output, index), source
        try:
            output = cone.run(source)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            warnings.warn(f"measured on the whole image, since a part of it failed: {error}", stacklevel=2)
            self.croppable = None
            return self.values(images, unit)
        index, plane = self.plane.cut(index, cone.graph.output.sizes)
        return plane.values(output, index), source

    def check_sum(self, gradient: torch.Tensor, values: torch.Tensor, images: torch.Tensor, unit: str | Pair) -> None:
        """InputError if the channels' sum has no gradient but rounding, though the channels have."""
        largest = gradient.abs().max()
        if largest * images.abs().max() > 1e-3 * values.abs().max():
            return
        values, source = self.values(images, unit)
        signs = torch.arange(values.shape[1], device=values.device) % 2 * 2 - 1
        other = _backwards((values * signs).sum(), source).abs().max()
        if other > 0 and largest <= 1000 * torch.finfo(values.dtype).eps * other:
            words = "the sum over channels is constant, as it is behind a layer norm or a softmax"
            raise InputError(f"{words}: take channels='each', or one by its number")


def _backwards(value: torch.Tensor, source: torch.Tensor) -> torch.Tensor | None:
    try:
        return torch.autograd.grad(value, source, allow_unused=True)[0]
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise InputError(f"the model has no gradient: {str(error).splitlines()[0]}") from error


@contextlib.contextmanager
def _measuring(model: nn.Module, device: str) -> Iterator[None]:
    with evaluating(model), full_precision(device), _no_denormals():
        yield


@contextlib.contextmanager
def _no_denormals() -> Iterator[None]:
    """Numbers below 1e-38, as gradients far from a unit are, count as zero: the CPU is many times slower with them."""
    before = not (torch.full((1,), 1e-39) * 1).any()  # torch does not tell
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _not_finite(model: nn.Module, source: torch.Tensor, layer: str | None) -> str:
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
