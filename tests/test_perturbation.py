"""Noise drawn anew in rings against the closed form of linear networks, and against units that no gradient predicts."""

import numpy as np
import pytest
import torch
from torch import nn

import erf
from erf.errors import InputError
from erf.system.seeds import torch_generator


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch_generator(seed, "perturbation"))


def coloured(count: int, height: int, width: int) -> torch.Tensor:
    """Images of independent pixels, whose colours depend on each other and are not equally strong."""
    mixing = torch.tensor([[1.0, 0.5, 0.0], [0.0, 2.0, -1.0], [0.3, 0.0, 0.5]], dtype=torch.float64)
    return torch.einsum("cd,ndhw->nchw", mixing, noise(count, 3, height, width)) + 1


def linear(kernel: int = 5) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers = [nn.Conv2d(3, 4, kernel, padding=kernel // 2), nn.Conv2d(4, 2, kernel, padding=kernel // 2)]
        return nn.Sequential(*layers).double()


def distances(shape: tuple[int, int], position: tuple[float, float]) -> np.ndarray:
    row, column = np.mgrid[: shape[0], : shape[1]]
    return np.sqrt((row - position[0]) ** 2 + (column - position[1]) ** 2)


def test_a_linear_network_changes_by_twice_the_sum_of_squared_gradients_times_the_variance():
    """One colour, so that the closed form is as plain as can be."""
    model, images = nn.Conv2d(1, 1, 7, padding=3).double(), 3 * noise(6, 1, 14, 20) + 2
    found = erf.perturbed(model, images, rings=4, draws=400)
    squares = erf.naive.gradient(model, images)[0, 0].square().numpy()
    variance = images.var(correction=0).item()
    distance = distances((14, 20), (7, 10))
    for index, (low, high) in enumerate(zip(found.edges[:-1], found.edges[1:], strict=True)):
        inside = (distance >= low) & (distance < high)
        expected = 2 * variance * squares[inside].sum()
        assert found.pixels[index] == inside.sum()
        assert found.predicted[index] == pytest.approx(expected, rel=1e-9)
        assert found.measured[index] == pytest.approx(expected, rel=0.1)  # one in 2400 draws has an error of 3 %
    assert found.distance < 0.05


def test_colours_count_by_their_covariance():
    model, images = linear(), coloured(6, 16, 22)
    found = erf.perturbed(model, images, rings=5, draws=300, channels=1)
    pool = images.numpy().transpose(0, 2, 3, 1).reshape(-1, 3)
    covariance = np.cov(pool.T, bias=True)
    source = images[:1].clone().requires_grad_()
    gradient = torch.autograd.grad(model(source)[0, 1, 8, 11], source)[0][0].numpy()
    distance = distances((16, 22), (8, 11))
    for index, (low, high) in enumerate(zip(found.edges[:-1], found.edges[1:], strict=True)):
        rows, columns = np.nonzero((distance >= low) & (distance < high))
        each = gradient[:, rows, columns].T
        assert found.predicted[index] == pytest.approx(2 * sum(g @ covariance @ g for g in each), rel=1e-9)
    np.testing.assert_allclose(found.measured, found.predicted, rtol=0.12)
    assert (np.abs(found.measured - found.predicted) < 5 * found.error).all()
    assert found.distance < 3 * found.distance_by_chance < 0.2
    assert found.shares.sum() == pytest.approx(1) and found.predicted_shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(found.per_pixel * found.pixels, found.measured)
    np.testing.assert_allclose(found.predicted_per_pixel * found.pixels, found.predicted)


def test_photographs_pixels_need_not_be_independent():
    """Smooth images: a linear unit's changes are predicted, since every draw is of independent pixels."""
    model = linear()
    images = nn.functional.avg_pool2d(noise(6, 3, 22, 28), 7, stride=1)
    found = erf.perturbed(model, images, rings=4, draws=300)
    np.testing.assert_allclose(found.measured, found.predicted, rtol=0.12)


class Alarm(nn.Module):
    """Follows the pixel in the middle a little, and sounds loudly if any pixel farther away is bright."""

    def forward(self, images):
        loud = 100 * (images - 2).relu()
        loud = nn.functional.conv2d(loud, self.around.to(images))
        return 0.1 * images[:, :, 4:-4, 4:-4] + loud

    around = torch.ones(1, 1, 9, 9)
    around[:, :, 3:6, 3:6] = 0


def test_a_unit_that_no_gradient_predicts_has_a_distance_of_one():
    """All pixels near the unit are dark, so that the gradient knows the middle alone. The draws bring bright ones."""
    images = noise(4, 1, 41, 41).clamp(-1, 1)
    images[:, :, :8] = 5
    found = erf.perturbed(Alarm(), images, rings=[0, 1, 3, 6])
    assert found.predicted_shares.tolist() == [1, 0, 0]
    assert found.shares[0] < 1e-4 and found.distance > 0.999 > 2 * found.distance_by_chance


def test_a_network_with_activations_lies_between():
    model = nn.Sequential(linear(), nn.Tanh(), nn.Conv2d(2, 1, 5, padding=2)).double()
    found = erf.perturbed(model, noise(4, 3, 24, 24), rings=5, draws=50)
    assert 0 < found.distance < 0.5


def test_rings_go_to_the_end_of_the_theoretical_field_and_no_farther():
    model, images = linear(), noise(2, 3, 24, 30)
    found = erf.perturbed(model, images, rings=6)
    assert found.position == (12, 15) and found.edges[0] == 0
    assert found.edges[-1] == pytest.approx(np.hypot(4, 4)) and found.edges[-1] > np.hypot(4, 4)
    np.testing.assert_allclose(np.diff(found.edges), found.edges[-1] / 6)
    assert found.pixels.sum() == (distances((24, 30), (12, 15)) <= np.hypot(4, 4)).sum()
    beyond = erf.perturbed(model, images, rings=[0, 3, 6, 9])
    assert beyond.measured[2] == beyond.predicted[2] == 0 and beyond.measured[1] > 0


def test_rings_lie_around_the_place_where_the_unit_looks():
    model, images = linear(), noise(2, 3, 24, 30)
    corner = erf.perturbed(model, images, unit=(2, 27), rings=[0, 1, 7])
    assert corner.position == (2, 27)
    assert corner.pixels[0] == 1 and corner.pixels[1] == (distances((24, 30), (2, 27)) < 7).sum() - 1


def test_tokens_are_measured_too():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = linear()

        def forward(self, images):
            return self.model(images).flatten(2).transpose(1, 2)

    images = noise(2, 3, 16, 20)
    own, plain = (erf.perturbed(model, images, rings=3) for model in (Tokens(), linear()))
    np.testing.assert_allclose(own.measured, plain.measured, rtol=1e-9)


def test_the_same_generator_gives_the_same_numbers_and_the_model_is_left_as_it_was():
    model, images = (
        nn.Sequential(linear(), nn.BatchNorm2d(2).double(), nn.ReLU(inplace=True)).train(),
        noise(3, 3, 16, 16),
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second, other = (
        erf.perturbed(model, images, layer="0.1", rings=3, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first.measured.tolist() == second.measured.tolist() != other.measured.tolist()
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_one_image_has_no_standard_error():
    assert np.isnan(erf.perturbed(linear(), noise(1, 3, 16, 16), rings=2).error).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"draws": 1}, "draws must be a whole number from 2"),
        ({"rings": 0}, "rings must be a number from 1"),
        ({"rings": [3]}, "two or more rising radii"),
        ({"rings": [0, 2, 1]}, "two or more rising radii"),
        ({"rings": "all"}, "two or more rising radii"),
        ({"rings": 100}, "ring 1 from 0 holds no pixel"),
        ({"rings": [8, 9]}, "changes in no ring"),
        ({"channels": "each"}, "channels 'each' takes another one"),
        ({"channels": 2}, "unknown channels 2"),
        ({"unit": [(1, 1)]}, "one unit at a time"),
        ({"unit": (99, 1)}, "outside of the layer's plane"),
        ({"images": torch.ones(2, 3, 20, 20)}, "all pixels of the images are equal"),
        ({"layer": "2"}, "unknown layer"),
    ],
)
def test_what_is_wrong_is_named(change, words):
    arguments = {"model": linear(), "images": noise(2, 3, 20, 20)} | change
    with pytest.raises(InputError, match=words):
        erf.perturbed(**arguments)


@pytest.mark.parametrize("axes, shape", [(1, (2, 40)), (3, (2, 8, 9, 10))])
def test_one_and_three_axes_have_the_closed_form_too(axes, shape):
    """Pairs of intervals, and shells."""
    torch.manual_seed(0)
    model = getattr(nn, f"Conv{axes}d")(2, 3, 5, padding=2).double()
    images = noise(6, *shape) * torch.tensor([1.0, 3.0]).view(2, *[1] * axes)
    found = erf.perturbed(model, images, rings=[0, 1, 2, 3], draws=400)
    gradient = erf.naive.gradient(model, images)[0].numpy()
    covariance = np.cov(images.movedim(1, -1).reshape(-1, 2).numpy().T, bias=True)
    centre = [side // 2 for side in shape[1:]]
    offsets = [i - place for i, place in zip(np.indices(shape[1:]), centre, strict=True)]
    distance = np.sqrt(np.sum(np.square(offsets), 0))
    assert found.position == tuple(centre)
    for ring in range(3):
        inside = (distance >= ring) & (distance < ring + 1)
        of_pixels = gradient[:, inside]  # (C, pixels)
        expected = 2 * (of_pixels * (covariance @ of_pixels)).sum()
        assert found.pixels[ring] == inside.sum()
        assert found.predicted[ring] == pytest.approx(expected, rel=1e-9)
        assert found.measured[ring] == pytest.approx(expected, rel=0.1)
    assert erf.perturbed(model, images, rings=3).edges[-1] == pytest.approx(2 * np.sqrt(axes), rel=1e-9)
