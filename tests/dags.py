"""Random networks for property tests: directed graphs of the layers of which networks are made, not square."""

import copy

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812

LAYERS = ["conv", "conv", "max", "average", "pointwise", "norm", "pad", "slice", "join", "last", "tokens", "shuffle"]


class Dag(nn.Module):
    """Nodes are (layer, numbers of the earlier nodes that it takes); the image is node 0, the last node the output."""

    def __init__(self, nodes: list[tuple[nn.Module, tuple[int, ...]]]):
        super().__init__()
        self.layers = nn.ModuleList(layer for layer, _ in nodes)
        self.sources = [sources for _, sources in nodes]

    def forward(self, x):
        results = [x]
        for layer, sources in zip(self.layers, self.sources, strict=True):
            results.append(layer(*(results[source] for source in sources)))
        return results[-1]


class Add(nn.Module):
    def forward(self, x, y):
        return x + y


class InPlace(nn.Module):
    """What many residual networks do."""

    def forward(self, x, y):
        x = x.clone()
        x += y
        return F.relu_(x)


class Concat(nn.Module):
    def forward(self, x, y):
        return torch.cat([x, y], 1)


class Shuffle(nn.Module):
    """Channels in another order, as ShuffleNet has it."""

    def forward(self, x):
        n, c, h, w = x.shape
        groups = 2 if c % 2 == 0 else 1
        return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class ChannelsLast(nn.Module):
    """Layer norm and a linear layer on channels that come last, as in ConvNeXt."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, channels))

    def forward(self, x):
        return self.layers(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Tokens(nn.Module):
    """A linear layer on pixels that have been put in a row."""

    def __init__(self, channels: int):
        super().__init__()
        self.linear = nn.Linear(channels, channels)

    def forward(self, x):
        n, c, h, w = x.shape
        return self.linear(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(n, c, h, w)


class Jitter(nn.Module):
    """Makes equal pixels differ, between which a max pooling would choose by how they were rounded."""

    def forward(self, x):
        rows, columns = (torch.arange(side, dtype=x.dtype) for side in x.shape[2:])
        return x + 1e-3 * torch.sin(1.7 * rows[:, None] + 2.9 * columns)


class PositiveMax(nn.MaxPool2d):
    """Of a positive copy: the sum over what a max pooling looks at."""

    def forward(self, x):
        ones = torch.ones(x.shape[1], 1, *self.kernel_size, dtype=x.dtype)
        return F.conv2d(x, ones, None, self.stride, self.padding, self.dilation, x.shape[1])


def pairs(low: int, high: int):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def convolutions(draw, channels: int):
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if channels % g == 0]))
    kernel = draw(pairs(1, 4))
    return nn.Conv2d(
        channels,
        groups * draw(st.integers(1, 2)),
        kernel,
        draw(pairs(1, 2)),
        draw(pairs(0, 2)),
        draw(pairs(1, 2)),
        groups,
    )


@st.composite
def pools(draw, average: bool):
    kernel = draw(pairs(1, 3))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    stride = draw(st.one_of(st.none(), pairs(1, 2)))
    if average:
        return nn.AvgPool2d(kernel, stride, padding, draw(st.booleans()), draw(st.booleans()))
    return nn.Sequential(Jitter(), nn.MaxPool2d(kernel, stride or kernel, padding, draw(pairs(1, 2))))


@st.composite
def upsamplings(draw, channels: int):
    kind = draw(st.sampled_from(["nearest", "bilinear", "bicubic", "transposed", "shuffle", "to a size"]))
    if kind == "transposed":
        stride = draw(pairs(1, 3))
        kernel = tuple(s + draw(st.integers(0, 2)) for s in stride)
        padding = tuple(draw(st.integers(0, (k - 1) // 2)) for k in kernel)
        return nn.ConvTranspose2d(channels, 2, kernel, stride, padding)
    if kind == "shuffle":
        return nn.Sequential(nn.Conv2d(channels, 4, 1), nn.PixelShuffle(2))
    if kind == "to a size":
        return nn.Upsample(size=(37, 41), mode="bilinear", align_corners=draw(st.booleans()))
    return nn.Upsample(scale_factor=draw(st.sampled_from([2, 3])), mode=kind)


@st.composite
def dags(draw, nodes: int = 7, shape: tuple[int, int, int] = (2, 46, 52)):
    """A network, and for `shape` its output's plane. Everything is random, also what batch norm has of its past."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    shapes, built = [shape], []
    for _ in range(draw(st.integers(1, nodes))):
        source = draw(st.integers(max(0, len(shapes) - 3), len(shapes) - 1))
        channels, height, width = shapes[source]
        kinds = [*LAYERS, "up"] if max(height, width) <= 40 else LAYERS
        kind, sources = draw(st.sampled_from(kinds)), (source,)
        if kind == "conv":
            layer = draw(convolutions(channels))
        elif kind in ("max", "average"):
            layer = draw(pools(kind == "average"))
        elif kind == "pointwise":
            layer = draw(st.sampled_from([nn.ReLU(inplace=False), nn.GELU(), nn.Hardswish(), nn.PReLU(), nn.Tanh()]))
        elif kind == "norm":
            layer = nn.BatchNorm2d(channels)
            layer.running_mean.normal_(), layer.running_var.uniform_(0.5, 2)
        elif kind == "pad":
            sides = [draw(st.integers(0, 2)) for _ in range(4)]
            layer = draw(
                st.sampled_from([nn.ConstantPad2d(sides, 0.5), nn.ReflectionPad2d(sides), nn.ReplicationPad2d(sides)])
            )
        elif kind == "slice":
            layer = Slice(draw(st.integers(0, 2)), draw(st.integers(-2, -1)), draw(st.integers(1, 2)))
        elif kind == "join":
            partners = [i for i, other in enumerate(shapes) if other[1:] == shapes[source][1:]]
            sources = (source, draw(st.sampled_from(partners)))
            alike = [c for c in (Add(), InPlace()) if shapes[sources[1]] == shapes[source]]
            layer = draw(st.sampled_from([Concat(), *alike]))
        elif kind == "up":
            layer = draw(upsamplings(channels))
        else:
            layer = {"last": ChannelsLast, "tokens": Tokens}[kind](channels) if kind != "shuffle" else Shuffle()
        with torch.no_grad():
            try:
                result = layer.eval()(*(torch.zeros(1, *shapes[i]) for i in sources))
            except RuntimeError:  # the plane has become too small for it
                continue
        if 0 in result.shape:
            continue
        built.append((layer, sources))
        shapes.append(tuple(result.shape[1:]))
    if not built:
        built.append((nn.Conv2d(shape[0], 1, 3), (0,)))
        shapes.append((1, shape[1] - 2, shape[2] - 2))
    return Dag(built).double(), shapes[-1][1:]


class Slice(nn.Module):
    def __init__(self, first: int, last: int, step: int):
        super().__init__()
        self.rows, self.columns = slice(first, last), slice(first, None, step)

    def forward(self, x):
        return x[:, :, self.rows, self.columns]


def positive_copy(dag: Dag) -> Dag:
    """The same graph with positive weights and without what hides a pixel, so that whatever is seen has a gradient."""

    def replaced(layer: nn.Module) -> nn.Module:
        if isinstance(layer, nn.Sequential) and isinstance(layer[0], Jitter):
            layer = layer[1]
            return PositiveMax(layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        if isinstance(layer, (nn.GELU, nn.Hardswish, nn.Tanh, nn.PReLU, nn.BatchNorm2d)):
            return nn.ReLU()
        if isinstance(layer, ChannelsLast):
            return nn.Identity()
        if isinstance(layer, InPlace):
            return Add()
        layer = copy.deepcopy(layer)
        for parameter in layer.parameters():
            parameter.data.abs_().add_(0.1)
        return layer

    return Dag([(replaced(layer), sources) for layer, sources in zip(dag.layers, dag.sources, strict=True)]).double()
