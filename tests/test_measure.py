"""Impact maps against closed forms and against other ways to compute them."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import erf
from conftest import SCRIPTS
from erf import naive, theory
from erf.errors import InputError
from erf.system.seeds import torch_generator
from replication.stacks.modules import build_stack
from replication.stacks.structures import Conv
from replication.training.resnets import ResNetCifar


@pytest.mark.parametrize("kernel", [2, 3, 5, 7])
@pytest.mark.parametrize("depth", [1, 5, 10, 20, 40])
def test_uniform_stacks_equal_the_extended_binomials(depth, kernel):
    side = 1 + depth * (kernel - 1)
    image = torch.randn(1, 1, side, side, dtype=torch.float64, generator=torch_generator(0))
    field = erf.measure(build_stack([Conv(kernel)] * depth, weights="uniform"), image)
    np.testing.assert_allclose(field.map, theory.uniform_map(depth, kernel), rtol=1e-12)
    assert field.map.dtype == np.float64
    assert field.position == ((side - 1) / 2,) * 2
    assert field.theoretical_rf == (side, side)


def test_several_channels_change_nothing_for_uniform_weights():
    image = torch.randn(2, 5, 21, 21, dtype=torch.float64)
    field = erf.measure(build_stack([Conv(3)] * 10, 5, "uniform"), image)
    np.testing.assert_allclose(field.map, theory.uniform_map(10, 3) / 5, rtol=1e-12)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    strides=st.lists(st.integers(1, 2), min_size=1, max_size=3),
    mode=st.sampled_from(["abs", "square", "signed"]),
)
def test_a_batch_equals_its_images_one_by_one_and_a_numerical_derivative(seed, strides, mode):
    generator = torch_generator(seed)
    torch.manual_seed(seed)
    convolutions = [nn.Conv2d(2, 2, 3, stride, 1, dtype=torch.float64) for stride in strides]
    model = nn.Sequential(*(module for conv in convolutions for module in (conv, nn.Tanh())))
    images = torch.randn(3, 2, 9, 12, dtype=torch.float64, generator=generator)
    together = erf.measure(model, images, mode=mode, batch_size=2)
    alone = [erf.measure(model, image[None], mode=mode) for image in images]
    np.testing.assert_allclose(together.map, np.mean([one.map for one in alone], 0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(together.run_sizes, [one.run_sizes[0] for one in alone], rtol=1e-12)

    row, column = together.settings["unit"]
    step, pixel = 1e-6, (4, 7)
    value = lambda image: model(image[None])[0, :, row, column].sum().item()  # noqa: E731
    derivatives = []
    for channel in range(2):
        moved = images[0].clone()
        moved[channel][pixel] += step
        derivatives.append((value(moved) - value(images[0])) / step)
    expected = {"abs": np.abs, "square": np.square, "signed": np.array}[mode](derivatives).mean()
    assert alone[0].map[pixel] == pytest.approx(expected, abs=1e-5)


def test_a_wider_image_gives_the_same_map_around_the_unit():
    model = build_stack([Conv(3)] * 6, 3, activation="relu", generators=[torch_generator(1)])
    image = torch.randn(1, 3, 31, 37, dtype=torch.float64)
    whole = erf.measure(model, image, unit=(4, 20))
    row, column = (int(p) for p in whole.position)
    assert (row, column) == (10, 26)
    crop = erf.measure(model, image[:, :, row - 6 : row + 7, column - 6 : column + 7])
    np.testing.assert_allclose(whole.map[row - 6 : row + 7, column - 6 : column + 7], crop.map, rtol=1e-12)
    assert np.count_nonzero(whole.map) == np.count_nonzero(crop.map)


@pytest.mark.parametrize("unit", [None, (3, 5)])
def test_the_map_is_that_of_the_definition(unit):
    """Of a layer that an activation in place follows, with an image in which the unit is dead."""
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, 2), nn.ReLU(inplace=True), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(True)
    )
    model = model.double().eval()
    images = torch.randn(4, 2, 25, 31, dtype=torch.float64, generator=torch_generator(0))
    images[1] = 0
    model[0].bias.data.fill_(-0.1)
    for layer in ("3", "0", None):
        field = erf.measure(model, images, layer, unit or "center")
        np.testing.assert_allclose(field.map, naive.impact_map(model, images, layer, unit), rtol=1e-12, atol=1e-18)
        assert (field.dead > 0) == (layer != "0")


class Sign(nn.Module):
    """y = x times the sign of the image's first pixel, so that two images have opposite gradients."""

    def forward(self, x):
        return x * x[:, :1, :1, :1].detach().sign()


