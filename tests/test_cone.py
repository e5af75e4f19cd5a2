"""What is computed of a part of each layer is what is computed of all of it."""

import functools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812

import erf
from dags import dags, pairs
from erf import naive
from erf.errors import InputError
from erf.graph.convolutions import convolved
from erf.measuring import probe
from erf.measuring.recorded import record
from erf.tracing.cone import Cone
from erf.tracing.isolation import LeftAlone


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Whatever the gain."""
    monkeypatch.setattr(probe, "WORTHWHILE", np.inf)


@settings(max_examples=250)
@given(drawn=dags(), seed=st.integers(0, 99), data=st.data())
def test_the_cone_of_any_unit_of_random_networks_gives_the_gradient_of_the_whole_image(drawn, seed, data):
    model, (height, width) = drawn
    images = torch.randn(3, 2, 46, 52, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    unit = (data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train(), model.layers[0].requires_grad_(False)
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    try:
        whole = erf.measure(model, images, unit=unit, mode="signed", crop=False, batch_size=3)
    except InputError as error:  # it may see nothing but padding
        assert "dead" in str(error) or "does not depend" in str(error)
        return
    part = erf.measure(model, images, unit=unit, mode="signed", batch_size=2)
    assert part.theoretical_rf == whole.theoretical_rf
    np.testing.assert_allclose(part.position, whole.position, rtol=1e-9)
    assert part.settings["sees_all"] is None and np.isfinite(part.theoretical_rf).all()
    (top, bottom), (left, right) = part.settings["window"]
    outside = whole.map.copy()
    outside[top : bottom + 1, left : right + 1] = 0
    assert not outside.any()
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    each = naive.gradient(model.eval(), images, unit=unit).mean(1)
    expected = each[each.flatten(1).any(1)].mean(0).numpy()
    for found in (part, whole):
        np.testing.assert_allclose(found.map, expected, rtol=1e-9, atol=1e-12 * np.abs(expected).max())


@settings(max_examples=60)
@given(drawn=dags(), seed=st.integers(0, 99))
def test_in_single_precision_where_channels_lie_last_in_memory(drawn, seed):
    """The map is as near to that of double precision as the whole image's; some networks amplify rounding."""
    model, images = drawn[0].float(), torch.randn(2, 2, 46, 52, generator=torch.Generator().manual_seed(seed))
    try:
        whole = erf.measure(model, images, mode="signed", crop=False)
    except InputError as error:
        assert "dead" in str(error) or "does not depend" in str(error)
        return
    part = erf.measure(model, images, mode="signed")
    exact = erf.measure(model.double(), images.double(), mode="signed", crop=False).map
    errors = [np.abs(field.map - exact).sum() for field in (part, whole)]
    assert errors[0] <= 1e-4 * np.abs(exact).sum() + 10 * errors[1]


