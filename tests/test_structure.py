"""Receptive fields and unit positions against independent ways to find them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from torch import nn

import erf
from dags import dags, pairs, positive_copy
from erf import naive
from erf.errors import InputError
from erf.measuring.layer import evaluating
from erf.measuring.recorded import record
from erf.models.torchvision_import import import_torchvision
from erf.tracing.isolation import LeftAlone
from replication.training.resnets import ResNetCifar


def traced_windows(model, shape, layer=None):
    """Where the units of the output look, and the middle unit."""
    images = torch.zeros(1, *shape, dtype=next(model.parameters(), torch.empty(0)).dtype)
    with evaluating(model):
        (found,), _ = record(model, images, [layer], None, LeftAlone(model))
    return found.fields, found.fields.plane.chosen("center")


def pixels_seen(model, shape, unit, axis) -> list[int]:
    """Rows (axis 2) or columns (axis 3) that `unit` sees, by sending a NaN from each of them through the network."""
    count = shape[axis - 1]
    images = torch.zeros(count, *shape)
    images.movedim(axis, 1)[torch.arange(count), torch.arange(count)] = math.nan  # image i: row (column) i
    with torch.no_grad():
        return model(images)[:, 0, unit[0], unit[1]].isnan().nonzero().flatten().tolist()


@settings(max_examples=200)
@given(drawn=dags(nodes=6, shape=(2, 64, 68)))
def test_the_theoretical_field_is_the_support_of_the_gradient_of_a_positive_copy(drawn):
    model, shape = positive_copy(drawn[0]), (2, 64, 68)
    fields, unit = traced_windows(drawn[0], shape)
    support = naive.impact_map(model, torch.ones(1, *shape, dtype=torch.float64), unit=unit)
    position, size = fields.field(unit)
    for axis, length in enumerate(shape[1:]):
        first, last = fields.windows[axis][:, unit[axis]]
        assume(first >= 0 and last < length)  # or the image cuts it off
        reached = np.flatnonzero(support.sum(1 - axis) > 1e-12 * support.max())  # interpolation rounds its weights
        ends, predicted = (int(reached[0]), int(reached[-1])), (int(first), int(last))
        assert ends == predicted, f"{('rows', 'columns')[axis]}: the gradient reaches {ends}, theory says {predicted}"
        assert (position[axis], size[axis]) == ((first + last) / 2, last - first + 1)


@settings(max_examples=30)
@given(kernel=pairs(1, 5), stride=pairs(1, 3), padding=pairs(0, 2), dilation=pairs(1, 3), second=pairs(1, 4))
def test_two_convolutions_by_hand(kernel, stride, padding, dilation, second):
    """Araujo, Norris and Sim, "Computing receptive fields of convolutional neural networks" (Distill, 2019)."""
    model = nn.Sequential(nn.Conv2d(1, 2, kernel, stride, padding, dilation), nn.ReLU(), nn.Conv2d(2, 3, second))
    field = erf.theoretical_rf(model, input_shape=(1, 60, 70))
    assert field.stride == stride
    for axis in (0, 1):
        length = dilation[axis] * (kernel[axis] - 1) + 1 + stride[axis] * (second[axis] - 1)
        assert field.size[axis] == length
        assert field.offset[axis] == -padding[axis] + (length - 1) / 2
    assert field.sees_all is None


def test_the_papers_networks():
    generator = torch.Generator().manual_seed(0)
    cifar = ResNetCifar(blocks=17, width=2, residual_scale=1.0, centre_light=0, generator=generator)
    assert erf.theoretical_rf(cifar, "top", input_shape=(3, 32, 32)).size == (73, 73)
    assert erf.theoretical_rf(cifar, "stem", input_shape=(3, 32, 32)).size == (3, 3)


def test_resnet18_looks_at_pixel_96_not_112():
    """The middle unit of the 7 x 7 map at 224 pixels is not in the middle of the image."""
    model = import_torchvision().models.resnet18(weights=None)
    fields, unit = traced_windows(model, (3, 224, 224), "layer4")
    assert unit == (3, 3)
    assert fields.field(unit) == ((96, 96), (435, 435))  # the field's well-known size for ResNet-18
    field = erf.theoretical_rf(model, "layer4", input_shape=(3, 224, 224))
    assert (field.size, field.stride, field.offset) == ((435, 435), (32, 32), (0, 0))


def test_a_global_layer_sees_everything():
    class Squeeze(nn.Module):
        def forward(self, x):
            return x * x.mean((2, 3), keepdim=True).sigmoid()

    model = nn.Sequential(nn.Conv2d(1, 1, 3), Squeeze())
    field = erf.theoretical_rf(model, input_shape=(1, 9, 9))
    assert field.size == (math.inf, math.inf)
    assert field.sees_all == "mean in '1'"
    assert (field.stride, field.offset) == ((1, 1), (1, 1))  # beside the gate


def test_units_that_see_nothing_but_everything_divide_the_image_evenly():
    class Fourier(nn.Module):
        def forward(self, x):
            return torch.fft.fft2(x).real

    model = nn.Sequential(nn.Conv2d(1, 1, 3), Fourier())
    field = erf.theoretical_rf(model, input_shape=(1, 9, 16))
    assert field.size == (math.inf, math.inf)
    assert field.stride == pytest.approx((9 / 7, 16 / 14))
    assert field.offset == pytest.approx((1 / 7, 1 / 14))


@pytest.mark.parametrize("gate", [nn.AvgPool2d(7, 1), nn.Conv2d(1, 1, 7)])
def test_a_broadcast_gate_sees_everything(gate):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = gate

        def forward(self, x):
            return x * self.gate(x).sigmoid()

    assert erf.theoretical_rf(Gated(), input_shape=(1, 7, 7)).size == (math.inf, math.inf)


def test_branches_of_different_reach_unite():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.tall = nn.Conv2d(1, 2, (1, 7), padding=(0, 3)), nn.Conv2d(1, 2, (5, 1), padding=(2, 0))

        def forward(self, x):
            return torch.cat([self.wide(x), self.tall(x)], 1)

    assert erf.theoretical_rf(Branches(), input_shape=(1, 20, 20)).size == (5, 7)


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
    fields, _ = traced_windows(model, shape)
    unit = (1, 2)
    for axis in (0, 1):
        seen = pixels_seen(model, shape, unit, 2 + axis)
        assert [seen[0], seen[-1]] == fields.windows[axis][:, unit[axis]].tolist()


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
        erf.theoretical_rf(model, "00", input_shape=(1, 5, 5))
    with pytest.raises(
        InputError, match=r"the model gives \(1, 9\), not units in a plane: choose a layer, such as '0'$"
    ):
        erf.theoretical_rf(model, input_shape=(1, 5, 5))
    model.unused = nn.Conv2d(1, 1, 3)
    model.forward = lambda x: model[0](x)
    with pytest.raises(InputError, match="'unused' is not used"):
        erf.theoretical_rf(model, "unused", input_shape=(1, 5, 5))
