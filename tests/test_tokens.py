"""Tokens of a plane among others, such as class tokens: where they lie, and what they see before attention.

The oracle is finite differences in float64, pixel by pixel.
"""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812

import erf
from erf.errors import InputError
from erf.models.torchvision_import import import_torchvision

SHAPES = {1: (2, 28), 2: (2, 8, 12), 3: (1, 4, 6, 8)}
UNITS = {1: 4, 2: (1, 4), 3: (1, 0, 2)}
WIDTH = 6


class Patches(nn.Module):
    """Patches of 2 pixels a side as tokens (N, count, C), which `arrange` is given with three others, (N, 3, C)."""

    def __init__(self, arrange, axes: int = 2):
        super().__init__()
        torch.manual_seed(0)
        self.patches = getattr(nn, f"Conv{axes}d")(SHAPES[axes][0], WIDTH, 2, 2)
        self.others = nn.Parameter(torch.randn(1, 3, WIDTH))
        self.linear, self.norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.arrange = arrange
        self.double()

    def forward(self, x):
        return self.arrange(self, self.patches(x).flatten(2).transpose(1, 2), self.others.expand(len(x), -1, -1))


def behind_the_others(self, tokens, others):
    return self.linear(self.norm(torch.cat([others, tokens], 1))).tanh()


def between_others(self, tokens, others):
    """As in YOLOS."""
    places = torch.linspace(0, 1, 3 + tokens.shape[1], dtype=tokens.dtype)[None, :, None]
    return (torch.cat((others[:, :1], tokens, others[:, 1:]), dim=1) + places).tanh()


def others_put_in_later(self, tokens, others):
    """As registers in DINOv2."""
    tokens = torch.cat([others[:, :1], tokens], 1)
    return torch.cat([tokens[:, :1], others[:, 1:], tokens[:, 1:]], dim=-2).sin()


