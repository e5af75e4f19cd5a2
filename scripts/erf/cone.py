"""What one unit can see, and nothing else: of every layer only the part is computed on which the unit depends.

From the unit towards the image this part widens like a cone. Its values, and so the gradient, are those of the whole
image, borders and padding included: it is the same operations on the same numbers.
"""

from collections import Counter
from collections.abc import Callable

import numpy as np
import torch

from erf.graph import Graph, Operand, Operation, Value
from erf.layouts import AXES, Windows, cut, fastest_format
from erf.rules import EVERYTHING


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


class Cone:
    """The parts of a graph's planes on which one unit depends.

    unit : windows of one row and one column in the graph's output, for those axes that it has
    """

    def __init__(self, graph: Graph, unit: Windows):
        self.graph = graph
        self._uses = Counter(operand.value for operation in graph.operations for operand in operation.operands)
        self.parts: dict[Operation | None, Windows] = {graph.output.made_by: unit}  # of results; of the images for None
        for operation in reversed(graph.operations):
            if operation.constant:
                continue
            here = self.parts.setdefault(operation, {})
            first, *others = operation.outputs
            for axis, whole in first.whole.items():
                here.setdefault(axis, whole)
            if any(self._uses[other] and other.layout != first.layout for other in others):
                here.update(first.whole)  # such as indices of a max pooling, which count in the whole plane
            for operand in operation.image_operands:
                needed = operation.rule.parts(operand, here)
                known = self.parts.setdefault(operand.value.made_by, {})
                for axis, (first, last) in needed.items():
                    before = known.get(axis, (first, last))
                    known[axis] = min(before[0], first), max(before[1], last)
        self._constants: dict[Value, torch.Tensor] = {}
        self._last_use = {operand.value: operation for operation in graph.operations for operand in operation.operands}

    @property
    def window(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The part of the image: first and last row, first and last column."""
        return tuple(self.parts[None][axis] for axis in AXES)

    @property
    def share(self) -> float:
        """The arithmetic to be done, over that for whole planes."""
        counted = [operation for operation in self.graph.operations if not operation.constant]
        part = sum(operation.cost(self.parts[operation]) for operation in counted)
        return part / max(sum(operation.cost(operation.outputs[0].whole) for operation in counted), 1)

    @property
    def numbers(self) -> int:
        """How many are computed for the batch that was traced."""
        return sum(
            operation.outputs[0].numbers(here) for operation, here in self.parts.items() if operation is not None
        )

    def run(self, images: torch.Tensor) -> torch.Tensor:
        """The graph's output, cut to the unit, for images (N, C, h, w) that are cut to `window`."""
        computed = {self.graph.images: images.contiguous(memory_format=fastest_format(images))}

        def fetch_for(operation: Operation) -> Callable:
            def fetch(leaf: Operand | torch.Tensor, windows: Windows) -> torch.Tensor:
                if not isinstance(leaf, Operand):
                    return leaf.detach()
                value = leaf.value
                if value.constant:
                    return self._constants[value]
                have = self.parts[value.made_by]
                tensor = cut(computed[value], value.layout, have, windows)
                return tensor.detach() if leaf.cut else tensor

            return fetch

        for operation in self.graph.operations:
            fetch = fetch_for(operation)
            if operation.constant:
                if operation.outputs[0] not in self._constants:
                    with torch.no_grad():
                        results = operation.call(lambda leaf, fetch=fetch: fetch(leaf, {}))
                    self._constants.update(zip(operation.outputs, results, strict=True))
                continue
            here = self.parts[operation]
            results = operation.rule.compute(fetch, here)
            computed.update(zip(operation.outputs, results, strict=False))
            for operand in operation.image_operands:
                if self._last_use[operand.value] is operation:
                    computed.pop(operand.value, None)
        return computed[self.graph.output]