def test_the_magnitude_is_taken_before_the_mean_over_images():
    images = torch.ones(2, 1, 3, 3)
    images[1] = -1
    assert erf.measure(Sign(), images).map[1, 1] == 1
    assert erf.measure(Sign(), images, mode="signed").map[1, 1] == 0


def test_the_magnitude_is_taken_before_the_mean_over_input_channels():
    conv = nn.Conv2d(2, 1, 1, bias=False)
    conv.weight.data = torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)
    assert erf.measure(conv, torch.zeros(1, 2, 3, 3)).map[1, 1] == 1


def test_the_model_and_the_images_are_left_as_they_were():
    model = ResNetCifar(blocks=1, width=4, residual_scale=1.0, centre_light=0, generator=torch_generator(0)).train()
    model.stem.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = torch.randn(3, 3, 12, 12)
    kept = images.clone()
    erf.measure(model, images, layer="top")
    assert model.training and model.blocks.training and not model.stem.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(images, kept) and not images.requires_grad and images.grad is None


def test_training_mode_would_leak_and_is_not_used():
    """Batch norm in training mode mixes all pixels; measured, nothing lies outside of the theoretical field."""
    model = ResNetCifar(blocks=2, width=4, residual_scale=1.0, centre_light=0, generator=torch_generator(0)).train()
    field = erf.measure(model, torch.randn(4, 3, 41, 41), layer="top")
    rows = slice(int(field.position[0]) - 6, int(field.position[0]) + 7)
    assert field.theoretical_rf == (13, 13)
    outside = field.map.copy()
    outside[rows, rows] = 0
    assert not outside.any()


def test_a_layer_is_read_before_an_activation_in_place():
    conv = nn.Conv2d(1, 1, 3, padding=1)
    conv.bias.data.fill_(-100.0)  # the activation silences every unit
    model = nn.Sequential(conv, nn.ReLU(inplace=True))
    image = torch.randn(1, 1, 5, 5)
    assert erf.measure(model, image, layer="0").map.any()
    with pytest.raises(InputError, match="dead in all 1 images"):
        erf.measure(model, image)


def test_it_works_where_gradients_are_off_and_under_autocast():
    model, images = nn.Conv2d(1, 1, 3), torch.randn(1, 1, 5, 5)
    expected = erf.measure(model, images).map
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(erf.measure(model, images).map, expected)
    with torch.inference_mode():
        inferred = torch.randn(1, 1, 5, 5)
        assert erf.measure(model, inferred).map.any()


def test_full_precision_whatever_the_caller_has_set_and_his_choice_comes_back():
    """In a process of its own: torch forbids to mix its two ways of setting precisions."""
    program = """
import torch, erf
model, images = torch.nn.Conv2d(1, 1, 3), torch.randn(1, 1, 5, 5)
expected = erf.measure(model, images).map
{setting}
assert (erf.measure(model, images).map == expected).all()
assert {check}
"""
    cases = [("torch.set_float32_matmul_precision('medium')", "torch.get_float32_matmul_precision() == 'medium'")]
    if hasattr(torch.backends, "fp32_precision"):
        cases.append(("torch.backends.fp32_precision = 'tf32'", "torch.backends.cudnn.conv.fp32_precision == 'tf32'"))
    for setting, check in cases:
        code = program.format(setting=setting, check=check)
        subprocess.run([sys.executable, "-c", code], check=True, cwd=SCRIPTS)


