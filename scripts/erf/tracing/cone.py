"""The cone of one unit: of every intermediate result, only the window is computed on which the unit depends.

From the unit towards the image these windows widen like a cone. The values, and so the gradient, equal those of the
whole image, borders and padding included, because the same operations are done on the same numbers.
"""

import functools
from collections import Counter
from collections.abc import Callable

import torch

from erf.graph.axes import Windows
from erf.graph.nodes import Graph, Operand, Operation, Value
from erf.graph.slicing import crop, fastest_format
from erf.ops.rule import KeepsPlaces


class Cone:
    """The windows of a graph's results on which one unit depends.

    unit : windows of one index in the graph's output, for those axes that it has
    """

    def __init__(self, graph: Graph, unit: Windows):
        self.graph, self.unit = graph, dict(unit)
        self._uses = Counter(operand.value for operation in graph.operations for operand in operation.operands)
        # Of the results of each operation; for None, of the images.
        self.windows: dict[Operation | None, Windows] = {graph.output.made_by: unit}
        for operation in reversed(graph.operations):
            if operation.constant:
                continue
            wanted = self.windows.setdefault(operation, {})
            first, *others = operation.outputs
            for axis, whole in first.whole.items():
                wanted.setdefault(axis, whole)
            counted = any(self._uses[other] and other.layout != first.layout for other in others)
            if counted or isinstance(operation.rule, KeepsPlaces):
                wanted.update(first.whole)  # such as indices of a max pooling, which count in the whole plane
            for operand in operation.image_operands:
                needed = operation.rule.windows(operand, wanted)
                known = self.windows.setdefault(operand.value.made_by, {})
                for axis, (first, last) in needed.items():
                    before = known.get(axis, (first, last))
                    known[axis] = min(before[0], first), max(before[1], last)
        self._constants: dict[Value, torch.Tensor] = {}
        self._last_use = {operand.value: operation for operation in graph.operations for operand in operation.operands}

    @property
    def window(self) -> tuple[tuple[int, int], ...]:
        """Of the image: the first and the last index along each axis."""
        return tuple(self.windows[None][axis] for axis in self.graph.images.sizes)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Of the image's axes: the window."""
        return tuple(slice(first, last + 1) for first, last in self.window)

    @functools.cached_property
    def share(self) -> float:
        """Cost of the crops over the cost of whole planes."""
        counted = [operation for operation in self.graph.operations if not operation.constant]
        cropped = sum(operation.cost(self.windows[operation]) for operation in counted)
        return cropped / max(sum(operation.cost(operation.outputs[0].whole) for operation in counted), 1)

    @functools.cached_property
    def elements(self) -> int:
        """How many numbers are computed for one image."""
        return sum(
            operation.outputs[0].elements(wanted) for operation, wanted in self.windows.items() if operation is not None
        )

    def forget(self) -> None:
        """Drop what follows from the weights, which may have changed."""
        self._constants.clear()
        for operation in self.graph.operations:
            if operation.rule is not None:
                operation.rule.forget()

    def run(self, images: torch.Tensor) -> torch.Tensor:
        """The graph's output, cropped to the unit, for images (N, C, *axes) that are cropped to `window`."""
        computed = {self.graph.images: images.contiguous(memory_format=fastest_format(images))}

        def fetch_for(operation: Operation) -> Callable:
            def fetch(leaf: Operand | torch.Tensor, windows: Windows) -> torch.Tensor:
                if not isinstance(leaf, Operand):
                    return leaf.detach()
                value = leaf.value
                if value.constant:
                    return self._constants[value]
                have = self.windows[value.made_by]
                tensor = crop(computed[value], value.layout, have, windows)
                return tensor.detach() if leaf.detached else tensor

            return fetch

        for operation in self.graph.operations:
            fetch = fetch_for(operation)
            if operation.constant:
                if operation.outputs[0] not in self._constants:
                    with torch.no_grad():
                        results = operation.call(lambda leaf, fetch=fetch: fetch(leaf, {}))
                    self._constants.update(zip(operation.outputs, results, strict=True))
                continue
            wanted = self.windows[operation]
            results = operation.rule.compute(fetch, wanted)
            computed.update(zip(operation.outputs, results, strict=False))
            for operand in operation.image_operands:
                if self._last_use[operand.value] is operation:
                    computed.pop(operand.value, None)
        output = self.graph.output
        return crop(computed[output], output.layout, self.windows[output.made_by], self.unit)
