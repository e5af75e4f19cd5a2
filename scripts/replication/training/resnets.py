"""The networks that are trained, and how their weights begin.

`ResNetCifar` is the paper's CIFAR-10 classifier, `ResNetCamVid` its CamVid segmenter. The untrained networks, which are
held against the theory, are in `replication.stacks.modules`, those of the reach task in `replication.training.reach`: a
change there must not rerun any training on images.
"""

import torch
from torch import nn

from replication.stacks.initialisation import centre_light_variances

ROAD = 3  # CamVid's most frequent class


def he_initialise(model: nn.Module, generator: torch.Generator, centre_light: float = 0.0) -> None:
    """He's normal initialisation of every convolution and linear layer, in the modules' order; biases zero.

    With a strength `centre_light` above 0, the weights of convolutions are then rescaled to `centre_light_variances`:
    those of the same seed, in other proportions.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, nn.Conv2d) and centre_light:
            scale = centre_light_variances(module.kernel_size[0], centre_light) ** 0.5
            module.weight.data *= torch.from_numpy(scale).to(module.weight.dtype)


def conv_bn(inputs: int, outputs: int, **options) -> nn.Sequential:
    """3x3 convolution, with options of nn.Conv2d, and batch normalisation; of these every trained network is made."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, bias=False, **options), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Residual block of two 3x3 convolutions (He et al. 2016), stride 1: y = relu(x + f(x)).

    `sum` is x + f(x), there to be read before the activation. residual_scale is where the scale of the branch's last
    batch norm begins: how much the branch carries before training.
    """

    def __init__(self, width: int, residual_scale: float):
        super().__init__()
        self.first, self.second = (conv_bn(width, width, padding=1) for _ in range(2))
        self.sum = nn.Identity()
        nn.init.constant_(self.second[1].weight, residual_scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.sum(x + self.second(torch.relu(self.first(x)))))


class ResNetCifar(nn.Module):
    """The paper's CIFAR-10 network: residual blocks without pooling or subsampling before the global mean.

    A 3x3 stem, `blocks` residual blocks and one 3x3 convolution on top (`top`, whose units are measured): with 17
    blocks the theoretical receptive field is 1 + 2 (1 + 2 * 17 + 1) = 73 pixels. The paper reports 74, which no
    stride-1 stack of odd kernels has.

    residual_scale is that of `BasicBlock`: it sets the initial ERF. centre_light is that of `he_initialise`. Maps
    (N, 3, H, W) to logits (N, classes).
    """

    def __init__(
        self,
        blocks: int,
        width: int,
        residual_scale: float,
        centre_light: float,
        generator: torch.Generator,
        classes: int = 10,
    ):
        super().__init__()
        self.stem = conv_bn(3, width, padding=1)
        self.blocks = nn.Sequential(*(BasicBlock(width, residual_scale) for _ in range(blocks)))
        self.top, self.top_norm = conv_bn(width, width, padding=1)
        self.top_relu = nn.ReLU()
        self.head = nn.Linear(width, classes)
        he_initialise(self, generator, centre_light)

    def layers(self) -> list[str]:
        """Layers from bottom to top, each read before its activation: the stem, the end of every quarter of the blocks,
        and the last convolution, whose middle unit is the paper's."""
        count = len(self.blocks)
        ends = sorted({round(quarter * count / 4) - 1 for quarter in range(1, 5)} - {-1})
        return ["stem", *(f"blocks.{end}.sum" for end in ends), "top"]

    def readings(self) -> dict[str, tuple[str, str | int]]:
        """Other ways to read the top's unit, by what they are: layer and channels, as `erf.measure` takes them."""
        return {"after normalisation": ("top_norm", "sum"), "after activation": ("top_relu", "sum")}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(torch.relu(self.stem(x)))  # (N, width, H, W)
        x = self.top_relu(self.top_norm(self.top(x)))
        return self.head(x.mean((2, 3)))  # not adaptive pooling: this backward pass is deterministic on CUDA too


class ResNetCamVid(nn.Module):
    """The paper's CamVid network: residual blocks interleaved with subsampling, a class for each pixel.

    A 3x3 stem, then stages of a 3x3 convolution of stride 2 and residual blocks, each stage twice as wide as the one
    before. With (3, 4, 6, 3) blocks, as in ResNet-34, there are 16 of them, the output is at 1/16, and the theoretical
    receptive field is 1 + 2 + 2 (1 + 2 + 4 + 8) + 4 (3 * 2 + 4 * 4 + 6 * 8 + 3 * 16) = 505 pixels, the paper's number.

    A 1x1 convolution makes the logits, (N, classes, h, w), which are interpolated to the image: (N, 3, H, W) becomes
    (N, classes, H, W). residual_scale and centre_light are as in `ResNetCifar`.
    """

    def __init__(
        self,
        blocks: list[int],
        width: int,
        residual_scale: float,
        centre_light: float,
        generator: torch.Generator,
        classes: int = 11,
    ):
        super().__init__()
        self.stem = conv_bn(3, width, padding=1)
        self.stages = nn.Sequential()
        channels = width
        for stage, count in enumerate(blocks):
            subsampling = conv_bn(channels, width * 2**stage, padding=1, stride=2)
            channels = width * 2**stage
            residual = (BasicBlock(channels, residual_scale) for _ in range(count))
            self.stages.append(nn.Sequential(subsampling, nn.ReLU(), *residual))
        self.head = nn.Conv2d(channels, classes, 1)
        he_initialise(self, generator, centre_light)

    def layers(self) -> list[str]:
        """Layers from bottom to top, each read before its activation: the stem and the end of every stage. The middle
        unit of the last is the paper's."""
        return ["stem", *(f"stages.{number}.{len(stage) - 1}.sum" for number, stage in enumerate(self.stages))]

    def readings(self) -> dict[str, tuple[str, str | int]]:
        """Other ways to read the top's unit, by what they are: layer and channels, as `erf.measure` takes them. Of
        logits one is read: their sum is what cross-entropy never changes."""
        return {"after activation": (self.layers()[-1].removesuffix(".sum"), "sum"), "logit of road": ("head", ROAD)}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return interpolate(self.head(self.stages(torch.relu(self.stem(x)))), 2 ** len(self.stages), x.shape[2:])


def interpolate(logits: torch.Tensor, stride: int, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear interpolation of (N, C, h, w) to (N, C, *size), where unit (i, j) lies on pixel stride * (i, j).

    Padded 3x3 convolutions of stride 2 put their units there; torch's own interpolation puts them elsewhere, and its
    backward pass is not deterministic on CUDA.
    """
    with torch.autocast(logits.device.type, enabled=False):
        rows, columns = (
            interpolation_matrix(pixels, units, stride, logits.device)
            for pixels, units in zip(size, logits.shape[2:], strict=True)
        )
        return rows @ (logits.float() @ columns.T)


def interpolation_matrix(pixels: int, units: int, stride: int, device: torch.device) -> torch.Tensor:
    """Weights (pixels, units) of linear interpolation between units `stride` pixels apart; constant beyond the last."""
    position = (torch.arange(pixels, device=device) / stride).clamp(max=units - 1)
    return (1 - (position[:, None] - torch.arange(units, device=device)).abs()).clamp(min=0)
