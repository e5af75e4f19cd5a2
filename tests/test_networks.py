"""Networks and their initial weights."""

import numpy as np
import torch
from torch import nn

import erf
from erf.networks import ReachNet, ResNetCifar, calibrate_batch_norm
from erf.seeds import seed_for, torch_generator


def resnet(**changes) -> ResNetCifar:
    settings = {"blocks": 3, "width": 8, "residual_scale": 0.5, "generator": torch_generator(0)}
    return ResNetCifar(**{**settings, **changes})


def test_shapes():
    assert resnet()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    net = ReachNet(4, 8, torch_generator(0))
    assert net(torch.zeros(2, 3, 9, 9)).shape == (2, 2)


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
