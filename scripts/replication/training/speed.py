"""How fast a training can be on its machine: memory that is kept, bf16 where it is faster and right, and what
convolutions alone would take."""

import contextlib
import ctypes
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from replication.commands.provenance import process_memory

BF16_ERROR = 0.02  # of a convolution's result, relative to its norm: bf16 has 8 bits, and wrong kernels are far off


def keep_freed_memory() -> None:
    """Make glibc keep what is freed for the next allocation: it would hand every activation back to the kernel, which
    gives it again zeroed, page by page. Large batches train up to twice as fast. Elsewhere nothing happens."""
    with contextlib.suppress(OSError, AttributeError):  # no glibc
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**26)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            mallopt(parameter, value)


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


@dataclass(frozen=True)
class Convolution:
    """One shape of convolution in a network.

    shape : (n, C, H, W) of its input; `first` : its input needs no gradient, since it is the image
    """

    shape: tuple[int, ...]
    weight: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    first: bool

    def run(self, device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], list[torch.Tensor]], torch.Tensor]:
        """A function that computes it forward and backward, in channels-last order as in training, and its result."""
        generator = torch.Generator().manual_seed(0)
        image, weight = (torch.randn(shape, generator=generator) for shape in (self.shape, self.weight))
        image = image.to(device, dtype, memory_format=torch.channels_last).requires_grad_(not self.first)
        weight = weight.to(device, dtype, memory_format=torch.channels_last).requires_grad_()

        def forward() -> torch.Tensor:
            return torch.conv2d(image, weight, None, self.stride, self.padding, self.dilation, self.groups)

        result = forward().detach()
        gradient = torch.randn(result.shape, generator=generator).to(result)
        wanted = [weight] if self.first else [image, weight]
        return lambda: torch.autograd.grad(forward(), wanted, gradient), result

    def seconds(self, device: torch.device, dtype: torch.dtype, repeats: int = 3) -> float:
        """Of one pass forward and backward: the fastest of a few, after one that warms up."""
        step, _ = self.run(device, dtype)
        return fastest(step, device, repeats)

    def bf16_error(self, device: torch.device) -> float:
        """Distance of the result in bf16, and of both gradients, from float32's, relative to its norm; the largest."""
        found = []
        for dtype in (torch.float32, torch.bfloat16):
            step, result = self.run(device, dtype)
            found.append([tensor.float() for tensor in (result, *step())])
        return max(float((low - full).norm() / full.norm()) for full, low in zip(*found, strict=True))


def convolutions(model: nn.Module, images: torch.Tensor) -> dict[Convolution, int]:
    """The distinct convolutions of a model on a batch (n, C, H, W), and how often each is there."""
    found: dict[Convolution, int] = {}

    def note(module: nn.Conv2d, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        shape = (len(images), *inputs[0].shape[1:])
        options = (module.stride, module.padding, module.dilation, module.groups)
        one = Convolution(shape, tuple(module.weight.shape), *options, first=not found)
        found[one] = found.get(one, 0) + 1

    handles = [module.register_forward_hook(note) for module in model.modules() if isinstance(module, nn.Conv2d)]
    mode = model.training
    try:
        model.eval()  # running statistics stay
        with torch.no_grad():
            model(images[:1])
    finally:
        model.train(mode)
        for handle in handles:
            handle.remove()
    return found


def convolution_seconds(found: dict[Convolution, int], device: torch.device, dtype: torch.dtype) -> float:
    """What a model's convolutions alone take for one batch, forward and backward."""
    return sum(count * one.seconds(device, dtype) for one, count in found.items())


def bf16_is_faster(found: dict[Convolution, int], device: torch.device) -> bool:
    """Whether these convolutions take less time in bf16, and are right in it. The processor's flags do not tell: some
    shapes are several times slower, and wrong results are known for a few."""
    if any(not one.bf16_error(device) < BF16_ERROR for one in found):  # NaN compares false
        return False
    return convolution_seconds(found, device, torch.bfloat16) < convolution_seconds(found, device, torch.float32)


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies matrices in bf16 natively, so that autocast to it may gain time."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def bf16_peak(device: torch.device) -> float:
    """Operations per second of the fastest of a few large bf16 matrix products, with torch's threads."""
    side, repeats = (8192, 20) if device.type == "cuda" else (2048, 3)
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / fastest(lambda: a @ b, device, repeats)


def fastest(step: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Seconds of the fastest of a few calls, after one that warms up."""
    best = math.inf
    for call in range(repeats + 1):
        synchronise(device)
        start = time.perf_counter()
        step()
        synchronise(device)
        best = min(best, time.perf_counter() - start) if call else best
    return best


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> float:
    """Most memory (MB) that torch has held on the GPU, or the process on the CPU, so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return process_memory()
