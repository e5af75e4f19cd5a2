"""What the reviewers asked: measure_question, and the passes and the theory that it stands on, against known truth."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import comb
from torch import nn

import figure_reviewers
import measure_question
from conftest import settings_file
from erf import theory
from erf.measuring.measure import gradient_of_sum
from replication.stacks import passes, signed
from replication.stacks.modules import build_stack
from replication.stacks.structures import structure

DEPTH, CHANNELS, SIDE = 4, 3, 9


def stream(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def asked(question: str, **settings) -> pd.DataFrame:
    return measure_question.measure_question(
        question, {"depth": DEPTH, "kernel": 3, "runs": 60, "seed": 0, "widths": [CHANNELS], **settings}
    )


def only(table: pd.DataFrame, **values) -> pd.Series:
    (found,) = (row for _, row in table.iterrows() if all(row[name] == value for name, value in values.items()))
    return found


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_passes_layer_by_layer_are_the_stacks_own(activation):
    stack = build_stack(structure("plain", DEPTH, 3), CHANNELS, "random", activation, generators=[stream()])
    weights = passes.draw_weights(DEPTH, 3, CHANNELS, activation, stream())
    for module, own in zip((m for m in stack.modules() if isinstance(m, nn.Conv2d)), weights, strict=True):
        np.testing.assert_allclose(module.weight, own, rtol=1e-6)
    images = torch.randn(1, CHANNELS, SIDE, SIDE, generator=stream(1))
    gates = passes.forward(weights, images)[0] if activation == "relu" else None
    gradient, _ = passes.backward(weights, gates)
    np.testing.assert_allclose(gradient, gradient_of_sum(stack, images.double())[0], rtol=1e-4, atol=1e-6)


def test_batch_norm_is_torchs_in_evaluation_mode_after_one_look_at_the_images():
    weights = passes.draw_weights(DEPTH, 3, CHANNELS, "relu", stream())
    images = torch.randn(5, CHANNELS, SIDE, SIDE, generator=stream(1))
    layers = []
    for weight in weights:
        layers.append(nn.Conv2d(*weight.shape[1::-1], 3, bias=False))
        layers[-1].weight.data = weight
        layers += [nn.BatchNorm2d(len(weight)), nn.ReLU()]
    model, x = nn.Sequential(*layers[:-2]).eval().requires_grad_(False), images
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
            module.running_mean, module.running_var = mean, variance
        x = module(x)
    expected = gradient_of_sum(model, images[:1])[0]
    gradient, _ = passes.backward(weights, *passes.forward(weights, images, batch_norm=True))
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-6)


def pair_map(depth: int, channels: int, share: float) -> np.ndarray:
    """E[g^2] (T,) of kernels of 3 taps in one dimension, from E[g_i(p) g_j(q)] carried down layer by layer."""
    side, fan_in = 1 + 2 * depth, 3 * channels
    pairs = np.zeros((1, 1, side, side))  # of the channels above, and of pixels
    pairs[0, 0, 0, 0] = 1.0
    for _ in range(depth):
        found = np.zeros((channels, channels, side, side))
        for m, n in itertools.product(range(3), repeat=2):
            moved = np.roll(np.roll(pairs, m, 2), n, 3)
            found += share / fan_in**2 * moved.sum((0, 1))
            if m == n:
                same = np.einsum("iipq->pq", moved) * (1 - share) / fan_in
                found += np.eye(channels)[:, :, None, None] * same
        pairs = found
    return np.diagonal(pairs[0, 0])


@pytest.mark.parametrize("channels, share", [(1, 0.0), (1, 0.3), (1, 1.0), (3, 0.2), (3, 0.7)])
def test_the_closed_form_of_mean_squares_is_what_pairs_of_pixels_give(channels, share):
    """In one dimension, by a recursion over all pairs of channels and pixels, which knows nothing of paths. The shares
    are the same in any number of dimensions."""
    terms = signed.pair_shares(5, 3, channels, share)
    one_dimension = sum(term * np.convolve(np.square(line(apart)), line(5 - apart)) for apart, term in enumerate(terms))
    expected = pair_map(5, channels, share)
    np.testing.assert_allclose(one_dimension, expected, rtol=1e-10)


def line(depth: int) -> np.ndarray:
    return np.array(theory.extended_binomial(3, depth)) / 3**depth


def test_of_one_channel_the_number_of_independent_steps_is_binomial():
    expected = [comb(6, j) * 0.3**j * 0.7 ** (6 - j) for j in range(7)]
    np.testing.assert_allclose(signed.pair_shares(6, 3, 1, 0.3), expected)


@pytest.mark.parametrize("channels", [1, 16])
def test_the_ends_are_the_theories_of_random_and_of_uniform_weights(channels):
    uniform = theory.uniform_map(20, 3)
    for read, weights in (("abs", "uniform"), ("square", "random")):
        share = float(weights == "uniform")
        found = {"abs": signed.mean_abs_map, "square": signed.mean_square_map}[read](20, 3, channels, share)
        np.testing.assert_allclose(found / found.sum(), uniform / uniform.sum(), rtol=1e-9, atol=1e-18)
    stack = [theory.Layer(theory.uniform_taps(3))] * 20
    for share, weights in ((0.0, "random"), (1.0, "uniform")):
        size = measure_question.sizes(signed.mean_abs_map(20, 3, channels, share))
        assert size == pytest.approx(theory.expected_size(stack, weights), rel=1e-9)


def test_signed_kernels_measures_the_ends_and_what_lies_between():
    table = asked("signed_kernels", mean_shares=[0, 0.5, 1], runs=200)
    for share, quantity in itertools.product((0, 0.5), ("sigma", "size")):
        row = only(table, place=share, quantity=quantity, condition="square")
        assert row["low"] - 0.02 * row["theory"] < row["theory"] < row["high"] + 0.02 * row["theory"]
    uniform = only(table, place=1, quantity="sigma", condition="abs")
    assert uniform["value"] == pytest.approx(math.sqrt(DEPTH * 8 / 12)) and uniform["runs"] == 1
    negative = table[table["quantity"] == "negative share"].set_index("place")["value"]
    weights = passes.with_mean(passes.draw_weights(9, 3, 20, "none", stream()), 0.5)
    assert signed.negative_share(3, 20, 0.5) == pytest.approx(
        torch.cat([w.flatten() for w in weights]).lt(0).double().mean().item(), abs=0.01
    )
    assert negative[0] == 0.5 and negative[1] == 0


def test_wide_linear_stacks_have_a_normal_gradient_and_thin_ones_theorys_corner():
    wide = asked("means", widths=[128], activations=["none"], depth=2, runs=40)
    ratio = only(wide, condition="in the ERF", quantity="ratio")
    assert ratio["value"] == pytest.approx(math.sqrt(2 / math.pi), rel=0.01)
    thin = asked("means", widths=[1, 4], activations=["none"], depth=3, runs=3000)
    for width in (1, 4):
        row = only(thin, condition="corner", width=width)
        assert row["low"] - 0.01 < row["theory"] < row["high"] + 0.01
        assert row["high"] - row["low"] < 0.06
    exact = math.sqrt(2 / math.pi) ** 3
    assert only(thin, condition="corner", width=1)["theory"] == pytest.approx(exact)


def test_the_mean_of_m_gradients_shrinks_as_one_over_the_root_and_a_planted_mean_does_not():
    table = asked("means", activations=["relu"], runs=100)
    means = table[table["condition"] == "runs averaged"].set_index("place")
    assert means.loc[1, "value"] == pytest.approx(1) and len(means) > 4
    known = means[means["low"].notna()]
    assert len(known) > 3 and ((known["value"] / known["theory"]).between(0.85, 1.15)).all()
    rng = np.random.default_rng(0)
    planted = rng.normal(size=(100, 2, 9, 9)) + 0.5
    rows = pd.DataFrame(measure_question.rows_of_mean(planted))
    assert rows.query("quantity == 'mean' and place == 20")["low"].item() > 1.5 * 20**-0.5
    assert rows.query("quantity == 'cosine'")["low"].item() > 0.1


def test_gates_of_fair_coins_are_independent_and_a_planted_dependence_is_found():
    coins, planted = [], []
    for number in range(200):
        weights = passes.draw_weights(DEPTH, 3, CHANNELS, "relu", stream(number))
        own, _ = passes.forward(weights, torch.randn(1, CHANNELS, SIDE, SIDE, generator=stream(1000 + number)))
        gates = passes.coin_gates(own, stream(number))
        _, arriving = passes.backward(weights, gates)
        coins.append(passes.dependence(gates[1], arriving[1]))
        energy = arriving[1].square()
        open_at_strong = (energy > energy.median()) ^ (torch.rand(energy.shape, generator=stream(number)) < 0.3)
        planted.append(passes.dependence(open_at_strong, arriving[1]))
    for values in np.array(coins).T:
        _, low, high = measure_question.mean_interval(values)
        assert low < 0 < high and high - low < 0.04
    assert (np.mean(planted, 0) > 0.1).all()
    correlation, _ = passes.dependence(gates[1], arriving[1])
    by_hand = np.corrcoef(gates[1].flatten().numpy(), arriving[1].double().square().flatten().numpy())[0, 1]
    assert correlation == pytest.approx(by_hand)
    assert np.isnan(passes.dependence(torch.ones(2, 3, 3), torch.randn(2, 3, 3, generator=stream()))[0])


def test_permuted_gates_keep_each_channels_share_and_coins_are_fair():
    gates = [torch.rand(5, 20, 30, generator=stream()) < torch.linspace(0.1, 0.9, 5)[:, None, None]]
    (permuted,), (coins,) = passes.permuted_gates(gates, stream(1)), passes.coin_gates(gates, stream(2))
    assert (permuted.sum((1, 2)) == gates[0].sum((1, 2))).all() and not torch.equal(permuted, gates[0])
    assert coins.double().mean().item() == pytest.approx(0.5, abs=0.05) and coins.shape == gates[0].shape


def test_gates_and_batch_norm_give_tables_of_one_form(tmp_path):
    for question, more in (("gates", {}), ("batch_norm", {"images": 3})):
        settings = {"question": question, "depth": 3, "kernel": 3, "runs": 8, "seed": 0, "widths": [4], **more}
        out = tmp_path / f"{question}.csv"
        assert measure_question.main(["--settings", settings_file(settings), "--out", str(out)]) == 0
        table = pd.read_csv(out)
        assert list(table.columns) == list(measure_question.COLUMNS)
        assert (table["question"] == question).all() and (table["dead"] + 2 <= table["runs"]).all()
    gates = pd.read_csv(tmp_path / "gates.csv")
    layers = gates.query("condition == 'layer' and quantity == 'correlation'")
    assert layers["place"].tolist() == [1, 2]
    mean = only(gates, condition="all layers", quantity="correlation")
    assert mean["value"] == pytest.approx(layers["value"].mean())


def test_a_ratio_of_one_map_to_itself_is_one_and_to_a_wider_one_is_known():
    narrow, wide = (theory.gaussian_map(s, (81, 81), (40, 40)) for s in (4, 6))
    scale = np.random.default_rng(0).uniform(1, 2, (10, 1, 1))
    for read in measure_question.READINGS.values():
        same = measure_question.ratio_of_mean_maps(read, scale * narrow, scale * narrow)
        assert same == pytest.approx((1, 1, 1))
        assert measure_question.ratio_of_mean_maps(read, scale * wide, scale * narrow)[0] == pytest.approx(
            1.5, rel=2e-3
        )


def test_dead_stacks_end_in_one_line(tmp_path, capsys):
    settings = {"question": "gates", "depth": 60, "kernel": 3, "runs": 3, "seed": 0, "widths": [1]}
    assert measure_question.main(["--settings", settings_file(settings), "--out", str(tmp_path / "x.csv")]) == 1
    assert "gates: all stacks are dead in nearly all runs" in capsys.readouterr().err


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    asked_of = {
        "means": {"widths": [1, 4], "activations": ["none", "relu"], "runs": 6},
        "signed_kernels": {"widths": [1, 2], "mean_shares": [0, 0.5, 1], "runs": 6},
        "gates": {"widths": [4], "runs": 6},
        "batch_norm": {"widths": [4], "images": 4, "runs": 6},
    }
    return {question: asked(question, **settings) for question, settings in asked_of.items()}


@pytest.mark.parametrize("shown", [("means", "signed_kernels", "gates", "batch_norm"), ("batch_norm",), ("means",)])
def test_the_figure_shows_what_the_tables_have_and_its_files_are_stable(shown, tables, tmp_path):
    for question in shown:
        tables[question].to_csv(tmp_path / f"{question}.csv", index=False)
    paths, digests = [str(tmp_path / f"{question}.csv") for question in shown], []
    for name in ("a", "b") if len(shown) > 1 else ("a",):
        assert figure_reviewers.main(["--tables", *paths, "--out", str(tmp_path / f"{name}.png")]) == 0
        digests.append([(tmp_path / f"{name}{suffix}").read_bytes() for suffix in (".png", ".pdf", ".csv")])
    assert digests[0] == digests[-1]
    drawn = pd.read_csv(tmp_path / "a.csv")
    expected = pd.concat(tables[question] for question in shown)
    np.testing.assert_allclose(drawn["value"], expected["value"], rtol=1e-5)
