"""What of the ERF lies in kernels and gates: against measurements of untrained networks, and by hand."""

import numpy as np
import pytest
import torch

import erf
from erf import theory
from erf.models.batch_norm import calibrate_batch_norm
from erf.system.seeds import torch_generator
from replication.trained.gates import Gates, drawn_anew, maps_with_drawn_gates
from replication.trained.kernels import energy, kernel_profile, kernel_stack, predicted_sigma, spread
from replication.training.resnets import ResNetCamVid, ResNetCifar, conv_bn


def untrained(kind, blocks, width: int, scale: float, side: int):
    model = kind(blocks, width, scale, 0.0, torch_generator(1, "weights")).eval()
    images = torch.randn(8, 3, side, side, generator=torch_generator(1, "images"))
    calibrate_batch_norm(model, images)
    return model, images


@pytest.mark.parametrize(
    "kind, blocks, scale, side",
    [(ResNetCifar, 6, 1.0, 48), (ResNetCifar, 6, 0.3, 48), (ResNetCamVid, [2, 2], 1.0, 96)],
)
def test_without_training_the_kernels_tell_the_erf(kind, blocks, scale, side):
    """Weights are independent then, so that no cross term is left out but by chance."""
    model, images = untrained(kind, blocks, 32, scale, side)
    field = erf.measure(model, images, model.layers()[-1])
    assert predicted_sigma(model) == pytest.approx(np.sqrt(np.mean(np.square(field.sigma))), rel=0.06)


def test_a_kernels_energy_by_hand():
    """One weight in each corner, twice as large for the second output, whose batch norm halves it."""
    conv, norm = conv_bn(1, 2)
    torch.nn.init.zeros_(conv.weight)
    conv.weight.data[:, 0, ::2, ::2] = torch.tensor([1.0, 2.0])[:, None, None]
    norm.weight.data[:] = torch.tensor([1.0, 0.5])
    norm.running_var[:] = 1 - norm.eps
    expected = np.zeros((3, 3))
    expected[::2, ::2] = (1 + 1) / 2
    np.testing.assert_allclose(energy(conv, norm), expected, rtol=1e-6)
    np.testing.assert_allclose(energy(conv), expected * 2.5, rtol=1e-6)


def test_the_spread_of_a_kernel_and_what_branches_carry():
    """By hand; and in a network of one block, whose branch carries the square of its last batch norm's scale."""
    middle, corners = np.zeros((3, 3)), np.zeros((3, 3))
    middle[1, 1], corners[::2, ::2] = 2, 5
    assert [spread(taps) for taps in (np.full((3, 3), 7), middle, corners)] == pytest.approx([1, 0, 1.5])
    carried = {}
    for scale in (0.1, 1.0):
        model, _ = untrained(ResNetCifar, 1, 64, scale, 32)
        found = kernel_profile(model).set_index("layer")
        assert found.index.tolist() == ["stem", "blocks.0.first", "blocks.0.second", "top"]
        assert found["kernel_spread"].mean() == pytest.approx(1, abs=0.01)
        (share,) = found["branch_share"].dropna()
        assert share == found["branch_share"]["blocks.0.second"]
        carried[scale] = share / (1 - share)
        (block,) = (part.branch for part in kernel_stack(model) if isinstance(part, theory.Residual))
        assert carried[scale] == pytest.approx(block[0].taps.sum() * block[1].taps.sum())
    assert carried[1.0] == pytest.approx(100 * carried[0.1], rel=1e-4)


def test_kernels_without_a_rim_leave_the_unit_and_its_strides():
    model, _ = untrained(ResNetCamVid, [1], 4, 1.0, 32)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3):
            module.weight.data[..., [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
    assert predicted_sigma(model) == kernel_profile(model)["kernel_spread"].abs().sum() == 0
    assert theory.stack_rf(kernel_stack(model)) == (1 + 2 + 2 + 8,) * 2


@pytest.mark.parametrize("kind, blocks, side", [(ResNetCifar, 3, 32), (ResNetCamVid, [1, 1], 64)])
def test_a_networks_own_gates_give_its_own_map(kind, blocks, side, monkeypatch):
    model, images = untrained(kind, blocks, 8, 1.0, side)
    monkeypatch.setattr("replication.trained.gates.drawn_anew", lambda gates, generator: gates)
    found = maps_with_drawn_gates(model, images, model.layers()[-1], torch_generator(0))
    field = erf.measure(model, images, model.layers()[-1])
    np.testing.assert_allclose(found.mean(0), field.map, rtol=1e-3, atol=1e-6 * field.map.max())


def test_gates_drawn_anew_keep_each_channels_share_and_forget_places():
    gates = torch.zeros(2, 3, 100, 100, dtype=torch.bool)
    gates[:, 1], gates[0, 2, :30] = True, True
    drawn = drawn_anew(gates, torch_generator(0))
    assert not drawn[:, 0].any() and drawn[:, 1].all() and not drawn[1, 2].any()
    assert drawn[0, 2].float().mean() == pytest.approx(0.3, abs=0.02)
    assert drawn[0, 2, 30:].float().mean() == pytest.approx(0.3, abs=0.02)


def test_gates_that_images_open_in_the_middle_alone_are_told_from_weights():
    """A ReLU of x, and then a sum over 15 x 15 pixels: it sees bright pixels; with gates drawn anew, all of them."""
    first, last = torch.nn.Conv2d(3, 1, 1, bias=False), torch.nn.Conv2d(1, 1, 15, padding=7)
    model = torch.nn.Sequential(first, torch.nn.ReLU(), last)
    for layer in (first, last):
        torch.nn.init.ones_(layer.weight)
    images = -torch.ones(4, 3, 31, 31)
    images[:, :, 13:18, 13:18] = 1
    assert (erf.measure(model, images, "2").map > 0).sum() == 5 * 5
    drawn = maps_with_drawn_gates(model, images, "2", torch_generator(0))
    assert drawn.mean() > 0 and (drawn.sum(0) > 0)[8:23, 8:23].mean() == pytest.approx(4 * 25 / 31**2, abs=0.05)
    assert not (drawn > 0)[:, :8].any()


def test_gates_are_noted_in_the_order_of_their_calls():
    with Gates() as gates:
        torch.nn.ReLU()(torch.tensor([1.0, -1.0]))
        torch.relu(torch.tensor([-1.0, 1.0]))
    assert [noted.tolist() for noted in gates.noted] == [[True, False], [False, True]]
