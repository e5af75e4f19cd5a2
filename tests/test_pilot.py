"""Large images: a small one, the pilot, has the backward pass, and the image itself only goes forward."""

import numpy as np
import pytest
import torch
from torch import nn

import erf

IMAGES = torch.randn(2, 2, 400, 390, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Watched(nn.Module):
    """Four layers, and what `function` does behind them; it notes the side of each image that it is given, and whether
    it asks for a gradient."""

    def __init__(self, function=torch.tanh, inplace=False):
        super().__init__()
        convs = [nn.Conv2d(2, 2, 3, padding=1, dtype=torch.float64) for _ in range(4)]
        self.layers = nn.Sequential(nn.Hardtanh(-9, 9, inplace=inplace), *convs)
        self.function = function

    def forward(self, x):
        seen.append((x.shape[2], x.requires_grad))
        return self.function(self.layers(x))


seen: list[tuple[int, bool]] = []


@pytest.fixture(autouse=True)
def nothing_seen():
    seen.clear()


@pytest.mark.parametrize("unit", ["center", (0, 0), (399, 100)])
def test_the_image_goes_forward_alone_and_the_map_is_that_of_the_whole(unit):
    torch.manual_seed(0)
    model, before = Watched(inplace=True), IMAGES.clone()
    field = erf.measure(model, IMAGES, unit=unit)
    assert seen == [(96, True), (400, False)]
    again = erf.measure(model, IMAGES, unit=unit)
    assert len(seen) == 2  # nor does it run again: the part is computed without the model
    whole = erf.measure(model, IMAGES, unit=unit, crop=False)
    for found in (field, again):
        np.testing.assert_allclose(found.map, whole.map, rtol=1e-9, atol=1e-12 * whole.map.max())
        assert (found.position, found.theoretical_rf) == (whole.position, whole.theoretical_rf)
    assert torch.equal(IMAGES, before)


def only_large(x):
    if x.shape[2] < 200:
        raise ValueError("too small")
    return x


UNLIKE = {
    "another operation": lambda x: x.sin() if x.shape[2] > 200 else x.cos(),
    "one more operation": lambda x: x.sin() * 2 if x.shape[2] > 200 else x.sin(),
    "small images refused": only_large,
    "another path without a gradient": lambda x: x.sin() if x.requires_grad else x.cos(),
    "a mean of everything": lambda x: x * x.mean(),
    "a gradient of its own": lambda x: Doubled.apply(x),
    "a number that follows from the side": lambda x: x.sin() * x.shape[2],
    "a table of the image's size": lambda x: x * torch.linspace(0, 1, x.shape[3], dtype=x.dtype),
}


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.sin()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 2


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("what", UNLIKE)
def test_where_the_pilot_is_another_function_the_map_is_still_right(what):
    torch.manual_seed(0)
    model = Watched(UNLIKE[what])
    whole = erf.measure(model, IMAGES, crop=False)
    torch.manual_seed(0)
    field = erf.measure(Watched(UNLIKE[what]), IMAGES)
    np.testing.assert_allclose(field.map, whole.map, rtol=1e-9, atol=1e-12 * whole.map.max())
    assert (field.position, field.theoretical_rf) == (whole.position, whole.theoretical_rf)
