"""Sound, volumes and video: networks of one and three axes, against the whole input, closed forms and known models."""

import itertools
import math
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812

import erf
from dags import Add, Concat, Dag, InPlace
from erf import naive, theory
from erf.errors import InputError
from erf.measuring import probe
from erf.models.torchvision_import import import_torchvision

SHAPES = {1: (2, 90), 3: (2, 15, 13, 14)}
pytestmark = pytest.mark.filterwarnings("error:measured on the whole image")
KINDS = ["conv", "conv", "max", "average", "pointwise", "norm", "pad", "slice", "join", "last", "up"]


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """The cone is computed apart, whatever the gain."""
    monkeypatch.setattr(probe, "WORTHWHILE", np.inf)
    torch.manual_seed(0)


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def layer(name: str, axes: int, *arguments, **named) -> nn.Module:
    """Such as nn.Conv1d for "Conv"."""
    return getattr(nn, f"{name}{axes}d")(*arguments, **named)


class Jitter(nn.Module):
    """Makes equal pixels differ, between which a max pooling would choose by how they were rounded."""

    def forward(self, x):
        return x + 1e-3 * torch.sin(1.7 * torch.arange(x[0, 0].numel(), dtype=x.dtype).view(x.shape[2:]))


class Summed(nn.Module):
    """Of a positive copy: the sum over what a max pooling looks at."""

    def __init__(self, pool: nn.Module, axes: int):
        super().__init__()
        self.pool, self.function = pool, {1: F.conv1d, 3: F.conv3d}[axes]

    def forward(self, x):
        pool = self.pool
        ones = torch.ones(x.shape[1], 1, *pool.kernel_size, dtype=x.dtype)
        return self.function(x, ones, None, pool.stride, pool.padding, pool.dilation, x.shape[1])


class ChannelsLast(nn.Module):
    """Layers on channels that come last."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, 3), nn.LayerNorm(3), nn.GELU(), nn.Linear(3, channels))

    def forward(self, x):
        return self.layers(x.movedim(1, -1)).movedim(-1, 1)


class Slice(nn.Module):
    """Of the first axis, and with a stride of the last."""

    def __init__(self, first: int, last: int, step: int):
        super().__init__()
        self.first, self.last, self.step = first, last, step

    def forward(self, x):
        return x[:, :, self.first : self.last][..., :: self.step]


@st.composite
def layers(draw, kind: str, axes: int, channels: int):
    each = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(axes))  # noqa: E731
    if kind == "conv":
        groups = draw(st.sampled_from([g for g in (1, 2) if channels % g == 0]))
        return layer("Conv", axes, channels, groups, each(1, 3), each(1, 2), each(0, 2), each(1, 2), groups)
    if kind in ("max", "average"):
        kernel = each(1, 3)
        padding, ceil = tuple(draw(st.integers(0, side // 2)) for side in kernel), draw(st.booleans())
        stride = draw(st.sampled_from([kernel, each(1, 2)]))
        if kind == "average":
            return layer("AvgPool", axes, kernel, stride, padding, ceil, draw(st.booleans()))
        return nn.Sequential(Jitter(), layer("MaxPool", axes, kernel, stride, padding, each(1, 2), ceil_mode=ceil))
    if kind == "pointwise":
        return draw(st.sampled_from([nn.ReLU(), nn.GELU(), nn.Tanh(), nn.PReLU()]))
    if kind == "norm":
        norm = layer("BatchNorm", axes, channels)
        norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
        return norm
    if kind == "pad":
        sides = [draw(st.integers(0, 2)) for _ in range(2 * axes)]
        name = draw(st.sampled_from(["ConstantPad", "ReflectionPad", "ReplicationPad"]))
        return layer(name, axes, sides, *([0.5] if name == "ConstantPad" else []))
    if kind == "slice":
        return Slice(draw(st.integers(0, 2)), draw(st.integers(-2, -1)), draw(st.integers(1, 2)))
    if kind == "last":
        return ChannelsLast(channels)
    name = draw(st.sampled_from(["nearest", "nearest-exact", "linear", "transposed", "to a size", "adaptive"]))
    linear = {1: "linear", 3: "trilinear"}[axes]
    if name == "transposed":
        stride = each(1, 3)
        kernel = tuple(step + draw(st.integers(0, 2)) for step in stride)
        padding = tuple(draw(st.integers(0, (side - 1) // 2)) for side in kernel)
        return layer("ConvTranspose", axes, channels, 2, kernel, stride, padding)
    if name == "to a size":
        return nn.Upsample(size=each(7, 12), mode=linear, align_corners=draw(st.booleans()))
    if name == "adaptive":
        return layer("AdaptiveAvgPool", axes, each(3, 8))
    return nn.Upsample(scale_factor=draw(st.sampled_from([2, 3, 1.5])), mode=linear if name == "linear" else name)


@st.composite
def networks(draw, axes: int, kinds=tuple(KINDS), shape: tuple[int, ...] | None = None):
    """A network, and the number of its units along each axis."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    shapes, built = [shape or SHAPES[axes]], []
    for _ in range(draw(st.integers(1, 5))):
        source = draw(st.integers(max(0, len(shapes) - 3), len(shapes) - 1))
        kind, sources = draw(st.sampled_from(kinds)), (source,)
        if kind == "up" and math.prod(shapes[source][1:]) > 1500:
            continue
        if kind == "join":
            partners = [number for number, other in enumerate(shapes) if other[1:] == shapes[source][1:]]
            sources = (source, draw(st.sampled_from(partners)))
            alike = [one for one in (Add(), InPlace()) if shapes[sources[1]] == shapes[source]]
            one = draw(st.sampled_from([Concat(), *alike]))
        else:
            one = draw(layers(kind, axes, shapes[source][0]))
        with torch.no_grad():
            try:
                result = one.eval()(*(torch.zeros(1, *shapes[number]) for number in sources))
            except RuntimeError:  # the plane has become too small for it
                continue
        if 0 in result.shape:
            continue
        built.append((one, sources))
        shapes.append(tuple(result.shape[1:]))
    assume(built)
    return Dag(built).double(), shapes[-1][1:]


