"""How Gaussian and how square a map is, against what is known."""

from dataclasses import replace

import numpy as np
import pytest

from erf import theory
from erf.result.field import ReceptiveField
from erf.result.intervals import jackknife
from replication.stacks.predictions import predicted_map
from replication.statistics.gaussianity import (
    LIMITS,
    box_share,
    box_share_without_noise,
    departure,
    departure_without_noise,
    kurtosis,
    kurtosis_without_noise,
    means_without_one,
    r2_without_noise,
    shape_class,
)

MIDDLE = (20, 20)
GAUSSIAN = theory.gaussian_map((5.0, 5.0), (41, 41), MIDDLE)
FLAT_TOPPED = theory.expected_map([theory.Layer(theory.uniform_taps(3), dilation=d) for d in (1, 2, 4, 8)], "random")


def noisy(truth: np.ndarray, seed: int, runs: int = 20) -> np.ndarray:
    """Runs of random weights: |normal| at each pixel, mean over 16 channels."""
    return np.abs(np.random.default_rng(seed).standard_normal((runs, 16, *truth.shape))).mean(1) * truth


def fit(maps: np.ndarray, position: tuple[float, float] | None = None):
    middle = position or tuple((side - 1) / 2 for side in maps.shape[1:])
    return ReceptiveField.from_runs(maps, middle, maps.shape[1:]).fit_gaussian()


def test_one_step_finds_what_a_fit_of_its_own_finds():
    maps = noisy(theory.gaussian_map((4.0, 6.0), (41, 41), MIDDLE), 0, runs=6)
    first = fit(maps)
    expected = jackknife(first.r2, np.array([fit(mean[None]).r2 for mean in means_without_one(maps)]))
    assert r2_without_noise(maps, MIDDLE, first) == pytest.approx(np.minimum(expected, 1), abs=1e-4)


@pytest.mark.parametrize("truth", [GAUSSIAN, np.pad(FLAT_TOPPED, 5)], ids=["Gaussian", "flat-topped"])
@pytest.mark.parametrize("runs", [20, 100])
def test_the_interval_covers_the_r2_without_noise(truth, runs):
    """Where noise is all that there is, as in a Gaussian map, and where it is not; nominal 95 %."""
    repeats, covered, errors = 40, 0, []
    exact, middle = fit(truth[None]).r2, tuple((side - 1) / 2 for side in truth.shape)
    for seed in range(repeats):
        maps = noisy(truth, seed, runs)
        value, low, high = r2_without_noise(maps, middle, fit(maps))
        assert low <= value <= high <= 1
        covered += low <= exact <= high
        errors.append(value - exact)
    assert covered >= 0.85 * repeats
    assert abs(np.mean(errors)) < 0.001
    assert fit(noisy(truth, 0, 20)).r2 < exact  # what has to be corrected


def test_runs_that_are_equal_leave_nothing_open_and_one_run_everything():
    maps = np.stack([GAUSSIAN * (1 + np.indices((41, 41))[0] / 100)] * 5)
    assert r2_without_noise(maps, MIDDLE, fit(maps)) == pytest.approx([fit(maps).r2] * 3, abs=1e-6)
    assert box_share_without_noise(maps, MIDDLE) == pytest.approx([box_share(maps[0], MIDDLE)] * 3)
    for alone in (r2_without_noise(maps[:1], MIDDLE, fit(maps)), box_share_without_noise(maps[:1], MIDDLE)):
        assert np.isfinite(alone[0]) and np.isnan(alone[1:]).all()
    flat = np.ones((3, 41, 41))
    assert np.isnan(r2_without_noise(flat, MIDDLE, fit(flat))).all()
    assert np.isnan(box_share_without_noise(flat[:0], MIDDLE)).all()


def soft(distance: np.ndarray) -> np.ndarray:
    """A hill whose contours are those of a distance from the middle."""
    return np.exp(-(distance**2))


def test_the_share_of_the_box_tells_a_rectangle_from_an_ellipse():
    rows, columns = np.indices((101, 101)) - 50
    square, ellipse = soft(np.maximum(abs(rows), abs(columns)) / 12), soft(np.hypot(rows / 18, columns / 8))
    diamond = soft((abs(rows) + abs(columns)) / 15)
    for hill, share in ((square, 1), (ellipse, np.pi / 4), (diamond, 0.5)):
        assert box_share(hill, (50, 50)) == pytest.approx(share, abs=0.01)
    assert box_share(GAUSSIAN, MIDDLE) == pytest.approx(np.pi / 4, abs=0.01)


