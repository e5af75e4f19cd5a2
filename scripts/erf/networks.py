"""The networks that are trained, and how their weights begin.

`ResNetCifar` is the paper's CIFAR-10 classifier, `ReachNet` a plain stack that classifies from one unit. The untrained
networks, which are held against the theory, are in `erf.untrained`: a change there must not rerun any training.
"""

import torch
from torch import nn


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
