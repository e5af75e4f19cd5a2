"""Where to compute, and how exactly."""

import contextlib
import warnings
from collections.abc import Iterator

import torch

from erf.errors import InputError


def choose_device(wanted: str) -> torch.device:
    """The device of that name; "auto" is the GPU, or with a warning the CPU. InputError for a GPU that is not there."""
    if wanted == "cpu" or torch.cuda.is_available():
        return torch.device("cpu" if wanted == "cpu" else "cuda")
    if wanted == "cuda":
        raise InputError("device: cuda was asked for, but torch finds no GPU here; set device to auto or cpu")
    warnings.warn("torch finds no GPU here: running on the CPU", stacklevel=2)
    return torch.device("cpu")


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
    try:
        for switch in switches:
            setattr(switch, attribute, full)
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
            yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            setattr(switch, attribute, value)
