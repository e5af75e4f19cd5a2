"""Fused steps: a convolution with the batch norm, the addition of a shortcut and the ReLU that follow it.

The graph computes the same function in fewer operations.
"""

from collections import defaultdict

import torch

from erf.graph.nodes import Operand, Operation, Value
from erf.ops.convolution import Convolution
from erf.ops.pointwise import Elementwise, Normed, gain_and_shift


def fused(operations: list[Operation], output: Value) -> list[Operation]:
    """The operations, where each convolution and the operations behind it that alone use its result are one step."""
    users = defaultdict(list)
    for operation in operations:
        for operand in operation.operands:
            users[operand.value].append(operation)
    steps = {operation: operation for operation in operations}
    for convolution in operations:
        if type(convolution.rule) is not Convolution:
            continue
        chain = [convolution]
        for follows in (_is_norm, _is_addition, _is_relu):
            value = chain[-1].outputs[0]
            alone = users[value][0] if len(users[value]) == 1 and value is not output else None
            if alone is not None and steps.get(alone) is alone and follows(alone, value):
                chain.append(alone)
        if len(chain) > 1:
            for inner in chain[:-1]:
                del steps[inner]
            steps[chain[-1]] = _one_step(chain)
    return list(steps.values())


def _is_norm(operation: Operation, value: Value) -> bool:
    alone = type(operation.rule) is Normed and len(operation.operands) == 1 and not operation.operands[0].detached
    return alone and all(leaf.dtype == value.dtype for leaf in operation.args if isinstance(leaf, torch.Tensor))


def _is_addition(operation: Operation, value: Value) -> bool:
    plain = operation.function is torch.ops.aten.add.Tensor and type(operation.rule) is Elementwise
    return (
        plain
        and operation.argument("alpha") == 1
        and len(operation.image_operands) == 2
        and all(
            operand.value.layout == value.layout
            and operand.value.dtype == value.dtype
            and not (operand.detached and operand.value is value)
            for operand in operation.image_operands
        )
    )


def _is_relu(operation: Operation, value: Value) -> bool:
    return operation.name == "relu" and not operation.operands[0].detached


class _Fused(Convolution):
    """A fused step: a convolution whose weight and bias include a batch norm, an addition, and a ReLU."""

    def __init__(self, operation: Operation, norm: Operation | None, added: Operand | None, rectified: bool):
        super().__init__(operation)
        self.norm, self.added, self.rectified = norm, added, rectified

    def window(self, operand, axis, wanted):
        return wanted if operand is self.added else super().window(operand, axis, wanted)

    def windows(self, operand, wanted):
        return wanted if operand is self.added else super().windows(operand, wanted)

    def compute(self, fetch, wanted):
        return super().compute(lambda leaf, windows: fetch(leaf, wanted if leaf is self.added else windows), wanted)

    def combined(self, fetch):
        weight, bias = super().combined(fetch)
        if self.norm is None:
            return weight, bias
        gain, shift = gain_and_shift(self.norm, lambda leaf: fetch(leaf, {}))
        return weight * gain.view(-1, *[1] * (weight.dim() - 1)), shift if bias is None else shift + bias * gain


def _one_step(chain: list[Operation]) -> Operation:
    convolution, *others = chain
    norm = next((operation for operation in others if type(operation.rule) is Normed), None)
    addition = next((operation for operation in others if operation.name == "add"), None)
    added = addition and next(operand for operand in addition.operands if operand.value.made_by not in chain)
    operands = [*convolution.operands, *([added] if added else [])]
    step = Operation(convolution.function, convolution.args, convolution.kwargs, convolution.module, operands)
    step.outputs = chain[-1].outputs
    for value in step.outputs:
        value.made_by = step
    step.rule = _Fused(step, norm, added, others[-1].name == "relu")
    return step
