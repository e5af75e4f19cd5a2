"""Which op rule each of torch's operations has, by its name in the ATen library."""

from collections.abc import Callable

import torch

from erf.errors import InputError, did_you_mean
from erf.graph.nodes import Operation
from erf.ops import convolution, pointwise, resampling, shapes, sliding
from erf.ops.rule import Everything, KeepsPlaces, through


def of_planes(kind: Callable[[Operation], sliding.Neighbourhood], *names: str) -> dict[str, Callable]:
    """One op rule by names such as "avg_pool{}d", for one, two or three dimensions behind samples and channels."""
    known = {name.format(count): count for name in names for count in (1, 2, 3)}
    return {name: sliding.on_planes(kind, count) for name, count in known.items() if hasattr(torch.ops.aten, name)}


RULES = {
    # Of plain dimensions: samples, channels.
    **dict.fromkeys(("clone", "_to_copy", "alias", "detach", "lift_fresh"), through(shapes.same)),
    **dict.fromkeys(("view", "_unsafe_view"), through(shapes.viewed, pointwise.Reshaped)),
    "expand": through(shapes.expanded, pointwise.Reshaped),
    "repeat": through(shapes.repeated),
    "permute": through(shapes.permuted),
    **dict.fromkeys(("transpose", "t"), through(shapes.transposed)),
    "unsqueeze": through(shapes.unsqueezed),
    "squeeze": through(shapes.squeezed),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "max", "min", "var", "std", "var_mean"), through(shapes.reduced)),
    **dict.fromkeys(("linalg_vector_norm", "logsumexp"), through(shapes.reduced)),
    **dict.fromkeys(("split", "split_with_sizes", "glu", "index_select", "flip", "roll"), through(shapes.along_plain)),
    **dict.fromkeys(("_softmax", "_log_softmax"), through(shapes.along_plain)),
    **dict.fromkeys(("select", "unbind"), through(shapes.without_one)),
    "cat": pointwise.joined,
    **dict.fromkeys(("stack", "slice_scatter"), through(shapes.joined, pointwise.Joined)),
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm", "linear"), through(shapes.multiplied, pointwise.Multiplied)),
    "native_layer_norm": through(shapes.layer_normalised),
    **dict.fromkeys(pointwise.BATCH_NORMS, through(shapes.batch_normalised, pointwise.Normed)),
    # Pointwise, although torch does not mark them as such.
    **dict.fromkeys(("hardswish", "_prelu_kernel"), pointwise.elementwise),
    "copy": lambda operation, shapes: pointwise.elementwise(operation, shapes, pointwise.Copied),
    "native_group_norm": lambda operation, shapes: KeepsPlaces(operation),
    # Of neighbourhoods.
    "convolution": convolution.convolution,
    **of_planes(sliding.MaxPool, "max_pool{}d_with_indices"),
    "constant_pad_nd": sliding.on_axes(sliding.Padding),
    "slice": sliding.slicing,
    "pixel_shuffle": sliding.on_planes(sliding.PixelShuffle, 2),
    "pixel_unshuffle": sliding.on_planes(sliding.PixelUnshuffle, 2),
    **of_planes(resampling.AveragePool, "avg_pool{}d"),
    **of_planes(resampling.AdaptivePool, "_adaptive_avg_pool{}d"),
    **of_planes(resampling.MirroredPadding, "reflection_pad{}d", "replication_pad{}d"),
    **of_planes(resampling.Interpolation, "upsample_nearest{}d", "_upsample_nearest_exact{}d"),
    **of_planes(resampling.Interpolation, "upsample_linear{}d", "upsample_bilinear{}d", "upsample_trilinear{}d"),
    **of_planes(resampling.Interpolation, "upsample_bicubic{}d"),
}


REGISTERED: list[str] = []  # names of operations whose rules are the user's


def register_rule(name: str, like: str) -> None:
    """Tell the library how an operation that it does not know uses its operands. Until then it assumes that each result
    depends on every pixel, so that nothing is cropped and the theoretical receptive field is infinite.

    name : of an operation of torch.library, "namespace::operation"
    like : "elementwise", if each result depends on its own position alone; or the ATen operation, such as
        "_softmax", that uses its arguments in the same way and has them in the same order

    InputError if there is no such operation to be like.

    Examples
    --------
    >>> import erf
    >>> erf.register_rule("my_library::smooth_clamp", like="elementwise")
    """
    known = {"elementwise": pointwise.elementwise, **RULES}
    if like not in known:
        raise InputError(f"there is no op rule for {like!r}{did_you_mean(like, known)}")
    RULES[name.rpartition("::")[2]] = known[like]
    REGISTERED.append(name)


def rule_for(operation: Operation, shapes: list[tuple[int, ...]]) -> Everything:
    """The op rule of an operation whose results have these shapes."""
    if operation.traits.pointwise:
        return pointwise.elementwise(operation, shapes)
    return RULES.get(operation.name, lambda operation, shapes: Everything(operation))(operation, shapes)
