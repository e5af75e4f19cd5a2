"""How Gaussian and how square a map is, against what is known."""

import numpy as np
import pytest

from erf import theory
from erf.field import ReceptiveField, redrawn_maps
from erf.shape import box_share, box_share_interval, r2_interval

MIDDLE = (20, 20)


def noisy(truth: np.ndarray, seed: int, runs: int = 20) -> np.ndarray:
    """Runs of random weights: |normal| at each pixel, mean over 16 channels."""
    return np.abs(np.random.default_rng(seed).standard_normal((runs, 16, *truth.shape))).mean(1) * truth


def fit(maps: np.ndarray):
    return ReceptiveField.from_runs(maps, MIDDLE, maps.shape[1:]).fit_gaussian()


def test_one_step_finds_what_a_fit_of_its_own_finds():
    maps = noisy(theory.gaussian_map((4.0, 6.0), (41, 41), MIDDLE), 0, runs=6)
    first = fit(maps)
    redrawn = np.concatenate(list(redrawn_maps(maps, np.random.default_rng(1))))
    low, high = r2_interval(maps, MIDDLE, first, np.random.default_rng(1))
    full = np.log([1 - fit(one[None]).r2 for one in redrawn[:300]])
    few = [2 * np.log(1 - first.r2) - np.percentile(full, q) for q in (2.5, 97.5)]
    assert np.log(1 - np.array([low, high])) == pytest.approx(few, abs=0.05)


def test_the_interval_covers_the_r2_without_noise():
    """A map that is not Gaussian, whose R^2 is known; nominal 95 %."""
    truth, covered, repeats = theory.expected_map([theory.Layer(theory.uniform_taps(5))] * 3, "random"), 0, 60
    truth = np.pad(truth, 14)
    exact = fit(truth[None]).r2
    assert exact < 0.99
    for seed in range(repeats):
        maps = noisy(truth, seed)
        low, high = r2_interval(maps, MIDDLE, fit(maps), np.random.default_rng(seed))
        covered += low <= exact <= high
    assert 0.8 * repeats <= covered


def test_runs_that_are_equal_leave_nothing_open_and_one_run_everything():
    truth = theory.expected_map([theory.Layer(theory.uniform_taps(5))] * 10, "random")
    maps = np.stack([truth] * 5)
    assert r2_interval(maps, MIDDLE, fit(maps), np.random.default_rng(0)) == pytest.approx([fit(maps).r2] * 2)
    assert np.isnan(r2_interval(maps[:1], MIDDLE, fit(maps), np.random.default_rng(0))).all()
    assert np.isnan(box_share_interval(maps[:1], MIDDLE, np.random.default_rng(0))).all()
    flat = np.ones((3, 41, 41))
    assert np.isnan(r2_interval(flat, MIDDLE, fit(flat), np.random.default_rng(0))).all()


def test_the_share_of_the_box_tells_a_rectangle_from_an_ellipse():
    rows, columns = np.indices((401, 401)) - 200
    ellipse = ((rows / 150) ** 2 + (columns / 90) ** 2 <= 1).astype(float)
    rectangle = ((abs(rows) <= 150) & (abs(columns) <= 90)).astype(float)
    diamond = (abs(rows) + abs(columns) <= 150).astype(float)
    found = box_share(np.stack([ellipse, rectangle, diamond, 0 * diamond]), (200, 200))
    assert found[:3] == pytest.approx([np.pi / 4, 1, 0.5], abs=0.01)
    assert np.isnan(found[3])
    gaussian = theory.gaussian_map((30, 50), (401, 401), (200, 200))
    assert box_share(gaussian, (200, 200)) == pytest.approx(np.pi / 4, abs=0.01)


def test_noise_widens_the_interval_of_the_share():
    truth = theory.expected_map([theory.Layer(theory.uniform_taps(5))] * 10, "random")
    few, many = (
        np.diff(box_share_interval(noisy(truth, 0, runs), MIDDLE, np.random.default_rng(0)))[0] for runs in (5, 80)
    )
    assert 0 < many < few