def test_a_bound_that_leaves_the_map_has_no_share():
    assert np.isnan(box_share(theory.gaussian_map((30.0, 30.0), (41, 41), MIDDLE), MIDDLE))
    assert np.isnan(box_share(np.zeros((41, 41)), MIDDLE))
    assert np.isnan(box_share_without_noise(np.zeros((3, 41, 41)), MIDDLE)).all()


def test_the_interval_covers_the_share_without_noise():
    truth = np.pad(FLAT_TOPPED, 5)
    middle = tuple((side - 1) / 2 for side in truth.shape)
    exact, repeats = box_share(truth, middle), 40
    found = [box_share_without_noise(noisy(truth, seed, 50), middle) for seed in range(repeats)]
    assert sum(low <= exact <= high for _, low, high in found) >= 0.85 * repeats


def test_kurtosis_is_that_of_a_distribution_and_a_cut_off_gaussian_has_none():
    uniform = theory.uniform_map(6, 3)  # its marginals are sums of 6 numbers of -1, 0, 1, each of excess -1.5
    wide = (1e9, 1e9)  # a Gaussian that is flat here: -1.2 of a continuous one, -1.2 (n² + 1) / (n² - 1) of n pixels
    flat = -1.2 * (13**2 + 1) / (13**2 - 1)
    assert kurtosis(uniform, (6, 6), wide) == pytest.approx(-1.5 / 6 - flat)
    for position in ((20, 20), (20.5, 19.7)):
        for sigma in ((4.0, 4.0), (3.0, 9.0), (15.0, 15.0)):
            cut_off = theory.gaussian_map(sigma, (41, 41), position)
            assert kurtosis(cut_off, position, sigma) == pytest.approx(0, abs=1e-12)
    together = np.stack([uniform, uniform**2])
    alone = [float(kurtosis(one, (6, 6), sigma)) for one, sigma in zip(together, ((3, 2), (2, 2)), strict=True)]
    assert kurtosis(together, (6, 6), np.array([(3, 2), (2, 2)])) == pytest.approx(alone)


def test_the_departure_is_that_of_the_logarithm_from_a_line():
    for position, sigma in (((20, 20), (5.0, 5.0)), ((20.5, 19.7), (3.0, 6.0))):
        hill = theory.gaussian_map(sigma, (41, 41), position)
        assert departure(3 * hill, position, fit(hill[None], position)) == pytest.approx(0, abs=1e-6)
    # log = -q/2 + c q², q = r²/σ²; over the area, q is uniform. Eight rings of equal width, by hand:
    rows, columns = np.indices((141, 141)) - 70
    q = (rows**2 + columns**2) / 20**2
    far, bend = -2 * np.log(0.0455), 0.004
    hill = np.exp(-q / 2 + bend * np.minimum(q, 1.2 * far) ** 2)
    found = departure(hill, (70, 70), replace(fit(hill[None]), sigma=(20.0, 20.0)))
    fine = (np.arange(64_000) + 0.5) / 64_000 * far
    ring = np.split(fine, 1000 * np.arange(1, 8) ** 2)
    x, share = np.array([part.mean() for part in ring]), np.array([len(part) for part in ring]) / len(fine)
    log = [np.log((np.exp(-part / 2 + bend * part**2)).mean() / np.exp(-part / 2).mean()) for part in ring]
    apart = log - np.polyval(np.polyfit(x, log, 1, w=np.sqrt(share)), x)
    assert found == pytest.approx(np.sqrt(share @ apart**2), rel=0.03)
    # A wider Gaussian has no other shape; what is compared with itself does not depart.
    assert departure(hill, (70, 70), fit(hill[None]), 5 * hill) == pytest.approx(0, abs=1e-6)
    dark = np.where(q < 1, 1.0, 0.0)
    assert departure(dark, (70, 70), fit(dark[None])) == np.inf
    assert np.isnan(departure(np.ones((9, 9)), (4, 4), fit(np.ones((1, 9, 9)))))


STUDENT = (1 + ((np.indices((61, 61)) - 30) ** 2).sum(0) / (3 * 5**2)) ** -2.5  # sigma 5, nu = 3


TEN_LAYERS = np.sqrt(theory.uniform_map(10, 3))