@settings(max_examples=100)
@given(
    kernel=pairs(1, 7),
    stride=pairs(1, 4),
    padding=st.sampled_from([(0, 0), (0, 0), (2, 1)]),
    dilation=st.sampled_from([(1, 1), (1, 1), (2, 1)]),
    channels=st.sampled_from([(3, 1), (6, 1), (6, 3)]),
    size=pairs(14, 19),
    has=st.tuples(*[st.booleans()] * 4),
    seed=st.integers(0, 99),
)
def test_a_convolution_in_one_step_with_what_follows_it(kernel, stride, padding, dilation, channels, size, has, seed):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(shape, dtype=torch.float64, generator=generator)  # noqa: E731
    (inputs, groups), (has_bias, has_shortcut, rectified, last) = channels, has
    assume(all(d * (k - 1) < n for d, k, n in zip(dilation, kernel, size, strict=True)))
    order = torch.channels_last if last else torch.contiguous_format
    image = draw(2, inputs, *size).contiguous(memory_format=order).requires_grad_()
    weight, bias = draw(6, inputs // groups, *kernel), draw(6) if has_bias else None
    expected = F.conv2d(image, weight, bias, stride, padding, dilation, groups)
    shortcut = draw(*expected.shape).requires_grad_() if has_shortcut else None
    expected = expected if shortcut is None else expected + shortcut
    expected = expected.relu() if rectified else expected
    geometry = (list(stride), list(padding), list(dilation), groups)
    result = convolved(image, weight, bias, shortcut, rectified, *geometry)
    torch.testing.assert_close(result, expected)
    into, sources = draw(*expected.shape), [image] if shortcut is None else [image, shortcut]
    torch.testing.assert_close(*(torch.autograd.grad(y, sources, into) for y in (result, expected)))


def equal_to_whole(model, shape=(1, 2, 30, 34), unit="center", **kwargs):
    """The part measured, after it was found equal to the whole."""
    images = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = erf.measure(model, images, unit=unit, mode="signed", crop=False, **kwargs)
    part = erf.measure(model, images, unit=unit, mode="signed", **kwargs)
    np.testing.assert_allclose(part.map, whole.map, rtol=1e-9, atol=1e-12 * np.abs(whole.map).max())
    return part


def cropped(field) -> bool:
    return field.settings["window"] != [[0, side - 1] for side in field.map.shape]


def conv(channels=2, outputs=2, kernel=3, **kwargs):
    return nn.Conv2d(channels, outputs, kernel, dtype=torch.float64, **kwargs)


class Apply(nn.Module):
    """A function as a module, behind a convolution that has weights."""

    def __init__(self, function, outputs=2):
        super().__init__()
        self.conv, self.function = conv(2, outputs, padding=1), function

    def forward(self, x):
        return self.function(self.conv(x))


GRID = torch.linspace(-1, 1, 30 * 34, dtype=torch.float64).view(1, 1, 30, 34)
LOCAL = {
    "pixels to channels and back": lambda x: F.pixel_shuffle(F.pixel_unshuffle(x, 2).tanh(), 2),
    "a map of positions that is added": lambda x: x * GRID,
    "a map of positions as a channel": lambda x: torch.cat([x, GRID], 1).tanh(),
    "positions made on the way": lambda x: x * (1 + torch.arange(34, dtype=x.dtype)) * torch.arange(1, 31)[:, None],
    "numbers in its own shape": lambda x: torch.cat([x + torch.full_like(x, 0.5), x.new_ones(x.shape)], 1),
    "written into zeros like itself": lambda x: written_into_zeros(x, torch.zeros_like(x.repeat(1, 2, 1, 1))),
    "written into zeros": lambda x: written_into_zeros(x),
    "a slice written in place": lambda x: first_channel_doubled(x),
    "rows and columns swapped": lambda x: F.avg_pool2d(x.transpose(2, 3), (3, 1)).tanh(),
    "mean over channels": lambda x: x * x.mean(1, keepdim=True).sigmoid(),
    "softmax over channels": lambda x: x.log_softmax(1),
    "split and joined": lambda x: torch.stack(x.chunk(2, 1), 1).flatten(1, 2).tanh(),
    "one channel": lambda x: x.select(1, 0)[:, None],
    "einsum over channels": lambda x: torch.einsum("nchw,cd->ndhw", x, GRID[0, 0, :2, :3]),
    "an adaptive pooling": lambda x: F.adaptive_avg_pool2d(x, (7, 9)).tanh(),
    "a pooling whose last window leaves the plane": lambda x: F.avg_pool2d(
        x, 3, 2, 1, ceil_mode=True, count_include_pad=False
    ),
    "a max pooling whose last window leaves the plane": lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "channels padded": lambda x: F.pad(x, (0, 1, 0, 2, 1, 1), value=0.3),
    "a negative padding": lambda x: F.pad(x, (-1, -2, -3, 0)),
    "every second pixel": lambda x: torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2]], 1),
    "half the gradient": lambda x: x * x.detach().roll(1, 1).tanh(),
    "without gradient": lambda x: x * without_gradient(x),
    "tokens": lambda x: x.flatten(2).transpose(1, 2).tanh(),
    "channels last": lambda x: x.permute(0, 2, 3, 1).tanh(),
    "samples and pixels in one": lambda x: F.linear(x.permute(0, 2, 3, 1).reshape(-1, 2), GRID[0, 0, :3, :2]).view(
        len(x), 30, 34, 3
    ),
}


def written_into_zeros(x, zeros=None):
    y = torch.zeros(len(x), 4, *x.shape[2:], dtype=x.dtype) if zeros is None else zeros
    y[:, :2] = x
    y[:, 2:] = x.sin()
    return y


