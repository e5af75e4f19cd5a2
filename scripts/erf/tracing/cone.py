"""What one unit can see, and nothing else: of every layer only the part is computed on which the unit depends.

From the unit towards the image this part widens like a cone. Its values, and so the gradient, are those of the whole
image, borders and padding included: it is the same operations on the same numbers.
"""

from collections import Counter
from collections.abc import Callable

import torch

from erf.graph.axes import AXES, Windows
from erf.graph.nodes import Graph, Operand, Operation, Value
from erf.graph.slicing import cut, fastest_format


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
