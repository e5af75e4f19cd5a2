"""Models that do what a measurement might not expect: each ends with the right map, or in one clear line.

The oracle is plain autograd on a copy of the model, image by image, and for batch norms finite differences.
"""

import copy
import gc
import warnings
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

import erf
from erf.errors import InputError
from erf.measuring.recorded import known_records

IMAGES = torch.randn(4, 2, 12, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def conv(kernel=3, **kwargs):
    return nn.Conv2d(2, 2, kernel, padding=kernel // 2, dtype=torch.float64, **kwargs)


class Behind(nn.Module):
    """`function(itself, x)` behind a convolution; it may use another one, `inner`, and whatever else it is given."""

    def __init__(self, function, inner=None, **held):
        super().__init__()
        self.outer, self.inner, self.function = conv(), inner or conv(), function
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, x):
        return self.function(self, self.outer(x))


def by_autograd(model, unit, images=IMAGES):
    """The mean impact map, each image's from a copy of the model as it was given."""
    maps = []
    for image in images.split(1):
        its_own, source = copy.deepcopy(model).eval(), image.clone().requires_grad_()
        its_own(source)[:, :, unit[0], unit[1]].sum().backward()
        maps.append(source.grad[0].abs().mean(0).numpy())
    return np.mean(maps, 0)


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assign(self, x):
    self.inner.weight.data = self.inner.weight.data / self.inner.weight.data.norm()
    return self.inner(x)


def copy_in_place(self, x):
    self.inner.weight.data.copy_(self.inner.weight.data / self.inner.weight.data.norm())
    return self.inner(x)


def double(self, x):
    self.inner.weight.data.mul_(2)
    return self.inner(x)


def swallow(self, x):
    try:
        return x.tanh().numpy()
    except RuntimeError:  # of a tensor that asks for a gradient
        return x.tanh() * 2


def remember(self, x):
    if self.cache.table is None:
        self.cache.table = torch.arange(x.shape[-1], dtype=x.dtype)
    return x * self.cache.table


def refuse_nan(self, x):
    if x.isnan().any() or not torch.isfinite(x).all():
        raise ValueError
    return x.tanh()


class Cache:
    table = None


FOLLOWED = {  # with the side of the theoretical field; None: it is infinite
    "circular padding": (None, lambda: nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular", dtype=torch.float64)),
    "circular padding beside a shortcut": (
        None,
        lambda: Behind(lambda self, x: x + self.inner(x), conv(padding_mode="circular")),
    ),
    "weights assigned": (5, lambda: Behind(assign)),
    "weights copied into": (5, lambda: Behind(copy_in_place)),
    "weights doubled": (5, lambda: Behind(double)),
    "a number by numpy": (3, lambda: Behind(lambda self, x: x * float(np.abs(x.detach().numpy()).mean()))),
    "values by numpy": (3, lambda: Behind(lambda self, x: x * torch.from_numpy(np.tanh(x.detach().numpy())))),
    "data by numpy": (3, lambda: Behind(lambda self, x: x * torch.from_numpy(np.tanh(x.data.numpy())))),
    "data": (3, lambda: Behind(lambda self, x: x * x.data.tanh())),
    "a list of values": (3, lambda: Behind(lambda self, x: x * torch.tensor(x.detach().tolist()).to(x))),
    "a question for gradients": (3, lambda: Behind(lambda self, x: x.tanh() if x.requires_grad else x)),
    "an exception that is swallowed": (3, lambda: Behind(swallow)),
    "an object that keeps a tensor": (3, lambda: Behind(remember, cache=Cache())),
    "a test for NaN": (3, lambda: Behind(refuse_nan)),
    "channels repeated": (3, lambda: Behind(lambda self, x: x.repeat(1, 2, 1, 1).tanh())),
    "a checkpoint": (3, lambda: Behind(lambda self, x: checkpoint(torch.tanh, x, use_reentrant=False))),
    "a reentrant checkpoint": (3, lambda: Behind(lambda self, x: checkpoint(torch.tanh, x, use_reentrant=True))),
    "one pixel, stretched": (
        None,
        lambda: Behind(
            lambda self, x: (
                x + F.interpolate(F.adaptive_avg_pool2d(x, 1), x.shape[2:], mode="bilinear", align_corners=True)
            )
        ),
    ),
}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("what", FOLLOWED)
def test_the_map_is_that_of_autograd_and_the_model_is_left_as_it_was(what):
    side, build = FOLLOWED[what]
    model = build()
    expected, before = by_autograd(model, (6, 7)), state(model)
    with warnings.catch_warnings(action="error", category=UserWarning):
        fields = [erf.measure(model, IMAGES) for _ in range(3)]
    for field in fields:
        np.testing.assert_allclose(field.map, expected, rtol=1e-9, atol=1e-12)
        assert field.theoretical_rf == ((side, side) if side else (np.inf, np.inf))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def upscale_by_hand(self, x):
    """Four channels become 2 x 2 pixels."""
    n, _, h, w = x.shape
    return self.inner(x).view(n, 1, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, 1, 2 * h, 2 * w)


@pytest.mark.parametrize("unit", [(13, 6), (0, 27), "center"])
def test_units_that_divide_those_of_a_layer_before_are_found(unit):
    model = Behind(upscale_by_hand, nn.Conv2d(2, 4, 3, padding=1, dtype=torch.float64))
    field = erf.measure(model, IMAGES, unit=unit)
    index = tuple(field.settings["unit"])
    np.testing.assert_allclose(field.map, by_autograd(model, index), rtol=1e-9, atol=1e-12)
    assert "whose units divide" in field.settings["sees_all"]
    assert np.abs(np.array(field.position) - (np.array(index) + 0.5) / 2 + 0.5).max() < 1e-9


class Refusing(dict):
    """A configuration that nobody may change, as diffusers' models have."""

    def refuse(self, *args, **kwargs):
        raise TypeError("frozen")

    __setitem__ = __delitem__ = update = pop = clear = setdefault = refuse


def test_a_dict_that_refuses_changes_is_left_alone():
    model = Behind(lambda self, x: x.tanh(), config=Refusing(width=2))
    assert erf.measure(model, IMAGES).theoretical_rf == (3, 3)
    assert model.config == {"width": 2}


@pytest.mark.parametrize("own", [True, False])
def test_each_image_has_its_own_random_numbers_of_numpy(own):
    generator = np.random.default_rng(0) if own else np.random
    drawn = []

    def noisy(self, x):
        drawn.append(generator.random() if own else generator.rand())
        return x * drawn[-1]

    model = Behind(noisy, generator=generator)
    field = erf.measure(model, IMAGES)
    assert len(drawn) == len(IMAGES) and field.settings["window"] == [[0, 11], [0, 13]]
    np.testing.assert_allclose(field.map, erf.measure(model.outer, IMAGES).map * np.mean(drawn), rtol=1e-12)


class Transposed(nn.Module):
    """A batch norm before a layer on tokens: torch's gradient is wrong for one image."""

    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.BatchNorm2d(2, dtype=torch.float64), nn.Linear(2, 2, dtype=torch.float64)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return self.linear(self.norm(x).flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)


@pytest.mark.parametrize("crop", [True, False])
def test_batch_norms_have_the_gradient_of_finite_differences(crop):
    model, step = Transposed().eval(), 1e-6
    unit, pixels = (4, 5), [(channel, 4, 5) for channel in range(2)]
    slopes = []
    with torch.no_grad():
        for channel, row, column in pixels:
            moved = IMAGES.clone()
            moved[:, channel, row, column] += step
            slopes.append(((model(moved) - model(IMAGES))[:, :, 4, 5].sum(1) / step).abs().numpy())
    expected = np.zeros((12, 14))
    expected[unit] = np.mean(slopes)
    for batch_size in (None, 1, 3):
        field = erf.measure(model, IMAGES, unit=unit, crop=crop, batch_size=batch_size)
        np.testing.assert_allclose(field.map, expected, rtol=1e-5, atol=1e-12)


class Tokens(nn.Module):
    """Patches as tokens, in an order that `arrange` gives them, with a class token."""

    def __init__(self, arrange):
        super().__init__()
        self.patches, self.arrange = nn.Conv2d(2, 8, 2, 2, dtype=torch.float64), arrange
        self.token = nn.Parameter(torch.randn(1, 1, 8, dtype=torch.float64))

    def forward(self, x):
        return self.arrange(self.patches(x).flatten(2).transpose(1, 2), self.token.expand(len(x), 1, 8))


def moved_last(tokens, token):
    return torch.eye(43, dtype=tokens.dtype).roll(-1, 1) @ torch.cat([token, tokens], 1)


ARRANGED = {
    "the class token last, by a product": moved_last,
    "rows from below": lambda tokens, token: torch.cat([token, tokens.view(-1, 6, 7, 8).flip(1).flatten(1, 2)], 1),
    "another order": lambda tokens, token: torch.cat([token, tokens[:, torch.randperm(42)]], 1),
}


@pytest.mark.parametrize("what", ARRANGED)
def test_tokens_that_do_not_lie_as_their_number_suggests_are_warned_of(what):
    torch.manual_seed(0)
    words = r"tokens, which are taken to lie row after row .* but that of unit \(2, 1\) depends most on the place of"
    with pytest.warns(UserWarning, match=words):
        erf.measure(Tokens(ARRANGED[what]), IMAGES, unit=(2, 1))


def test_tokens_behind_a_class_token_are_found():
    with warnings.catch_warnings(action="error"):
        field = erf.measure(Tokens(lambda tokens, token: torch.cat([token, tokens], 1)), IMAGES, unit=(2, 1))
    assert np.argwhere(field.map).tolist() == [[4, 2], [4, 3], [5, 2], [5, 3]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_warned_of(dtype):
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Tanh()).to(dtype)
    with pytest.warns(
        UserWarning, match=r"the model is in b?float16, whose rounding changes its maps: measure model.f"
    ):
        erf.measure(model, IMAGES)


SCRIPTED = "cannot be read in a scripted model: measure the model that was scripted"
REFUSED = {
    "weights without values": (lambda: conv(device="meta"), None, "weight is on the device 'meta' and has no values"),
    "a lazy layer": (lambda: nn.LazyConv2d(2, 3), None, "weight has no shape yet: run the model once on such images"),
    "a layer of a scripted model": (lambda: scripted(), "0", f"layer '0' {SCRIPTED}"),
    "a layer of a traced model": (lambda: torch.jit.trace(stack(), IMAGES), "0", f"layer '0' {SCRIPTED}"),
    "a layer in a scripted part": (
        lambda: nn.Sequential(scripted()),
        "0.1",
        "layer '0.1' is scripted, and cannot be r",
    ),
}


def stack():
    return nn.Sequential(conv(), nn.Tanh(), conv())


def scripted():
    with warnings.catch_warnings(action="ignore"):  # torch means to give it up
        return torch.jit.script(stack())


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_measured_ends_in_one_line(what):
    build, layer, words = REFUSED[what]
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        model = build()
    with pytest.raises(InputError, match=words):
        erf.measure(model, IMAGES, layer)


@pytest.mark.parametrize(
    "kind", [torch.jit.script, lambda model: torch.jit.trace(model, IMAGES), lambda model: torch.compile(model)]
)
def test_scripted_traced_and_compiled_models_are_measured(kind):
    model = stack()
    with warnings.catch_warnings(action="ignore"):
        other = kind(model)
    field, expected = erf.measure(other, IMAGES), erf.measure(model, IMAGES)
    np.testing.assert_allclose(field.map, expected.map, rtol=1e-12)
    assert field.theoretical_rf == (5, 5)


def test_a_compiled_layer_is_that_of_the_model():
    model = stack()
    expected = erf.measure(model, IMAGES, "0")
    for compiled in (torch.compile(model), nn.Sequential(torch.compile(model[0]), *model[1:])):
        np.testing.assert_allclose(erf.measure(compiled, IMAGES, "0").map, expected.map, rtol=1e-12)


class Decoder(nn.Module):
    """Two levels down and up again, as in a U-Net: a unit looks at its own pixel, and at a cell of 8 x 8."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(conv() for _ in range(3))

    def forward(self, x):
        first, second, third = self.layers
        fine = first(x)
        coarse = second(F.avg_pool2d(fine, 8).tanh())
        return third(fine + F.interpolate(coarse, scale_factor=8, mode="nearest"))


@pytest.mark.parametrize("unit", [(9, 10), (14, 22), (14, 17)])
def test_a_unit_whose_field_has_no_middle_of_its_own_looks_where_its_impact_is(unit):
    images = torch.randn(3, 2, 24, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    field = erf.measure(Decoder(), images, unit=unit)
    rows, columns = (np.average(np.arange(n), weights=field.map.sum(1 - axis)) for axis, n in enumerate((24, 32)))
    np.testing.assert_allclose(field.position, (rows, columns))
    assert np.abs(np.array(field.position) - unit).max() < 2
    assert field.reference == "maximum" and field.settings["position"] == "middle of the impact"
    assert np.isfinite(field.size) and field.size < 20


class Settings:
    power = 1.0


CHANGES = {
    "a number": lambda model: setattr(model, "power", 2.0),
    "a number in an object": lambda model: setattr(model.settings, "power", 2.0),
    "a number in a list": lambda model: model.powers.__setitem__(0, 2.0),
    "an array": lambda model: setattr(model, "table", np.full((1, 2, 12, 14), 2.0)),
    "a tensor": lambda model: setattr(model, "tensor", torch.full((1, 2, 12, 14), 2.0, dtype=torch.float64)),
    "a layer's stride": lambda model: setattr(model.outer, "stride", (2, 2)),
    "a layer": lambda model: setattr(model, "inner", conv(5)),
    "weights": lambda model: model.inner.weight.data.mul_(2),
    "new weights": lambda model: setattr(model.inner, "weight", nn.Parameter(model.inner.weight.detach() * 2)),
    "training in between": lambda model: train(model),
}


def train(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    model(IMAGES).square().sum().backward()
    optimizer.step()


def changing(self, x):
    x = self.inner(x) * (self.power * self.settings.power * self.powers[0])
    if x.shape[2:] == (12, 14):
        x = x * torch.from_numpy(self.table) * self.tensor
    return x.tanh()


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_kept_of_a_model_is_dropped_when_it_changes(what):
    torch.manual_seed(0)
    ones = torch.ones(1, 2, 12, 14, dtype=torch.float64)
    held = {"power": 1.0, "settings": Settings(), "powers": [1.0], "table": ones.numpy(), "tensor": ones}
    model = Behind(changing, **held)
    first = erf.measure(model, IMAGES)
    CHANGES[what](model)
    for _ in range(2):
        second = erf.measure(model, IMAGES)
        expected = by_autograd(model, second.settings["unit"])
        np.testing.assert_allclose(second.map, expected, rtol=1e-9, atol=1e-12)
    assert not np.array_equal(first.map, second.map)


class Class(nn.Module):
    """A class token, and attention behind it."""

    def __init__(self):
        super().__init__()
        self.patches, self.attention = nn.Conv2d(2, 8, 2, 2), nn.MultiheadAttention(8, 2, batch_first=True)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.double()

    def forward(self, x):
        tokens = torch.cat([self.token.expand(len(x), 1, 8), self.patches(x).flatten(2).transpose(1, 2)], 1)
        return tokens + self.attention(tokens, tokens, tokens)[0]


def test_attention_is_named_and_not_the_class_token_before_it():
    assert "in 'attention'" in erf.measure(Class(), IMAGES).settings["sees_all"]


def test_what_lies_behind_an_infinite_field_is_infinite():
    def stretched(self, x):
        x = x * F.interpolate(F.max_pool2d(x, (12, 14)), size=(12, 14), mode="bilinear", align_corners=True)
        return x + x.mean((2, 3), keepdim=True)

    with warnings.catch_warnings(action="error"):
        assert erf.measure(Behind(stretched), IMAGES).theoretical_rf == (np.inf, np.inf)


def test_nothing_of_a_pass_is_kept_when_it_is_over():
    seen, model = [], Behind(lambda self, x: self.inner(x.relu()).tanh())
    model.outer.register_forward_hook(lambda module, inputs, output: seen.append(weakref.ref(output)))
    gc.disable()
    try:
        erf.measure(model, IMAGES, crop=False)
        assert len(seen) > 1 and not any(tensor() is not None for tensor in seen)
    finally:
        gc.enable()


def test_a_dead_unit_vouches_for_no_crop():
    model = nn.Sequential(conv(), nn.ReLU()).eval()
    with torch.no_grad():
        model[0].weight.fill_(1)
    alive = IMAGES.abs()
    with pytest.raises(InputError, match="the unit is dead in all 4 images"):
        erf.measure(model, -alive - 9)
    checked = []
    for images in (torch.cat([-alive[:1] - 9, alive]), alive):
        erf.measure(model, images)
        (record,) = known_records(model, images, [None], None)
        checked.append(record.checked)
    assert checked == [False, True]


class Classifier(nn.Module):
    """Average pooling, and a head whose weights are zero until it is trained."""

    def __init__(self):
        super().__init__()
        self.body, self.pool, self.head = conv(), nn.AdaptiveAvgPool2d(1), nn.Linear(2, 5)
        nn.init.zeros_(self.head.weight)
        self.double()

    def forward(self, x):
        return self.head(self.pool(self.body(x)).flatten(1))


def test_a_head_without_weights_is_said_to_have_none():
    with pytest.raises(InputError, match=r"dead in all 4 images .*: all weights of 'head' are zero, so load trained"):
        erf.measure(Classifier(), IMAGES, unit=lambda logits: logits[:, 1])
    empty = nn.Sequential(conv(), nn.Conv2d(2, 1, 1), nn.Tanh()).double()
    nn.init.zeros_(empty[1].weight)
    with pytest.raises(InputError, match="all weights of '1' are zero"):
        erf.measure(empty, IMAGES, "1")
    with torch.no_grad():
        empty[1].weight.fill_(1), empty[1].bias.fill_(-1e3)
    with pytest.raises(InputError, match=r"dead in all 4 images .*: read it before its activation"):
        erf.measure(nn.Sequential(empty[:2], nn.ReLU()), IMAGES)


@pytest.mark.parametrize("layer, unit", [("pool", (3, 3)), ("head", "center"), (None, "center")])
def test_behind_average_pooling_the_layer_to_take_is_named(layer, unit):
    with pytest.raises(InputError, match=r"choose a layer.*, such as 'body'$"):
        erf.measure(Classifier(), IMAGES, layer, unit=unit)
