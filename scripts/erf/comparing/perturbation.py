"""Does the gradient's map say what happens when pixels change? Noise is drawn anew in rings around the unit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import nn

from erf.comparing.unit import Layout, checked_images, gradient_of
from erf.errors import InputError
from erf.measuring.layer import Adapted, layer_output
from erf.measuring.measure import measure
from erf.measuring.precision import measuring_mode
from erf.measuring.recorded import fields_of
from erf.system.seeds import seed_for


@dataclass(frozen=True)
class Perturbation:
    """How much a unit's value changes when the pixels of a ring around it are drawn anew. Arrays are float64 (rings,).

    edges : (rings + 1,) radii in pixels; a ring holds the pixels at a distance from its first edge, included, to its
        last, excluded
    pixels : number of pixels in each ring
    measured : mean squared difference of the unit's value between two draws, over draws and images
    error : its standard error over images; NaN for one image
    predicted : the same mean for a unit that is linear in the pixels and has this unit's gradient
    position : (row, column) in the image at which the unit looks, or one index an axis
    """

    edges: np.ndarray
    pixels: np.ndarray
    measured: np.ndarray
    error: np.ndarray
    predicted: np.ndarray
    position: tuple[float, ...]

    def __str__(self) -> str:
        """A line a ring, and the distance between measured and predicted shares."""
        rings = [
            f"{first:5.0f} to {last:5.0f} px  share {share:6.1%}  predicted {predicted:6.1%}"
            for first, last, share, predicted in zip(
                self.edges[:-1], self.edges[1:], self.shares, self.predicted_shares, strict=True
            )
        ]
        return "\n".join([*rings, f"distance {self.distance:.2f}, by chance {self.distance_by_chance:.2f}"])

    @property
    def shares(self) -> np.ndarray:
        """The share of each ring in the measured changes; they sum to one."""
        return self.measured / self.measured.sum()

    @property
    def predicted_shares(self) -> np.ndarray:
        """The share of each ring in the predicted changes; they sum to one."""
        return self.predicted / self.predicted.sum()

    @property
    def per_pixel(self) -> np.ndarray:
        """Measured change over the number of pixels."""
        return self.measured / self.pixels

    @property
    def predicted_per_pixel(self) -> np.ndarray:
        """Predicted change over the number of pixels."""
        return self.predicted / self.pixels

    @property
    def distance(self) -> float:
        """Total variation distance between the shares: 0 if the gradient predicts them, 1 if it names other rings."""
        return float(np.abs(self.shares - self.predicted_shares).sum() / 2)

    @property
    def distance_by_chance(self) -> float:
        """The distance to expect of a right prediction, from the noise of the draws alone; NaN for one image.

        A normal error with standard deviation s has a mean magnitude of sqrt(2 / pi) s.
        """
        return float(np.sqrt(2 / np.pi) * self.error.sum() / self.measured.sum() / 2)


def perturbed(
    model: nn.Module,
    images: torch.Tensor | np.ndarray,
    layer: str | None = None,
    unit: str | int | tuple[int, ...] = "center",
    channels: str | int = "sum",
    *,
    rings: int | Sequence[float] = 8,
    draws: int = 8,
    inputs: Mapping | Callable | None = None,
    output: str | int | Callable | None = None,
    layout: Layout = None,
    rng: np.random.Generator | None = None,
) -> Perturbation:
    """Draw the pixels anew, ring by ring around the unit, and hold the unit's changes against the gradient's map.

    A map of gradients says what an infinitely small change of a pixel does. Here pixels change as much as they differ
    between images, by plain forward passes. In each draw a pixel of the ring gets the colours of a pixel drawn at
    random from all images; the pixels outside the ring keep theirs. For a linear unit the expected squared difference
    between two draws is the sum over the ring's pixels of 2 g' S g, where g (C,) is the gradient of a pixel, and
    S (C, C) is the covariance of the colours. That sum, with the gradient at the images themselves, is `predicted`. It
    can only fail, beyond the noise of the draws, if the unit is not linear.

    The model is left as it was and runs in evaluation mode, N x (1 + rings x draws) times.

    Parameters
    ----------
    model : a torch.nn.Module, on any device
    images : (N, C, H, W), floats, normalised as the model expects; or sound (N, C, T), whose rings are pairs of
        intervals; or volumes or video (N, C, D, H, W), whose rings are shells
    layer, unit, inputs, output, layout : as in `erf.measure`, but one unit alone
    channels : "sum" adds all channels of the unit; an integer takes one
    rings : number of rings of one width, from the unit's position to the end of its theoretical receptive field or of
        the image. Or their edges: rising radii in pixels, the first of which may be 0.
    draws : how often each ring of each image is drawn anew, at least 2 times
    rng : a numpy Generator, from which the pixels are drawn

    Returns
    -------
    Perturbation, with `measured` and `predicted` for each ring, and `distance`, one number for both, which says
    something where it is well above `distance_by_chance`.

    Raises
    ------
    InputError : whatever `erf.measure` refuses; rings without pixels; images in which all pixels are equal; a unit that
        changes in no ring.

    Examples
    --------
    The gradient predicts the changes of a linear layer, up to the noise of the draws:

    >>> import erf, torch
    >>> images = torch.randn(8, 1, 12, 16, generator=torch.Generator().manual_seed(0))
    >>> model = torch.nn.Conv2d(1, 1, 5, padding=2)
    >>> weight = torch.nn.init.constant_(model.weight, 1 / 25)
    >>> found = erf.perturbed(model, images, rings=[0, 1, 2, 3], draws=100)
    >>> found.pixels.tolist(), found.predicted_shares.round(2).tolist()
    ([1, 8, 16], [0.04, 0.32, 0.64])
    >>> found.distance < 0.05
    True
    """
    model = Adapted.of(model, inputs, output)
    images = checked_images(model, images)
    if type(draws) is not int or draws < 2:
        raise InputError(f"draws must be a whole number from 2, not {draws!r}: two draws are compared")
    if channels == "each":
        raise InputError("channels 'each' takes another one for every image: give 'sum', or the number of one")
    if isinstance(unit, list):
        raise InputError("one unit at a time: give (row, column)")
    field = measure(model, images, layer, unit, channels, layout=layout)
    rng = rng or np.random.default_rng(seed_for(0, "perturbation"))
    edges, ring = _rings(rings, field.map.shape, field.position, field.theoretical_rf)
    pixels = np.bincount(ring[ring >= 0], minlength=len(edges) - 1)
    if not pixels.all():
        raise InputError(f"ring {int(np.argmin(pixels))} from 0 holds no pixel: give fewer rings, or wider ones")
    pool = images.movedim(1, -1).flatten(0, -2)  # (pixels of all images, C)
    covariance = torch.atleast_2d(torch.cov(pool.cpu().double().T, correction=0)).numpy()
    if not covariance.any():
        raise InputError("all pixels of the images are equal: nothing can be drawn anew")

    def value(batch: torch.Tensor) -> torch.Tensor:
        found = plane.values(layer_output(model, batch, layer), tuple(field.settings["unit"]))
        return found.sum(1) if channels == "sum" else found[:, channels]

    predicted = np.zeros(len(pixels))
    differences = np.zeros((len(images), len(pixels)))
    with measuring_mode(model, images.device.type):
        plane = fields_of(model, images[:1], layer, layout).plane
        for number, image in enumerate(images.split(1)):
            source = image.clone().requires_grad_()
            gradient = gradient_of(value(source.clone()).sum(), source)[0].cpu().double().numpy()  # (C, *axes)
            expected = 2 * np.einsum("c...,cd,d...->...", gradient, covariance, gradient)
            for index in range(len(pixels)):
                predicted[index] += expected[ring == index].sum() / len(images)
                batch = _redrawn(image, torch.from_numpy(ring == index), pool, draws, rng)
                with torch.no_grad():
                    values = value(batch).cpu().double().numpy()
                differences[number, index] = 2 * values.var(ddof=1)  # the mean over all pairs of draws
    measured = differences.mean(0)
    if not np.isfinite(measured).all():
        raise InputError("the unit's changes are not finite: measure model.double()")
    if not (measured.any() and predicted.any()):
        raise InputError("the unit changes in no ring: give rings that reach to where it looks")
    alone = len(images) == 1
    error = np.full(len(pixels), np.nan) if alone else differences.std(0, ddof=1) / np.sqrt(len(images))
    return Perturbation(edges, pixels, measured, error, predicted, field.position)


def _rings(
    rings: int | Sequence[float], shape: tuple[int, ...], position: tuple[float, ...], rf: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Edges (rings + 1,), and the ring of each pixel, (*axes); -1 for pixels in none."""
    offsets = [np.abs(np.arange(side) - centre) for side, centre in zip(shape, position, strict=True)]
    distance = reduce(np.hypot.outer, offsets)
    if type(rings) is int and rings > 0:
        seen = reduce(np.logical_and.outer, (offset <= length / 2 for offset, length in zip(offsets, rf, strict=True)))
        edges = np.linspace(0, np.nextafter(distance[seen].max(), np.inf), rings + 1)  # the last pixel is in the last
    else:
        listed = isinstance(rings, Sequence | np.ndarray) and not isinstance(rings, str)
        edges = np.array(rings, float) if listed else np.empty(0)
        if len(edges) < 2 or edges[0] < 0 or (np.diff(edges) <= 0).any():
            raise InputError(f"rings must be a number from 1, or two or more rising radii, not {rings!r}")
    ring = np.searchsorted(edges, distance, side="right") - 1
    return edges, np.where(ring < len(edges) - 1, ring, -1)


def _redrawn(
    image: torch.Tensor, inside: torch.Tensor, pool: torch.Tensor, draws: int, rng: np.random.Generator
) -> torch.Tensor:
    """Copies (draws, C, *axes) of an image (1, C, *axes), with pixels of the pool (n, C) where `inside` (*axes) is."""
    batch = image.repeat(draws, *[1] * (image.dim() - 1))
    drawn = torch.from_numpy(rng.integers(len(pool), size=(draws, int(inside.sum()))))
    batch[:, :, inside.to(batch.device)] = pool[drawn.to(pool.device)].movedim(-1, 1)
    return batch
