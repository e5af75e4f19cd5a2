"""Windows of the image on which units depend."""

import functools

import numpy as np

from erf.graph.nodes import Graph
from erf.ops.rule import EVERYTHING


def windows_of(graph: Graph, axis: int, local: bool = False) -> tuple[np.ndarray | None, str | None]:
    """Windows of the image along one axis, for all units of the output, not clipped by the image.

    Returns an array (2, 2 * units) with the first and the last index for units 0, 1, ..., and for as many more beyond
    the plane. If the output does not have the axis, the array has one column. The second value names the operation
    that sees everything and is nearest to the output; it is None if no operation does.

    local : follow only paths on which no operation sees everything, with those of group norms, whose results depend
        most on their own place; the array is None if there is no such path
    """
    culprit = None
    units = np.tile(np.arange(2.0 * graph.output.sizes.get(axis, 0.5)), (2, 1))
    windows = {graph.output: units if axis in graph.output.sizes else EVERYTHING}
    for operation in reversed(graph.operations):
        if operation.constant:
            continue
        wanted = [windows[value] for value in operation.outputs if value in windows]
        if not wanted:
            continue
        wanted = functools.reduce(_union, wanted)
        for operand in operation.image_operands:
            if operand.detached and not graph.own_gradients:
                continue
            window = (operation.rule.local_window if local else operation.rule.window)(operand, axis, wanted)
            everything = window[0, 0] == -np.inf  # for one unit, and so for all
            if everything and local:
                continue
            if everything and axis in operand.value.sizes:
                culprit = culprit or str(operation)
            known = windows.get(operand.value)
            window = window if window.shape == units.shape else np.broadcast_to(window, units.shape)
            windows[operand.value] = window if known is None else _union(window, known)
    return windows.get(graph.images), culprit


def _union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first if first is second else np.stack([np.minimum(first[0], second[0]), np.maximum(first[1], second[1])])
