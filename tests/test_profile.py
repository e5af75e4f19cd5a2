"""The receptive fields of all layers: each is what a measurement of that layer alone gives."""

import numpy as np
import pytest
import torch
from torch import nn

import erf
from erf.errors import InputError

IMAGES = torch.randn(3, 2, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def network(depth: int = 5) -> nn.Module:
    torch.manual_seed(0)
    layers = [module for _ in range(depth) for module in (nn.Conv2d(2, 2, 7, padding=3), nn.Tanh())]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * 24 * 24, 3)).double()


def test_each_layer_is_what_it_is_alone():
    model = network()
    found = erf.profile(model, IMAGES)
    assert list(found.fields) == [str(number) for number in range(10)]  # the rest has no units in a plane
    for name, field in found.fields.items():
        alone = erf.measure(network(), IMAGES, name)
        np.testing.assert_allclose(field.map, alone.map, rtol=1e-9, atol=1e-12 * alone.map.max())
        assert (field.position, field.theoretical_rf) == (alone.position, alone.theoretical_rf)


def test_layers_behind_one_that_sees_the_whole_image_add_nothing():
    rows = erf.profile(network(), IMAGES, [str(number) for number in range(0, 10, 2)]).rows()
    assert [row["theoretical"] for row in rows] == [7, 13, 19, 25, 31]
    assert [row["adds_nothing"] for row in rows] == [False] * 4 + [True]


def test_the_table_and_the_figure_have_a_row_for_each_layer():
    found = erf.profile(network(2), IMAGES)
    assert found.table()["layer"].tolist() == ["0", "1", "2", "3"]
    axes = found.plot()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2", "3"]
    assert axes.get_legend_handles_labels()[1] == ["theoretical field", "ERF size", "image"]


def test_a_pass_is_shared_by_all_layers():
    model, passes = network(), []
    model.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    erf.measure(model, IMAGES, ["0", "4", "8"], unit=[(3, 4), (12, 12)], crop=False)
    assert passes == [1, 2]


def test_a_model_without_planes_is_refused():
    with pytest.raises(InputError, match="no layer of the model has units in a plane: give layers="):
        erf.profile(nn.Sequential(nn.Flatten(), nn.Linear(1152, 3)).double(), IMAGES)
