"""The arithmetic of a measurement: evaluation mode, full precision, no denormal numbers."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from erf.graph.torch_private import eager
from erf.measuring.layer import evaluating


@contextlib.contextmanager
def full_precision(device: str) -> Iterator[None]:
    """Gradients on, autocast, TF32 and the like off; the caller's choices come back afterwards."""
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # torch 2.9 and later, which forbid to mix the two ways
        kinds = [getattr(torch.backends.mkldnn, name) for name in ("matmul", "conv")]
        switches = [torch.backends.cuda.matmul, torch.backends.cudnn.conv, *kinds]
        attribute, full = "fp32_precision", "ieee"
    else:
        switches, attribute, full = [torch.backends.cuda.matmul, torch.backends.cudnn], "allow_tf32", False
    before = [getattr(switch, attribute) for switch in switches]
    kind = "cpu" if device == "meta" else device  # which torch 2.13 knows no autocast of
    try:
        for switch in switches:
            setattr(switch, attribute, full)
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(kind, enabled=False):
            yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            setattr(switch, attribute, value)


@contextlib.contextmanager
def measuring_mode(model: nn.Module, device: str) -> Iterator[None]:
    with evaluating(model), full_precision(device), _no_denormals(), eager():
        yield


@contextlib.contextmanager
def _no_denormals() -> Iterator[None]:
    """Numbers below 1e-38, as gradients far from a unit are, count as zero: the CPU is many times slower with them."""
    before = not (torch.full((1,), 1e-39) * 1).any()  # torch does not tell
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
