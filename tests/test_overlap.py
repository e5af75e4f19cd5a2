"""The overlap of tiles, held against the outputs of the whole image."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from torch import nn

import erf
from conftest import ROOT
from erf.applied.layers import measurable_layers

EXACT, SHAPE = 1e-12, (3, 128, 160)


@pytest.fixture(autouse=True)
def weights():
    torch.manual_seed(0)


class UNet(nn.Module):
    """Ronneberger, Fischer and Brox 2015, padded, with three levels."""

    def __init__(self, upsample=lambda above, below: nn.ConvTranspose2d(above, below, 2, 2)):
        super().__init__()
        double = lambda a, b: nn.Sequential(  # noqa: E731
            nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()
        )
        widths = [4, 8, 16]
        self.down = nn.ModuleList(map(double, [3, 4, 8], widths))
        self.up = nn.ModuleList(upsample(above, below) for below, above in itertools.pairwise(widths))
        self.join = nn.ModuleList(double(above, below) for below, above in itertools.pairwise(widths))
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        skips = []
        for level, layer in enumerate(self.down):
            x = layer(x if level == 0 else nn.functional.max_pool2d(x, 2))
            skips.append(x)
        for up, join, skip in zip(self.up[::-1], self.join[::-1], skips[-2::-1], strict=True):
            x = join(torch.cat([skip, up(x)], 1))
        return self.head(x)


def bilinear(align_corners: bool):
    return lambda above, below: nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=align_corners), nn.Conv2d(above, below, 1)
    )


class Blocks(nn.Module):
    """A stride of 4 in functions alone."""

    def forward(self, x):
        return nn.functional.interpolate(nn.functional.avg_pool2d(x, 4), scale_factor=4)


class Hidden(nn.Module):
    """A stride of 2 inside of `forward`, of which no submodule tells."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 9, padding=4)

    def forward(self, x):
        return self.conv(x) + nn.functional.interpolate(nn.functional.avg_pool2d(x, 2), scale_factor=2)


@torch.no_grad()
def tiled(model, image, halo, grid):
    """Outputs of an image (1, C, H, W), computed in tiles of about 32 pixels."""
    cells = 32 // max(grid)
    sides, whole = image.shape[2:], model(image).shape
    per_pixel = [count / side for count, side in zip(whole[2:], sides, strict=True)]
    assert all(side % step == 0 for side, step in zip(sides, grid, strict=True))
    outputs = torch.zeros(whole, dtype=image.dtype)
    for start in itertools.product(*(range(0, side, cells * step) for side, step in zip(sides, grid, strict=True))):
        end = [min(first + cells * step, side) for first, step, side in zip(start, grid, sides, strict=True)]
        low = [max(first - more, 0) for first, more in zip(start, halo, strict=True)]
        high = [min(last + more, side) for last, more, side in zip(end, halo, sides, strict=True)]
        part = model(image[:, :, low[0] : high[0], low[1] : high[1]])
        at = lambda pixels: [round(p * scale) for p, scale in zip(pixels, per_pixel, strict=True)]  # noqa: E731
        (a, b), (c, d), (e, f) = at(start), at(end), at(low)
        outputs[:, :, a:c, b:d] = part[:, :, a - e : c - e, b - f : d - f]
    return outputs


@torch.no_grad()
def error(model, halo, grid, shape=SHAPE) -> float:
    """Largest difference of tiled and whole outputs, over the largest output."""
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    whole = model.eval()(image)
    return float((tiled(model, image, halo, grid) - whole).abs().max() / whole.abs().max())