def pooled_with_indices(x):
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    return y * indices.to(y) / 100


def first_channel_doubled(x):
    x = x.sin()
    x[:, :1] *= 2
    return x


def without_gradient(x):
    with torch.no_grad():
        return F.avg_pool2d(x, 5, 1, 2).sigmoid()


@pytest.mark.parametrize("unit", ["center", (0, 0), (2, 1)])
@pytest.mark.parametrize("what", LOCAL)
def test_what_is_local_is_known_to_be(what, unit):
    field = equal_to_whole(Apply(LOCAL[what]), unit=unit)
    assert field.settings["sees_all"] is None
    assert np.isfinite(field.theoretical_rf).all()
    assert cropped(field)


GLOBAL = {
    "squeeze and excitation": ("mean", lambda x: x * x.mean((2, 3), keepdim=True).sigmoid()),
    "group norm": ("native_group_norm", lambda x: F.group_norm(x, 1)),
    "instance norm": ("native_batch_norm", lambda x: F.instance_norm(x)),
    "statistics of the batch": ("native_batch_norm", lambda x: F.batch_norm(x, None, None, training=True)),
    "attention": ("bmm", lambda x: attention(x)),
    "norm over the plane": ("linalg_vector_norm", lambda x: x / x.norm(dim=(2, 3), keepdim=True)),
    "softmax over the plane": ("_softmax", lambda x: x.flatten(2).softmax(-1).view_as(x)),
    "Fourier transform": ("fft", lambda x: torch.fft.fft2(x).abs()),
    "a dense layer": (
        "mm",
        lambda x: F.linear(x.flatten(1), torch.ones(9, 2040, dtype=x.dtype) / 99).view(-1, 1, 3, 3),
    ),
}


def attention(x):
    tokens = x.flatten(2).transpose(1, 2)
    return F.scaled_dot_product_attention(tokens, tokens, tokens)


@pytest.mark.parametrize("what", GLOBAL)
def test_what_sees_everything_is_named_and_measured_on_the_whole_image(what):
    operation, function = GLOBAL[what]
    field = equal_to_whole(Apply(function))
    assert operation in field.settings["sees_all"]
    assert field.theoretical_rf == (np.inf, np.inf)
    assert not cropped(field)


def test_behind_a_global_layer_only_what_is_needed_of_the_rest():
    """The gate needs the whole image, the path beside it does not."""

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.path = conv(2, 2, 1), nn.Sequential(*(conv(2, 2, padding=1) for _ in range(6)))

        def forward(self, x):
            return self.path(x) * self.gate(x).mean((2, 3), keepdim=True)

    field = equal_to_whole(Gated())
    assert field.settings["sees_all"] == "mean"
    assert not cropped(field)


@functools.lru_cache
def table_of(length: int) -> torch.Tensor:
    return torch.arange(length, dtype=torch.float64)


def test_a_cache_outside_of_modules_is_filled_with_its_values():
    table_of.cache_clear()
    model, images = Apply(lambda x: x * table_of(x.shape[-1])), torch.randn(3, 2, 30, 34, dtype=torch.float64)
    fields = [erf.measure(model, images, crop=crop) for crop in (True, True, False)]
    expected = naive.impact_map(model, images)
    for found in fields:
        np.testing.assert_allclose(found.map, expected, rtol=1e-12)
    assert cropped(fields[0]) and table_of.cache_info().currsize == 1 and table_of(34)[3] == 3


def test_a_number_that_the_model_holds_is_known():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.scale = conv(), nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

        def forward(self, x):
            return self.conv(x) * self.scale.item()

    assert cropped(equal_to_whole(Scaled()))


class Remembering(nn.Module):
    """Keeps what it computes for the next time, in several ways."""

    def __init__(self):
        super().__init__()
        self.conv, self.kept, self.table, self.sizes = conv(), {"deep": ([], {})}, None, []

    def forward(self, x):
        if self.table is None:
            self.table = torch.linspace(0, 1, x.shape[-1], dtype=x.dtype)
            self.kept["more"] = self.table * 2
            self.new = self.table + 1
            self.kept["deep"][0].append(self.new), self.kept["deep"][1].update(new=self.new)
        self.sizes.append(x.shape[-1])
        return self.conv(x * self.table * self.kept["more"] * self.new)


