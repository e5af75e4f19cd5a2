"""Batch norms of a model, and their statistics."""

from collections.abc import Callable

import torch
from torch import nn

from erf.graph.torch_private import BatchNorm


def batch_norms(model: nn.Module) -> list[BatchNorm]:
    """Every batch norm of a model, of any dimension."""
    return [module for module in model.modules() if isinstance(module, BatchNorm)]


@torch.no_grad()
def calibrate_batch_norm(
    model: nn.Module, batch: torch.Tensor, run: Callable[[torch.Tensor], object] | None = None
) -> None:
    """Set every batch norm's running statistics to those of one batch, and leave the model in evaluation mode.

    A new batch norm's running statistics (mean 0, variance 1) are nobody's: in evaluation mode the untrained network
    would not be the function that training starts from, and its ERF would depend on the scale of the weights, which
    batch norm cancels. `run` is how the batch goes through the model, if not through all of it.
    """
    norms = batch_norms(model)
    momenta = [norm.momentum for norm in norms]
    model.eval()  # all but the norms: their statistics must not include dropout
    for norm in norms:
        norm.momentum = None  # the plain average over the batch
        norm.reset_running_stats()
        norm.train()
    (run or model)(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
