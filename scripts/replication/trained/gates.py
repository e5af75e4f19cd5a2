"""What of a trained network's ERF lies in its weights: the gates of its ReLUs are drawn anew, and the weights are kept.

With its gates given, a network is linear. Each channel of each image keeps the share of its gates that are open. Which
ones are open no longer depends on the image or on other channels.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from erf.measuring.layer import layer_output
from erf.measuring.measure import impact_maps
from erf.measuring.precision import measuring_mode


class Gates(TorchFunctionMode):
    """Notes which values each ReLU lets through, in the order of the calls; or, if gates are given, uses these."""

    def __init__(self, given: list[torch.Tensor] | None = None):
        super().__init__()
        self.noted: list[torch.Tensor] = []
        self._given = None if given is None else iter(given)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function not in (torch.relu, functional.relu):
            return function(*args, **(kwargs or {}))
        if self._given is not None:
            return args[0] * next(self._given)
        result = torch.relu(args[0])
        self.noted.append(result > 0)
        return result


def drawn_anew(gates: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Gates (n, C, H, W), each as likely to be open as its channel's in this image; the generator is the CPU's."""
    shares = gates.float().mean((2, 3), keepdim=True)
    return torch.rand(gates.shape, generator=generator).to(gates.device) < shares


def maps_with_drawn_gates(model: nn.Module, images: torch.Tensor, layer: str, generator: torch.Generator) -> np.ndarray:
    """Impact maps, float64 (n, H, W), of a layer's middle unit with gates drawn anew, for images (n, 3, H, W)."""
    with measuring_mode(model, images.device.type):
        with torch.no_grad(), Gates() as own:
            layer_output(model, images, layer)
        source = images.detach().clone().requires_grad_()
        with Gates([drawn_anew(gates, generator) for gates in own.noted]):
            output = layer_output(model, source, layer)
        rows, columns = output.shape[2:]
        (gradient,) = torch.autograd.grad(output[:, :, rows // 2, columns // 2].sum(), source)
    return impact_maps(gradient)