CASES = {
    "unet": (UNet, (4, 4)),
    "bilinear unet": (lambda: UNet(bilinear(False)), (4, 4)),
    "stack": (lambda: nn.Sequential(*[nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)]), (1, 1)),
    "even kernel": (lambda: nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.Conv2d(4, 1, 3, padding=1)), (2, 2)),
    "rows unlike columns": (lambda: nn.Conv2d(3, 1, (7, 3), stride=(4, 1), padding=(3, 1)), (4, 1)),
    "dilated": (lambda: nn.Sequential(nn.Conv2d(3, 2, 3, 2, 1), nn.Conv2d(2, 1, 3, padding=3, dilation=3)), (2, 2)),
    "finer outputs": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ConvTranspose2d(4, 1, 4, 2, 1)), (1, 1)),
    "hidden stride": (Hidden, (2, 2)),
}


@pytest.mark.parametrize("name", CASES)
def test_tiles_with_the_exact_halo_give_the_whole_images_outputs_and_with_one_step_less_they_do_not(name):
    build, grid = CASES[name]
    model = build().double()
    found = erf.overlap(model, input_shape=SHAPE)
    assert found.grid == grid and found.reason is None and found.exact_error < EXACT
    assert error(model, found.exact_halo, grid) < EXACT
    for axis, step in enumerate(grid):
        less = list(found.exact_halo)
        less[axis] -= step
        assert error(model, less, grid) > 1e3 * EXACT, axis
    assert found.share_error == pytest.approx(error(model, found.share_halo, grid), rel=2, abs=EXACT)


@pytest.mark.parametrize("off", [0, 2, 4])
def test_an_input_that_begins_off_the_grid_is_not_exact(off):
    model = UNet().double().eval()
    found = erf.overlap(model, input_shape=SHAPE)
    image, start, (halo, _) = torch.randn(1, *SHAPE, dtype=torch.float64), 64, found.exact_halo
    first, last = start - halo - off, start + 8 + halo + off
    with torch.no_grad():
        part, whole = model(image[:, :, first:last, first:last]), model(image)
    inner, cell = slice(halo + off, halo + off + 8), slice(start, start + 8)
    difference = (part[:, :, inner, inner] - whole[:, :, cell, cell]).abs().max() / whole.abs().max()
    assert (difference < EXACT) == (off % found.grid[0] == 0)


def test_the_halo_by_hand():
    """Kernels of 4 with stride 2 and padding 1 see from a pixel before their two to a pixel behind; 3 adds a unit."""
    found = erf.overlap(nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.Conv2d(4, 1, 3, padding=1)), input_shape=SHAPE)
    assert found.reach == ((3, 3), (3, 3)) and found.exact_halo == (4, 4)
    one_sided = erf.overlap(nn.Conv2d(3, 1, 5), input_shape=SHAPE)
    assert one_sided.reach == ((0, 4), (0, 4)) and one_sided.exact_halo == (4, 4)
    patches = erf.overlap(nn.Conv2d(3, 1, 8, 8), input_shape=SHAPE)
    assert patches.exact_halo == patches.share_halo == (0, 0) and patches.kept == 1


def test_the_share_by_hand():
    """Of nine equal weights in a row, seven hold 7/9 of the impact."""
    conv = nn.Conv2d(3, 1, (1, 9), padding=(0, 4))
    nn.init.ones_(conv.weight)
    for share, halo in ((0.7, 3), (7 / 9, 3), (0.8, 4), (1, 4), (0.1, 0)):
        found = erf.overlap(conv, input_shape=SHAPE, share=share)
        assert found.share_halo == (0, halo) and found.kept == pytest.approx((2 * halo + 1) / 9)
        assert found.share == share and found.exact_halo == (0, 4)


@pytest.mark.parametrize("column", [0, 2])
def test_the_unit_that_loses_most_counts(column):
    """Of a cell of four, the first unit alone sees what lies before the cell, and the last what lies behind it."""
    model = nn.Sequential(nn.AvgPool2d(4), nn.Upsample(scale_factor=4), nn.Conv2d(3, 1, 3, padding=1, bias=False))
    with torch.no_grad():
        model[2].weight.zero_()[..., 1, column] = 1
    found = erf.overlap(model.double(), input_shape=SHAPE, share=0.9)
    assert found.grid == (4, 4) and found.reach == ((4, 4), (4, 4)) and found.share_halo == (4, 4)
    model[2].weight.data[..., 1, 1] = 9  # of ten parts of the impact one is beyond the cell
    assert erf.overlap(model, input_shape=SHAPE, share=0.9).share_halo == (0, 0)
    assert erf.overlap(model, input_shape=SHAPE, share=0.91).share_halo == (4, 4)


