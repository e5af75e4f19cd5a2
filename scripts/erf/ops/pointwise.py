"""Op rules of operations that compute each position by itself: elementwise ones, products, norms, copies."""

from collections.abc import Callable

import torch

from erf.graph.axes import PLAIN, broadcast, cropped_shape, fitted, has_samples, is_plain, plain, samples_of
from erf.graph.nodes import Operation
from erf.ops import shapes as layouts
from erf.ops.rule import Everything, Through, through

BATCH_NORMS = (
    *("native_batch_norm", "_native_batch_norm_legit_no_training", "_batch_norm_no_update"),
    *("cudnn_batch_norm", "miopen_batch_norm"),
)


class Elementwise(Through):
    """Operands are broadcast against each other."""

    def layout_of_constant(self, shape):
        return fitted(self.found[0][len(self.found[0]) - len(shape) :], shape)


class Joined(Through):
    """Operands lie side by side along a plain dimension of the result."""

    def layout_of_constant(self, shape):
        layout = list(self.found[0])
        joined = self.operation.argument("dim") % len(layout)
        if self.operation.name == "stack":
            del layout[joined]
        else:
            layout[joined] = ((PLAIN, shape[joined]),)
        return tuple(layout)

    def applied(self, crop_of, wanted):
        """A constant is repeated for each sample."""
        first = crop_of(self.operation.image_operands[0])
        samples = len(first) if has_samples(self.found[0]) else 1

        def repeated(leaf):
            tensor = crop_of(leaf)
            return tensor if len(tensor) == samples else tensor.expand(samples, *tensor.shape[1:])

        return self.operation.call(repeated)


class JoinedBeside(Through):
    """Entries that have places lie beside others, on which they do not depend."""

    def window(self, operand, axis, wanted):
        placed = not is_plain(operand.value.layout[self.operation.argument("dim")])
        return super().window(operand, axis, wanted) if placed else None


class Multiplied(Through):
    """Products of matrices, of which one may be a constant for each place."""

    def layout_of_constant(self, shape):
        return (*fitted(self.found[0][:-2], shape[:-2]), *plain(shape[-2:])) if len(shape) == 3 else None

    def applied(self, crop_of, wanted):
        """A constant batch of matrices is repeated for each sample."""
        first = self.operation.image_operands[0]
        samples = samples_of(crop_of(first).shape, first.value.layout, wanted)
        batched = self.operation.name in ("bmm", "baddbmm") and samples > 1

        def repeated(leaf):
            constant = isinstance(leaf, torch.Tensor) or leaf.value.constant
            return crop_of(leaf).repeat(samples, 1, 1) if constant and batched else crop_of(leaf)

        return self.operation.call(repeated)


class Copied(Elementwise):
    """One tensor in the shape and type of another; torch has no gradient for it."""

    def applied(self, crop_of, wanted):
        result, source = self.operation.outputs[0], self.operation.args[1]
        cropped = crop_of(source).to(result.dtype)
        samples = len(cropped) if has_samples(result.layout) and cropped.dim() == len(result.layout) else 1
        return [cropped.expand(cropped_shape(result.layout, wanted, samples))]


class Normed(Through):
    """A batch norm by its running statistics: a gain and a shift for each channel.

    torch's own has a wrong gradient for some small tensors that lie in memory in uncommon ways (torch 2.13).
    """

    def applied(self, crop_of, wanted):
        tensor = crop_of(self.operation.args[0])
        gain, shift = (x.view(-1, *[1] * (tensor.dim() - 2)) for x in gain_and_shift(self.operation, crop_of))
        first, *others = self.operation.outputs
        return [(tensor * gain + shift).to(first.dtype), *(None for _ in others)]


def gain_and_shift(norm: Operation, fetch: Callable) -> tuple[torch.Tensor, torch.Tensor]:
    """The factor and the summand of each channel, (C,) each; `fetch(leaf)` gives the batch norm's tensors."""
    leaves = (norm.argument(name) for name in ("weight", "bias", "running_mean", "running_var"))
    weight, bias, mean, variance = (leaf if leaf is None else fetch(leaf) for leaf in leaves)
    (eps,) = (norm.argument(name) for name in ("eps", "epsilon") if norm.argument(name) is not None)
    gain = torch.rsqrt(variance + eps) if weight is None else torch.rsqrt(variance + eps) * weight
    return gain, -mean * gain if bias is None else bias - mean * gain


class Reshaped(Through):
    """The operation names the shape of its result, which differs for a crop."""

    def applied(self, crop_of, wanted):
        source = self.operation.args[0]
        tensor = crop_of(source)
        samples = samples_of(tensor.shape, source.value.layout, wanted)
        shape = cropped_shape(self.found[0], wanted, samples)
        if list(tensor.shape) == shape:  # or torch would give one sample other strides, which slows what follows
            return [tensor]
        # A crop may lie in memory in a way that allows no view.
        return [tensor.expand(shape) if self.operation.name == "expand" else tensor.reshape(shape)]


def joined(operation: Operation, shapes: list) -> Everything:
    """cat."""
    rule = through(layouts.joined, Joined)(operation, shapes)
    beside = through(layouts.joined_beside, JoinedBeside)
    return rule if type(rule) is not Everything else beside(operation, shapes)


def elementwise(operation: Operation, shapes: list, kind: type[Elementwise] = Elementwise) -> Everything:
    found = broadcast(tuple(operand.value.layout for operand in operation.image_operands), shapes[0])
    return Everything(operation) if found is None else kind(operation, [found] * len(shapes))
