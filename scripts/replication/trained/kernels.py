"""What of a trained network's ERF follows from the energy of its kernels alone: theory of variances, without an image.

Going back through a convolution, the gradient's energy spreads over the kernel as the squared weights do, summed over
channels; cross terms between channels are left out, as for random weights. Batch norm scales each output channel. A
ReLU inside of a residual branch passes the share `gates` of the energy, and takes it from the branch alone; elsewhere
it passes the same share of everything, which changes no shape.
"""

import numpy as np
import pandas as pd
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


def named_parts(model: nn.Module, gates: float) -> list[tuple[str, theory.Layer | theory.Residual]]:
    parts: list[tuple[str, theory.Layer | theory.Residual]] = [("stem", theory.Layer(energy(*model.stem)))]
    if isinstance(model, ResNetCifar):
        parts += [(f"blocks.{number}", block(part, gates)) for number, part in enumerate(model.blocks)]
        return [*parts, ("top", theory.Layer(energy(model.top)))]
    for stage, (subsampling, _, *blocks) in enumerate(model.stages):
        parts.append((f"stages.{stage}.0", theory.Layer(energy(*subsampling), stride=2)))
        parts += [(f"stages.{stage}.{number}", block(part, gates)) for number, part in enumerate(blocks, 2)]
    return parts


def kernel_stack(model: nn.Module, gates: float = 0.5) -> list[theory.Layer | theory.Residual]:
    """The layers of a trained network below the paper's unit, input first, with the energies of their kernels as taps:
    what `erf.theory` computes with for weights "random"."""
    return [part for _, part in named_parts(model, gates)]


def spread(taps: np.ndarray) -> float:
    """Variance of a kernel's energy (k, k) about its middle tap, over that of a kernel whose energy is the same on all
    taps: 1 for such a kernel, 0 for one with its middle alone, 1.5 for a 3 x 3 one with its corners alone."""
    away = (np.arange(len(taps)) - (len(taps) - 1) / 2) ** 2
    return float((taps.sum(1) @ away + taps.sum(0) @ away) / (2 * taps.sum() * away.mean()))


def kernel_profile(model: nn.Module, gates: float = 0.5) -> pd.DataFrame:
    """The two things that `predicted_sigma` grows by, one row a convolution below the unit, input first.

    Columns: `layer`, `kernel_spread`, and, of a residual block's second convolution, `branch_share`: the share of the
    gradient's energy that goes through the block's branch.
    """
    rows = []
    for name, part in named_parts(model, gates):
        if isinstance(part, theory.Layer):
            rows.append((name, spread(part.taps), np.nan))
            continue
        first, second = (conv.taps for conv in part.branch)
        carried = first.sum() * second.sum()
        rows += [(f"{name}.first", spread(first), np.nan), (f"{name}.second", spread(second), carried / (1 + carried))]
    return pd.DataFrame(rows, columns=["layer", "kernel_spread", "branch_share"])


def predicted_sigma(model: nn.Module, gates: float = 0.5) -> float:
    """σ (pixels) of the mean magnitude of the gradient that follows from the kernels: the root mean square over rows
    and columns. Of the exact map, and not of its Gaussian limit: residual networks have long tails."""
    stack = kernel_stack(model, gates)
    impact = theory.expected_map(stack, "random", "abs")
    _, _, covariance = theory.moments(impact)
    return float(np.sqrt(np.trace(covariance) / 2))