def test_a_smaller_share_needs_less_and_costs_more():
    model = UNet().double()
    found = [erf.overlap(model, input_shape=SHAPE, share=share) for share in (0.5, 0.9, 0.999)]
    halos, errors = [one.share_halo for one in found], [one.share_error for one in found]
    assert halos == sorted(halos) and halos[0] < halos[-1] <= found[0].exact_halo
    assert errors == sorted(errors, reverse=True) and errors[0] > errors[-1]
    assert all(one.kept >= one.share for one in found)


class Squeeze(nn.Module):
    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True)


def test_what_sees_everything_is_named():
    found = erf.overlap(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), Squeeze()), input_shape=SHAPE)
    assert found.exact_halo == (math.inf, math.inf) and found.reach == ((math.inf, math.inf),) * 2
    assert "mean" in found.reason and "mean" in str(found) and math.isnan(found.exact_error)
    assert found.share_error > 0 and all(map(math.isfinite, found.share_halo))


def test_what_changes_with_the_place_of_a_tile_is_not_called_exact():
    found = erf.overlap(UNet(bilinear(True)).double(), input_shape=SHAPE)
    assert found.exact_halo == (math.inf, math.inf) and found.reason and found.share_error > 1e-6

    class Positions(nn.Module):
        def forward(self, x):
            return x * torch.arange(x.shape[3])

    found = erf.overlap(Positions(), input_shape=SHAPE)
    assert found.exact_halo == (math.inf, math.inf) and "depend on the place of the tile" in found.reason


def test_a_model_that_takes_one_size_alone():
    class Fixed(nn.Module):
        def forward(self, x):
            assert x.shape[2:] == (24, 32), "24 x 32 alone"
            return x * 2

    found = erf.overlap(Fixed(), input_shape=(3, 24, 32))
    assert found.exact_halo == (math.inf, math.inf) and "24 x 32 alone" in found.reason


