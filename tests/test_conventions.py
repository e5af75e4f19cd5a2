"""Published conventions against the scripts' own arithmetic, written anew in the plainest way, and what they depend on.

Each function `by_...` below is one script, step by step, without a line of the library.
"""

import inspect
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import leastsq
from torch import nn

import erf
from conftest import ROOT
from erf.comparing import arithmetic
from erf.comparing.conventions import CONVENTIONS, NAMES
from erf.errors import InputError
from erf.system.seeds import torch_generator

SCALED = ("replknet", "slak")  # a logarithm makes them depend on the gradient's scale


def network(seed: int = 0, norm: bool = False) -> nn.Sequential:
    """A small convolutional network with gradients of both signs, whose last layer is an activation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(3, 6, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1)]
        if norm:
            layers.append(nn.BatchNorm2d(6))
            layers[-1].running_mean.uniform_(-0.1, 0.1)
            layers[-1].running_var.uniform_(0.01, 0.04)
        layers += [nn.Tanh(), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(inplace=True)]
        return nn.Sequential(*layers).double().eval()


def deep() -> nn.Sequential:
    """A network whose unit sees 61 x 61 pixels, most of them weakly."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        convolutions = [nn.Conv2d(3 if depth == 0 else 12, 12, 7, padding=3) for depth in range(10)]
        return nn.Sequential(*convolutions, nn.ReLU()).double().eval()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch_generator(seed, "conventions"))


def negative_share(model: nn.Module, images: torch.Tensor) -> float:
    gradient = erf.naive.gradient(model, images)
    return float(gradient.clamp(max=0).sum().abs() / gradient.abs().sum())


# The scripts.


