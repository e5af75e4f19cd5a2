"""Impact maps: how strongly each input pixel moves one unit, by back-propagating a gradient that is 1 at that unit."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from erf.errors import InputError
from erf.measuring.layer import Adapted, device_and_dtype, require_weights, uncompiled, warn_of_bytes
from erf.measuring.plane import OneUnit
from erf.measuring.precision import measuring_mode
from erf.measuring.probe import Channels, Pair, Probe, Target, Unit, describe_not_finite
from erf.measuring.recorded import such_as
from erf.result.field import ReceptiveField

MODES = {
    "abs": torch.abs,
    "square": torch.square,
    "signed": lambda gradient: gradient,
    "positive": torch.relu,  # RepLKNet's script (Ding et al. 2022); pixels that lower the unit count as zero
}


Images = torch.Tensor | np.ndarray


def measure(
    model: nn.Module,
    images: Images | Iterable[Images],
    layer: str | list[str | None] | None = None,
    unit: str | int | tuple[int, ...] | list[int | tuple[int, ...]] | Callable = "center",
    channels: str | int = "sum",
    mode: str = "abs",
    *,
    inputs: Mapping | Callable | None = None,
    output: str | int | Callable | None = None,
    layout: str | tuple[int, ...] | None = None,
    batch_size: int | None = None,
    crop: bool = True,
    rng: np.random.Generator | None = None,
    progress: bool = False,
    spacing: float | tuple[float, ...] | None = None,
    lengths_in: str = "px",
) -> ReceptiveField | list[ReceptiveField] | list[list[ReceptiveField]]:
    """Measure the effective receptive field (ERF) of one unit of a layer, averaged over images.

    The impact of a pixel p on the unit is the magnitude of the partial derivative dy/dx(p) of the unit's value y (Luo,
    Li, Urtasun and Zemel, NIPS 2016, arXiv 1701.04128). The paper leaves open how images and colours are averaged: here
    the magnitude is taken first, and then the mean over images and input channels. `erf.naive` is this definition in
    50 lines.

    The model is left as it was. It runs in evaluation mode and in full precision, and its parameters get no gradients.

    Of each intermediate result, only the window is computed on which the unit depends. The map equals that of the whole
    image, to rounding. If an operation sees the whole image (attention, squeeze-and-excitation, global pooling), the
    whole image is computed, and `settings["sees_all"]` names the operation.

    The windows follow from the operations that the model performs on the first image, which are recorded. They are kept
    for later calls, as long as the model lives. The first crop is checked against the whole image: if their gradients
    differ, the whole image is computed, and a warning says so.

    Parameters
    ----------
    model : a torch.nn.Module, on any device
    images : (N, C, H, W), floats, normalised as the model expects; or sound (N, C, T); or volumes or video
        (N, C, D, H, W). Or any iterable of such batches, as a DataLoader: all images have one size, and of a batch that
        is a tuple the first entry is taken. Images are moved to the model's device and dtype: for a map in double
        precision, give `model.double()`.
    layer : name of the submodule, as in `model.named_modules()`, whose output holds the unit; None for the model's own
        output; or a list of these, which share a forward pass. The output is a map (N, K, h, w) or (N, h, w, K), or
        tokens (N, [class tokens +] h * w, K); of one or three axes it has as many.
    unit : (row, column) in that output, "center" for (h // 2, w // 2), or a list of such pairs. With one axis it is a
        number, with three it is (depth, row, column). Or a function of the layer's output that gives a number for each
        image, such as `lambda logits: logits[:, 281]`; its position is the middle of its impact.
    channels : "sum" adds all K channels of the unit; an integer takes one; "each" takes another one for every image
    mode : which function of the gradient is averaged: "abs", "square", "signed", or "positive" (negative values count
        as zero)
    inputs : further inputs of the model: a dict of keyword arguments, in which tensors of one sample are repeated for
        each image; or a function that is given the images and returns all arguments, a tuple or a dict of keyword
        arguments, such as `lambda images: ({"image": images},)`
    output : which part of the model's own output holds the unit, if that is no tensor: a path such as "logits" or
        "out[0]", a number, or a function of the output. For a submodule the path follows its name: "stage2[1]"
    layout : says how the output is laid out if that is not clear: "channels_first", "channels_last", or
        (rows, columns) of tokens, (count,) with one axis, (depth, rows, columns) with three
    batch_size : images in one backward pass; None chooses by memory. It does not change the result.
    crop : False computes the whole image always
    rng : a numpy Generator. With it, ERF sizes are bootstrapped over images, and channels are drawn from it.
    progress : True shows a bar
    spacing, lengths_in : distance between neighbouring pixels along each axis and its unit, such as 1 / 16000 and "s",
        for a field with lengths in this unit, see `ReceptiveField.with_spacing`; None: they are in pixels

    Returns
    -------
    ReceptiveField, whose map is float64 (H, W), in the images' pixels, or (T,), or (D, H, W). A list of them for a list
    of units, and a list for a list of layers: by layer, and in that by unit.

    Its position is the middle of the theoretical field. Where that is not unique, as behind upsampling with a shortcut
    beside it, the position is the mean position of the impact, sizes refer to the map's maximum, and
    `settings["position"]` says so.

    Raises
    ------
    InputError : a layer, unit, channel or mode that does not exist; images that the model refuses; a value that is not
        finite, with the layer where it first appears; a unit whose gradient is zero in all images.

    Examples
    --------
    Five layers of 3 x 3 averages see 11 x 11 pixels, but the unit is moved mostly by those near its centre:

    >>> import erf, torch
    >>> model = torch.nn.Sequential(*[torch.nn.Conv2d(1, 1, 3, padding=1) for _ in range(5)])
    >>> for layer in model:
    ...     weight = torch.nn.init.constant_(layer.weight, 1 / 9)
    >>> field = erf.measure(model, torch.randn(4, 1, 32, 40))
    >>> round(field.size, 2), field.theoretical_rf
    (8.2, (11.0, 11.0))
    >>> field.map.shape, field.position
    ((32, 40), (16.0, 20.0))

    Sound has one axis, whose pixels may be given a duration:

    >>> sound, layer = torch.randn(2, 1, 16000), torch.nn.Conv1d(1, 8, kernel_size=400, stride=320)
    >>> field = erf.measure(layer, sound, unit=3, spacing=1 / 16000, lengths_in="s")
    >>> field.map.shape, field.theoretical_rf, field.position, field.summary()["rf_time"]
    ((16000,), (400.0,), (1159.5,), 0.025)
    """
    model = Adapted.of(model, inputs, output)
    function = unit if callable(unit) else None
    if function:
        layout, unit = function, "center"
    units = unit if isinstance(unit, list) and unit else [unit]
    layers = layer if isinstance(layer, list) and layer else [layer]
    found: list[list[tuple[np.ndarray, Unit]]] = [[] for _ in layers for _ in units]
    total = len(images) if isinstance(images, Images) else None
    with tqdm(total=total, unit=" images", disable=not progress) as bar:
        for batch in _gradients(model, images, layers, units, channels, layout, batch_size, crop, rng):
            for own, (gradient, where) in zip(found, batch, strict=True):
                own.append((impact_maps(gradient, mode), where))
            bar.update(len(batch[0][0]))
    if not all(found):
        raise InputError("there are no images")
    fields = []
    for number, own in enumerate(found):
        if len({where.window for _, where in own}) > 1:
            own = [_in_the_whole(*one) for one in own]
        runs, where = np.concatenate([maps for maps, _ in own]), own[0][1]
        settings = {
            "layer": layers[number // len(units)],
            "unit": getattr(function, "__name__", "function") if function else list(where.index),
            "channels": channels,
            "mode": mode,
            "images": len(runs),
        }
        settings |= {"window": [list(ends) for ends in where.window], "sees_all": where.sees_all}
        field = _field(runs, where, settings, rng)
        fields.append(field if spacing is None else field.with_spacing(spacing, lengths_in))
        if field.dead == len(runs):
            why = _why_dead(model, settings["layer"])
            raise InputError(f"the unit is dead in all {len(runs)} images (zero gradient): {why}")
    by_layer = [fields[first : first + len(units)] for first in range(0, len(fields), len(units))]
    by_layer = by_layer if isinstance(unit, list) else [one for (one,) in by_layer]
    return by_layer if isinstance(layer, list) else by_layer[0]


def _why_dead(model: nn.Module, layer: str | None) -> str:
    """What to do about a unit without a gradient: the last layer before it may have no weights yet."""
    name, module = "", model if layer is None else model.get_submodule(layer.partition("[")[0])
    for inner, part in module.named_modules():
        weight = getattr(part, "weight", None)
        if isinstance(weight, torch.Tensor) and weight.dim() > 1:
            name = ".".join(filter(None, (layer, inner))) if not weight.any() else ""
    if not name:
        return "read it before its activation"
    return f"all weights of {name!r} are zero, so load trained ones, or choose a layer before it"


def _in_the_whole(maps: np.ndarray, where: Unit) -> tuple[np.ndarray, Unit]:
    """Maps (n, *axes) of a unit's window, put into maps of the whole image."""
    whole = np.zeros((len(maps), *where.image))
    whole[:, *where.slices] = maps
    return whole, replace(where, window=tuple((0, side - 1) for side in where.image))


def _field(runs: np.ndarray, where: Unit, settings: dict, rng: np.random.Generator | None) -> ReceptiveField:
    """The field of runs (n, *axes), which are cropped to the unit's window: outside of it they are zero."""
    reference = "centre"
    if not where.has_one_middle and runs.any():
        reference = "maximum"
        settings = {**settings, "position": "middle of the impact", "theoretical_middle": list(where.position)}
        where = replace(where, position=_middle_of(np.abs(runs).sum(0), where.window))
    if any(not first <= middle <= last for middle, (first, last) in zip(where.position, where.window, strict=True)):
        runs, where = _in_the_whole(runs, where)  # it looks at a place that is not in its window
    position = tuple(middle - first for middle, (first, _) in zip(where.position, where.window, strict=True))
    field = ReceptiveField.from_runs(runs, position, where.theoretical_rf, settings, rng, reference)
    whole = field.map
    if whole.shape != where.image:
        whole = np.zeros(where.image)
        whole[where.slices] = field.map
    return replace(field, map=whole, position=where.position)


def _middle_of(impact: np.ndarray, window: tuple[Pair, ...]) -> tuple[float, ...]:
    """The mean position in the image along each axis, weighted with the impact (*axes) of a window."""
    places = zip(np.indices(impact.shape), window, strict=True)
    return tuple(first + float((index * impact).sum() / impact.sum()) for index, (first, _) in places)


def gradient_of_sum(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Gradient of the sum of a model's whole output by images (n, C, H, W), of their shape, with `measure`'s precision.

    For models whose output is one unit for each of several independent networks: nothing is recorded.
    """
    with measuring_mode(model, images.device.type):
        source = images.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(source).sum(), source)
        if not gradient.isfinite().all():
            raise InputError(describe_not_finite(model, images, None))
        return gradient


def impact_maps(gradient: torch.Tensor, mode: str = "abs") -> np.ndarray:
    """Impact maps, float64 (n, *axes), of gradients (n, C, *axes): the mean over channels of their magnitude.

    mode : "abs", or another function of the gradient, as in `measure`
    """
    if mode not in MODES:
        raise InputError(f"unknown mode {mode!r}: choose one of {', '.join(MODES)}")
    return MODES[mode](gradient.cpu().double()).mean(1).numpy()  # not every device has float64


def _gradients(model, images, layers, units, channels, layout, batch_size, crop, rng) -> Iterator[list]:
    """For each batch, a list with the gradient and the window of each unit of each layer."""
    targets = [Target(number, unit, Channels(channels, rng)) for number in range(len(layers)) for unit in units]
    if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
        raise InputError(f"batch_size must be a whole number from 1, not {batch_size!r}")
    model = uncompiled(model)
    require_weights(model)
    place, probe = device_and_dtype(model), None
    for chunk in _chunks(images):
        device = place.get("device", chunk.device).type
        while len(chunk):
            with measuring_mode(model, device):
                probe = probe or Probe(model, layers, targets, layout, crop)
                try:
                    count = probe.next_batch(chunk, batch_size)
                    batch, chunk = chunk[:count].to(**place), chunk[count:]
                    found = probe.gradients(batch)
                except OneUnit as error:
                    hint = such_as(model, tuple(chunk.shape[1:]))
                    raise InputError(f"{error}: choose a layer before it{hint}") from None
            yield found


def _chunks(images: Images | Iterable) -> Iterator[torch.Tensor]:
    """Batches of images, (N, C, *axes), all of one size; InputError if they are not images."""
    shape, others = None, "(or (N, C, T), or (N, C, D, H, W))"
    if not isinstance(images, Images | Iterable):
        raise InputError(f"images must be (N, C, H, W), or batches of such, not a {type(images).__name__}")
    for chunk in [images] if isinstance(images, Images) else images:
        chunk = chunk[0] if isinstance(chunk, tuple | list) and chunk else chunk
        if isinstance(chunk, np.ndarray) and chunk.dtype.kind in "iufb":  # with torch's order of bytes, and strides
            chunk = torch.from_numpy(np.array(chunk, chunk.dtype.newbyteorder("="), order="C"))
        if not isinstance(chunk, torch.Tensor) or chunk.dim() not in (3, 4, 5) or not len(chunk):
            found = tuple(chunk.shape) if isinstance(chunk, torch.Tensor) else f"a {type(chunk).__name__}"
            if hasattr(chunk, "getbands"):  # of Pillow
                others = f"{others}: make them one by torch.stack([to_tensor(image) for image in images])"
            raise InputError(f"images must be (N, C, H, W) with N of at least 1, not {found} {others}")
        if not chunk.is_floating_point():
            raise InputError(f"images are {chunk.dtype}: give floats, scaled and normalised as the model expects")
        low, high = chunk.aminmax()
        if not (low.isfinite() and high.isfinite()):
            raise InputError("the images hold values that are not finite")
        if shape is None:
            warn_of_bytes(chunk, low, high)
        if shape not in (None, chunk.shape[1:]):
            raise InputError(f"images of different sizes, {tuple(shape)} and {tuple(chunk.shape[1:])}: make them alike")
        shape = chunk.shape[1:]
        yield chunk
