"""The untrained networks, which are held against the theory: unpadded convolutions in a structure of
`replication.stacks.structures`."""

from collections.abc import Sequence

import torch
from torch import nn

from erf.errors import InputError
from replication.stacks.initialisation import centre_light_variances
from replication.stacks.structures import AveragePool, Block, Conv, Dropout, Structure

ACTIVATIONS = {  # module, and the gain of random weights for it; torch has none for GELU, which is like a ReLU
    "none": (nn.Identity, 1.0),
    "relu": (nn.ReLU, nn.init.calculate_gain("relu")),
    "leaky_relu": (nn.LeakyReLU, nn.init.calculate_gain("leaky_relu", 0.01)),
    "gelu": (nn.GELU, nn.init.calculate_gain("relu")),
    "tanh": (nn.Tanh, nn.init.calculate_gain("tanh")),
    "sigmoid": (nn.Sigmoid, nn.init.calculate_gain("sigmoid")),
}
WEIGHTS = ("uniform", "fixed", "random")


class ResidualStack(nn.Module):
    """y = x + f(x), unpadded: x is cropped in its middle to the plane of f(x)."""

    def __init__(self, branch: nn.Module):
        super().__init__()
        self.branch = branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.branch(x)
        top, left = ((a - b) // 2 for a, b in zip(x.shape[2:], y.shape[2:], strict=True))
        return x[:, :, top : top + y.shape[2], left : left + y.shape[3]] + y


class ActiveDropout(nn.Module):
    """Dropout that is not switched off by evaluation mode: it is here a part of the network that is studied.

    The masks of each run, `channels` channels, come from a generator of its own.
    """

    def __init__(self, rate: float, channels: int, generators: Sequence[torch.Generator | None]):
        super().__init__()
        self.rate, self.channels, self.generators = rate, channels, generators

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (len(x), self.channels, *x.shape[2:])
        kept = [torch.rand(shape, generator=g, dtype=torch.float64) >= self.rate for g in self.generators]
        return x * (torch.cat(kept, 1) / (1 - self.rate)).to(x.dtype)


def build_stack(
    layers: Structure,
    channels: int = 1,
    weights: str = "random",
    activation: str = "none",
    unit: str = "before",
    generators: Sequence[torch.Generator | None] = (None,),
    dtype: torch.dtype = torch.float64,
) -> nn.Sequential:
    """The network of a structure, unpadded and without bias, for several independent runs side by side.

    There is an activation in front of every convolution but the first, and the last convolution has one output channel:
    one unit, read *before its own activation*, where a ReLU would silence it in half of the runs. An input as large as
    the theoretical receptive field leaves one such unit.

    Parameters
    ----------
    channels : of every layer, the input included
    weights : "uniform", "fixed" or "random"
        uniform: every weight 1 / (kernel^2 * channels), so that each layer's kernel sums to one (Eq. 1).
        fixed: `Conv.profile` / channels, the same in all channels. torch's convolution does not flip kernels, so that
        the weight in a kernel's first row and column is that of the first pixel of its window.
        random: normal with zero mean and standard deviation gain / sqrt(fan-in), with the gain of the activation in
        front (`ACTIVATIONS`), 1 without: it keeps the gradient's energy from layer to layer, where there is no
        activation or a ReLU. A layer's `centre_light` shifts the variance to the kernel's rim, its taps to where they
        are large.
    unit : "before" or "after" its own activation
    generators : one for each run, source of its random weights and dropout masks; None is torch's global one.
        The runs are groups of the same convolutions: one pass computes them all, and none depends on the others.

    Returns
    -------
    nn.Sequential mapping (N, runs * channels, H, W) to (N, runs, h, w), without trainable parameters.
    """
    if weights not in WEIGHTS:
        raise InputError(f"unknown weights {weights!r}: choose one of {', '.join(WEIGHTS)}")
    if activation not in ACTIVATIONS:
        raise InputError(f"unknown activation {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
    if unit not in ("before", "after"):
        raise InputError(f"unknown unit {unit!r}: choose before or after")
    nonlinearity, gain = ACTIVATIONS[activation]
    runs = len(generators)

    def convolution(layer: Conv, outputs: int, gain: float) -> nn.Conv2d:
        sides = {"kernel_size": layer.kernel, "stride": layer.stride, "dilation": layer.dilation}
        # On "meta" it has no weights until they are drawn, which is much quicker than to initialise them in vain.
        options = {**sides, "groups": runs, "bias": False, "device": "meta", "dtype": dtype}
        conv = nn.Conv2d(runs * channels, runs * outputs, **options)
        drawn = torch.empty(conv.weight.shape, dtype=dtype)
        fan_in = channels * layer.kernel**2
        shares = torch.from_numpy(layer.profile)
        light = torch.from_numpy(centre_light_variances(layer.kernel, layer.centre_light))
        profile = (layer.kernel**2 * shares * light) ** 0.5 if layer.taps else light**0.5
        spread = (gain / fan_in**0.5) * profile
        for own, generator in zip(drawn.split(outputs), generators, strict=True):
            if weights == "uniform":
                own.fill_(1 / fan_in)
            elif weights == "fixed":
                own.copy_((shares / channels).expand_as(own))
            else:  # drawn in float64, as are inputs and masks: a run is the same in either precision
                own.copy_(torch.randn(own.shape, generator=generator, dtype=torch.float64) * spread)
        conv.weight = nn.Parameter(drawn, requires_grad=False)
        return conv

    def module(layer: Conv | AveragePool | Dropout | Block, outputs: int, first: bool) -> nn.Module:
        match layer:
            case Conv():
                if first:
                    return convolution(layer, outputs, 1.0)
                return nn.Sequential(nonlinearity(), convolution(layer, outputs, gain))
            case AveragePool(side):
                return nn.AvgPool2d(side)
            case Dropout(rate):
                return ActiveDropout(rate, channels, generators)
            case Block(branch):
                return ResidualStack(
                    nn.Sequential(*(module(inner, channels, first and i == 0) for i, inner in enumerate(branch)))
                )

    top = max(index for index, layer in enumerate(layers) if isinstance(layer, Conv))
    built = [module(layer, 1 if index == top else channels, index == 0) for index, layer in enumerate(layers)]
    if unit == "after":
        built.append(nonlinearity())
    return nn.Sequential(*built).requires_grad_(False)