@pytest.mark.parametrize(
    ("truth", "runs"),
    [(GAUSSIAN, 20), (TEN_LAYERS, 20), (TEN_LAYERS, 100), (STUDENT, 20)],
    ids=["Gaussian", "theory", "theory, 100 runs", "Student t"],
)
def test_the_intervals_cover_what_there_is_without_noise(truth, runs):
    """Nominal 95 %. Noise adds to the departure of a mean; the estimate is free of it."""
    middle, first, repeats = tuple((side - 1) / 2 for side in truth.shape), fit(truth[None]), 24
    exact = (float(kurtosis(truth, middle, first.sigma)), departure(truth, middle, first))
    values, covered = [], np.zeros(2)
    for seed in range(repeats):
        maps = noisy(truth, seed, runs)
        found = [without_noise(maps, middle, fit(maps)) for without_noise in MEASURES]
        assert all(low <= value <= high for value, low, high in found)
        covered += [low <= true <= high for (_, low, high), true in zip(found, exact, strict=True)]
        values.append([value for value, _, _ in found])
    bias, spread = np.mean(values, 0) - exact, np.std(values, 0)
    assert (covered >= 0.8 * repeats).all(), covered
    assert (abs(bias) < 0.001 + 4 * spread / np.sqrt(repeats)).all() and (spread < 0.01).all(), (bias, spread)


MEASURES = (kurtosis_without_noise, departure_without_noise)


def test_the_new_measures_of_few_runs_and_of_flat_maps():
    truth = np.stack([theory.uniform_map(10, 3)] * 4)
    middle, first = (10, 10), fit(truth)
    exact = (float(kurtosis(truth[0], middle, first.sigma)), departure(truth[0], middle, first))
    for without_noise, value in zip(MEASURES, exact, strict=True):
        assert without_noise(truth, middle, first) == pytest.approx([value] * 3, rel=1e-3)
        alone = without_noise(truth[:1], middle, first)
        assert alone[0] == pytest.approx(value) and np.isnan(alone[1:]).all()
        flat = np.ones((3, 41, 41))
        assert np.isnan(without_noise(flat, MIDDLE, fit(flat))).all()
        assert np.isnan(without_noise(flat[:0], MIDDLE, fit(flat))).all()


def around(profile):
    return lambda rows, columns: profile(np.hypot(rows, columns))


def across(profile):
    return lambda rows, columns: profile(rows) * profile(columns)


def student(nu: int):
    return lambda r: (1 + r**2 / nu) ** (-(nu + 1) / 2)


def hann(r):
    return np.cos(np.minimum(abs(r) / 2.77, 1) * np.pi / 2) ** 2


HILLS = {  # of about the width of a Gaussian with sigma 1
    "Student t, nu = 3": around(lambda r: (1 + r**2 / 3) ** -2.5),  # of two dimensions
    "Student t, nu = 10": around(lambda r: (1 + r**2 / 10) ** -6.0),
    "Student t, nu = 3, as a profile": around(student(3)),
    "Student t, nu = 10, as a profile": around(student(10)),
    "t × t, nu = 3": across(student(3)),
    "t × t, nu = 10": across(student(10)),
    "sech²": around(lambda r: np.cosh(r) ** -2),
    "sech² × sech²": across(lambda r: np.cosh(r) ** -2),
    "sech": around(lambda r: 1 / np.cosh(1.2 * r)),
    "sech × sech": across(lambda r: 1 / np.cosh(1.2 * r)),
    "cone": around(lambda r: np.maximum(1 - r / 2.3, 0)),
    "triangle × triangle": across(lambda r: np.maximum(1 - abs(r) / 2.45, 0)),
    "Hann": around(hann),
    "Hann × Hann": across(hann),
    "box": across(lambda r: np.where(abs(r) < 1.74, 1.0, 0.0)),
    "exponential": around(lambda r: np.exp(-1.3 * r)),
}
WAVES = {"sine": np.sin, "cosine": np.cos}
HILLS |= {
    f"ripple of 15 %, {wave}, every {period} σ": around(
        lambda r, period=period, wave=wave: np.exp(-(r**2) / 2) * (1 + 0.15 * WAVES[wave](2 * np.pi * r / period))
    )
    for wave in WAVES
    for period in (1.5, 2.0)
}
SIGMAS, OFFSETS = (2.0, 2.7, 4.0, 8.0), ((0.0, 0.0), (0.5, 0.5), (0.3, -0.2))  # pixels


def hill(name: str, sigma: float, offset: tuple[float, float], reach: float = 4.0):
    """A map that reaches so many sigma to each side, and where its middle is."""
    half = int(np.ceil(reach * sigma))
    rows, columns = ((np.arange(2 * half + 1) - half - shift) / sigma for shift in offset)
    return HILLS[name](rows[:, None], columns[None, :]), (half + offset[0], half + offset[1])


