"""Receptive fields and unit positions against independent ways to find them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import erf
from erf.errors import InputError
from erf.networks import ResNetCifar
from erf.structure import evaluating, layer_output, receptive_windows
from erf.vision import import_torchvision


def windows_of(model, shape):
    source = torch.zeros(1, *shape, requires_grad=True)
    output = model(source)
    return output, receptive_windows(output, source)


def pixels_seen(model, shape, unit, axis) -> list[int]:
    """Rows (axis 2) or columns (axis 3) that `unit` sees, by sending a NaN from each of them through the network."""
    count = shape[axis - 1]
    images = torch.zeros(count, *shape)
    images.movedim(axis, 1)[torch.arange(count), torch.arange(count)] = math.nan  # image i: row (column) i
    with torch.no_grad():
        return model(images)[:, 0, unit[0], unit[1]].isnan().nonzero().flatten().tolist()


@st.composite
def layers(draw):
    """A convolution or pooling, not square, with stride, padding and dilation."""
    kind = draw(st.sampled_from(["conv", "max", "average"]))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    if kind == "average":
        return nn.AvgPool2d(kernel, stride, padding)
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    if kind == "max":
        return nn.MaxPool2d(kernel, stride, padding, dilation)
    return nn.Conv2d(1, 1, kernel, stride, padding, dilation)


@settings(max_examples=60)
@given(stack=st.lists(layers(), min_size=1, max_size=3))
def test_windows_of_random_stacks_are_what_a_nan_reaches(stack):
    shape = (1, 60, 64)
    model = nn.Sequential(*stack, nn.ReLU())
    output, windows = windows_of(model, shape)
    unit = (output.shape[2] // 2, output.shape[3] // 2)
    for axis, window, index in zip((2, 3), windows, unit, strict=True):
        first, last = window.stride * index + window.first, window.stride * index + window.last
        seen = pixels_seen(model, shape, unit, axis)
        assert seen[0] == max(first, 0)
        assert seen[-1] == min(last, shape[axis - 1] - 1)
        assert window.centre(index) == (first + last) / 2


def test_the_papers_networks():
    generator = torch.Generator().manual_seed(0)
    cifar = ResNetCifar(blocks=17, width=2, residual_scale=1.0, centre_light=0, generator=generator)
    assert erf.theoretical_rf(cifar, (3, 32, 32), "top") == (73, 73)
    assert erf.theoretical_rf(cifar, (3, 32, 32), "stem") == (3, 3)


def test_resnet18_looks_at_pixel_96_not_112():
    """The middle unit of the 7 x 7 map at 224 pixels is not in the middle of the image."""
    model = import_torchvision().models.resnet18(weights=None).eval()
    source = torch.zeros(1, 3, 224, 224, requires_grad=True)
    output = layer_output(model, source, "layer4")
    rows, columns = receptive_windows(output, source)
    assert output.shape[2:] == (7, 7)
    assert rows == columns
    assert rows.centre(3) == 96
    assert rows.length == 435  # the field's well-known value for ResNet-18


def test_a_global_layer_sees_everything():
    class Squeeze(nn.Module):
        def forward(self, x):
            return x * x.mean((2, 3), keepdim=True).sigmoid()

    model = nn.Sequential(nn.Conv2d(1, 1, 3), Squeeze())
    assert erf.theoretical_rf(model, (1, 9, 9)) == (math.inf, math.inf)


@pytest.mark.parametrize("gate", [nn.AvgPool2d(7, 1), nn.Conv2d(1, 1, 7)])
def test_a_broadcast_gate_sees_everything(gate):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = gate

        def forward(self, x):
            return x * self.gate(x).sigmoid()

    assert erf.theoretical_rf(Gated(), (1, 7, 7)) == (math.inf, math.inf)


def test_branches_of_different_reach_unite():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.tall = nn.Conv2d(1, 2, (1, 7), padding=(0, 3)), nn.Conv2d(1, 2, (5, 1), padding=(2, 0))

        def forward(self, x):
            return torch.cat([self.wide(x), self.tall(x)], 1)

    assert erf.theoretical_rf(Branches(), (1, 20, 20)) == (5, 7)


@pytest.mark.parametrize(
    "crop",
    [
        lambda x: x[:, :, 2:-1, 3:],
        lambda x: x[:, :, 1:-2:2, ::3],
        lambda x: x[..., -7:-2],
        lambda x: x[:, :, -100:, -100:],
        lambda x: x[:, 1:, 4:, -5:],
    ],
)
def test_slices_shift_and_stretch_windows(crop):
    class Cropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3)

        def forward(self, x):
            return crop(self.conv(x))

    model, shape = Cropped(), (2, 14, 17)
    _, windows = windows_of(model, shape)
    unit = (1, 2)
    for axis, window, index in zip((2, 3), windows, unit, strict=True):
        seen = pixels_seen(model, shape, unit, axis)
        assert (seen[0], seen[-1]) == (window.stride * index + window.first, window.stride * index + window.last)


def test_modes_are_restored_one_by_one_even_after_an_error():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout())
    model.train()
    model[0].eval()
    with pytest.raises(RuntimeError), evaluating(model):
        assert not model[1].training
        raise RuntimeError
    assert (model.training, model[0].training, model[1].training) == (True, False, True)


def test_unusable_layers_are_named():
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten())
    with pytest.raises(InputError, match="unknown layer '00': did you mean 0"):
        erf.theoretical_rf(model, (1, 5, 5), "00")
    with pytest.raises(InputError, match=r"the model gives \(1, 9\), not units in a plane"):
        erf.theoretical_rf(model, (1, 5, 5))
    model.unused = nn.Conv2d(1, 1, 3)
    model.forward = lambda x: model[0](x)
    with pytest.raises(InputError, match="'unused' is not used"):
        erf.theoretical_rf(model, (1, 5, 5), "unused")
