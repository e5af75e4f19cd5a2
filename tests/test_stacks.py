"""The structures: torch's networks against the theory of the same list of layers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d

import erf
from erf import theory
from erf.errors import InputError
from erf.measuring.measure import gradient_of_sum, impact_maps
from erf.system.seeds import torch_generator
from replication.stacks.initialisation import centre_light_variances
from replication.stacks.modules import ACTIVATIONS, build_stack
from replication.stacks.predictions import predicted_fit, predicted_sigma, predicted_size, series_name
from replication.stacks.structures import STRUCTURES, AveragePool, Block, Conv, Dropout, structure, theory_stack


def side_of(layers) -> int:
    return theory.stack_rf(theory_stack(layers, "uniform"))[0]


def gradients(layers, runs: int = 1, channels: int = 1, **options) -> tuple[torch.Tensor, erf.TheoreticalRF]:
    """Gradients (runs, channels, H, W) of the one unit, and its theoretical field."""
    side = side_of(layers)
    generators = [torch_generator(0, run) for run in range(runs)]
    model = build_stack(layers, channels, generators=generators, **options)
    image = torch.randn(1, runs * channels, side, side, generator=torch_generator(1), dtype=torch.float64)
    theoretical = erf.theoretical_rf(model, input_shape=image.shape[1:])
    return gradient_of_sum(model, image).view(runs, channels, side, side), theoretical


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_centre_light_weights_have_theorys_variance_map(strength):
    """E[g^2] over many networks of two layers, against the convolution of the kernels' variances with each other."""
    layers, runs = structure("plain", 2, centre_light=strength), 3000
    found, _ = gradients(layers, runs)
    square = found[:, 0].numpy() ** 2  # (runs, 5, 5)
    taps = centre_light_variances(3, strength) / 9
    expected = convolve2d(taps, taps)
    assert (np.abs(square.mean(0) - expected) <= 4.5 * square.std(0) / runs**0.5 + 1e-12).all()
    np.testing.assert_allclose(theory.linear_map(theory_stack(layers, "random")), expected, atol=1e-12)
    spread = (taps.sum(0) * [1, 0, 1]).sum()  # of one layer
    assert theory.stack_sigma(theory_stack(layers, "random")) == pytest.approx([(2 * spread) ** 0.5] * 2)


def test_the_layers_of_each_structure():
    assert structure("plain", 3) == [Conv(3)] * 3
    assert structure("subsample", 3, 5, (2,)) == [Conv(5), Conv(5, 2), Conv(5)]
    assert structure("average_pool", 2, 3, (1,)) == [Conv(3), AveragePool(2), Conv(3)]
    assert structure("dilation", 4, 3, (4, 1, 2)) == [Conv(3, 1, 2), Conv(3, 1, 4), Conv(3), Conv(3, 1, 8)]
    block = Block((Conv(3), Conv(3)))
    assert structure("skip", 5) == [block, block, Conv(3)]
    assert structure("skip", 4) == [Conv(3), block, Conv(3)]
    assert structure("dropout", 3, dropout=0.1) == [Conv(3), Dropout(0.1), Conv(3), Dropout(0.1), Conv(3)]


def test_the_papers_receptive_fields():
    """15 layers; dilations 2, 4, 8 in place of 1 add 2 (1 + 3 + 7) pixels."""
    sides = {name: side_of(structure(name, 15, 3, (4, 8, 12))) for name in STRUCTURES}
    assert sides == {"plain": 31, "subsample": 105, "average_pool": 112, "dilation": 53, "skip": 31, "dropout": 31}


def test_unknown_structures_and_layers():
    with pytest.raises(InputError, match="unknown structure 'dense'"):
        structure("dense", 3)
    with pytest.raises(InputError, match="at least 3 layers, not 2"):
        structure("skip", 2)
    with pytest.raises(InputError, match="special layers \\[4\\] are not all among the 3 layers"):
        structure("subsample", 3, 3, (4,))


STRUCTURE = st.sampled_from([name for name in STRUCTURES if name != "dropout"])
SPECIAL = st.lists(st.integers(1, 6), min_size=1, max_size=3, unique=True).map(tuple)


@settings(max_examples=40)
@given(name=STRUCTURE, special=SPECIAL, kernel=st.sampled_from([3, 5]), channels=st.integers(1, 3))
def test_uniform_networks_have_theorys_map_and_place(name, special, kernel, channels):
    layers = structure(name, 6, kernel, special)
    found, theoretical = gradients(layers, channels=channels, weights="uniform")
    expected = theory.linear_map(theory_stack(layers, "uniform"))
    np.testing.assert_allclose(found[0].sum(0), expected, rtol=1e-10)  # the channels share it
    assert theoretical.size == expected.shape
    assert theoretical.offset == tuple((side - 1) / 2 for side in expected.shape)


@pytest.mark.parametrize("name", STRUCTURES)
def test_gradients_of_random_networks_have_theorys_mean_square(name):
    """Monte Carlo, within its own standard error: z is normal in every pixel."""
    layers = structure(name, 5, 3, (2, 4))
    runs, channels = 1500, 2
    found, _ = gradients(layers, runs, channels)
    energy = found.square().mean(1).numpy() * channels  # the sum over channels spreads as one channel does
    mean, error = energy.mean(0), energy.std(0, ddof=1) / np.sqrt(runs)
    z = (mean - theory.linear_map(theory_stack(layers, "random"))) / error
    assert np.abs(z).max() < 6
    # Neighbouring pixels go up and down together, and squares are skewed: the mean of z^2 is 1 only roughly.
    assert 0.3 < (z**2).mean() < 2.5


