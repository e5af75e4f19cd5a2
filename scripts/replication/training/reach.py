"""The reach task: how far can a unit *use* what lies in its receptive field? Its images, and its networks.

Images of noise, in which one coloured spot at distance d from the middle, in a random direction, decides the class.
All of it lies inside the theoretical receptive field of the one unit that classifies.
"""

from collections.abc import Iterator

import torch
from torch import nn

from erf.errors import InputError
from erf.system.seeds import torch_generator
from replication.datasets.dataset import Task
from replication.stacks.modules import ResidualStack
from replication.stacks.structures import Block, Conv, Structure
from replication.training.resnets import conv_bn, he_initialise

SPOT = 3  # side of the spot, pixels
CONTRAST = 3.0  # of the spot's colour, in standard deviations of the noise


class ReachData:
    """Procedural batches ((n, 3, side, side) float32, channels last; (n,) labels 0 or 1), drawn anew at every step."""

    task = Task(2, "accuracy", mean=(0, 0, 0), std=(1, 1, 1))

    def __init__(self, side: int, distance: float, batch_size: int, steps: int, seed: int, device: torch.device):
        self.side, self.distance, self.batch_size, self.steps = side, distance, batch_size, steps
        self.seed, self.device = seed, device

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """`count` images and labels. Class 0 has a red spot, class 1 a blue one, of the same contrast."""
        images = torch.randn(count, 3, self.side, self.side, generator=generator)
        labels = torch.randint(2, (count,), generator=generator)
        angle = 2 * torch.pi * torch.rand(count, generator=generator)
        middle = (self.side - 1) // 2
        centre = torch.stack([torch.sin(angle), torch.cos(angle)], 1) * self.distance + middle  # (n, 2) row, column
        offset = torch.arange(SPOT) - SPOT // 2
        rows, columns = (centre.round().long()[:, axis, None] + offset for axis in (0, 1))  # (n, SPOT)
        sample = torch.arange(count)[:, None, None]
        images[sample, (2 * labels)[:, None, None], rows[:, :, None], columns[:, None, :]] += CONTRAST
        return images.contiguous(memory_format=torch.channels_last), labels

    def training_batches(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        generator = torch_generator(self.seed, "reach", epoch)
        for _ in range(self.steps):
            images, labels = self.draw(self.batch_size, generator)
            yield images.to(self.device), labels.to(self.device)

    def evaluation_batches(self, split: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Two thousand images that depend on the split's name and the seed alone."""
        generator = torch_generator(self.seed, "reach", split)
        for _ in range(4):
            images, labels = self.draw(500, generator)
            yield images.to(self.device), labels.to(self.device)


class ReachNet(nn.Module):
    """A structure of `replication.stacks.structures`, unpadded, with batch norm and ReLU, that classifies from the one
    unit it has left.

    Maps (N, 3, R, R), R being its theoretical receptive field, to logits (N, classes). `top` is the last convolution:
    the unit is measured before its own activation. A residual block is relu(x + f(x)), x being cropped to what is left
    of f(x). InputError for a structure that has pooling or dropout.
    """

    def __init__(self, layers: Structure, width: int, generator: torch.Generator, classes: int = 2):
        super().__init__()
        if not all(isinstance(layer, Conv | Block) for layer in layers) or not isinstance(layers[-1], Conv):
            raise InputError(
                "a network of the reach task is made of convolutions and residual blocks, a convolution last"
            )
        inputs, below = 3, []
        for layer in layers[:-1]:
            below += [_with_norm(layer, inputs, width), nn.ReLU()]
            inputs = width
        self.body = nn.Sequential(*below)
        self.top, self.top_norm = _with_norm(layers[-1], inputs, width)
        self.head = nn.Linear(width, classes)
        he_initialise(self, generator, layers[-1].centre_light)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.top_norm(self.top(self.body(x))))  # (N, width, 1, 1)
        return self.head(x.flatten(1))


def _with_norm(layer: Conv | Block, inputs: int, width: int) -> nn.Sequential:
    """Convolution and batch norm, or a residual block of such, before its activation."""
    if isinstance(layer, Conv):
        return conv_bn(inputs, width, stride=layer.stride, dilation=layer.dilation)
    first, *others = (_with_norm(inner, width, width) for inner in layer.branch)
    return ResidualStack(nn.Sequential(first, *(module for inner in others for module in (nn.ReLU(), inner))))
