"""The structures of the untrained networks: one list of layers, from which both theory and torch work.

A structure is a list of `Conv`, `AveragePool`, `Dropout` and `Block`, input first. `theory_stack` turns it into what
`erf.theory` computes with, `replication.stacks.modules.build_stack` into a module.
"""

from dataclasses import dataclass

import numpy as np

from erf import theory
from erf.errors import InputError
from replication.stacks.initialisation import centre_light_variances

STRUCTURES = ("plain", "subsample", "dilation", "average_pool", "skip", "dropout")


WITH_SPECIAL_LAYERS = ("subsample", "dilation", "average_pool")


@dataclass(frozen=True)
class Conv:
    """centre_light is the strength of `replication.stacks.initialisation.centre_light_variances`, for random
    weights. `taps`, one number for each of the kernel's positions along an axis, gives the kernel a profile other than
    the uniform one: `profile`."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    centre_light: float = 0.0
    taps: tuple[float, ...] = ()

    @property
    def profile(self) -> np.ndarray:
        """Fixed weights, or random weights' variances, as shares (kernel, kernel) that sum to one: the outer product of
        `taps` with itself, or else all equal."""
        if not self.taps:
            return theory.uniform_taps(self.kernel)
        if len(self.taps) != self.kernel:
            raise InputError(f"a kernel of side {self.kernel} needs {self.kernel} taps, not {len(self.taps)}")
        if min(self.taps) < 0 or not sum(self.taps) > 0:
            raise InputError(f"taps are not negative, and not all zero: {list(self.taps)}")
        shares = np.array(self.taps) / sum(self.taps)
        return np.outer(shares, shares)


@dataclass(frozen=True)
class AveragePool:
    """Mean over squares that do not overlap."""

    side: int = 2


@dataclass(frozen=True)
class Dropout:
    """Sets each value to zero with probability `rate`, and divides the others by 1 - rate."""

    rate: float


@dataclass(frozen=True)
class Block:
    """Residual block y = x + f(x)."""

    branch: tuple[Conv, ...]


Structure = list[Conv | AveragePool | Dropout | Block]


def structure(
    name: str,
    depth: int,
    kernel: int = 3,
    special_layers: tuple[int, ...] = (),
    dropout: float = 0.5,
    centre_light: float = 0.0,
    taps: tuple[float, ...] = (),
) -> Structure:
    """Layers of a network of `depth` convolutions, whose random weights are lighter in their middle by `centre_light`,
    and whose kernels have the profile of `taps` along both axes.

    plain : nothing else
    subsample : the special layers (counted from 1, input first) have stride 2
    average_pool : an average over 2 x 2 pixels with stride 2 follows each of them instead
    dilation : they have dilation 2, 4, 8, ... in turn
    skip : residual blocks of two convolutions, and one on top; for an even depth also one below
    dropout : dropout at rate `dropout` between all convolutions
    """
    if name not in STRUCTURES:
        raise InputError(f"unknown structure {name!r}: choose one of {', '.join(STRUCTURES)}")
    if not all(1 <= layer <= depth for layer in special_layers):
        raise InputError(f"special layers {list(special_layers)} are not all among the {depth} layers")
    if name == "skip" and depth < 3:
        raise InputError(f"a network with skip connections has at least 3 layers, not {depth}")
    if name == "skip":
        conv = Conv(kernel, centre_light=centre_light, taps=taps)
        return [*[conv] * ((depth - 1) % 2), *[Block((conv, conv))] * ((depth - 1) // 2), conv]
    layers: Structure = []
    for number in range(1, depth + 1):
        special = number in special_layers
        order = sum(other < number for other in special_layers)
        stride = 2 if special and name == "subsample" else 1
        dilation = 2 ** (order + 1) if special and name == "dilation" else 1
        layers.append(Conv(kernel, stride, dilation, centre_light, taps))
        if special and name == "average_pool":
            layers.append(AveragePool())
        if name == "dropout" and number < depth:
            layers.append(Dropout(dropout))
    return layers


def special_layers(settings: dict) -> tuple[int, ...]:
    """Of a network with these settings; none where its structure has none."""
    return tuple(settings["special_layers"]) if settings["structure"] in WITH_SPECIAL_LAYERS else ()


def structure_of(settings: dict, depth: int) -> Structure:
    """The structure that a network's settings describe, at one of its depths."""
    kind = (settings["structure"], depth, settings["kernel"], special_layers(settings))
    return structure(*kind, settings["dropout"], settings["centre_light"], tuple(settings.get("taps", ())))


def theory_stack(layers: Structure | tuple, weights: str) -> list[theory.Layer | theory.Residual]:
    """What `erf.theory` computes with.

    weights "uniform" or "fixed": each kernel sums to one, its weights all equal or in the proportions of its taps;
    dropout keeps the mean.
    weights "random": variances, in place of weights, that keep the gradient's energy from layer to layer. What is not
    random enters by its square: a pooling carries 1/side^2 of the energy on, and dropout multiplies it by 1/(1 - rate).
    """
    power = 2 if weights == "random" else 1
    stack: list[theory.Layer | theory.Residual] = []
    for layer in layers:
        match layer:
            case Conv(kernel, stride, dilation, centre_light):
                taps = layer.profile
                if weights == "random":
                    taps = taps * centre_light_variances(kernel, centre_light)
                stack.append(theory.Layer(taps, stride, dilation))
            case AveragePool(side):
                stack.append(theory.Layer(theory.uniform_taps(side) ** power, side))
            case Dropout(rate):
                stack.append(theory.Layer(np.full((1, 1), (1 - rate) ** (1 - power))))
            case Block(branch):
                stack.append(theory.Residual(tuple(theory_stack(branch, weights))))
    return stack
