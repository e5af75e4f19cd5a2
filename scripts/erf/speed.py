"""How well a training uses its machine: arithmetic per image, the machine's own peak, and peak memory."""

import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from erf.provenance import process_memory


def training_flops(model: nn.Module, image: torch.Tensor) -> int:
    """Floating-point operations of one image (1, C, H, W) forward and backward: convolutions and matrix products, a
    multiplication and an addition counting as two. The model stays as it is."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    mode = model.training
    model.eval()  # running statistics stay
    with FlopCounterMode(display=False) as counter:
        torch.autograd.grad(model(image).sum(), parameters, allow_unused=True)
    model.train(mode)
    return counter.get_total_flops()


def bf16_peak(device: torch.device) -> float:
    """Operations per second of the fastest of a few large bf16 matrix products, with torch's threads."""
    side, repeats = (8192, 20) if device.type == "cuda" else (2048, 3)
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(repeats + 1):  # the first one warms up
        synchronise(device)
        start = time.perf_counter()
        a @ b
        synchronise(device)
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> float:
    """Most memory (MB) that torch has held on the GPU, or the process on the CPU, so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return process_memory()