def measures(impact: np.ndarray, position: tuple[float, float]) -> tuple[float, float, float]:
    found = fit(impact[None], position)
    return found.r2, float(kurtosis(impact, position, found.sigma)), departure(impact, position, found)


def margins(found: tuple[float, float, float], name: str) -> str:
    limits = LIMITS[name]
    r2, excess, apart = found
    return (
        f"R² {r2:.4f} ({r2 - limits.r2:+.4f} of its limit), excess kurtosis {excess:.3f} "
        f"({abs(excess) - limits.kurtosis:+.3f}), departure {apart:.3f} ({apart - limits.departure:+.3f})"
    )


@pytest.mark.parametrize("name", HILLS)
def test_no_other_hill_is_near_gaussian(name):
    for sigma in SIGMAS:
        for offset in OFFSETS:
            for reach in (4.0, 6.0):
                found = measures(*hill(name, sigma, offset, reach))
                where = f"{name}, σ {sigma:g} px, off by {offset}, to {reach:g} σ"
                assert shape_class(*found) == "", f"{where}: {margins(found, 'near-Gaussian')}"


def test_r2_alone_would_take_most_of_them_for_near_gaussian():
    least = {name: min(measures(*hill(name, sigma, (0, 0)))[0] for sigma in SIGMAS) for name in HILLS}
    assert sum(r2 > LIMITS["near-Gaussian"].r2 for r2 in least.values()) >= 14, least


def theory_map(depth: int, weights: str) -> np.ndarray:
    settings = {"depth": depth, "kernel": 3, "weights": weights, "mode": "abs", "structure": "plain", "dropout": 0.5}
    return predicted_map({**settings, "centre_light": 0, "special_layers": []})


def test_theory_from_ten_layers_on_is_gaussian_and_gives_the_limits():
    found = {}
    for weights in ("uniform", "random"):
        for depth in (*range(10, 21), 30, 40, 80):
            found[weights, depth] = measures(theory_map(depth, weights), (depth, depth))
            assert shape_class(*found[weights, depth]) == "Gaussian", (
                f"{weights}, {depth} layers: {margins(found[weights, depth], 'Gaussian')}"
            )
    for which, limit in ((1, LIMITS["Gaussian"].kurtosis), (2, LIMITS["Gaussian"].departure)):
        worst = max(abs(values[which]) for values in found.values())
        assert 1.3 * worst < limit < 1.4 * worst  # a third above: docstring of gaussianity
    for sigma in SIGMAS:
        for offset in OFFSETS:
            for reach in (1.5, 2.5, 4.0):
                half = int(np.ceil(reach * sigma))
                position = (half + offset[0], half + offset[1])
                cut_off = theory.gaussian_map(sigma, (2 * half + 1,) * 2, position)
                assert shape_class(*measures(cut_off, position)) == "Gaussian"


def test_the_wider_limits_are_just_below_the_mildest_hills_that_one_measure_alone_refuses():
    limits, alone = LIMITS["near-Gaussian"], {"kurtosis": [], "departure": []}
    for name in HILLS:
        for sigma in SIGMAS:
            for offset in OFFSETS:
                r2, excess, apart = measures(*hill(name, sigma, offset))
                if r2 >= limits.r2 and apart <= limits.departure:
                    alone["kurtosis"].append(abs(excess))
                if r2 >= limits.r2 and abs(excess) <= limits.kurtosis:
                    alone["departure"].append(apart)
    for measure, values in alone.items():
        digit = 10 ** np.floor(np.log10(min(values)))
        assert getattr(limits, measure) == pytest.approx(np.floor(min(values) / digit) * digit), min(values)


def test_maps_of_dilated_stacks_are_not_near_gaussian():
    dilated = np.pad(FLAT_TOPPED, 5)
    found = measures(dilated, tuple((side - 1) / 2 for side in dilated.shape))
    assert shape_class(*found) == "", margins(found, "near-Gaussian")


def test_what_is_not_known_is_in_no_class():
    assert shape_class(1.0, 0.0, 0.0) == "Gaussian" and shape_class(0.99, -0.25, 0.0) == "near-Gaussian"
    for gap in ((np.nan, 0, 0), (1, np.nan, 0), (1, 0, np.nan), (0.9, 0, 0), (1, 0.5, 0), (1, -0.5, 0), (1, 0, 0.2)):
        assert shape_class(*gap) == ""