def turned_by_place(self, tokens, others):
    """Queries of two heads, as with rotary embeddings."""
    all_of_them = self.linear(torch.cat([others, tokens], 1))
    queries = all_of_them.reshape(len(tokens), -1, 2, WIDTH // 2).transpose(1, 2)
    turned = queries[:, :, 3:] * torch.linspace(1, 2, tokens.shape[1], dtype=tokens.dtype)[:, None]
    return torch.cat([queries[:, :, :3], turned], 2).transpose(1, 2).flatten(2)


def beside_their_mean(self, tokens, others):
    return torch.cat([tokens.mean(1, keepdim=True), tokens], 1).tanh()


def beside_nothing(self, tokens, others):
    """A list that begins empty."""
    return torch.cat([torch.zeros(0, dtype=tokens.dtype), others, tokens.tanh()], 1)


def without_the_others(self, tokens, others):
    return self.linear(torch.cat([others, tokens, others], 1))[:, 3:-3].tanh()


ARRANGED = [
    *(behind_the_others, between_others, others_put_in_later, turned_by_place),
    *(beside_their_mean, without_the_others, beside_nothing),
]


def by_finite_differences(model, images, place) -> np.ndarray:
    """The mean magnitude, over images and colours, of the slopes of `place(output)` (n, C), summed over channels."""
    step, expected = 1e-6, []
    for image in images:
        moves = step * torch.eye(image.numel(), dtype=image.dtype).view(-1, *image.shape)
        ahead, back = (place(model(image + moves * sign)).sum(1) for sign in (1, -1))
        expected.append(((ahead - back) / (2 * step)).abs().view(image.shape).mean(0))
    return torch.stack(expected).mean(0).detach().numpy()


def seen(field) -> tuple[slice, ...]:
    """The theoretical field, in the map."""
    return tuple(slice(round(first), round(last) + 1) for first, last in field.theoretical_ends)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("arrange", ARRANGED)
def test_before_attention_a_token_sees_its_patch_alone(arrange, axes):
    model, unit = Patches(arrange, axes), UNITS[axes]
    images = torch.randn(2, *SHAPES[axes], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with warnings.catch_warnings(action="error"):
        field = erf.measure(model, images, unit=unit)
    before = {between_others: 1, beside_their_mean: 1, without_the_others: 0}.get(arrange, 3)
    sides = [side // 2 for side in SHAPES[axes][1:]]
    token = before + int(np.ravel_multi_index(np.atleast_1d(unit), sides))
    expected = by_finite_differences(model, images, lambda output: output[:, token])
    np.testing.assert_allclose(field.map, expected, atol=1e-8)
    assert field.settings["sees_all"] is None and field.theoretical_rf == (2.0,) * axes
    assert field.position == tuple(2 * index + 0.5 for index in np.atleast_1d(unit))
    inside = np.zeros(field.map.shape, bool)
    inside[seen(field)] = True
    assert (expected[inside] > 1e-6).all() and (expected[~inside] == 0).all()


def test_a_map_made_of_such_tokens_is_a_map():
    """Convolutions behind it see neighbours, and the others are none."""

    def to_a_map(self, tokens, others):
        tokens = self.linear(torch.cat([others, tokens], 1))[:, 3:].transpose(1, 2).unflatten(2, (4, 6))
        return F.avg_pool2d(tokens.tanh(), 3, 1, 1)

    model, images = Patches(to_a_map), torch.randn(1, *SHAPES[2], dtype=torch.float64)
    field = erf.measure(model, images, unit=(1, 4))
    np.testing.assert_allclose(
        field.map, by_finite_differences(model, images, lambda output: output[:, :, 1, 4]), atol=1e-8
    )
    assert field.theoretical_rf == (6, 6) and field.settings["sees_all"] is None


def vit():
    torch.manual_seed(0)
    model = import_torchvision().models.VisionTransformer(24, 4, 2, 2, 12, 24)
    nn.init.normal_(model.encoder.pos_embedding)
    return model.double()


VIT_IMAGES = torch.randn(2, 3, 24, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("layer", ["conv_proj", "encoder.dropout", "encoder.layers.encoder_layer_0.ln_1"])
def test_a_vision_transformers_layers_before_attention_see_a_patch(layer):
    model, unit = vit(), (2, 5)
    field = erf.measure(model, VIT_IMAGES, layer, unit=unit, channels=3)
    assert field.theoretical_rf == (4, 4) and field.position == (9.5, 21.5)
    assert erf.theoretical_rf(model, layer, input_shape=(3, 24, 24)).size == (4, 4)
    x = VIT_IMAGES.clone().requires_grad_()
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: kept.append(output))
    model.eval()(x)
    handle.remove()
    value = kept[0][:, 3, 2, 5] if layer == "conv_proj" else kept[0][:, 1 + 2 * 6 + 5, 3]
    expected = torch.autograd.grad(value.sum(), x)[0].abs().mean((0, 1)).numpy()
    np.testing.assert_allclose(field.map, expected, rtol=1e-9)
    assert np.argwhere(expected).min(0).tolist() == [8, 20] and np.argwhere(expected).max(0).tolist() == [11, 23]


def test_behind_attention_a_token_sees_all_and_keeps_its_place():
    with warnings.catch_warnings(action="error"):
        field = erf.measure(vit(), VIT_IMAGES, "encoder.layers.encoder_layer_1", unit=(2, 5))
    assert field.theoretical_rf == (np.inf, np.inf) and "attention" in field.settings["sees_all"]
    assert field.position == (9.5, 21.5) and (field.map > 0).all()
    assert np.unravel_index(field.map.argmax(), field.map.shape)[0] // 4 == 2


STEPS = {
    "others in front": lambda self, x, n: torch.cat([self.others[:, :n].expand(len(x), -1, -1), x], 1),
    "others behind": lambda self, x, n: torch.cat([x, self.others[:, :n].expand(len(x), -1, -1)], 1),
    "the mean in front": lambda self, x, n: torch.cat([x.mean(1, keepdim=True), x], 1),
    "the first taken": lambda self, x, n: x[:, n:],
    "the last taken": lambda self, x, n: x[:, :-n],
    "the first moved behind": lambda self, x, n: torch.cat([x[:, n:], x[:, :n]], 1),
    "the first put in again": lambda self, x, n: torch.cat([x[:, :n], x[:, n:]], 1),
    "neighbours": lambda self, x, n: F.avg_pool1d(x.transpose(1, 2), 3, 1, 1).transpose(1, 2),
    "padded": lambda self, x, n: F.pad(x, (0, 0, n, 0)),
    "turned": lambda self, x, n: x.roll(n, 1),
    "linear": lambda self, x, n: self.linear(x).tanh(),
    "norm": lambda self, x, n: self.norm(x),
    "heads": lambda self, x, n: x.reshape(len(x), -1, 2, 3).transpose(1, 2).sin().transpose(1, 2).flatten(2),
    "attention": lambda self, x, n: x + F.scaled_dot_product_attention(x, x, x),
    "the first added": lambda self, x, n: x + x[:, :1],
    "backwards": lambda self, x, n: x.flip(1),
}


@settings(max_examples=300)
@given(steps=st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(1, 3)), min_size=2, max_size=5))
def test_no_token_depends_on_pixels_beyond_its_theoretical_field(steps):
    def arrange(self, tokens, others):
        for name, number in steps:
            tokens = STEPS[name](self, tokens, number)
        return tokens

    model = Patches(arrange)
    images = torch.randn(2, *SHAPES[2], dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    try:
        with warnings.catch_warnings(action="ignore"):
            field = erf.measure(model, images, unit=(1, 4), channels=0)
    except InputError as error:
        assert any(word in str(error) for word in ("tokens", "dead", "depend", "outside"))  # or their number misleads
        return
    if field.settings["sees_all"] is None:
        outside = field.map.copy()
        outside[tuple(slice(max(part.start, 0), part.stop) for part in seen(field))] = 0
        assert not outside.any() and field.map.any()
        assert field.position == (2.5, 8.5)
