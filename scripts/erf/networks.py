"""The networks of the study, and how their weights begin.

`build_stack` makes the untrained networks that are held against the theory: unpadded convolutions in one of the
structures of `erf.stacks`. `ResNetCifar` is the paper's CIFAR-10 classifier, `ReachNet` a trainable plain stack that
classifies from one unit.
"""

from collections.abc import Sequence

import torch
from torch import nn

from erf.errors import InputError
from erf.stacks import AveragePool, Block, Conv, Dropout, Structure

ACTIVATIONS = {  # module, and the gain of random weights for it; torch has none for GELU, which is like a ReLU
    "none": (nn.Identity, 1.0),
    "relu": (nn.ReLU, nn.init.calculate_gain("relu")),
    "leaky_relu": (nn.LeakyReLU, nn.init.calculate_gain("leaky_relu", 0.01)),
    "gelu": (nn.GELU, nn.init.calculate_gain("relu")),
    "tanh": (nn.Tanh, nn.init.calculate_gain("tanh")),
    "sigmoid": (nn.Sigmoid, nn.init.calculate_gain("sigmoid")),
}
WEIGHTS = ("uniform", "random")


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
        kept = [torch.rand(shape, generator=g, dtype=x.dtype) >= self.rate for g in self.generators]
        return x * (torch.cat(kept, 1) / (1 - self.rate))


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
    weights : "uniform" or "random"
        uniform: every weight 1 / (kernel^2 * channels), so that each layer's kernel sums to one (Eq. 1).
        random: normal with zero mean and standard deviation gain / sqrt(fan-in), with the gain of `ACTIVATIONS`: it
        keeps the gradient's scale from layer to layer, without an activation and with a ReLU.
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

    def convolution(layer: Conv, outputs: int) -> nn.Conv2d:
        sides = {"kernel_size": layer.kernel, "stride": layer.stride, "dilation": layer.dilation}
        conv = nn.Conv2d(runs * channels, runs * outputs, **sides, groups=runs, bias=False, dtype=dtype)
        fan_in = channels * layer.kernel**2
        for run, generator in enumerate(generators):
            own = conv.weight.data[run * outputs : (run + 1) * outputs]
            if weights == "uniform":
                own.fill_(1 / fan_in)
            else:  # drawn in float64 always: a run has the same weights in either precision
                own.copy_(torch.randn(own.shape, generator=generator, dtype=torch.float64) * (gain / fan_in**0.5))
        return conv

    def module(layer: Conv | AveragePool | Dropout | Block, outputs: int, first: bool) -> nn.Module:
        match layer:
            case Conv():
                conv = convolution(layer, outputs)
                return conv if first else nn.Sequential(nonlinearity(), conv)
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


def he_initialise(model: nn.Module, generator: torch.Generator) -> None:
    """He's normal initialisation of every convolution and linear layer, in the modules' order; biases zero."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def conv_bn(inputs: int, outputs: int, padding: int = 1) -> nn.Sequential:
    """3x3 convolution and batch normalisation, of which every trained network here is made."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=padding, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Residual block of two 3x3 convolutions (He et al. 2016), stride 1: y = relu(x + f(x))."""

    def __init__(self, width: int):
        super().__init__()
        self.first, self.second = conv_bn(width, width), conv_bn(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class ResNetCifar(nn.Module):
    """The paper's CIFAR-10 network: residual blocks without pooling or subsampling before the global mean.

    A 3x3 stem, `blocks` residual blocks and one 3x3 convolution on top (`top`, whose units are measured): with 17
    blocks the theoretical receptive field is 1 + 2 (1 + 2 * 17 + 1) = 73 pixels. The paper reports 74, which no
    stride-1 stack of odd kernels has.

    residual_scale is where the scale of each branch's last batch norm begins: how much the branches carry before
    training, and thereby the initial ERF. Maps (N, 3, H, W) to logits (N, classes).
    """

    def __init__(self, blocks: int, width: int, residual_scale: float, generator: torch.Generator, classes: int = 10):
        super().__init__()
        self.stem = conv_bn(3, width)
        self.blocks = nn.Sequential(*(BasicBlock(width) for _ in range(blocks)))
        self.top, self.top_norm = conv_bn(width, width)
        self.head = nn.Linear(width, classes)
        he_initialise(self, generator)
        for block in self.blocks:
            nn.init.constant_(block.second[1].weight, residual_scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(torch.relu(self.stem(x)))  # (N, width, H, W)
        x = torch.relu(self.top_norm(self.top(x)))
        return self.head(x.mean((2, 3)))  # not adaptive pooling: this backward pass is deterministic on CUDA too


class ReachNet(nn.Module):
    """Plain stack of `depth` unpadded 3x3 convolutions that classifies an image from the one unit it has left.

    Maps (N, 3, R, R), R = 1 + 2 depth, to logits (N, classes). `top` is the last convolution: the unit is
    measured before its own activation.
    """

    def __init__(self, depth: int, width: int, generator: torch.Generator, classes: int = 2):
        super().__init__()
        below = [conv_bn(3 if index == 0 else width, width, padding=0) for index in range(depth - 1)]
        self.body = nn.Sequential(*(module for block in below for module in (block, nn.ReLU())))
        self.top, self.top_norm = conv_bn(width, width, padding=0)
        self.head = nn.Linear(width, classes)
        he_initialise(self, generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.top_norm(self.top(self.body(x))))  # (N, width, 1, 1)
        return self.head(x.flatten(1))


@torch.no_grad()
def calibrate_batch_norm(model: nn.Module, batch: torch.Tensor) -> None:
    """Set every batch norm's running statistics to those of one batch, and leave the model in evaluation mode.

    A new batch norm's running statistics (mean 0, variance 1) are nobody's: in evaluation mode the untrained network
    would not be the function that training starts from, and its ERF would depend on the scale of the weights, which
    batch norm cancels.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the plain average of what passes
        norm.reset_running_stats()
    model.train()
    model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