def test_a_layer_is_read_alone():
    """What comes behind it neither widens its halo nor coarsens its grid, and need not take tiles."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, 8, 1), nn.Flatten(), nn.LazyLinear(2))
    model(torch.zeros(1, *SHAPE))
    first, second = (erf.overlap(model, layer, input_shape=SHAPE) for layer in ("0", "1"))
    assert (first.exact_halo, first.grid, first.reason) == ((1, 1), (1, 1), None)
    assert (second.exact_halo, second.grid, second.reason) == ((8, 8), (8, 8), None)


def test_channels_last():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 5, 2, 2)

        def forward(self, x):
            return self.conv(x).permute(0, 2, 3, 1)

    found = erf.overlap(Last(), input_shape=SHAPE)
    assert (found.exact_halo, found.grid, found.exact_error < 1e-5) == ((2, 2), (2, 2), True)


def test_an_image_too_small_to_check_says_so():
    model = nn.Sequential(*[nn.Conv2d(3, 3, 3, padding=1) for _ in range(20)])
    found = erf.overlap(model, input_shape=(3, 16, 18))
    assert found.exact_halo == (20, 20) and math.isnan(found.exact_error)


def test_the_users_images_and_channel_are_measured():
    """One channel sees a pixel, the other nine; behind a ReLU both are dead in negative images."""
    relu = nn.Sequential(nn.Conv2d(1, 2, (1, 9), padding=(0, 4), bias=False), nn.ReLU())
    with torch.no_grad():
        relu[0].weight[0, 0, 0] = torch.eye(9)[4]
        relu[0].weight[1, 0, 0] = torch.ones(9)
    images = torch.ones(2, 1, 8, 40)
    narrow, wide = (erf.overlap(relu, images=images, channels=channel).share_halo for channel in (0, 1))
    assert (narrow, wide) == ((0, 0), (0, 4))
    with pytest.raises(erf.InputError, match="the unit is dead in all 2 images"):
        erf.overlap(relu, images=-images.numpy())


def test_the_model_is_left_as_it_was():
    model = UNet()
    model.down[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    erf.overlap(model, input_shape=(3, 32, 48))
    assert [module.training for module in model.modules()] == modes and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "give images (N, C, H, W), or the input_shape (C, H, W) of noise"),
        ({"input_shape": SHAPE, "images": torch.ones(1, *SHAPE)}, "one of them"),
        ({"images": [torch.ones(1, *SHAPE)]}, "images must be one batch"),
        ({"input_shape": SHAPE, "share": 0}, "the share of the impact must be above 0 and at most 1, not 0"),
        ({"input_shape": SHAPE, "share": 1.5}, "the share of the impact must be above 0 and at most 1, not 1.5"),
        ({"input_shape": SHAPE, "layer": "convx"}, "unknown layer 'convx'"),
        ({"input_shape": SHAPE, "channels": 9}, "unknown channels 9"),
    ],
)
def test_a_mistake_is_named(options, message):
    with pytest.raises(erf.InputError, match=re.escape(message)):
        erf.overlap(nn.Sequential(nn.Conv2d(3, 2, 3)), **options)


def test_the_grid_is_the_least_common_multiple_of_the_strides():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.down = nn.ModuleList(nn.Conv2d(3, 3, 3, side, 1) for side in (3, 5))
            self.up = nn.ModuleList(nn.ConvTranspose2d(3, 2, side, side) for side in (3, 5))

        def forward(self, x):
            return sum(up(down(x)) for up, down in zip(self.up, self.down, strict=True))

    model, shape = Branches().double(), (3, 90, 120)
    found = erf.overlap(model, input_shape=shape)
    assert found.grid == (15, 15) and found.exact_error < EXACT
    assert error(model, found.exact_halo, found.grid, shape) < EXACT


def test_a_stride_in_functions_alone():
    found = erf.overlap(Blocks(), input_shape=SHAPE)
    assert found.grid == (4, 4) and found.exact_halo == (0, 0) and found.exact_error < 1e-5


def test_without_padding_a_halo_that_is_too_narrow_lacks_outputs():
    conv = nn.Conv2d(3, 1, 5)
    with torch.no_grad():
        conv.weight[..., -1, :] = conv.weight[..., :, -1] = 1e-4
    found = erf.overlap(conv, input_shape=SHAPE)
    assert found.exact_halo == (4, 4) and found.exact_error < 1e-5
    assert found.share_halo == (3, 3) and found.share_error == math.inf


def test_tokens_without_a_map_are_refused():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 5, 4, 4)

        def forward(self, x):
            return self.conv(x).flatten(2).transpose(1, 2)

    with pytest.raises(erf.InputError, match="tokens in one row"):
        erf.overlap(Tokens(), input_shape=SHAPE)
    layers = measurable_layers(Tokens(), SHAPE)
    assert [(one.name, one.units, one.channels) for one in layers] == [("conv", (32, 40), 5), (None, (32, 40), 5)]


def test_the_example_of_the_documentation():
    """Whole and tiled outputs agree as docs/tiles.md says."""
    text = (ROOT / "docs/tiles.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {"model": UNet().double(), "image": torch.randn(1, 3, 128, 160, dtype=torch.float64)}
    exec(code, names)
    whole = names["model"].eval()(names["image"])
    np.testing.assert_allclose(names["outputs"].numpy(), whole.detach().numpy(), atol=EXACT)