def test_the_interval_comes_from_the_images():
    model = build_stack([Conv(3)] * 8, 2, activation="relu", generators=[torch_generator(0)])
    field = erf.measure(model, torch.randn(12, 2, 17, 17), rng=np.random.default_rng(0))
    low, high = field.interval
    assert low < high
    assert len(field.run_sizes) == 12


def broken(value: float) -> nn.Sequential:
    model = nn.Sequential(nn.Conv2d(1, 1, 3, bias=False), nn.Conv2d(1, 1, 3, bias=False))
    model[1].weight.data.fill_(value)
    return model


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"layer": "2"}, "unknown layer '2'"),
        ({"unit": (3, 0)}, r"unit \(3, 0\) is outside of the layer's plane of 3 x 4 units"),
        ({"unit": (-1, 0)}, r"unit \(-1, 0\) is outside"),
        ({"unit": "middle"}, r"unknown unit 'middle': 'center', \(row, column\), or a list"),
        ({"unit": 3}, "unknown unit 3"),
        ({"unit": (1.5, 2)}, r"unknown unit \(1\.5, 2\)"),
        ({"channels": 1}, "unknown channels 1: 'sum', 'each' or a number from 0 to 0"),
        ({"channels": "mean"}, "unknown channels 'mean'"),
        ({"mode": "log"}, "unknown mode 'log'"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        erf.measure(broken(1.0), torch.randn(1, 1, 7, 8), **arguments)


def test_values_that_are_not_finite_are_refused_with_the_layers_name():
    with pytest.raises(InputError, match="layer '1' gives values that are not finite"):
        erf.measure(broken(float("nan")), torch.randn(1, 1, 7, 7))
    with pytest.raises(InputError, match="the images hold values that are not finite"):
        erf.measure(broken(1.0), torch.full((1, 1, 7, 7), float("inf")))
    with pytest.raises(InputError, match="the gradient is not finite on the way back"):
        erf.measure(nn.Sequential(broken(1e30), broken(1e30)), torch.zeros(1, 1, 11, 11))


def plain_network(layers=4):
    torch.manual_seed(0)
    convolutions = (nn.Conv2d(2, 2, 3, padding=1, dtype=torch.float64) for _ in range(layers))
    return nn.Sequential(*(module for conv in convolutions for module in (conv, nn.Tanh())))


IMAGES = torch.randn(6, 2, 20, 24, dtype=torch.float64, generator=torch_generator(0))


def test_several_units_at_once():
    units = [(3, 4), (0, 0), (19, 23)]
    fields = erf.measure(plain_network(), IMAGES, unit=units)
    for unit, field in zip(units, fields, strict=True):
        np.testing.assert_array_equal(field.map, erf.measure(plain_network(), IMAGES, unit=unit).map)
        assert field.position == unit
        assert field.settings["unit"] == list(unit)


def test_images_from_an_iterator_a_loader_or_numpy():
    whole = erf.measure(plain_network(), IMAGES, mode="square")
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(IMAGES, torch.zeros(6)), batch_size=4)
    for images in (IMAGES.numpy(), IMAGES.split(5), iter([IMAGES[:1].numpy(), IMAGES[1:]]), loader):
        field = erf.measure(plain_network(), images, mode="square")
        np.testing.assert_allclose(field.map, whole.map, rtol=1e-12)
        assert field.settings["images"] == 6


def test_a_bar_shows_the_progress(capsys):
    erf.measure(plain_network(), IMAGES, progress=True)
    assert "6/6" in capsys.readouterr().err
    erf.measure(plain_network(), IMAGES)
    assert not capsys.readouterr().err


