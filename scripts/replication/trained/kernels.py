"""What of a trained network's ERF follows from the energy of its kernels alone: theory of variances, without an image.

Going back through a convolution, the gradient's energy spreads over the kernel as the squared weights do, summed over
channels; cross terms between channels are left out, as for random weights. Batch norm scales each output channel. A
ReLU inside of a residual branch passes the share `gates` of the energy, and takes it from the branch alone; elsewhere
it passes the same share of everything, which changes no shape.
"""

import numpy as np
import torch
from torch import nn

from erf import theory
from replication.training.resnets import BasicBlock, ResNetCifar


def energy(conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None) -> np.ndarray:
    """Energy (k, k) that the gradient of one output channel has on each tap, a mean over these channels."""
    weight = conv.weight.detach().double()
    if norm is not None:
        scale = norm.weight.detach().double() / torch.sqrt(norm.running_var.double() + norm.eps)
        weight = weight * scale[:, None, None, None]
    return (weight.square().sum((0, 1)) / len(weight)).numpy()


def block(part: BasicBlock, gates: float) -> theory.Residual:
    first, second = energy(*part.first), energy(*part.second)
    return theory.Residual((theory.Layer(gates * first), theory.Layer(second)))


def kernel_stack(model: nn.Module, gates: float = 0.5) -> list[theory.Layer | theory.Residual]:
    """The layers of a trained network below the paper's unit, input first, with the energies of their kernels as taps:
    what `erf.theory` computes with for weights "random"."""
    layers: list[theory.Layer | theory.Residual] = [theory.Layer(energy(*model.stem))]
    if isinstance(model, ResNetCifar):
        return [*layers, *(block(part, gates) for part in model.blocks), theory.Layer(energy(model.top))]
    for stage in model.stages:
        subsampling, _, *blocks = stage
        layers.append(theory.Layer(energy(*subsampling), stride=2))
        layers += [block(part, gates) for part in blocks]
    return layers


def spread(taps: np.ndarray) -> float:
    """Variance of a kernel's energy (k, k) about its middle tap, over that of a kernel whose energy is the same on all
    taps: 1 for such a kernel, 0 for one with its middle alone, 1.5 for a 3 x 3 one with its corners alone."""
    away = (np.arange(len(taps)) - (len(taps) - 1) / 2) ** 2
    return float((taps.sum(1) @ away + taps.sum(0) @ away) / (2 * taps.sum() * away.mean()))


def kernel_profile(model: nn.Module, gates: float = 0.5) -> dict[str, float]:
    """The two things that `predicted_sigma` grows by, as means: `kernel_spread`, over all convolutions below the unit,
    and `branch_share`, over all residual blocks the share of the gradient's energy that goes through the branch."""
    stack = kernel_stack(model, gates)
    blocks = [part.branch for part in stack if isinstance(part, theory.Residual)]
    convolutions = [part for part in stack if isinstance(part, theory.Layer)] + [conv for one in blocks for conv in one]
    carried = np.array([np.prod([conv.taps.sum() for conv in one]) for one in blocks])
    return {
        "kernel_spread": float(np.mean([spread(conv.taps) for conv in convolutions])),
        "branch_share": float(np.mean(carried / (1 + carried))),
    }


def predicted_sigma(model: nn.Module, gates: float = 0.5) -> float:
    """σ (pixels) of the mean magnitude of the gradient that follows from the kernels: the root mean square over rows
    and columns. Of the exact map, and not of its Gaussian limit: residual networks have long tails."""
    stack = kernel_stack(model, gates)
    impact = theory.expected_map(stack, "random", "abs")
    _, _, covariance = theory.moments(impact)
    return float(np.sqrt(np.trace(covariance) / 2))
