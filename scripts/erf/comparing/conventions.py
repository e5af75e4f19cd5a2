"""Published conventions: what each script does to a unit's gradient before it shows a map or prints a number."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from erf.comparing import arithmetic
from erf.comparing.unit import Layout, checked_images, gradient_of
from erf.errors import InputError, did_you_mean
from erf.graph.torch_private import BatchNorm
from erf.measuring.layer import Adapted, layer_output, warn_of_bytes
from erf.measuring.measure import measure
from erf.measuring.plane import Plane
from erf.measuring.precision import measuring_mode
from erf.measuring.recorded import fields_of
from erf.result.field import AXIS_NAMES, ReceptiveField

NORMS = (BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)


@dataclass(frozen=True)
class ConventionResult:
    """A unit as one convention shows it.

    convention : its name, as `erf.by_convention` takes it
    map : float64 (H, W), rows first, or of one or three axes: the map that the convention shows, after its transform
    impact : float64, of the same shape: the map before the transform, averaged over images
    numbers : what the convention reports, by name; lengths in pixels. NaN where the script finds no number; empty if
        the convention has none.
    images : the number of images that count
    source : the paper and the script
    """

    convention: str
    map: np.ndarray
    impact: np.ndarray
    numbers: dict[str, float]
    images: int
    source: str


@dataclass(frozen=True)
class Convention:
    """What a script does, in the order in which it does it.

    value : the scalar that is differentiated, of the unit's channels (1, K)
    pixel : the map (H, W) of one image, of its gradient (1, C, H, W)
    shown : the transform of the map that is averaged over images
    reported : its numbers, of the map before the transform
    unit : (row, column) of the unit in a plane
    skips_nan : an image whose map holds NaN is left out
    single : one image is taken, not a mean
    without_norms : normalisation layers give what they are given
    images_alone : its numbers have no meaning for one or three axes
    """

    source: str
    value: Callable[[torch.Tensor], torch.Tensor]
    pixel: Callable[[torch.Tensor], torch.Tensor]
    shown: Callable[[np.ndarray], np.ndarray]
    reported: Callable[[np.ndarray], dict[str, float]] = field(default=lambda impact: {})
    unit: Callable[[Plane], tuple[int, int]] = field(default=lambda plane: plane.chosen("center"))
    skips_nan: bool = False
    single: bool = False
    without_norms: bool = False
    images_alone: bool = False


def _square_centre(plane: Plane) -> tuple[int, int]:
    if len(set(plane.units)) > 1:
        sides = " x ".join(map(str, plane.units))
        raise InputError(f"vmamba's script takes square planes, not {sides}: crop the images")
    return plane.chosen("center")


def _token_centre(plane: Plane) -> tuple[int, int]:
    """Of an even plane of tokens, the upper left one of the four in the middle; of a map, the lower right one.

    For a model that has a `patch_embed`, such as Swin, the script takes the upper left one of a map too.
    """
    (rows, columns), (first, last) = plane.units, plane.dimensions
    if first != last:
        return plane.chosen("center")
    if rows != columns:
        raise InputError(f"openerf takes square planes of tokens, not {rows} x {columns}: crop the images")
    return (rows - 1) // 2, (columns - 1) // 2


_RELU = {
    "value": lambda channels: channels.relu().sum(),
    "pixel": lambda gradient: gradient.relu().sum((0, 1)),
    "skips_nan": True,
}
CONVENTIONS = {  # beside the paper's, which is `measure`
    "netharn": Convention(
        "Crall, netharn, netharn/analytic/receptive_field_for.py",
        value=torch.sum,
        pixel=lambda gradient: gradient.abs().mean((0, 1)),
        shown=arithmetic.over_maximum,
        reported=arithmetic.bounds,
        without_norms=True,
    ),
    "replknet": Convention(
        "Ding et al., CVPR 2022, erf/visualize_erf.py and erf/analyze_erf.py; WTConv's erf.py computes the same",
        **_RELU,
        shown=arithmetic.logged,
        reported=lambda impact: arithmetic.high_contribution(arithmetic.logged(impact)),
    ),
    "slak": Convention(
        "Liu et al., ICLR 2023, erf/erf_slak51_convnext7_convnext31.py (figure) and erf/analyze_erf.py (numbers)",
        **_RELU,
        shown=arithmetic.over_maximum,
        reported=lambda impact: arithmetic.high_contribution(arithmetic.logged(impact), arithmetic.MEGAPIXEL),
        images_alone=True,
    ),
    "vmamba": Convention(
        "Liu et al., NeurIPS 2024, analyze/utils.py and analyze/erf.py",
        **_RELU,
        shown=arithmetic.fifth_root,
        reported=lambda impact: arithmetic.high_contribution(arithmetic.fifth_root(impact)),
        unit=_square_centre,
    ),
    "openerf": Convention(
        "Kim, OpenERF 0.6.1, src/openerf/erf.py, metrics.py and fit.py",
        value=torch.mean,
        pixel=lambda gradient: gradient.mean((0, 1)).clamp(min=0),
        shown=arithmetic.stretched,
        reported=arithmetic.mass_and_gaussian,
        unit=_token_centre,
        images_alone=True,
    ),
    "voxelnext": Convention(
        "Chen et al., CVPR 2023, an author's answer in issue 26 of VoxelNeXt",
        value=torch.sum,
        pixel=lambda gradient: gradient[0].norm(dim=0),
        shown=arithmetic.brightened,
        single=True,
    ),
}
NAMES = ("luo2016", *CONVENTIONS)


def by_convention(
    model: nn.Module,
    images: torch.Tensor | np.ndarray,
    convention: str,
    layer: str | None = None,
    *,
    inputs: Mapping | Callable | None = None,
    output: str | int | Callable | None = None,
    layout: Layout = None,
) -> ConventionResult:
    """Map and numbers of a layer's centre unit as a published script computes them, with its choices and its mistakes.

    To compare with a published number, not to measure: numbers of a logged map depend on the gradient's scale, and
    scripts that clamp gradients do not see the pixels that lower the unit. For `erf.measure` neither is so.

    The choice of images is part of a published number too. RepLKNet, SLaK and VMamba take 50 images of ImageNet's
    validation set, at 1024 x 1024 pixels; OpenERF takes 1000 in the model's own size; VoxelNeXt takes one sample. Here
    the images are the caller's. All models run in evaluation mode. Sums are float64; the scripts sum in float32.

    Parameters
    ----------
    model : a torch.nn.Module, which is left as it was
    images : (N, C, H, W), floats, normalised as the model expects; or sound (N, C, T), or volumes or video
        (N, C, D, H, W), to which all but "slak" and "openerf" carry over: squares are then intervals or cubes
    convention : the map before the transform is the mean over images, but for "voxelnext"
        "luo2016" : |g|, mean over colours, as `erf.measure` has it. ERF size, diameter, sigma and contribution areas.
        "netharn" : |g|, mean over colours, of the model without its normalisation layers. Height and width of the box
            around all pixels that are not zero, and of the box at 95 % of the mass. (Its picture is cropped to the box;
            `map` is not.)
        "replknet" : relu(g), summed over colours, of the sum of relu(channel); log10(x + 1). Side and area ratio of
            the centred square with 20, 30, 50 and 99 % of the logged mass. WTConv's script computes the same.
        "slak" : its figure is of the linear map. Its numbers are RepLKNet's, with the area as a share of 1024 x 1024
            pixels whatever the images' size.
        "vmamba" : as "replknet", with x^0.2 in place of the logarithm; square planes only
        "openerf" : mean over colours first, then negative values count as zero. Mass within radii, centre of mass, a
            Gaussian that is free to move.
        "voxelnext" : L2 norm over colours, of one image; 10 (x - min) / (max - min), at most 1. No numbers.
    layer : name of the submodule whose output holds the unit; None for the model's own output
    inputs, output, layout : as in `erf.measure`: further inputs of the model, which part of its own output holds the
        unit, and how that is laid out if it is not clear

    Returns
    -------
    ConventionResult, with `map`, `impact`, `numbers` and `source`.

    Raises
    ------
    InputError : an unknown convention; images that are none; a layer without units in a plane; a map that is zero or
        not finite; images or a plane that the script refuses.

    Examples
    --------
    A gradient 1000 times as large moves RepLKNet's area ratio, and not the paper's size:

    >>> import erf, torch
    >>> weak = torch.nn.Conv2d(1, 1, 15, padding=7, bias=False)
    >>> with torch.no_grad():
    ...     weight = weak.weight.copy_(torch.from_numpy(erf.theory.gaussian_map(2.5, (15, 15), (7, 7))))
    >>> strong = torch.nn.Sequential(weak, torch.nn.Conv2d(1, 1, 1, bias=False))
    >>> weight = torch.nn.init.constant_(strong[1].weight, 1000)
    >>> images = torch.ones(1, 1, 40, 40)
    >>> for model in (weak, strong):
    ...     ratio = erf.by_convention(model, images, "replknet").numbers["area_50"]
    ...     print(round(ratio, 3), round(erf.by_convention(model, images, "luo2016").numbers["size"], 1))
    0.031 11.0
    0.051 11.0
    """
    if convention not in NAMES:
        known = did_you_mean(str(convention), NAMES) or f": choose one of {', '.join(NAMES)}"
        raise InputError(f"unknown convention {convention!r}{known}")
    model = Adapted.of(model, inputs, output)
    images = checked_images(model, images)
    if convention == "luo2016":
        return _of_the_paper(measure(model, images, layer, layout=layout))
    warn_of_bytes(images, *images.aminmax())
    rule = CONVENTIONS[convention]
    if rule.images_alone and images.dim() != 4:
        known = ", ".join(repr(name) for name in NAMES if name not in CONVENTIONS or not CONVENTIONS[name].images_alone)
        raise InputError(
            f"{convention} is for images (N, C, H, W) alone, not {tuple(images.shape)}: take one of {known}"
        )
    if rule.single and len(images) > 1:
        raise InputError(f"{convention} shows one image, not a mean of {len(images)}: give images[:1]")
    maps = _maps(model, images, rule, layer, layout)
    if rule.skips_nan:
        maps = [one for one in maps if not math.isnan(one.sum())]
    impact = np.mean(maps, axis=0) if maps else np.full(images.shape[2:], math.nan)
    if not np.isfinite(impact).all():
        raise InputError(f"the map of {convention} has values that are not finite: measure model.double()")
    if not np.ptp(impact):
        words = "the unit is dead, or all its gradients are negative" if not impact.any() else "no script can scale it"
        raise InputError(f"the map of {convention} is the same at all pixels: {words}; choose another layer")
    return ConventionResult(convention, rule.shown(impact), impact, rule.reported(impact), len(maps), rule.source)


def _of_the_paper(measured: ReceptiveField) -> ConventionResult:
    reported = {"size": measured.size, "diameter": measured.diameter}
    reported |= {
        f"sigma_{axis}": sigma for axis, sigma in zip(AXIS_NAMES[measured.map.ndim], measured.sigma, strict=True)
    }
    for share, (side, ratio) in measured.contribution_areas.items():
        reported |= {f"side_{100 * share:g}": side, f"area_{100 * share:g}": ratio}
    source = "Luo et al., NIPS 2016, as erf.measure has it"
    return ConventionResult("luo2016", measured.map, measured.map, reported, measured.live, source)


def _maps(
    model: nn.Module, images: torch.Tensor, rule: Convention, layer: str | None, layout: Layout
) -> list[np.ndarray]:
    """The map of each image, float64 (*axes), before any mean."""
    maps = []
    with measuring_mode(model, images.device.type):
        plane = fields_of(model, images[:1], layer, layout).plane
    with measuring_mode(model, images.device.type), _norms_as_identities(model, rule.without_norms):
        for image in images.split(1):
            source = image.clone().requires_grad_()
            shown = source.clone()  # the first operation may be in place
            values = plane.values(layer_output(model, shown, layer), rule.unit(plane))
            gradient = gradient_of(rule.value(values), source)
            maps.append(rule.pixel(gradient).cpu().double().numpy())
    return maps


@contextlib.contextmanager
def _norms_as_identities(model: nn.Module, wanted: bool) -> Iterator[None]:
    norms = [module for module in model.modules() if wanted and isinstance(module, NORMS)]
    handles = [norm.register_forward_hook(lambda module, inputs, output: inputs[0]) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
