"""How far tiles must overlap: the context around a tile that makes its outputs those of the whole image."""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

import numpy as np
import torch
from torch import nn

from erf.applied.layers import Layer, measurable_layers
from erf.errors import InputError
from erf.measuring.layer import Adapted, device_and_dtype, layer_output
from erf.measuring.measure import measure
from erf.measuring.precision import measuring_mode
from erf.measuring.recorded import theoretical_rf
from erf.result.field import ReceptiveField
from erf.system.seeds import torch_generator

NOISE = 4  # images, if none are given
FACTORS = (1, 2, 4, 8, 16)  # by which the grid of the layers is made coarser
NEAR = 0.05  # a stride this near to a whole number, as a share of it, is that number
POOLS = {1: nn.functional.avg_pool1d, 2: nn.functional.avg_pool2d, 3: nn.functional.avg_pool3d}


@dataclass(frozen=True)
class Overlap:
    """How far tiles must overlap. Tuples have one entry for each axis, such as rows and columns. Lengths are in pixels.

    A tile is a part of the image whose outputs are kept. Its halo is the context that the model gets around it, on each
    side, and whose outputs are thrown away. At the image's own edges there is no halo. Neighbouring inputs overlap by
    twice the halo.

    exact_halo : makes the outputs of a tile those of the whole image. Infinite if no halo does, see `reason`
    share_halo : keeps `share` of the impact of the units at the edge of a tile. It is never larger than `exact_halo`
    grid : tiles begin and end on multiples of this many pixels, or on the edge of the image. So do their halos
    reach : (before, after): how far units see beyond their own cell of the grid, not rounded. Negative where they see
        less than the cell. Infinite if they see the whole image
    share : the share of the impact that was asked for
    kept : the share of the impact that `share_halo` keeps, of the unit that loses most
    exact_error, share_error : largest difference between the outputs of tiles and of the whole image, over the largest
        output, both of the first image, for tiles with this halo. NaN if the image is too small to tell. Infinite if
        such tiles lack outputs, as they may without padding
    reason : why no halo is exact: the operation that sees the whole image, or that the outputs change with the place of
        a tile. None if `exact_halo` is finite
    """

    exact_halo: tuple[float, ...]
    share_halo: tuple[int, ...]
    grid: tuple[int, ...]
    reach: tuple[tuple[float, float], ...]
    share: float
    kept: float
    exact_error: float
    share_error: float
    reason: str | None = None

    def __str__(self) -> str:
        exact = f"exact with a halo of {_sides(self.exact_halo)} px"
        if self.reason:
            exact = f"no halo is exact: {self.reason}"
        return (
            f"{exact}; {100 * self.kept:.1f} % of the impact with {_sides(self.share_halo)} px;"
            f" tiles begin on multiples of {_sides(self.grid)} px"
        )