def test_a_model_that_remembers_is_left_as_it_was():
    model = Remembering()
    erf.theoretical_rf(model, input_shape=(2, 20, 20))
    assert (model.table, model.kept, model.sizes) == (None, {"deep": ([], {})}, [])
    assert "new" not in vars(model)
    equal_to_whole(model)


def test_what_cannot_be_followed_is_measured_as_it_is():
    field = equal_to_whole(Apply(lambda x: x * 2 if x.sum() > 0 else x * 3), (3, 2, 30, 34))
    assert "the values of a tensor decide what is done" in field.settings["sees_all"]
    assert field.theoretical_rf == (np.inf, np.inf)
    assert field.map.any()


class Rounded(torch.autograd.Function):
    """Several operations, none of which has the gradient that the function gives."""

    @staticmethod
    def forward(ctx, x):
        return (F.avg_pool2d(x, 3, 1, 1) * 4).round() / 4

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 2


def test_a_gradient_that_is_not_torchs_is_the_models_own():
    model, images = Apply(Rounded.apply), torch.randn(3, 2, 30, 34, dtype=torch.float64)
    field = equal_to_whole(model, (3, 2, 30, 34))
    assert field.theoretical_rf == (5, 5) and not cropped(field)
    np.testing.assert_allclose(erf.measure(model, images).map, 2 * erf.measure(model.conv, images).map, rtol=1e-12)


def test_where_a_part_cannot_be_computed_the_whole_is_and_a_warning_says_so(monkeypatch):
    model = Apply(torch.tanh)
    expected = equal_to_whole(model, (3, 2, 30, 34))
    monkeypatch.setattr(Cone, "run", lambda self, images: images.view(7))
    with pytest.warns(UserWarning, match=r"measured on the whole image, since a crop of it failed: shape '\[7\]' is"):
        field = equal_to_whole(model, (3, 2, 30, 34), batch_size=2)
    np.testing.assert_allclose(field.map, expected.map, rtol=1e-12)
    assert cropped(expected) and not cropped(field)


PARTLY = {  # local along one axis alone, or but for a value that counts in the whole plane
    "values and indices of a pooling": lambda x: pooled_with_indices(x),
    "a mean of each row": lambda x: x + F.adaptive_avg_pool2d(x, (None, 1)).expand(-1, -1, -1, x.shape[3]),
    "a mean of each column, without gradient": lambda x: x + x.mean(2, keepdim=True).expand_as(x).detach(),
    "bits as another type": lambda x: x * x.detach().float().view(torch.int32).to(x) / 2**30,
}


@pytest.mark.parametrize("unit", ["center", (0, 0), (9, 4)])
@pytest.mark.parametrize("what", PARTLY)
def test_what_is_partly_local_is_right(what, unit):
    equal_to_whole(nn.Sequential(Apply(PARTLY[what]), conv(padding=1)), unit=unit)


