"""Which rule holds for which of torch's operations, by their names in its ATen library."""

import torch

from erf import rules, sliding
from erf.graph import Operation
from erf.rules import Everything, through

RULES = {
    # Of plain dimensions: samples, channels.
    **dict.fromkeys(("clone", "_to_copy", "alias", "detach", "lift_fresh"), through(rules.same)),
    **dict.fromkeys(("view", "_unsafe_view"), through(rules.viewed, rules.Reshaped)),
    "expand": through(rules.expanded, rules.Reshaped),
    "permute": through(rules.permuted),
    **dict.fromkeys(("transpose", "t"), through(rules.transposed)),
    "unsqueeze": through(rules.unsqueezed),
    "squeeze": through(rules.squeezed),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean"), through(rules.reduced)),
    **dict.fromkeys(("linalg_vector_norm", "logsumexp"), through(rules.reduced)),
    **dict.fromkeys(("split", "split_with_sizes", "glu", "index_select", "flip", "roll"), through(rules.along_plain)),
    **dict.fromkeys(("_softmax", "_log_softmax"), through(rules.along_plain)),
    **dict.fromkeys(("select", "unbind"), through(rules.without_one)),
    **dict.fromkeys(("cat", "stack", "slice_scatter"), through(rules.joined, rules.Joined)),
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm", "linear"), through(rules.multiplied, rules.Multiplied)),
    "native_layer_norm": through(rules.layer_normalised),
    **dict.fromkeys(rules.BATCH_NORMS, through(rules.batch_normalised, rules.Normed)),
    # Pointwise, although torch does not mark them as such.
    **dict.fromkeys(("hardswish", "_prelu_kernel"), rules.elementwise),
    "copy": lambda operation, shapes: rules.elementwise(operation, shapes, rules.Copied),
    # Of neighbourhoods.
    "convolution": sliding.convolution,
    "max_pool2d_with_indices": sliding.on_planes(sliding.MaxPool),
    "constant_pad_nd": sliding.on_axes(sliding.Padding),
    "slice": sliding.slicing,
    "pixel_shuffle": sliding.on_planes(sliding.PixelShuffle),
    "pixel_unshuffle": sliding.on_planes(sliding.PixelUnshuffle),
    "avg_pool2d": sliding.average_pool,
    "_adaptive_avg_pool2d": sliding.on_planes(sliding.AdaptivePool),
    **dict.fromkeys(("reflection_pad2d", "replication_pad2d"), sliding.on_planes(sliding.MirroredPadding)),
    **dict.fromkeys(("upsample_nearest2d", "_upsample_nearest_exact2d"), sliding.on_planes(sliding.Interpolation)),
    **dict.fromkeys(("upsample_bilinear2d", "upsample_bicubic2d"), sliding.on_planes(sliding.Interpolation)),
}


def rule_for(operation: Operation, shapes: list[tuple[int, ...]]) -> Everything:
    """The rule of an operation whose results have these shapes."""
    if torch.Tag.pointwise in operation.function.tags:
        return rules.elementwise(operation, shapes)
    return RULES.get(operation.name, lambda operation, shapes: Everything(operation))(operation, shapes)
