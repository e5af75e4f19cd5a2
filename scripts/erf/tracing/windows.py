"""Windows: the rows and columns of each intermediate result on which a unit depends."""

import numpy as np

from erf.graph.nodes import Graph
from erf.ops.rule import EVERYTHING


def windows_of(graph: Graph, axis: int, local: bool = False) -> tuple[np.ndarray | None, str | None]:
    """What units of the output see of the image along an axis, as if planes had no end.

    An array (2, 2 * units): first and last, for units 0, 1, ..., and for as many again beyond the plane; one column
    alone where the output does not have the axis. With it, in words, the operation nearest to the output that sees
    everything, None if there is none.

    local : only by the paths that do not see everything; None if there is no such path
    """
    culprit = None
    units = np.tile(np.arange(2.0 * graph.output.sizes.get(axis, 0.5)), (2, 1))
    windows = {graph.output: units if axis in graph.output.sizes else EVERYTHING}
    for operation in reversed(graph.operations):
        here = [windows[value] for value in operation.outputs if value in windows]
        if operation.constant or not here:
            continue
        for operand in operation.image_operands:
            window = operation.rule.window(operand, axis, _union(here))
            everything = np.isneginf(window[0]).any()
            if operand.cut or (everything and local):
                continue
            if everything and axis in operand.value.sizes:
                culprit = culprit or str(operation)
            window = np.broadcast_to(window, units.shape)
            windows[operand.value] = _union([window, windows.get(operand.value, window)])
    return windows.get(graph.images), culprit


def _union(windows: list[np.ndarray]) -> np.ndarray:
    return np.stack([np.min([w[0] for w in windows], 0), np.max([w[1] for w in windows], 0)])