def window_of(field) -> tuple[slice, ...]:
    return tuple(slice(first, last + 1) for first, last in field.settings["window"])


def equal_to_whole(model, images, unit="center", **options):
    """The field of the cone, after it was found equal to that of the whole input, and to the definition."""
    whole = erf.measure(model, images, unit=unit, mode="signed", crop=False, **options)
    part = erf.measure(model, images, unit=unit, mode="signed", **options)
    np.testing.assert_allclose(part.map, whole.map, rtol=1e-9, atol=1e-12 * np.abs(whole.map).max())
    assert part.theoretical_rf == whole.theoretical_rf
    np.testing.assert_allclose(part.position, whole.position, rtol=1e-9)
    outside = whole.map.copy()
    outside[window_of(part)] = 0
    assert not outside.any()
    index = None if unit == "center" else unit
    each = naive.gradient(model.eval(), images, unit=index, layer=options.get("layer")).mean(1)
    expected = each[each.flatten(1).any(1)].mean(0).numpy()
    if "channels" not in options:
        np.testing.assert_allclose(part.map, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())
    return part


def cropped(field) -> bool:
    return field.settings["window"] != [[0, side - 1] for side in field.map.shape]


@pytest.mark.parametrize("axes", [1, 3])
@settings(max_examples=120)
@given(data=st.data())
def test_the_cone_of_any_unit_of_random_networks_gives_the_gradient_of_the_whole_input(axes, data):
    model, units = data.draw(networks(axes))
    unit = tuple(data.draw(st.integers(0, count - 1)) for count in units)
    try:
        field = equal_to_whole(model, noise(2, *SHAPES[axes]), unit)
    except InputError as error:  # it may see nothing but padding
        assert "dead" in str(error) or "does not depend" in str(error)
        return
    assert field.settings["sees_all"] is None and np.isfinite(field.theoretical_rf).all()
    assert field.settings["unit"] == list(unit) and field.map.shape == SHAPES[axes][1:]


def positive_copy(dag: Dag, axes: int) -> Dag:
    """The same graph with positive weights and without what hides a pixel."""

    def replaced(one: nn.Module) -> nn.Module:
        if isinstance(one, nn.Sequential):
            return Summed(one[1], axes)
        if isinstance(one, nn.GELU | nn.Tanh | nn.PReLU | ChannelsLast) or "BatchNorm" in type(one).__name__:
            return nn.Identity()
        for parameter in one.parameters():
            parameter.data.abs_().add_(0.1)
        return Add() if isinstance(one, InPlace) else one

    return Dag([(replaced(one), sources) for one, sources in zip(dag.layers, dag.sources, strict=True)]).double()


LONG = {1: (2, 110), 3: (2, 30, 28, 29)}


