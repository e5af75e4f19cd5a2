"""Windows of the image on which units depend."""

import numpy as np

from erf.graph.nodes import Graph
from erf.ops.rule import EVERYTHING


def windows_of(graph: Graph, axis: int, local: bool = False) -> tuple[np.ndarray | None, str | None]:
    """Windows of the image along one axis, for all units of the output, not clipped by the image.

    Returns an array (2, 2 * units) with the first and the last index for units 0, 1, ..., and for as many more beyond
    the plane. If the output does not have the axis, the array has one column. The second value names the operation
    that sees everything and is nearest to the output; it is None if no operation does.

    local : follow only paths on which no operation sees everything; the array is None if there is no such path
    """
    culprit = None
    units = np.tile(np.arange(2.0 * graph.output.sizes.get(axis, 0.5)), (2, 1))
    windows = {graph.output: units if axis in graph.output.sizes else EVERYTHING}
    for operation in reversed(graph.operations):
        wanted = [windows[value] for value in operation.outputs if value in windows]
        if operation.constant or not wanted:
            continue
        for operand in operation.image_operands:
            window = operation.rule.window(operand, axis, _union(wanted))
            everything = np.isneginf(window[0]).any()
            if operand.detached or (everything and local):
                continue
            if everything and axis in operand.value.sizes:
                culprit = culprit or str(operation)
            window = np.broadcast_to(window, units.shape)
            windows[operand.value] = _union([window, windows.get(operand.value, window)])
    return windows.get(graph.images), culprit


def _union(windows: list[np.ndarray]) -> np.ndarray:
    return np.stack([np.min([w[0] for w in windows], 0), np.max([w[1] for w in windows], 0)])
