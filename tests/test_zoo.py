"""torchvision's classification and segmentation models: each gives a result, or says what sees the whole image."""

import math
import os

import numpy as np
import pytest
import torch

import erf
from erf.errors import InputError
from erf.measuring.layer import last_layer
from erf.models.batch_norm import calibrate_batch_norm
from erf.models.torchvision_import import import_torchvision

LONG = "ERF_LONG" in os.environ
MODELS = import_torchvision().models
SEGMENTATION = MODELS.list_models(module=MODELS.segmentation)
ZOO = MODELS.list_models(module=MODELS) + SEGMENTATION

# What others have found. The first three are from Araujo, Norris and Sim, "Computing receptive fields of convolutional
# neural networks" (Distill, 2019); ResNet-18's is well known; torchvision's ResNet-50 strides in its 3 x 3 layers.
KNOWN = {"alexnet": 195, "vgg16": 212, "inception_v3": 1311, "resnet18": 435, "resnet50": 427}
# Families by what they are made of: those that see the whole image by squeeze-and-excitation, by attention, by pooling.
GLOBAL = ("efficientnet", "mobilenet_v3", "regnet_y", "swin", "vit", "maxvit", "deeplabv3", "lraspp")
MEASURED = [  # small ones, unless at length
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "mobilenet_v2", "regnet_x_400mf"),
    *("resnet18", "shufflenet_v2_x0_5", "squeezenet1_0", "swin_t", "vit_b_32", "lraspp_mobilenet_v3_large"),
]


def build(name: str, **kwargs) -> torch.nn.Module:
    """A model with random weights, whose construction may draw them, and warn that it does."""
    kwargs |= {"weights_backbone": None} if name in SEGMENTATION else {}
    kwargs |= {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return MODELS.get_model(name, weights=None, **kwargs)


def without_data(name: str, monkeypatch) -> torch.nn.Module:
    """A model whose weights take neither memory nor time."""
    try:
        with torch.device("meta"):
            return build(name)
    except NotImplementedError:  # RegNet computes its widths with tensors
        for drawing in ("kaiming_normal_", "normal_", "uniform_", "kaiming_uniform_"):
            monkeypatch.setattr(torch.nn.init, drawing, lambda tensor, *args, **kwargs: tensor)
        return build(name)


@pytest.mark.parametrize("name", ZOO)
def test_every_model_has_a_theoretical_field_or_says_what_sees_everything(name, monkeypatch):
    shape = (3, 299, 299) if name == "inception_v3" else (3, 224, 224)
    model = without_data(name, monkeypatch)
    field = erf.theoretical_rf(model, last_layer(model, shape), input_shape=shape)
    if name.startswith(GLOBAL):
        assert field.size == (math.inf, math.inf)
        assert "cannot be traced" not in field.sees_all
    else:
        assert field.size[0] == field.size[1] == KNOWN.get(name, field.size[0]) < math.inf
        assert field.sees_all is None
        assert all(math.log2(stride).is_integer() for stride in field.stride)


@pytest.mark.parametrize("name", ZOO if LONG else MEASURED)
def test_every_family_is_measured_and_a_part_of_it_equals_the_whole(name):
    torch.manual_seed(0)
    model, side = build(name).double(), 299 if name == "inception_v3" else 224
    images = torch.randn(1, 3, side, side, dtype=torch.float64)
    calibrate_batch_norm(model, images.expand(2, -1, -1, -1) * torch.tensor([1, -1])[:, None, None, None])
    layer = last_layer(model, (3, side, side))
    try:
        part = erf.measure(model, images, layer)
    except InputError as error:
        assert "the sum over channels is constant" in str(error)
        part = erf.measure(model, images, layer, channels=3)
    whole = erf.measure(model, images, layer, channels=part.settings["channels"], crop=False)
    assert np.abs(part.map - whole.map).sum() <= 1e-9 * whole.map.sum()
    assert part.size > 0 and not part.dead
    assert np.isfinite(part.theoretical_rf).all() != name.startswith(GLOBAL)


def test_a_segmentation_model_gives_a_dictionary():
    with pytest.raises(InputError, match='a OrderedDict of out, not a tensor: give output="out", or choose a layer'):
        erf.measure(build("lraspp_mobilenet_v3_large"), torch.randn(1, 3, 64, 64))
