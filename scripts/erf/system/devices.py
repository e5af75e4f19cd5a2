"""Where to compute, and how exactly."""

import warnings

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