def test_each_channel_gets_its_images():
    """As many images, all alike, as there are channels: the mean of the channels' own maps."""
    model = plain_network()
    model.append(nn.Conv2d(2, 5, 1, dtype=torch.float64))
    image = IMAGES[:1]
    single = [erf.measure(model, image, channels=channel).map for channel in range(5)]
    each = erf.measure(model, image.expand(10, -1, -1, -1), channels="each", batch_size=3)
    np.testing.assert_allclose(each.map, np.mean(single, 0), rtol=1e-12)
    drawn = [erf.measure(model, image, channels="each", rng=np.random.default_rng(seed)).map for seed in range(20)]
    assert len({one.tobytes() for one in drawn}) == 5  # another generator, another channel


def test_positive_keeps_what_raises_the_unit():
    conv = nn.Conv2d(1, 1, (1, 2), bias=False, dtype=torch.float64)
    conv.weight.data = torch.tensor([[[[1.0, -2.0]]]], dtype=torch.float64)
    image = torch.zeros(1, 1, 1, 4, dtype=torch.float64)
    assert erf.measure(conv, image, mode="positive").map.tolist() == [[0, 1, 0, 0]]
    assert erf.measure(conv, image, mode="abs").map.tolist() == [[0, 1, 2, 0]]


class Transformer(nn.Module):
    """Patches to tokens, a layer of attention, and tokens in front that lie nowhere."""

    def __init__(self, before: int):
        super().__init__()
        self.patches = nn.Conv2d(1, 4, 4, 4)
        self.front = nn.Parameter(torch.randn(1, before, 4))
        self.attention = nn.TransformerEncoderLayer(4, 1, 8, batch_first=True)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.attention(torch.cat([self.front.expand(len(x), -1, -1), tokens], 1))


@pytest.mark.parametrize("before", [0, 1, 5])
def test_tokens_lie_row_after_row_behind_those_of_the_class(before):
    """With attention to nothing but itself the unit's own patch alone is seen."""
    torch.manual_seed(0)
    model, image = Transformer(before), torch.randn(1, 1, 24, 32)
    projection = model.attention.self_attn
    projection.out_proj.weight.data.zero_()  # the token goes on by the skip connection alone
    field = erf.measure(model, image, unit=(4, 6), channels=2)
    rows, columns = field.map.nonzero()
    assert (set(rows), set(columns)) == ({16, 17, 18, 19}, {24, 25, 26, 27})
    assert field.position == (17.5, 25.5)
    assert erf.measure(model, image, channels="each").settings["unit"] == [3, 4]
    with pytest.raises(InputError, match="the sum over channels is constant, as it is behind a layer norm"):
        erf.measure(model, image)
    model.attention.norm2.weight.data[0] = 2  # now it is not
    assert erf.measure(model, image).map.any()


def test_tokens_whose_place_is_not_clear():
    class Some(nn.Module):
        def forward(self, x):
            return x.flatten(2)[:, :, :41].transpose(1, 2).softmax(1)

    image = torch.randn(1, 1, 24, 32)
    with pytest.raises(InputError, match=r"how 41 tokens lie in an image of 24 x 32 is not clear: give layout=\(rows"):
        erf.measure(Some(), image)
    assert erf.measure(Some(), image, layout=(1, 41)).settings["unit"] == [0, 20]
    assert erf.measure(Some(), image, layout=(5, 8)).settings["unit"] == [2, 4]
    with pytest.raises(InputError, match="the layer gives 41 tokens, fewer than 6 x 7"):
        erf.measure(Some(), image, layout=(6, 7))


def test_maps_whose_channels_come_last():
    class Last(nn.Module):
        """A global gate, so that the layout is not known from the graph."""

        def forward(self, x):
            return torch.fft.ifft2(torch.fft.fft2(x)).real.permute(0, 2, 3, 1)

    image = torch.randn(1, 2, 6, 8)
    field = erf.measure(Last(), image, unit=(4, 7))
    assert np.argwhere(field.map > 1e-3).tolist() == [[4, 7]]
    first = erf.measure(Last(), image, unit=(4, 1), layout="channels_first")  # row 4 of column 1 on each row
    assert np.argwhere(first.map > 1e-3).tolist() == [[row, 4] for row in range(6)]


