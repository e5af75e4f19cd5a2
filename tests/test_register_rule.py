"""Operations that the library does not know, and is told of."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import erf
from erf.ops import table


@torch.library.custom_op("erf_tests::smooth_clamp", mutates_args=())
def smooth_clamp(x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x) * 2


@smooth_clamp.register_fake
def _(x):
    return torch.empty_like(x)


def keep(ctx, inputs, output):
    ctx.save_for_backward(inputs[0])


def derivative(ctx, gradient):
    return gradient * 2 * (1 - torch.tanh(ctx.saved_tensors[0]) ** 2)


smooth_clamp.register_autograd(derivative, setup_context=keep)


class Clamped(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x):
        return self.second(smooth_clamp(self.first(x)))


@pytest.fixture(autouse=True)
def own_table(monkeypatch):
    monkeypatch.setattr(table, "RULES", dict(table.RULES))


def test_an_operation_that_is_registered_is_cropped():
    images = torch.randn(2, 3, 40, 50, dtype=torch.float64)
    model = Clamped().double()
    before = erf.measure(model, images)
    assert before.theoretical_rf == (math.inf, math.inf) and "smooth_clamp" in before.settings["sees_all"]
    erf.register_rule("erf_tests::smooth_clamp", like="elementwise")
    after = erf.measure(model, images)
    assert after.theoretical_rf == (5, 5)
    np.testing.assert_allclose(after.map, erf.naive.impact_map(model, images), rtol=1e-12, atol=0)


def test_what_it_is_like_must_be_known():
    with pytest.raises(erf.InputError, match="no op rule for 'elementwize': did you mean elementwise"):
        erf.register_rule("a::b", like="elementwize")