def overlap(
    model: nn.Module,
    layer: str | None = None,
    *,
    images: torch.Tensor | np.ndarray | None = None,
    input_shape: tuple[int, ...] | None = None,
    share: float = 0.99,
    channels: str | int = "sum",
    inputs: Mapping | Callable | None = None,
    output: str | int | Callable | None = None,
) -> Overlap:
    """The overlap that makes inference in tiles exact, and the one that keeps a share of the impact.

    The exact halo follows from the theoretical receptive field of all units in a cell of the grid. The grid is the
    least common multiple of the strides of all layers up to this one: a model that halves the image four times gives
    the same outputs for shifts by 16 pixels alone. The other halo is read from the measured impact maps of two units,
    the first and the last of a cell. The share of the impact is no bound on the error of the outputs: `share_error`
    is that error for one image.

    Outputs of tiles are compared with those of the whole image, for the image without its first and without its last
    cells of the grid. If they differ though the halo should be exact, the outputs depend on the place of the tile, as
    behind an interpolation with `align_corners=True`, and no halo is exact.

    Parameters
    ----------
    model : a torch.nn.Module, which is left as it was
    layer : name of the submodule whose output is wanted; None for the model's own output
    images : (N, C, H, W), as in `erf.measure`: as large as can be computed whole, and larger than the halo; or of one
        or three axes, (N, C, T) or (N, C, D, H, W)
    input_shape : the shape of one image, (C, H, W), in place of images: four images of noise are drawn
    share : of the impact, above 0 and at most 1
    channels : of the unit, as in `erf.measure`
    inputs, output : as in `erf.measure`: further inputs of the model, which must fit tiles too, and which part of the
        model's own output is wanted

    Returns
    -------
    Overlap: both halos and the grid, in pixels.

    Raises
    ------
    InputError : a layer that cannot be measured, or has units on no regular grid; whatever `erf.measure` refuses.

    Examples
    --------
    Two layers of 3 x 3 see two pixels to each side:

    >>> import erf, torch
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.Conv2d(8, 1, 3, padding=1))
    >>> found = erf.overlap(model, input_shape=(3, 40, 48))
    >>> found.exact_halo, found.grid, found.reason
    ((2, 2), (1, 1), None)
    """
    model, images = Adapted.of(model, inputs, output), _images(images, input_shape)
    if not 0 < share <= 1:
        raise InputError(f"the share of the impact must be above 0 and at most 1, not {share}")
    shape = tuple(images.shape[1:])
    reason = theoretical_rf(model, layer, input_shape=shape).sees_all
    *others, target = measurable_layers(model, shape, layer)
    grid, irregular = _grid(others, target)
    found = _exact(model, images[:1], target, grid, reason or irregular)
    fields = _fields_at_edges(model, images, target, found.cell, channels)
    margin = max(_margin(field, start, found.grid, share) for field, start in fields)
    limits = zip(found.grid, found.halo, strict=True)
    share_halo = tuple(int(min(_rounded_up(margin, step), most)) for step, most in limits)
    return Overlap(
        exact_halo=found.halo,
        share_halo=share_halo,
        grid=found.grid,
        reach=found.reach,
        share=share,
        kept=min(_kept(field, start, found.grid, share_halo) for field, start in fields),
        exact_error=found.error(found.halo),
        share_error=found.error(share_halo),
        reason=found.reason,
    )


def _images(images: torch.Tensor | np.ndarray | None, input_shape: tuple[int, ...] | None) -> torch.Tensor:
    if (images is None) == (input_shape is None):
        raise InputError("give images (N, C, H, W), or the input_shape (C, H, W) of noise: one of them")
    if images is None:
        return torch.randn(NOISE, *input_shape, generator=torch_generator(0, "noise for overlap"))
    if not isinstance(images, torch.Tensor | np.ndarray) or images.ndim < 3 or not len(images):
        raise InputError("images must be one batch, (N, C, H, W), such as next(iter(loader))[0]")
    return torch.as_tensor(images)


def _grid(others: list[Layer], target: Layer) -> tuple[tuple[int, ...], str | None]:
    """Least common multiple of the layers' strides along each axis, whole pixels; and why that is no grid, or None."""
    common, irregular = [Fraction(1)] * len(target.stride), None
    for layer in [*others, target]:
        if math.prod(layer.units) == 1 and layer is not target:
            continue  # one unit lies anywhere
        strides = [_regular(stride) for stride in layer.stride]
        if None in strides:
            irregular = f"the units of layer {layer.name!r} lie {_sides(layer.stride)} pixels apart"
            continue
        common = [_common_multiple(*pair) for pair in zip(common, strides, strict=True)]
    return tuple(map(int, common)), irregular


def _regular(stride: float) -> Fraction | None:
    """A stride as a whole number, or as one over a whole number; None if it is neither."""
    whole = max(1, round(max(stride, 1 / stride)))
    regular = Fraction(whole) if stride >= 1 else Fraction(1, whole)
    return regular if abs(stride / regular - 1) < NEAR else None


def _common_multiple(one: Fraction, other: Fraction) -> Fraction:
    return Fraction(math.lcm(one.numerator, other.numerator), math.gcd(one.denominator, other.denominator))


@dataclass(frozen=True)
class _Exact:
    """The exact halo for tiles on one grid: attributes as in `Overlap`, the units in a cell, and outputs of tiles."""

    grid: tuple[int, ...]
    cell: tuple[int, ...]
    reach: tuple[tuple[float, float], ...]
    halo: tuple[float, ...]
    tiles: "_Tiles | None"
    reason: str | None

    def error(self, halo: tuple[float, ...]) -> float:
        return self.tiles.error(halo) if self.tiles else math.nan