class Attention(nn.Module):
    """torch's own, which has a short cut without a gradient."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(2, 8, 4, 4, dtype=torch.float64)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return tokens + self.attention(tokens, tokens, tokens)[0]


def test_torchs_attention():
    fast = torch.backends.mha.get_fastpath_enabled()
    field = equal_to_whole(Attention())
    assert "bmm" in field.settings["sees_all"]
    assert torch.backends.mha.get_fastpath_enabled() == fast


class Block(nn.Module):
    """Convolutions, for `function` to use: it is given what one makes of the image, two more, and a norm."""

    def __init__(self, function):
        super().__init__()
        self.convs = nn.ModuleList(conv(padding=1) for _ in range(3))
        self.norm, self.function = nn.BatchNorm2d(2, dtype=torch.float64), function
        self.norm.running_mean.normal_(), self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        first, second, third = self.convs
        return self.function(first(x), second, third, self.norm)


FUSED = {  # with the number of operations that are left, and with it what must stay apart
    "a residual block": (2, lambda x, f, g, norm: F.relu_(norm(f(x)) + x)),
    "the shortcut first": (2, lambda x, f, g, norm: F.relu(x + norm(f(x)))),
    "two convolutions added": (3, lambda x, f, g, norm: F.relu(norm(f(x)) + g(x))),
    "a ReLU alone": (2, lambda x, f, g, norm: f(x.relu())),
    "a ReLU before the norm": (3, lambda x, f, g, norm: norm(f(x).relu())),
    "twice itself": (3, lambda x, f, g, norm: (y := f(x)) + y),
    "used again": (4, lambda x, f, g, norm: (y := f(x)).relu() + y),
    "a multiple": (3, lambda x, f, g, norm: torch.add(f(x), x, alpha=2)),
    "a number": (3, lambda x, f, g, norm: f(x) + 1),
    "a broadcast shortcut": (4, lambda x, f, g, norm: f(x) + x[:, :1]),
    "a shortcut without gradient": (2, lambda x, f, g, norm: f(x) + x.detach()),
    "no gradient but by the shortcut": (4, lambda x, f, g, norm: (f(x).detach() + x).relu()),
}


@pytest.mark.parametrize("what", FUSED)
def test_a_convolution_and_what_follows_it_become_one_operation(what):
    count, function = FUSED[what]
    torch.manual_seed(0)
    model = Block(function).eval().requires_grad_(False)
    assert cropped(equal_to_whole(model, (4, 2, 30, 34)))
    (found,), _ = record(model, torch.zeros(1, 2, 30, 34, dtype=torch.float64), [None], None, LeftAlone(model))
    assert (
        len([operation for operation in found.graph.operations if operation.name not in ("clone", "detach")]) == count
    )


def test_norms_with_no_epsilon_or_of_another_precision_than_their_convolution():
    model = nn.Sequential(conv(), nn.BatchNorm2d(2, eps=0, dtype=torch.float64))
    model[1].running_var.uniform_(0.5, 2)
    assert cropped(equal_to_whole(model))
    mixed = nn.Sequential(nn.Conv2d(1, 2, 3, dtype=torch.bfloat16), nn.BatchNorm2d(2))
    assert erf.measure(mixed, torch.randn(1, 1, 9, 9)).map.any()


def test_hooks_on_tensors_are_heeded():
    class Hooked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv()

        def forward(self, x):
            x = self.conv(x)
            x.register_hook(lambda gradient: 5 * gradient)
            return x

    hooked, image = Hooked(), torch.randn(1, 2, 30, 34, dtype=torch.float64)
    for _ in range(2):
        found, plain = erf.measure(hooked, image), erf.measure(hooked.conv, image)
        np.testing.assert_allclose(found.map, 5 * plain.map, rtol=1e-12)
    assert found.theoretical_rf == (3, 3) and not cropped(found)


def test_scripted_models_are_measured_as_they_are():
    model = nn.Sequential(conv(), nn.Tanh())
    image = torch.randn(1, 2, 30, 34, dtype=torch.float64)
    with warnings.catch_warnings(action="ignore"):  # torch means to give it up
        scripted = torch.jit.script(model)
    scripted = erf.measure(scripted, image)
    np.testing.assert_allclose(scripted.map, erf.measure(model, image).map, rtol=1e-12)


def test_backward_hooks_are_heeded():
    model = Apply(torch.tanh)
    handle = model.conv.register_full_backward_hook(lambda module, inputs, outputs: (inputs[0] * 3,))
    image = torch.randn(1, 2, 30, 34, dtype=torch.float64)
    hooked = erf.measure(model, image)
    handle.remove()
    np.testing.assert_allclose(hooked.map, 3 * erf.measure(model, image).map, rtol=1e-12)


def test_random_numbers_are_drawn_for_the_whole_plane():
    model = Apply(lambda x: x * torch.rand(x.shape, generator=GENERATOR, dtype=x.dtype))
    image = torch.randn(1, 2, 30, 34, dtype=torch.float64)
    state = GENERATOR.get_state()
    one = erf.measure(model, image)
    GENERATOR.set_state(state)
    np.testing.assert_array_equal(erf.measure(model, image, crop=False).map, one.map)


GENERATOR = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("model", [nn.Identity(), nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))])
def test_a_model_that_does_next_to_nothing(model):
    field = erf.measure(model, torch.ones(1, 1, 5, 6))
    assert np.argwhere(field.map).tolist() == [[2, 3]]
    assert field.theoretical_rf == (1, 1)