def by_replknet_the_map(model, images):
    total, count = 0, 0
    for image in images:
        x = image[None].clone().requires_grad_(True)
        y = model(x)
        centre = y[:, :, y.shape[2] // 2, y.shape[3] // 2]
        score = torch.clamp(centre, min=0).sum()
        score.backward()
        positive = torch.where(x.grad > 0, x.grad, torch.zeros_like(x.grad))
        grid = positive[0, 0] + positive[0, 1] + positive[0, 2]
        if torch.isnan(grid).any():
            continue
        total, count = total + grid.numpy(), count + 1
    return total / count


def by_replknet_the_square(grid, share, whole):
    height, width = grid.shape
    for half in range(1, height // 2):
        top, left = height // 2 - half, width // 2 - half
        mass = 0.0
        for row in range(top, min(height // 2 + half + 1, height)):
            mass += grid[row][left : width // 2 + half + 1].sum()
        if mass / grid.sum() > share:
            return 2 * half + 1, (2 * half + 1) ** 2 / whole
    return np.nan, np.nan


def squares(grid, whole):
    found = {}
    for share in (0.2, 0.3, 0.5, 0.99):
        side, area = by_replknet_the_square(grid, share, whole)
        found |= {f"side_{100 * share:g}": side, f"area_{100 * share:g}": area}
    return found


def by_replknet(model, images):
    grid = by_replknet_the_map(model, images)
    logged = np.log10(grid + 1)
    logged = logged / np.max(logged)
    return logged, squares(logged, grid.shape[0] * grid.shape[1])


def by_slak(model, images):
    grid = by_replknet_the_map(model, images)
    logged = np.log10(grid + 1) / np.max(np.log10(grid + 1))
    return grid / np.max(grid), squares(logged, 1024 * 1024)


def by_vmamba(model, images):
    grid = np.power(by_replknet_the_map(model, images), 1 / 5)
    grid /= grid.max()
    return grid, squares(grid, grid.shape[0] * grid.shape[1])


def by_openerf(model, images):
    total = np.zeros(images.shape[2:])
    for image in images:
        x = image[None].clone().requires_grad_(True)
        y = model(x)
        y[0, :, y.shape[2] // 2, y.shape[3] // 2].mean().backward()
        total += np.maximum(x.grad[0].mean(0).numpy(), 0)
    mass = total / total.sum()
    height, width = mass.shape
    found = {}
    for radius in (5, 10, 20, 30, 40, 60, 80):
        found[f"mass_{radius}"] = sum(
            mass[row, column]
            for row in range(height)
            for column in range(width)
            if (row - height // 2) ** 2 + (column - width // 2) ** 2 <= radius**2
        )
    found["mass_row"] = sum(row * mass[row].sum() for row in range(height))
    found["mass_column"] = sum(column * mass[:, column].sum() for column in range(width))
    found |= by_lmfit(mass)
    return (mass - mass.min()) / (mass.max() - mass.min()), found


def by_lmfit(mass):
    """The fit as lmfit does it: MINPACK, with bounds as a change of variables.

    lmfit stops where a step changes the sum of squares by less than 1.5e-8 of it. That is up to 1e-4 pixels before the
    minimum, to which this goes on.
    """
    height, width = mass.shape
    rows, columns = np.mgrid[:height, :width]

    def bounded(free):
        amplitude, column, row, sigma_columns, sigma_rows = free
        above = lambda low, x: low - 1 + np.sqrt(x * x + 1)  # noqa: E731
        between = lambda high, x: (np.sin(x) + 1) * high / 2  # noqa: E731
        centre = between(width - 1, column), between(height - 1, row)
        return above(0, amplitude), *centre, above(1e-6, sigma_columns), above(1e-6, sigma_rows)

    def residual(free):
        amplitude, column, row, sigma_columns, sigma_rows = bounded(free)
        exponent = (columns - column) ** 2 / (2 * sigma_columns**2) + (rows - row) ** 2 / (2 * sigma_rows**2)
        return (amplitude * np.exp(-exponent) / (2 * np.pi * sigma_columns * sigma_rows) - mass).ravel()

    start = 2.0, 0.8 * (width - 1) / 2, 0.8 * (height - 1) / 2, width / 15, height / 9
    free = [np.sqrt((start[0] + 1) ** 2 - 1), *(np.arcsin(2 * start[1] / (width - 1) - 1),)]
    free += [np.arcsin(2 * start[2] / (height - 1) - 1)]
    free += [np.sqrt((sigma - 1e-6 + 1) ** 2 - 1) for sigma in start[3:]]
    free, _ = leastsq(residual, free, ftol=1e-15, xtol=1e-12, gtol=0, maxfev=10**4)
    names = ("amplitude", "column", "row", "sigma_columns", "sigma_rows")
    return dict(zip(names, bounded(free), strict=True)) | {"r2": 1 - residual(free).var() / mass.var()}


def by_voxelnext(model, images):
    (image,) = images
    x = image[None].clone().requires_grad_(True)
    y = model(x)
    y[0, :, y.shape[2] // 2, y.shape[3] // 2].sum().backward()
    length = np.sqrt((x.grad[0].numpy() ** 2).sum(0))
    length = (length - length.min()) / (length.max() - length.min())
    return np.minimum(10 * length, 1), {}


def by_netharn(model, images):
    model = nn.Sequential(*(layer for layer in model if not isinstance(layer, nn.BatchNorm2d)))
    x = images.clone().requires_grad_(True)
    y = model(x)
    seed = torch.zeros_like(y)
    seed[:, :, y.shape[2] // 2, y.shape[3] // 2] = 1
    y.backward(gradient=seed)
    grid = x.grad.abs().mean(0).mean(0).numpy()
    grid = grid / grid.max()
    found = {}
    for suffix, share in (("", 1.0), ("_95", 0.95)):
        level = 0.0
        if share < 1:
            running, ordered = 0.0, sorted(grid.ravel().tolist(), reverse=True)
            for level in ordered:
                running += level
                if running > share * sum(ordered):
                    break
        rows, columns = np.where(grid > level)
        found |= {f"height{suffix}": rows.max() - rows.min() + 1, f"width{suffix}": columns.max() - columns.min() + 1}
    return grid, found


def by_luo2016(model, images):
    field = erf.measure(model, images)
    found = {"size": field.size, "diameter": field.diameter, "sigma_rows": field.sigma[0]}
    found["sigma_columns"] = field.sigma[1]
    for share, (side, area) in field.contribution_areas.items():
        found |= {f"side_{100 * share:g}": side, f"area_{100 * share:g}": area}
    return erf.naive.impact_map(model, images), found


SCRIPTS = {name: globals()[f"by_{name}"] for name in NAMES}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_a_convention_is_the_scripts_own_arithmetic(name, seed):
    model = network(seed, norm=True)
    sides = (44, 44) if name == "vmamba" else (44, 56)
    images = noise(1 if name == "voxelnext" else 3, 3, *sides, seed=seed)
    assert 0.2 < negative_share(model, images) < 0.8
    shown, found = SCRIPTS[name](model, images)
    result = erf.by_convention(model, images, name)
    np.testing.assert_allclose(result.map, shown, rtol=1e-9, atol=1e-15)
    assert result.numbers == pytest.approx(found, rel=1e-6, nan_ok=True)
    assert result.map.dtype == np.float64 and result.map.shape == sides
    assert result.images == len(images)


@pytest.mark.parametrize("name", NAMES)
def test_no_two_conventions_agree(name):
    """So that each test above can fail."""
    model, images = network(norm=True), noise(1, 3, 44, 44)
    others = [SCRIPTS[other](model, images)[0] for other in NAMES if other != name]
    own = erf.by_convention(model, images, name).map
    assert min(np.abs(own / own.max() - other / other.max()).max() for other in others) > 1e-3


class Scaled(nn.Module):
    """A model whose output is multiplied, and so its gradient too."""

    def __init__(self, model: nn.Module, factor: float):
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, images):
        return self.factor * self.model(images)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradients_scale_moves_the_logged_ratio_and_no_other_number(name):
    model, images = deep(), noise(1, 3, 64, 64)
    largest = erf.by_convention(model, images, name).impact.max()
    weak, strong = (erf.by_convention(Scaled(model, to / largest), images, name) for to in (1e-3, 1e5))
    np.testing.assert_allclose(strong.impact, 1e8 * weak.impact, rtol=1e-9)
    if name in SCALED:
        assert strong.numbers["area_50"] > 1.5 * weak.numbers["area_50"]
    else:
        assert strong.numbers == pytest.approx(weak.numbers, rel=1e-6)


def test_a_logged_ratio_of_one_gaussian_at_five_scales():
    """The ratios of a Gaussian of sigma 120 at 1024 x 1024 pixels that the project has derived before."""
    gaussian = erf.theory.gaussian_map(120, (1024, 1024), (512, 512))
    linear = arithmetic.high_contribution(gaussian)["area_50"]
    logged = [
        arithmetic.high_contribution(arithmetic.logged(scale * gaussian))["area_50"] for scale in (1, 1e2, 1e4, 1e6)
    ]
    assert [round(100 * ratio, 1) for ratio in (linear, *logged)] == [6.1, 7.0, 14.0, 24.5, 33.3]


def test_signs_cancel_in_openerf_and_nowhere_else():
    """Two colours with opposite gradients: the mean over colours is zero before anything is clamped."""
    model = nn.Conv2d(2, 1, 5, padding=2, bias=False).double()
    with torch.no_grad():
        model.weight[:, 1] = -model.weight[:, 0]
    images = model.weight.detach().sign().repeat(1, 1, 3, 3)  # the unit is positive
    with pytest.raises(InputError, match="openerf is the same at all pixels"):
        erf.by_convention(model, images, "openerf")
    for name in set(NAMES) - {"openerf"}:
        assert erf.by_convention(model, images, name).impact.any()


def test_clamping_loses_the_pixels_that_lower_the_unit():
    model, images = network(), noise(2, 3, 44, 44)
    clamped, whole = (erf.by_convention(model, images, name).impact.sum() for name in ("replknet", "luo2016"))
    channels = erf.naive.gradient(model, images).clamp(min=0).sum() / len(images)
    assert clamped == pytest.approx(float(channels)) and 0.2 < clamped / (3 * whole) < 0.8


def test_replknet_clamps_the_activation_too():
    """A unit below zero is dead there, and not here."""
    model = nn.Conv2d(1, 1, 3, padding=1).double()
    nn.init.constant_(model.weight, 1), nn.init.constant_(model.bias, -100)
    images = torch.rand(1, 1, 12, 12, dtype=torch.float64)
    assert erf.by_convention(model, images, "luo2016").numbers["size"] == pytest.approx(3)
    with pytest.raises(InputError, match="the unit is dead, or all its gradients are negative"):
        erf.by_convention(model, images, "replknet")


def test_slak_takes_the_area_of_1024_pixels_whatever_the_images_have():
    model, images = network(), noise(2, 3, 44, 56)
    slak, replknet = (erf.by_convention(model, images, name).numbers for name in ("slak", "replknet"))
    assert slak["side_50"] == replknet["side_50"]
    assert slak["area_50"] * 1024**2 == pytest.approx(replknet["area_50"] * 44 * 56)


def test_the_square_of_a_high_image_begins_at_a_negative_column():
    """The script's square then misses mass, and never holds 99 % of it."""
    grid = np.ones((60, 20))
    assert np.isnan(arithmetic.high_contribution(grid)["side_99"])
    assert by_replknet_the_square(grid, 0.99, grid.size)[1] is np.nan
    assert not np.isnan(arithmetic.high_contribution(grid.T)["side_30"])


def test_an_image_of_nan_is_left_out_as_the_scripts_do():
    class Fragile(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = network()

        def forward(self, images):
            return self.model(images) * (torch.nan if images[0, 0, 0, 0] > 10 else 1)

    images = noise(3, 3, 44, 44)
    images[1, 0, 0, 0] = 11
    found = erf.by_convention(Fragile(), images, "replknet")
    assert found.images == 2
    np.testing.assert_allclose(found.impact, by_replknet_the_map(network(), images[[0, 2]]), rtol=1e-9)
    with pytest.raises(InputError, match="not finite"):
        erf.by_convention(Fragile(), images, "openerf")


class Tokens(nn.Module):
    """The network's output as tokens behind a class token."""

    def __init__(self):
        super().__init__()
        self.model = network()

    def forward(self, images):
        tokens = self.model(images).flatten(2).transpose(1, 2)
        return torch.cat([torch.zeros_like(tokens[:, :1]), tokens], 1)


def test_openerf_takes_the_upper_left_of_the_four_middle_tokens():
    images = noise(1, 3, 40, 40)
    own = erf.by_convention(Tokens(), images, "openerf", layout=(20, 20)).impact
    upper_left = erf.naive.gradient(network(), images, unit=(9, 9)).mean((0, 1)).clamp(min=0) / 8
    np.testing.assert_allclose(own, upper_left, rtol=1e-9, atol=1e-15)
    with pytest.raises(InputError, match="square planes of tokens, not 20 x 24"):
        erf.by_convention(Tokens(), noise(1, 3, 40, 48), "openerf", layout=(20, 24))


def test_netharn_alone_measures_the_model_without_its_normalisation():
    model, images = network(norm=True), noise(1, 3, 44, 44)
    bare = nn.Sequential(*(layer for layer in model if not isinstance(layer, nn.BatchNorm2d)))
    for name in NAMES:
        own, without = (erf.by_convention(one, images, name).impact for one in (model, bare))
        assert np.allclose(own, without, rtol=1e-6) == (name == "netharn"), name
    assert not any(layer._forward_hooks for layer in model)


def test_a_model_is_left_as_it_was():
    model, images = network(norm=True).train(), noise(1, 3, 44, 44)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for name in NAMES:
        erf.by_convention(model, images, name, layer="5")
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"convention": "replnet"}, "did you mean replknet"),
        ({"convention": "gradcam"}, "choose one of luo2016, netharn"),
        ({"convention": "voxelnext"}, r"give images\[:1\]"),
        ({"convention": "vmamba", "images": noise(1, 3, 40, 48)}, "square planes, not 20 x 24"),
        ({"layer": "9"}, "unknown layer '9'"),
        ({"images": noise(3, 44, 44)}, r"One image is \(1, C, H, W\)"),
        ({"images": noise(44, 44)}, "must be"),
        ({"images": torch.zeros(1, 3, 44, 44, dtype=torch.int64)}, "give floats"),
        ({"images": [noise(1, 3, 44, 44)]}, "one tensor or array"),
        ({"images": noise(1, 3, 44, 44) * torch.inf}, "not finite"),
        ({"model": 3}, "torch.nn.Module"),
    ],
)
def test_what_is_wrong_is_named(change, words):
    arguments = {"model": network(), "images": noise(2, 3, 44, 44), "convention": "replknet"} | change
    with pytest.raises(InputError, match=words):
        erf.by_convention(**arguments)


def test_every_convention_says_where_it_comes_from_and_is_described():
    described = inspect.getdoc(erf.by_convention)
    for name in NAMES:
        assert f'"{name}" :' in described
        assert name == "luo2016" or len(CONVENTIONS[name].source) > 20


def test_the_kept_tables_are_those_of_their_program(monkeypatch):
    """Of the model one convention, and of the Gaussian all: the whole program takes a minute."""
    monkeypatch.syspath_prepend(ROOT / "figures/reference")
    monkeypatch.delitem(sys.modules, "conventions", raising=False)
    import conventions as program

    kept, scales = (pd.read_csv(ROOT / f"figures/reference/conventions{part}.csv") for part in ("", "_scale"))
    assert list(dict.fromkeys(kept["convention"])) == list(NAMES)
    images = program.noise(program.IMAGES, (program.SIDE,) * 2, 0)
    result = erf.by_convention(program.resnet18(images), images[:1], "voxelnext", program.LAYER)
    own = program.table({"voxelnext": result})
    both = kept.merge(own, on=["convention", "number"])
    assert len(both) == 1 and both["value_x"].tolist() == pytest.approx(both["value_y"].tolist(), rel=0.01)

    gaussian = erf.theory.gaussian_map(**program.GAUSSIAN)
    transforms = {"luo2016": np.array, "vmamba": arithmetic.fifth_root, "replknet": arithmetic.logged}
    for row in scales[scales["of"] == "gaussian"].itertuples():
        shown = transforms[row.convention](row.scale * gaussian)
        assert row.area_50 == pytest.approx(arithmetic.high_contribution(shown)["area_50"], rel=1e-3)


AXES = {1: (2, 60), 3: (1, 16, 18, 20)}


def of_axes(axes: int) -> nn.Sequential:
    torch.manual_seed(axes)
    layer = getattr(nn, f"Conv{axes}d")
    return nn.Sequential(layer(AXES[axes][0], 4, 5, padding=2), nn.Tanh(), layer(4, 3, 3, padding=1)).double()


def gradients(model, images, relu: bool) -> list[np.ndarray]:
    """Of each image (C, *axes), of the sum of the centre unit's channels, or of the positive ones alone."""
    found = []
    for image in images.split(1):
        source = image.clone().requires_grad_()
        output = model(source)
        channels = output[0, :, *[side // 2 for side in output.shape[2:]]]
        value = channels.relu().sum() if relu else channels.sum()
        found.append(torch.autograd.grad(value, source)[0][0].numpy())
    return found


def centred(shown: np.ndarray, share: float) -> tuple[float, float]:
    """Side and ratio of the first centred interval or cube that holds more than a share, by distances."""
    distances = np.max([np.abs(i - side // 2) for i, side in zip(np.indices(shown.shape), shown.shape, strict=True)], 0)
    for half in range(1, shown.shape[0] // 2):
        if shown[distances <= half].sum() > share * shown.sum():
            return 2 * half + 1, (2 * half + 1) ** shown.ndim / shown.size
    return np.nan, np.nan


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("name, transform", [("replknet", lambda x: np.log10(x + 1)), ("vmamba", lambda x: x**0.2)])
def test_squares_become_intervals_and_cubes(axes, name, transform):
    model, images = of_axes(axes), noise(2, *AXES[axes])
    model, images = (model, images[..., :16, :16, :16]) if axes == 3 else (model, images)
    found = erf.by_convention(model, images, name)
    impact = np.mean([np.maximum(one, 0).sum(0) for one in gradients(model, images, relu=True)], 0)
    np.testing.assert_allclose(found.impact, impact, rtol=1e-9, atol=1e-15)
    shown = transform(impact) / transform(impact).max()
    for share in (20, 30, 50, 99):
        numbers = found.numbers[f"side_{share}"], found.numbers[f"area_{share}"]
        np.testing.assert_allclose(numbers, centred(shown, share / 100))


@pytest.mark.parametrize("axes", AXES)
def test_boxes_norms_and_the_papers_numbers_have_one_or_three_axes(axes):
    model, images = of_axes(axes), noise(2, *AXES[axes])
    each = gradients(model, images, relu=False)
    box = erf.by_convention(model, images, "netharn")
    np.testing.assert_allclose(box.impact, np.mean([np.abs(one).mean(0) for one in each], 0), rtol=1e-9, atol=1e-15)
    sides = [box.numbers[name] for name in (("length",) if axes == 1 else ("depth", "height", "width"))]
    assert sides == [7] * axes
    norm = erf.by_convention(model, images[:1], "voxelnext").impact
    np.testing.assert_allclose(norm, np.sqrt((each[0] ** 2).sum(0)), rtol=1e-9, atol=1e-15)
    paper, field = erf.by_convention(model, images, "luo2016").numbers, erf.measure(model, images)
    names = ["sigma_time"] if axes == 1 else ["sigma_depth", "sigma_rows", "sigma_columns"]
    assert [paper[name] for name in names] == list(field.sigma) and paper["size"] == field.size


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("name", ["slak", "openerf"])
def test_what_does_not_carry_over_is_refused_in_one_line(axes, name):
    with pytest.raises(InputError, match=f"^{name} is for images .* take one of 'luo2016', 'netharn', 'replknet', 'vm"):
        erf.by_convention(of_axes(axes), noise(1, *AXES[axes]), name)
