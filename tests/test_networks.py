"""Networks and their initial weights."""

import numpy as np
import pytest
import torch
from torch import nn

import erf
from erf.errors import InputError
from erf.models.batch_norm import calibrate_batch_norm
from erf.system.seeds import seed_for, torch_generator
from erf.theory import stack_rf
from replication.stacks.initialisation import centre_light_variances
from replication.stacks.structures import Dropout, structure, theory_stack
from replication.training.reach import ReachNet
from replication.training.resnets import ResNetCamVid, ResNetCifar, he_initialise, interpolate, interpolation_matrix


def resnet(**changes) -> ResNetCifar:
    settings = {"blocks": 3, "width": 8, "residual_scale": 0.5, "centre_light": 0, "generator": torch_generator(0)}
    return ResNetCifar(**{**settings, **changes})


def segmenter(**changes) -> ResNetCamVid:
    settings = {"blocks": [1, 1], "width": 4, "residual_scale": 0.5, "centre_light": 0, "generator": torch_generator(0)}
    return ResNetCamVid(**{**settings, **changes})


def test_shapes():
    assert resnet()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert segmenter()(torch.zeros(2, 3, 36, 50)).shape == (2, 11, 36, 50)


@pytest.mark.parametrize("name", ["plain", "skip", "dilation", "subsample"])
def test_a_network_of_the_reach_task_has_one_unit_that_sees_its_whole_image(name):
    layers = structure(name, 6, special_layers=(2, 4) if name in ("dilation", "subsample") else ())
    side = stack_rf(theory_stack(layers, "random"))[0]
    net = ReachNet(layers, 8, torch_generator(0))
    assert net(torch.zeros(2, 3, side, side)).shape == (2, 2)
    assert erf.theoretical_rf(net, "top", input_shape=(3, side, side)).size == (side, side)
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 6


def test_a_network_of_the_reach_task_has_no_dropout():
    with pytest.raises(InputError, match="made of convolutions and residual blocks"):
        ReachNet([*structure("plain", 3), Dropout(0.5), *structure("plain", 1)], 8, torch_generator(0))


def test_the_segmenters_receptive_field_is_the_papers():
    net = segmenter(blocks=[3, 4, 6, 3], width=2)
    assert erf.theoretical_rf(net, "head", input_shape=(3, 64, 96)).size == (505, 505)
    field = erf.measure(net.eval(), torch.randn(1, 3, 360, 480, generator=torch_generator(0)), layer="head")
    assert field.settings["unit"] == [11, 15] and field.position == (176, 240)


def test_interpolation_is_linear_between_units_and_exact_at_them():
    logits = torch.randn(2, 3, 4, 5)
    found = interpolate(logits, 8, (29, 37))
    torch.testing.assert_close(found[:, :, ::8, ::8], logits)
    torch.testing.assert_close(found[:, :, 4, 8], (logits[:, :, 0, 1] + logits[:, :, 1, 1]) / 2)
    torch.testing.assert_close(found[:, :, 28, 36], logits[:, :, 3, 4])  # constant beyond the last unit
    # torch's own, where it puts the corners on the corners
    expected = nn.functional.interpolate(logits, size=(25, 33), mode="bilinear", align_corners=True)
    torch.testing.assert_close(interpolate(logits, 8, (25, 33)), expected)
    weights = interpolation_matrix(29, 4, 8, torch.device("cpu"))
    torch.testing.assert_close(weights.sum(1), torch.ones(29))


def test_centre_light_variances():
    np.testing.assert_array_equal(centre_light_variances(3, 0), np.ones((3, 3)))
    np.testing.assert_allclose(centre_light_variances(3, 1), [[1.5, 0.75, 1.5], [0.75, 0, 0.75], [1.5, 0.75, 1.5]])
    assert centre_light_variances(1, 1).tolist() == [[1]]
    for kernel in (1, 2, 3, 5):
        found = centre_light_variances(kernel, 0.6)
        assert found.mean() == pytest.approx(1) and (found == found.T).all() and (found == found[::-1]).all()
    for strength in (-0.1, 1.1):
        with pytest.raises(InputError, match="lies between 0 and 1"):
            centre_light_variances(3, strength)


def test_centre_light_weights_are_hes_in_other_proportions():
    he, light = (nn.Conv2d(64, 64, 3) for _ in range(2))
    he_initialise(he, torch_generator(0))
    he_initialise(light, torch_generator(0), centre_light=0.5)
    ratio = (light.weight / he.weight).detach().numpy()
    np.testing.assert_allclose(ratio, np.broadcast_to(centre_light_variances(3, 0.5) ** 0.5, ratio.shape), rtol=1e-5)
    assert light.weight.var().item() == pytest.approx(he.weight.var().item(), rel=0.05)  # no more energy


def test_centre_light_enlarges_the_erf_before_training():
    batch, sizes = torch.randn(32, 3, 33, 33, generator=torch_generator(1)), []
    for strength in (0.0, 1.0):
        model = resnet(blocks=5, residual_scale=1.0, centre_light=strength)
        calibrate_batch_norm(model, batch)
        sizes.append(erf.measure(model, batch, layer="top").size)
    assert sizes[1] > 1.05 * sizes[0]


def test_weights_come_from_the_generator_alone():
    torch.manual_seed(1)
    first = resnet().state_dict()
    torch.manual_seed(2)
    assert all(torch.equal(tensor, first[name]) for name, tensor in resnet().state_dict().items())


def test_residual_scale_zero_leaves_stem_and_top():
    field = erf.measure(resnet(residual_scale=0.0).eval(), torch.randn(4, 3, 17, 17), layer="top")
    assert np.count_nonzero(field.map) == 25  # two 3 x 3 convolutions


def test_calibration_is_what_training_mode_would_see():
    model, batch = resnet(), torch.randn(16, 3, 12, 12)
    model.train()
    with torch.no_grad():
        expected = model(batch)
    calibrate_batch_norm(model, batch)
    assert not model.training
    with torch.no_grad():
        difference = (model(batch) - expected).abs().max()
    assert difference < 0.02 * expected.abs().max()  # running variances are unbiased, batch variances are not
    assert all(norm.momentum == 0.1 for norm in model.modules() if isinstance(norm, nn.BatchNorm2d))


def test_calibrated_the_initial_erf_does_not_depend_on_the_scale_of_weights():
    batch, fields = torch.randn(64, 3, 32, 32), []
    for factor in (1.0, 3.0):
        model = resnet()
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.data *= factor
        calibrate_batch_norm(model, batch)
        fields.append(erf.measure(model, batch[:8], layer="top"))
    np.testing.assert_allclose(fields[1].map / fields[1].map.max(), fields[0].map / fields[0].map.max(), atol=1e-3)


def test_streams_have_their_own_seeds():
    seeds = {seed_for(seed, *names) for seed in (0, 1) for names in [(), ("a",), ("a", 1), ("a", 11), ("a1", 1)]}
    assert len(seeds) == 10
    assert seed_for(0, "order", 3) == 2723741169552378311  # the same on every machine and in every version
