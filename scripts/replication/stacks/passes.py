"""A plain stack, layer by layer: its gates, the gradients that arrive at them, and other gates in their place.

A gate is 1 where a ReLU passes its input on, and 0 elsewhere. The backward pass of a ReLU stack is linear once its
gates are given, so it can be run with any others.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional

from replication.stacks.modules import ACTIVATIONS

EPSILON = 1e-5  # of the variance in a batch norm, as in torch
Gates = list[torch.Tensor]  # of each layer but the last, (channels, H, W), bool; input first


def draw_weights(
    depth: int, kernel: int, channels: int, activation: str, generator: torch.Generator
) -> list[torch.Tensor]:
    """Random weights (out, in, kernel, kernel), float32, of each layer, input first; the last has one output channel.

    The same as in `replication.stacks.modules.build_stack`, whose modules take longer to build than a pass takes.
    """
    weights, fan_in = [], channels * kernel**2
    for layer in range(1, depth + 1):
        shape = (channels if layer < depth else 1, channels, kernel, kernel)
        gain = ACTIVATIONS[activation][1] if layer > 1 else 1.0
        weights.append((torch.randn(shape, generator=generator, dtype=torch.float64) * (gain / fan_in**0.5)).float())
    return weights


def with_mean(weights: Sequence[torch.Tensor], mean_share: float) -> list[torch.Tensor]:
    """Weights of a random stack without an activation, given a mean.

    mean_share : t from 0 to 1, the share of the mean in a layer's gain. The mean is sqrt(t) / fan-in, the standard
        deviation sqrt((1 - t) / fan-in): 0 leaves the weights random, 1 makes them uniform.
    """
    return [(1 - mean_share) ** 0.5 * own + mean_share**0.5 / own[0].numel() for own in weights]


def forward(
    weights: Sequence[torch.Tensor], images: torch.Tensor, batch_norm: bool = False
) -> tuple[Gates, list[torch.Tensor]]:
    """Gates of a ReLU stack for the first of `images` (N, channels, H, W), and each layer's gain (channels, 1, 1).

    batch_norm : a batch norm in front of each ReLU, with the mean and variance over all the images and positions. Its
        gain is then 1 / standard deviation; without it, 1.
    """
    gates, gains, x = [], [], images
    for weight in weights[:-1]:
        x = functional.conv2d(x, weight)
        gain = torch.ones(x.shape[1], 1, 1)
        if batch_norm:
            variance, mean = torch.var_mean(x, (0, 2, 3), correction=0, keepdim=True)
            gain = (variance[0] + EPSILON).rsqrt()
            x = (x - mean) * gain
        gates.append(x[0] > 0)
        gains.append(gain)
        x = functional.relu(x)
    return gates, gains


def backward(
    weights: Sequence[torch.Tensor], gates: Gates | None = None, gains: Sequence[torch.Tensor] | None = None
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Gradient (channels, H, W) of the one unit by the input, and the gradients that arrive at each layer's gates, as
    the gates are laid out. A batch norm's statistics count as constants, as in evaluation mode. Without gates the stack
    is linear."""
    gradient, arriving = torch.ones(1, 1, 1), []
    for layer in reversed(range(len(weights))):
        gradient = functional.conv_transpose2d(gradient[None], weights[layer])[0]
        if layer and gates is not None:
            arriving.append(gradient)
            gradient = gradient * gates[layer - 1]
            if gains is not None:
                gradient = gradient * gains[layer - 1]
    return gradient, arriving[::-1]


def coin_gates(gates: Gates, generator: torch.Generator) -> Gates:
    """As many gates, each open with probability 1/2, independently of everything."""
    return [torch.rand(gate.shape, generator=generator) < 0.5 for gate in gates]


def permuted_gates(gates: Gates, generator: torch.Generator) -> Gates:
    """The same gates, permuted over the positions of each channel: the channel's share of open gates stays."""
    found = []
    for gate in gates:
        order = torch.rand(len(gate), gate[0].numel(), generator=generator).argsort(1)
        found.append(gate.flatten(1).gather(1, order).view_as(gate))
    return found


def dependence(gate: torch.Tensor, arriving: torch.Tensor) -> tuple[float, float]:
    """How one layer's gates depend on the gradients that arrive there, both (channels, H, W).

    Returns Pearson's correlation of gate and squared gradient over all the layer's units, NaN where one of them does
    not vary; and the share of squared gradient at open gates, less the share of open gates. Both have mean zero if the
    gates are independent of the gradients.
    """
    energy, opened = arriving.double().square().flatten(), gate.double().flatten()
    a, b = energy - energy.mean(), opened - opened.mean()
    correlation = (a @ b / (a.norm() * b.norm())).item() if a.any() and b.any() else float("nan")
    return correlation, (energy @ opened / energy.sum() - opened.mean()).item()