def _exact(model: nn.Module, image: torch.Tensor, target: Layer, grid: tuple[int, ...], reason: str | None) -> _Exact:
    """The exact halo on this grid or, if there is none, on a coarser one: functions in `forward` may have strides too.

    reason : why no halo is exact on any grid, or None
    """
    tried = []
    for factor in FACTORS:
        coarse = tuple(factor * side for side in grid)
        cell = tuple(round(side / stride) for side, stride in zip(coarse, target.stride, strict=True))
        if tried and any(map(operator.gt, cell, target.units)):
            break
        tried.append(_exact_on(model, image, target, coarse, cell, reason))
        if reason or not tried[-1].reason:
            return tried[-1]
    return tried[0]


def _exact_on(
    model: nn.Module,
    image: torch.Tensor,
    target: Layer,
    grid: tuple[int, ...],
    cell: tuple[int, ...],
    reason: str | None,
) -> _Exact:
    """The exact halo on one grid, whose cells have `cell` units along each axis."""
    nowhere = (math.inf,) * len(grid)
    reach, halo = ((math.inf, math.inf),) * len(grid), nowhere
    if not reason:
        reach, reason = _reach(model, target, cell, grid, tuple(image.shape[1:]))
        halo = tuple(_rounded_up(max(sides), step) for sides, step in zip(reach, grid, strict=True))
    tiles, refusal = _tiles(model, image, target, grid, cell)
    if tiles and (error := tiles.error(halo)) > tiles.rounding:
        refusal = "the number of outputs depends on the place of the tile"
        if math.isfinite(error):
            refusal = f"the outputs depend on the place of the tile, by {error:.1g} of the largest"
    reason = reason or refusal
    return _Exact(grid, cell, reach, nowhere if reason else halo, tiles, reason)


class _Cells(nn.Module):
    """A layer's units, averaged over each cell of the grid: a cell sees what any of its units sees."""

    def __init__(self, model: nn.Module, layer: Layer, cell: tuple[int, ...]):
        super().__init__()
        self.model, self.layer, self.cell = model, layer, cell

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        units = _units_last(layer_output(self.model, images, self.layer.name), self.layer)
        return POOLS[len(self.cell)](units, self.cell, self.cell)


