"""Windows of the image on which units depend."""

import functools

import numpy as np

from erf.graph.nodes import Graph
from erf.ops.rule import EVERYTHING, Everything


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
            if wanted[0, 0] == -np.inf:  # whatever is seen of everything
                window = EVERYTHING
            else:
                window = (operation.rule.local_window if local else operation.rule.window)(operand, axis, wanted)
            if window is None:
                continue
            everything = window[0, 0] == -np.inf  # for one unit, and so for all
            if everything and local:
                continue
            if everything and axis in operand.value.sizes:
                culprit = culprit or str(operation)
            known = windows.get(operand.value)
            window = window if window.shape == units.shape else np.broadcast_to(window, units.shape)
            windows[operand.value] = window if known is None else _union(window, known)
    return windows.get(graph.images), (culprit and (_mixing(graph) or culprit))


# Operations that put positions elsewhere, after which it is not known where they lie; and those that mix positions.
REARRANGES = {"cat", "stack", "view", "_unsafe_view", "expand", "select", "slice", "index", "im2col", "add", "mul"}
MIXES = {"mean", "native_group_norm", "native_batch_norm", "linalg_vector_norm"}
ATTENDS = ("bmm", "baddbmm", "_softmax", "_scaled_dot_product")


def _mixing(graph: Graph) -> str | None:
    """The operation nearest to the output that mixes positions, if these were rearranged before: the one to be named
    as what sees everything. None if there is none."""
    rearranged, found = set(), None
    for operation in graph.operations:
        if operation.constant:
            continue
        unknown = type(operation.rule) is Everything
        behind = any(operand.value in rearranged for operand in operation.image_operands)
        if behind or (unknown and operation.name in REARRANGES):
            rearranged.update(operation.outputs)
        if behind and (operation.name.startswith(ATTENDS) or (unknown and operation.name in MIXES)):
            found = str(operation)
    return found


def _union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first if first is second else np.stack([np.minimum(first[0], second[0]), np.maximum(first[1], second[1])])