def test_images_of_the_wrong_shape_and_units_without_input():
    with pytest.raises(InputError, match=r"images must be \(N, C, H, W\)"):
        erf.measure(broken(1.0), torch.randn(1, 7, 7))
    with pytest.raises(InputError, match=r"images must be \(N, C, H, W\) with N of at least 1, not a str"):
        erf.measure(broken(1.0), "photo.png")
    with pytest.raises(InputError, match="there are no images"):
        erf.measure(broken(1.0), [])
    with pytest.raises(InputError, match=r"images are torch\.uint8: give floats, scaled and normalised"):
        erf.measure(broken(1.0), np.zeros((1, 1, 7, 7), np.uint8))
    with pytest.raises(InputError, match=r"images of different sizes, \(1, 7, 7\) and \(1, 7, 8\): make them alike"):
        erf.measure(broken(1.0), [torch.randn(1, 1, 7, 7), torch.randn(1, 1, 7, 8)])
    with pytest.raises(InputError, match=r"the model fails on images of 1 x 2 x 7 x 7: RuntimeError: .*expected input"):
        erf.measure(broken(1.0), torch.randn(1, 2, 7, 7))
    with pytest.raises(InputError, match=r"input_shape must be \(channels, height, width\), .*, not \(7,\)"):
        erf.theoretical_rf(broken(1.0), input_shape=(7,))

    class Constant(nn.Module):
        def forward(self, x):
            return torch.zeros(1, 1, 3, 3)

    with pytest.raises(InputError, match="does not depend on the input"):
        erf.measure(Constant(), torch.randn(1, 1, 7, 7))
    with pytest.raises(InputError, match="does not depend on the input"):
        erf.theoretical_rf(Constant(), input_shape=(1, 7, 7))


@pytest.mark.parametrize(
    "first", ["import erf", "import erf.measuring.measure", "from erf.measuring.measure import impact_maps"]
)
def test_erf_measure_is_the_function_however_the_package_was_imported(first):
    program = f"{first}; import erf; from erf import measure; assert callable(erf.measure) and measure is erf.measure"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=SCRIPTS)


def test_theory_and_field_need_no_torch():
    program = "import sys, erf, erf.result.field; erf.theory; erf.ReceptiveField; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=SCRIPTS)


class Answers(nn.Module):
    """A dictionary, as of segmentation, or a list, as of feature pyramids."""

    def __init__(self, kind):
        super().__init__()
        self.body, self.kind = nn.Conv2d(1, 2, 3), kind

    def forward(self, x):
        return self.kind(self.body(x))


@pytest.mark.parametrize(
    "kind, words",
    [
        (lambda x: {"out": x, "aux": x}, "a dict of out, aux"),
        (lambda x: [x, x], "a list"),
        (lambda x: None, "a NoneType"),
    ],
)
def test_an_output_that_is_no_tensor(kind, words):
    model, image = Answers(kind), torch.randn(1, 1, 7, 7)
    with pytest.raises(InputError, match=f"the model gives {words}, not a tensor: .*choose a layer, such as 'body'"):
        erf.measure(model, image)
    assert erf.measure(model, image, layer="body").map.any()


def test_a_value_that_is_not_finite_though_its_gradient_is():
    model = nn.BatchNorm2d(1)
    model.running_mean.fill_(float("nan"))
    with pytest.raises(InputError, match="layer '' gives values that are not finite"):
        erf.measure(model, torch.randn(1, 1, 5, 5))


def test_a_sum_that_cancels_is_refused_whatever_makes_it():
    class ByHand(nn.Module):
        def forward(self, x):
            x = x - x.mean(1, keepdim=True)
            return x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt()

    image = torch.randn(1, 2, 12, 14)
    for last in (nn.Softmax(1), ByHand()):
        with pytest.raises(InputError, match="the sum over channels is constant"):
            erf.measure(nn.Sequential(nn.Conv2d(2, 6, 3), last), image)
        assert erf.measure(nn.Sequential(nn.Conv2d(2, 6, 3), last), image, channels="each").map.any()