def _reach(
    model: nn.Module, target: Layer, cell: tuple[int, ...], grid: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[tuple[tuple[float, float], ...], str | None]:
    """How far a cell's units see (before, after) it along each axis, pixels; and why cells see unlike windows, or None.

    Negative where they see less than the cell.
    """
    if len(target.dimensions) != len(grid):
        raise InputError(f"the units of layer {target.name!r} are tokens in one row: choose a layer with a map")
    cells = theoretical_rf(_Cells(model, target, cell), input_shape=shape)
    reason = None
    if not np.allclose(cells.stride, grid, rtol=1e-6):
        reason = f"cells of {_sides(grid)} pixels look at places {_sides(cells.stride)} pixels apart"
    first = [offset - (size - 1) / 2 for offset, size in zip(cells.offset, cells.size, strict=True)]
    sides = zip(first, cells.size, grid, strict=True)
    return tuple((0.0 - start, start + size - step) for start, size, step in sides), reason


def _units_last(output: torch.Tensor, layer: Layer) -> torch.Tensor:
    """A layer's output with the dimensions of its units behind all others, (N, K, h, w)."""
    return output.movedim(layer.dimensions, tuple(range(-len(layer.dimensions), 0)))


class _Tiles:
    """Outputs of the whole image, and of two tiles: one without the first cells of the grid, one without the last."""

    def __init__(self, model: nn.Module, image: torch.Tensor, target: Layer, grid: tuple[int, ...], cell: tuple):
        self.sides, self.grid, self.cell = tuple(image.shape[2:]), grid, cell
        image = image.to(**device_and_dtype(model))
        parts = [[slice(None)] * len(grid), [slice(side, None) for side in grid], [slice(-side) for side in grid]]
        with measuring_mode(model, image.device.type), torch.no_grad():
            outputs = [layer_output(model, image[:, :, *part].clone(), target.name) for part in parts]
        self.whole, self.later, self.earlier = (_units_last(output, target) for output in outputs)

    @property
    def rounding(self) -> float:
        """The error that arithmetic alone may make."""
        return torch.finfo(self.whole.dtype).eps ** 0.5

    def error(self, halo: tuple[float, ...]) -> float:
        """Largest difference to the whole image's outputs beyond this halo, over the largest output.

        NaN if the image is too small to tell; infinite if a tile lacks outputs that the whole image has.
        """
        axes = list(zip(self.sides, self.grid, self.cell, halo, strict=True))
        if any(side <= step + extra for side, step, _, extra in axes):
            return math.nan
        behind = [slice(round(extra * count / step), None) for _, step, count, extra in axes]
        moved = [slice(part.start + count, None) for part, count in zip(behind, self.cell, strict=True)]
        before = [slice(math.floor((side - step - extra) * count / step)) for side, step, count, extra in axes]
        pairs = [(self.whole[..., *moved], self.later[..., *behind])]
        pairs.append((self.whole[..., *before], self.earlier[..., *before]))
        if not all(one.numel() for one, _ in pairs):
            return math.nan
        if any(one.shape != other.shape for one, other in pairs):
            return math.inf
        return float(max((one - other).abs().max() for one, other in pairs) / self.whole.abs().max())


def _tiles(
    model: nn.Module, image: torch.Tensor, target: Layer, grid: tuple[int, ...], cell: tuple[int, ...]
) -> tuple[_Tiles | None, str | None]:
    """The outputs of tiles, and why the model refuses tiles. No tiles, and no reason, if the image is too small."""
    if len(target.dimensions) != len(grid) or any(map(operator.le, image.shape[2:], grid)):
        return None, None
    try:
        return _Tiles(model, image, target, grid, cell), None
    except InputError as error:
        return None, str(error)


def _fields_at_edges(
    model: nn.Module, images: torch.Tensor, target: Layer, cell: tuple[int, ...], channels: str | int
) -> list[tuple[ReceptiveField, tuple[float, ...]]]:
    """Fields of the first and of the last unit of the middle cell, each with the cell's first pixel."""
    first = tuple(count // 2 // inside * inside for count, inside in zip(target.units, cell, strict=True))
    last = tuple(index + inside - 1 for index, inside in zip(first, cell, strict=True))
    start = tuple(index * stride for index, stride in zip(first, target.stride, strict=True))
    units = list(dict.fromkeys((first, tuple(map(min, last, (count - 1 for count in target.units))))))
    return [(field, start) for field in measure(model, images, target.name, units, channels)]


def _beyond(field: ReceptiveField, start: tuple[float, ...], grid: tuple[int, ...]) -> list[np.ndarray]:
    """How many pixels rows, and columns, of a map lie beyond a cell of the grid that begins at `start`."""
    return [
        np.maximum(first - np.arange(side), np.arange(side) - (first + step - 1)).clip(0)
        for side, first, step in zip(field.map.shape, start, grid, strict=True)
    ]


def _margin(field: ReceptiveField, start: tuple[float, ...], grid: tuple[int, ...], share: float) -> float:
    """Smallest margin (pixels) around a cell, the same on all sides, that holds a share of the summed impact."""
    distances, ring = np.unique(reduce(np.maximum.outer, _beyond(field, start, grid)), return_inverse=True)
    held = np.bincount(ring.ravel(), np.abs(field.map).ravel()).cumsum()
    return float(distances[np.searchsorted(held, share * held[-1] * (1 - 1e-12))])  # a sum's rounding costs no ring


def _kept(field: ReceptiveField, start: tuple[float, ...], grid: tuple[int, ...], halo: tuple[float, ...]) -> float:
    """Share of the summed impact that lies in a cell and its halo."""
    impact = np.abs(field.map)
    near = [np.flatnonzero(far <= most) for far, most in zip(_beyond(field, start, grid), halo, strict=True)]
    return min(1.0, float(impact[np.ix_(*near)].sum() / impact.sum()))  # a sum's rounding may exceed it


def _rounded_up(pixels: float, step: int) -> int:
    """To a multiple of the grid's step, from 0 on."""
    return max(0, math.ceil(pixels / step - 1e-9) * step)


def _sides(lengths: tuple[float, ...]) -> str:
    return " x ".join(f"{length:g}" for length in lengths)