@pytest.mark.parametrize("axes", [1, 3])
@settings(max_examples=100)
@given(data=st.data())
def test_the_theoretical_field_is_the_support_of_the_gradient_of_a_positive_copy(axes, data):
    kinds = [kind for kind in KINDS if kind != "max"] if axes == 3 else KINDS  # to sum over its kernel takes long
    model, units = data.draw(networks(axes, tuple(kinds), LONG[axes]))
    with torch.no_grad():
        found = erf.theoretical_rf(model, input_shape=LONG[axes])
    unit = tuple(count // 2 for count in units)
    image = noise(1, *LONG[axes])
    try:
        field = erf.measure(model, image, channels=0)
    except InputError:  # dead, or padding alone
        return
    try:
        support = naive.impact_map(positive_copy(model, axes), torch.ones_like(image), unit=unit)
    except RuntimeError:  # torch's convolution has no ceil_mode
        return
    for axis, length in enumerate(LONG[axes][1:]):
        middle, size = field.position[axis], field.theoretical_rf[axis]
        first, last = middle - (size - 1) / 2, middle + (size - 1) / 2
        assume(field.reference == "centre" and first >= 0 and last < length)  # or the image cuts it off
        others = tuple(other for other in range(axes) if other != axis)
        reached = np.flatnonzero(support.sum(others) > 1e-12 * support.max())
        assert (reached[0], reached[-1]) == (first, last), axis
        assert size <= found.size[axis]


# Known networks.


class Causal(nn.Module):
    """A temporal convolutional network (Bai, Kolter and Koltun 2018): padded on the left, dilated, residual."""

    def __init__(self, padded, kernel=3, levels=4, channels=4):
        super().__init__()
        widths = [2] + [channels] * levels
        self.padded, self.reach = padded, [2**level * (kernel - 1) for level in range(levels)]
        self.convs = nn.ModuleList(
            nn.Conv1d(a, b, kernel, dilation=2**level, padding=0 if padded == "before" else 2**level * (kernel - 1))
            for level, (a, b) in enumerate(itertools.pairwise(widths))
        )
        self.shortcuts = nn.ModuleList(nn.Conv1d(a, b, 1) for a, b in itertools.pairwise(widths))

    def forward(self, x):
        for conv, shortcut, reach in zip(self.convs, self.shortcuts, self.reach, strict=True):
            new = conv(F.pad(x, (reach, 0))) if self.padded == "before" else conv(x)[:, :, :-reach].contiguous()
            x = F.relu(new + shortcut(x))
        return x


@pytest.mark.parametrize("padded", ["before", "both sides, and chomped"])
def test_a_causal_network_sees_the_past_alone(padded):
    model, length = Causal(padded).double(), 200
    reach = sum(model.reach)
    found = erf.theoretical_rf(model, input_shape=(2, length))
    assert (found.size, found.stride, found.offset, found.sees_all) == ((1 + reach,), (1,), (-reach / 2,), None)
    field = equal_to_whole(model, noise(3, 2, length), length - 1)
    assert field.settings["window"] == [[length - 1 - reach, length - 1]] and field.settings["unit"] == [length - 1]
    assert field.position == (length - 1 - reach / 2,) and field.theoretical_rf == (1 + reach,)
    assert field.map[-1] and not field.map[: -1 - reach].any()
    assert equal_to_whole(model, noise(9, 2, length), (3,)).settings["window"] == [[0, 3]]


WAV2VEC = [(10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)]  # kernels and strides, Baevski et al. 2020


class Front(nn.Module):
    """A layer of wav2vec 2.0's feature encoder, in the form that normalises channels."""

    def __init__(self, inputs, kernel, stride, channels=8):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(inputs, channels, kernel, stride, bias=False), nn.LayerNorm(channels)

    def forward(self, x):
        return F.gelu(self.norm(self.conv(x).transpose(1, 2)).transpose(1, 2))


def speech_front_end():
    return nn.Sequential(*(Front(8 if number else 1, *one) for number, one in enumerate(WAV2VEC)))


def test_a_speech_front_end_sees_25_ms_every_20_ms():
    model = speech_front_end().double()
    found = erf.theoretical_rf(model, input_shape=(1, 16000))
    assert (found.size, found.stride, found.offset) == ((400,), (320,), (199.5,))
    options = {"spacing": 1 / 16000, "lengths_in": "s", "channels": 0}
    sound = noise(2, 1, 16000)
    field = erf.measure(model, sound, unit=24, **options)
    whole = erf.measure(model, sound, unit=24, crop=False, **options)
    np.testing.assert_allclose(field.map, whole.map, rtol=1e-9, atol=1e-12 * whole.map.max())
    assert field.settings["window"] == [[24 * 320, 24 * 320 + 399]] and field.position == (24 * 320 + 199.5,)
    pixels = erf.measure(model, sound, unit=24, channels=0)
    assert field.size == pytest.approx(pixels.size / 16000) and 0 < field.size < 0.025
    summary = field.summary()
    assert summary["lengths_in"] == "s" and summary["rf_time"] == pytest.approx(0.025)
    assert [one.settings["unit"] for one in erf.measure(model, sound, unit=[3, 5], channels=0)] == [[3], [5]]


def test_a_video_network_of_torchvision():
    model = import_torchvision().models.video.r3d_18(weights=None).double().eval()
    shape = (3, 8, 56, 48)
    found = erf.theoretical_rf(model, "layer2", input_shape=shape)
    # A stem, four convolutions at its stride, of which the columns alone have one, and four of layer2.
    sides = 3 + 2 * 4 + 2 + 2 * 2 * 3, 7 + 2 * 2 * 4 + 2 * 2 + 4 * 2 * 3
    assert found.size == (sides[0], sides[1], sides[1]) and found.stride == (2, 4, 4) and found.sees_all is None
    with torch.device("meta"):
        without_data = import_torchvision().models.video.r3d_18(weights=None)
    assert erf.theoretical_rf(without_data, "layer4", input_shape=(3, 16, 112, 112)).size == (109, 219, 219)
    field = equal_to_whole(model, noise(1, *shape), layer="layer1")
    assert field.theoretical_rf == (11, 23, 23) and cropped(field) and field.map.shape == (8, 56, 48)
    with pytest.raises(InputError, match="not units in a plane: choose a layer, such as 'layer4"):
        erf.theoretical_rf(model, input_shape=shape)


class UNet(nn.Module):
    """Two levels and a bottom, for volumes (Çiçek et al. 2016) or sound."""

    def __init__(self, axes, up="transposed"):
        super().__init__()
        double = lambda a, b: nn.Sequential(  # noqa: E731
            *(layer("Conv", axes, a, b, 3, padding=1), layer("BatchNorm", axes, b), nn.ReLU()),
            *(layer("Conv", axes, b, b, 3, padding=1), nn.ReLU()),
        )
        widths, mode = [4, 6, 8], {1: "linear", 3: "trilinear"}[axes]
        self.down = nn.ModuleList(itertools.starmap(double, itertools.pairwise([1, *widths])))
        self.pool, self.up, self.join = layer("MaxPool", axes, 2), nn.ModuleList(), nn.ModuleList()
        for below, above in itertools.pairwise(widths):
            transposed = layer("ConvTranspose", axes, above, below, 2, 2)
            scaled = nn.Sequential(nn.Upsample(scale_factor=2, mode=mode), layer("Conv", axes, above, below, 1))
            self.up.append(transposed if up == "transposed" else scaled)
            self.join.append(double(2 * below, below))
        self.head = layer("Conv", axes, 4, 2, 1)

    def forward(self, x):
        skips = []
        for number, down in enumerate(self.down):
            x = down(self.pool(x) if number else x)
            skips.append(x)
        for up, join, skip in zip(self.up[::-1], self.join[::-1], skips[-2::-1], strict=True):
            x = join(torch.cat([skip, up(x)], 1))
        return self.head(x)


@pytest.mark.parametrize("up", ["transposed", "linear"])
@pytest.mark.parametrize("axes, sides", [(1, (120,)), (3, (44, 36, 44))])
def test_a_unet(axes, sides, up):
    model = UNet(axes, up).double().eval()
    for unit in ("center", (2,) * axes):
        field = equal_to_whole(model, noise(1, 1, *sides), unit)
        assert field.settings["sees_all"] is None
    assert cropped(field) and field.theoretical_rf == ({"transposed": 44, "linear": 48}[up],) * axes


@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize("kernel, depth", [(2, 5), (3, 1), (3, 6), (5, 3)])
def test_uniform_stacks_equal_the_extended_binomials(axes, kernel, depth):
    side = 1 + depth * (kernel - 1)
    convs = [layer("Conv", axes, 1, 1, kernel, bias=False, dtype=torch.float64) for _ in range(depth)]
    for conv in convs:
        nn.init.constant_(conv.weight, kernel**-axes)
    field = erf.measure(nn.Sequential(*convs), noise(1, 1, *(side,) * axes))
    row = np.array(theory.extended_binomial(kernel, depth)) / kernel**depth
    np.testing.assert_allclose(field.map, reduce(np.multiply.outer, [row] * axes), rtol=1e-12)
    assert field.position == ((side - 1) / 2,) * axes and field.theoretical_rf == (side,) * axes
    assert field.settings["unit"] == [0] * axes


# Layouts.


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_a_long_sound_needs_no_matrix_of_its_length(mode):
    """A whole matrix would take 20 GB."""
    model = nn.Sequential(nn.AvgPool1d(4), nn.Conv1d(1, 2, 3), nn.AdaptiveAvgPool1d(12345), nn.ReflectionPad1d(2))
    model = nn.Sequential(*model, nn.Upsample(scale_factor=4, mode=mode), nn.Conv1d(2, 1, 9)).double()
    assert cropped(equal_to_whole(model, noise(1, 1, 100_000)))


def spectrogram(x):
    """Sixteen bands, by strided convolutions, as an image of bands and time."""
    return F.conv1d(x, BANK, stride=4)[:, None]


BANK = torch.randn(16, 1, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class OnBands(nn.Module):
    """Convolutions and poolings over bands and time, of which time alone is an axis of the sound."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
            *(nn.Conv2d(3, 2, (4, 3), 2, padding=(1, 0)), nn.AvgPool2d((2, 3), 1, padding=(1, 0))),
            *(nn.ReflectionPad2d((0, 1, 1, 1)), nn.Upsample(scale_factor=2), nn.ConvTranspose2d(2, 2, 3, 2, 1)),
        ).double()

    def forward(self, x):
        return self.layers(spectrogram(x))


def test_bands_of_a_sound_are_no_axis_of_it():
    model, sound = OnBands(), noise(2, 1, 400)
    count = model(sound).shape[-1]
    for unit in (count // 2, 1, count - 1):
        whole = erf.measure(model, sound, unit=unit, crop=False)
        part = erf.measure(model, sound, unit=unit)
        np.testing.assert_allclose(part.map, whole.map, rtol=1e-9, atol=1e-12 * whole.map.max())
        assert part.settings["sees_all"] is None and cropped(part)


class Framewise(nn.Module):
    """Convolutions on each frame of a video as on an image, with samples and frames in one dimension."""

    def __init__(self):
        super().__init__()
        self.frame = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2)).double()
        self.time = nn.Conv3d(3, 2, (3, 1, 1), padding=(1, 0, 0)).double()

    def forward(self, x):
        n, c, d, h, w = x.shape
        frames = self.frame(x.transpose(1, 2).reshape(n * d, c, h, w))
        return self.time(frames.unflatten(0, (n, d)).transpose(1, 2))


def test_frames_as_images():
    field = equal_to_whole(Framewise(), noise(2, 2, 7, 12, 14), (3, 2, 4))
    assert field.theoretical_rf == (3, 4, 4) and cropped(field)


def attention(x):
    tokens = x.flatten(2).transpose(1, 2)
    return F.scaled_dot_product_attention(tokens, tokens, tokens)


class Attentive(nn.Module):
    """Attention over all of the input, whose output has its channels last."""

    def __init__(self, axes, shortcut):
        super().__init__()
        self.patches, self.shortcut = layer("Conv", axes, 1, 4, 2, 2, dtype=torch.float64), shortcut

    def forward(self, x):
        x = self.patches(x)
        return attention(x) + x.flatten(2).transpose(1, 2) if self.shortcut else attention(x)


def test_sound_behind_attention_needs_to_be_told_where_its_channels_are():
    sound = noise(1, 1, 20)
    known = erf.measure(Attentive(1, True), sound)
    assert known.theoretical_rf == (math.inf,) and known.settings["unit"] == [5] and known.position == (10.5,)
    with pytest.raises(InputError, match=r"gives \(1, 10, 4\) for a sound, and may .* give layout='channels_first'"):
        erf.measure(Attentive(1, False), sound)
    for layout in ("channels_last", (10,)):
        field = erf.measure(Attentive(1, False), sound, layout=layout)
        assert field.settings["unit"] == [5] and field.position == (10.5,)
    assert erf.measure(Attentive(1, False), sound, layout="channels_first").settings["unit"] == [2]
    assert erf.measure(Attentive(1, False), sound, layout=(8,)).settings["unit"] == [4]  # behind two others
    with pytest.raises(InputError, match="the layer gives 10 tokens, fewer than 11"):
        erf.measure(Attentive(1, False), sound, layout=(11,))


def test_tokens_of_a_video():
    video = noise(1, 1, 4, 6, 8)
    field = erf.measure(Attentive(3, True), video)
    assert field.settings["unit"] == [1, 1, 2] and field.position == (2.5, 2.5, 4.5)
    with pytest.raises(InputError, match=r"how 24 tokens lie in an image of 4 x 6 x 8 is not clear: .*\(depth, rows"):
        erf.measure(Attentive(3, False), video)
    other = erf.measure(Attentive(3, False), video, unit=(0, 1, 2), layout=(2, 3, 4))
    assert other.settings["unit"] == [0, 1, 2] and other.position == (0.5, 2.5, 4.5)


def test_a_sound_without_channels_may_come_out():
    model = nn.Sequential(nn.Conv1d(1, 1, 5, padding=2), nn.Flatten())
    assert erf.theoretical_rf(model, input_shape=(1, 30)).size == (5,)
    field = erf.measure(model, torch.randn(2, 1, 30), unit=7)
    assert field.position == (7,) and np.flatnonzero(field.map).tolist() == [5, 6, 7, 8, 9]
    with pytest.raises(InputError, match=r"gives \(1, 60\), not units in a plane: choose a layer, such as '0'"):
        erf.measure(nn.Sequential(nn.Conv1d(1, 2, 3, padding=1), nn.Flatten()), torch.randn(1, 1, 30))


@pytest.mark.parametrize(
    "axes, unit, message",
    [
        (1, 30, "unit 30 is outside of the layer's plane of 20 units"),
        (1, (1, 2), r"unknown unit \(1, 2\): 'center', an index, or a list of these"),
        (1, 1.5, r"unknown unit 1\.5: 'center', an index, or"),
        (3, (1, 2), r"unknown unit \(1, 2\): 'center', \(depth, row, column\), or a list of these"),
        (3, 3, "unknown unit 3: 'center'"),
        (3, (0, 6, 0), r"unit \(0, 6, 0\) is outside of the layer's plane of 5 x 6 x 7 units"),
    ],
)
def test_units_that_do_not_exist_are_named(axes, unit, message):
    images = noise(1, 1, *{1: (20,), 3: (5, 6, 7)}[axes])
    with pytest.raises(InputError, match=message):
        erf.measure(layer("Conv", axes, 1, 1, 3, padding=1, dtype=torch.float64), images, unit=unit)


def test_what_sees_a_whole_sound_is_named():
    model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.GroupNorm(2, 4), nn.Conv1d(4, 4, 3, 2)).double()
    for layer in ("1", None):
        field = equal_to_whole(model, noise(2, 1, 30), (9,), layer=layer, channels=0)
        assert field.theoretical_rf == (math.inf,) and "native_group_norm" in field.settings["sees_all"]
        assert field.position == ({"1": 10, None: 20}[layer],)  # as without the norm
    with pytest.raises(InputError, match="One image is"):
        erf.measure(nn.Conv2d(3, 4, 3), torch.randn(3, 16, 16))
    with pytest.raises(InputError, match="spacing must be one number or one for each of 1 axes"):
        erf.measure(nn.Conv1d(1, 1, 3), torch.randn(1, 1, 16), spacing=(1, 2), lengths_in="s")


# Tiles.


@pytest.mark.parametrize("axes, shape", [(1, (1, 200)), (3, (1, 72, 72, 76))])
def test_overlap_of_tiles(axes, shape):
    torch.manual_seed(1)
    model = nn.Sequential(
        layer("Conv", axes, 1, 3, 3, padding=1),
        layer("Conv", axes, 3, 3, 4, 2, 1),
        nn.Tanh(),
        layer("ConvTranspose", axes, 3, 2, 2, 2),
    ).double()
    found = erf.overlap(model, input_shape=shape)
    assert found.grid == (2,) * axes and found.exact_halo == (2,) * axes and found.exact_error < 1e-12
    assert found.reason is None and found.share_halo <= found.exact_halo and found.kept >= 0.99


def test_tiles_of_a_causal_network_need_the_past_alone():
    model = Causal("before").double()
    found = erf.overlap(model, input_shape=(2, 200))
    assert found.reach == ((30, 0),) and found.exact_halo == (30,) and found.exact_error < 1e-12
    front = erf.overlap(speech_front_end().double(), input_shape=(1, 4000), channels=0)
    assert front.grid == (320,) and front.reach == ((0, 80),) and front.exact_error < 1e-12