def test_statistics_of_the_batch_are_those_of_one_image():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), nn.Conv2d(3, 1, 3)).double()
    maps = [erf.measure(model, IMAGES, batch_size=size).map for size in (1, 2, 6)]
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])


def test_arrays_in_any_order_of_bytes_and_with_any_strides():
    expected = erf.measure(plain_network(), IMAGES.flip(1)).map
    arrays = IMAGES.numpy()[:, ::-1], IMAGES.flip(1).numpy().astype(">f8")
    for array in arrays:
        np.testing.assert_array_equal(erf.measure(plain_network(), array).map, expected)
    assert erf.measure(plain_network(), IMAGES, unit=np.array([3, 4]), channels=np.int64(1)).settings["unit"] == [3, 4]


class Windows(nn.Module):
    """Attention in windows, which go through a layer as if they were samples."""

    def __init__(self):
        super().__init__()
        self.patches, self.inner = nn.Conv2d(2, 8, 2, 2), nn.Linear(8, 8)

    def forward(self, x):
        z = self.patches(x).permute(0, 2, 3, 1)
        n, h, w, c = z.shape
        return self.inner(z.view(n, h // 3, 3, w // 3, 3, c).transpose(2, 3).reshape(-1, 9, c))


def test_layers_whose_output_is_no_plane_of_the_images():
    with pytest.raises(
        InputError, match=r"layer 'inner' gives \(4, 9, 8\) for 1 images: choose a layer, such as 'patches'"
    ):
        erf.measure(Windows(), torch.randn(1, 2, 12, 12), "inner")
    columns = nn.Sequential(nn.Conv2d(2, 3, 3), Columns())
    with pytest.raises(InputError, match="gives tokens that do not lie row after row"):
        erf.measure(columns, torch.randn(1, 2, 12, 14))

    class Stretched(nn.Module):
        def forward(self, x):
            return torch.fft.fft2(x).real[:, :, ::4]

    with pytest.raises(InputError, match=r"gives \(1, 2, 6, 28\), which has not the image's proportions: give layout"):
        erf.measure(Stretched(), torch.randn(1, 2, 24, 28))
    assert erf.measure(Stretched(), torch.randn(1, 2, 24, 28), layout="channels_first").settings["unit"] == [3, 14]
    with pytest.raises(InputError, match="unknown layout 'rows': channels_first, channels_last"):
        erf.measure(Stretched(), torch.randn(1, 2, 24, 28), layout="rows")


class Columns(nn.Module):
    def forward(self, x):
        return x.permute(0, 3, 2, 1).flatten(1, 2)


def test_a_module_that_changes_itself_when_it_is_set_to_evaluation_is_not():
    class Merging(nn.Conv2d):
        merged = False

        def train(self, mode=True):
            self.merged = not mode
            return super().train(mode)

    model = Merging(2, 2, 3).double()
    erf.measure(model, IMAGES)
    assert model.training and not model.merged


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"images": None}, "images must be .*, not a NoneType"),
        ({"images": 5}, "images must be .*, not a int"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1, not 0"),
        ({"model": lambda x: x}, "a model is a torch.nn.Module, not a function"),
        ({"layer": 0}, "a layer is given by its name, such as '7', not by int"),
    ],
)
def test_arguments_of_another_kind(arguments, message):
    arguments = {"model": plain_network(), "images": IMAGES, **arguments}
    with pytest.raises(InputError, match=message):
        erf.measure(arguments.pop("model"), arguments.pop("images"), **arguments)


def test_an_output_that_no_layer_makes_infinite():
    class Logarithm(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.ReLU()

        def forward(self, x):
            return torch.log(self.layer(x) - 1)

    with pytest.raises(InputError, match="the model gives values that are not finite, though its layers do not"):
        erf.measure(Logarithm(), torch.zeros(1, 1, 5, 5))
