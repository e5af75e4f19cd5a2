"""The theoretical receptive field: which pixels the units of a layer can see at all, whatever the weights are."""

from dataclasses import dataclass

import numpy as np

from erf.errors import InputError
from erf.graph.nodes import Graph
from erf.measuring.plane import Plane, Scalar
from erf.ops.rule import EVERYTHING
from erf.tracing.windows import windows_of


@dataclass(frozen=True)
class TheoreticalRF:
    """Theoretical receptive field of a layer's units, in pixels of the input. Tuples have one entry for each axis.

    The axes are those of the input, in its order: (rows, columns) for images.

    size : lengths along the axes, not clipped by the image. A length is infinite if the units see the whole image along
        an axis, or if an operation is unknown. If it differs between units, as behind interpolation, it is the largest.
    stride : distance between the fields of neighbouring units
    offset : middle of the field of the first unit along each axis. The middle for unit u is offset + stride * u; behind
        interpolation that is an approximation. In a causal network it is negative: the field lies before the unit. If
        some paths see everything, stride and offset belong to the other, local paths, to which those through group
        norms count; if all do, to an even division of the image.
    sees_all : the operation that makes the size infinite; None if it is finite
    """

    size: tuple[float, ...]
    stride: tuple[float, ...]
    offset: tuple[float, ...]
    sees_all: str | None = None


@dataclass(frozen=True)
class UnitFields:
    """The theoretical receptive fields of all units of a plane.

    image : its sides
    windows : along each axis, (2, 2 * units): the pixels that each unit sees, as
        `erf.tracing.windows.windows_of` gives them
    local_windows : the pixels that it sees by local paths alone, (2, 2 * units); the unit looks at their middle. Where
        all paths see everything, both ends are the middle of the unit's cell when the image is divided evenly
    """

    plane: Plane
    image: tuple[int, ...]
    windows: tuple[np.ndarray, ...]
    local_windows: tuple[np.ndarray, ...]
    sees_all: str | None = None

    def field(self, unit: tuple[int, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Middle and lengths of one unit's theoretical field along each axis, in pixels."""
        position, size = [], []
        for axis, index in enumerate(unit):
            first, last = self.windows[axis][:, index]
            if first > last:
                raise InputError(f"unit {unit} does not depend on the input: choose another")
            position.append(self.local_windows[axis][:, index].mean())
            size.append(last - first + 1)
        return tuple(map(float, position)), tuple(map(float, size))

    def has_one_middle(self, unit: tuple[int, ...]) -> bool:
        """Whether the middle of a unit's field is, to a pixel, where it would be by the units' mean distance.

        Behind upsampling by copies several units share a middle, while a shortcut beside it leads to each one's own
        pixel: then the middle of the hull is not where the unit looks. A function of the output has no place at all.
        """
        if isinstance(self.plane, Scalar):
            return False
        middles = (windows[:, index].mean() for windows, index in zip(self.local_windows, unit, strict=True))
        places = zip(middles, self._grid, unit, strict=True)
        return all(abs(middle - offset - stride * index) <= 1 for middle, (stride, offset), index in places)

    @property
    def _grid(self) -> list[tuple[float, float]]:
        """Along each axis the mean distance of the middles of neighbouring units' fields, and that of the first."""
        found = []
        for windows, count in zip(self.local_windows, self.plane.units, strict=True):
            middle = windows.mean(0)
            stride = float((middle[count:] - middle[:count]).mean() / count)
            found.append((stride, float((middle[:count] - stride * np.arange(count)).mean())))
        return found

    def covers_image(self, unit: tuple[int, ...]) -> bool:
        """Whether one unit's field holds the whole image."""
        ends = (windows[:, index] for windows, index in zip(self.windows, unit, strict=True))
        return all(first <= 0 and last >= side - 1 for (first, last), side in zip(ends, self.image, strict=True))

    def summary(self) -> TheoreticalRF:
        ends = (windows[:, :count] for windows, count in zip(self.windows, self.plane.units, strict=True))
        sizes = tuple(float((last - first).max() + 1) for first, last in ends)
        strides, offsets = zip(*self._grid, strict=True)
        return TheoreticalRF(sizes, strides, offsets, self.sees_all)


def unit_fields(graph: Graph | None, reason: str, plane: Plane, image: tuple[int, ...]) -> UnitFields:
    """The fields of a plane's units in an image with these sides. Without a graph all see everything: `reason`."""
    windows, local_windows, culprits = [], [], [reason] if graph is None else []
    for axis, (count, side) in enumerate(zip(plane.units, image, strict=True)):
        found, local = EVERYTHING, None
        if graph is not None:
            found, culprit = windows_of(graph, axis)
            local = windows_of(graph, axis, local=True)[0] if culprit else found
            culprits += [culprit] if culprit else []
        if found is None:
            raise InputError("the unit does not depend on the input by any gradient: choose another layer")
        middle = (np.arange(2 * count) + 0.5) * (side / count) - 0.5
        usable = local is not None and local.shape[1] == 2 * count
        windows.append(np.broadcast_to(found, (2, 2 * count)))
        local_windows.append(np.where(local[0] <= local[1], local, middle) if usable else np.stack([middle, middle]))
    return UnitFields(plane, image, tuple(windows), tuple(local_windows), culprits[0] if culprits else None)