@pytest.mark.parametrize("activation", ["none", "relu"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_random_networks_have_theorys_size_and_energy(name, activation):
    """With ReLU too, which lets half of the energy pass, and whose weights have twice as much."""
    settings = {
        "structure": name,
        "kernel": 3,
        "special_layers": [2, 4, 6],
        "dropout": 0.5,
        "centre_light": 0,
        "depth": 8,
    }
    settings |= {"weights": "random", "mode": "abs"}
    layers = structure(name, 8, 3, (2, 4, 6))
    found, theoretical = gradients(layers, runs=100, channels=12, activation=activation)
    field = erf.ReceptiveField.from_runs(impact_maps(found), theoretical.offset, theoretical.size)
    assert field.size == pytest.approx(predicted_size(settings), rel=0.03)
    totals = found.square().sum((1, 2, 3)).numpy()
    expected = theory.linear_map(theory_stack(layers, "random")).sum()
    assert totals.mean() == pytest.approx(expected, abs=4 * totals.std() / np.sqrt(len(totals)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", ["plain", "skip", "dropout", "average_pool"])
def test_runs_side_by_side_equal_runs_one_by_one(name, activation):
    layers, side = structure(name, 5, 3, (2, 4)), side_of(structure(name, 5, 3, (2, 4)))
    images = [torch.randn(3, side, side, generator=torch_generator(1, run), dtype=torch.float64) for run in range(4)]

    def gradient(runs):
        generators = [torch_generator(0, run) for run in runs]
        model = build_stack(layers, 3, activation=activation, generators=generators)
        found = gradient_of_sum(model, torch.cat([images[run] for run in runs])[None])
        return found.view(len(runs), 3, side, side).numpy()

    together = gradient(range(4))
    for run in range(4):
        np.testing.assert_allclose(together[run], gradient([run])[0], rtol=1e-9, atol=1e-15)


def test_single_precision_draws_the_same_network():
    layers, maps = structure("plain", 40), {}
    for dtype in (torch.float64, torch.float32):
        model = build_stack(layers, 8, activation="relu", generators=[torch_generator(0)], dtype=dtype)
        image = torch.randn(1, 8, 81, 81, generator=torch_generator(1), dtype=torch.float64)
        maps[dtype] = erf.measure(model, image)
    assert maps[torch.float32].size == pytest.approx(maps[torch.float64].size, rel=0.005)
    difference = maps[torch.float32].map - maps[torch.float64].map
    assert np.abs(difference).max() < 1e-3 * maps[torch.float64].map.max()


def test_dropout_stays_active_in_evaluation_mode_and_drops_its_share():
    model = build_stack([Conv(1), Dropout(0.3), Conv(1)], weights="uniform", generators=[torch_generator(0)]).eval()
    values = model(torch.ones(1, 1, 100, 100, dtype=torch.float64)).flatten()
    assert values.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (values == 0).double().mean() == pytest.approx(0.3, abs=0.03)


def test_half_of_the_units_read_after_their_relu_are_dead():
    layers = structure("plain", 6)
    dead = {}
    for unit in ("before", "after"):
        found, _ = gradients(layers, runs=200, channels=8, activation="relu", unit=unit)
        dead[unit] = int((~found.flatten(1).any(1)).sum())
    assert dead["before"] == 0
    assert 70 < dead["after"] < 130


def test_unknown_settings_of_a_network():
    with pytest.raises(InputError, match="unknown weights 'ones'"):
        build_stack([Conv(3)], weights="ones")
    with pytest.raises(InputError, match="unknown activation 'cosine'"):
        build_stack([Conv(3)], activation="cosine")
    with pytest.raises(InputError, match="unknown unit 'beside'"):
        build_stack([Conv(3)], unit="beside")


def test_names_and_missing_theory():
    assert series_name({"weights": "uniform", "activation": "none"}) == "uniform"
    assert series_name({"weights": "random", "activation": "leaky_relu"}) == "random + leaky ReLU"
    settings = {"structure": "plain", "kernel": 3, "special_layers": [], "dropout": 0.5, "centre_light": 0, "depth": 5}
    assert np.isnan(predicted_size(settings | {"weights": "random", "mode": "signed"}))
    assert np.isnan(predicted_sigma(settings | {"weights": "random", "mode": "signed"})).all()
    assert np.isnan(predicted_size(settings | {"structure": "dropout", "weights": "uniform", "mode": "square"}))


def test_the_fit_to_theorys_map_is_near_its_limit_and_nearer_with_more_layers():
    settings = {
        "structure": "dilation",
        "kernel": 3,
        "special_layers": [1],
        "dropout": 0.5,
        "centre_light": 0,
        "weights": "random",
    }
    errors = []
    for depth in (5, 40):
        described = settings | {"mode": "abs", "depth": depth}
        errors.append(abs(predicted_fit(described).sigma[0] / predicted_sigma(described)[0] - 1))
    assert errors[1] < 0.002 < errors[0] < 0.05
