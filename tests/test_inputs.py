"""Models as people have them: several inputs, inputs by name, outputs that are no tensors."""

import re
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import erf
from erf.errors import InputError

IMAGES = torch.randn(3, 2, 16, 18, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
MASK = torch.linspace(0.5, 1.5, 18, dtype=torch.float64).expand(1, 1, 16, 18)


@dataclass
class Output:
    logits: torch.Tensor
    hidden: tuple


class Model(nn.Module):
    """Two stages, the second of which gives a pair."""

    def __init__(self, give=lambda stages, logits: logits):
        super().__init__()
        self.stage1, self.stage2 = nn.Conv2d(2, 3, 3, padding=1), Pair()
        self.give = give
        self.double()

    def forward(self, images, mask=None, scale=1.0):
        first = self.stage1(images).tanh()
        second = self.stage2(first)
        logits = second[1] * scale * (1 if mask is None else mask)
        return self.give((first, *second), logits)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return x, self.conv(x)


def model(*args):
    torch.manual_seed(0)
    return Model(*args)


def equal(field, expected):
    np.testing.assert_allclose(field.map, expected.map, rtol=1e-10, atol=1e-14)
    assert (field.position, field.theoretical_rf) == (expected.position, expected.theoretical_rf)


OUTPUTS = {
    "logits": lambda stages, logits: {"logits": logits, "stages": stages},
    "stages[2]": lambda stages, logits: {"stages": stages},
    "hidden[1]": lambda stages, logits: Output(logits, (stages[0], logits)),
    "[0].logits": lambda stages, logits: [Output(logits, stages)],
}


@pytest.mark.parametrize("path", OUTPUTS)
def test_a_part_of_the_output_by_its_path(path):
    equal(erf.measure(model(OUTPUTS[path]), IMAGES, output=path), erf.measure(model(), IMAGES))


def test_a_part_of_the_output_by_a_number_or_a_function():
    expected = erf.measure(model(), IMAGES)
    equal(erf.measure(model(lambda stages, logits: (stages, logits)), IMAGES, output=-1), expected)
    twice = erf.measure(model(lambda stages, logits: [logits]), IMAGES, output=lambda given: 2 * given[0])
    np.testing.assert_allclose(twice.map, 2 * expected.map)


def test_a_part_of_a_layers_output():
    equal(erf.measure(model(), IMAGES, "stage2[1]"), erf.measure(model(), IMAGES, "stage2.conv"))
    equal(erf.measure(model(), IMAGES, "stage2[0]"), erf.measure(model(lambda stages, logits: stages[0]), IMAGES))


@pytest.mark.parametrize("path", OUTPUTS)
def test_the_part_of_an_output_reaches_whatever_measures_a_unit(path):
    its, plain, shape = model(OUTPUTS[path]), model(), tuple(IMAGES.shape[1:])
    assert erf.theoretical_rf(its, output=path, input_shape=shape) == erf.theoretical_rf(plain, input_shape=shape)
    assert erf.overlap(its, images=IMAGES, output=path) == erf.overlap(plain, images=IMAGES)
    assert erf.overlap(its, "stage2.conv", images=IMAGES, output=path).exact_halo == (2, 2)
    found, expected = (
        erf.perturbed(one, IMAGES, rings=2, **more) for one, more in ((its, {"output": path}), (plain, {}))
    )
    np.testing.assert_allclose([found.measured, found.predicted], [expected.measured, expected.predicted])
    found, expected = (
        erf.by_convention(one, IMAGES, "replknet", **more) for one, more in ((its, {"output": path}), (plain, {}))
    )
    np.testing.assert_allclose(found.map, expected.map)


def test_further_inputs_reach_whatever_measures_a_unit():
    """The mask follows the images, since tiles are smaller."""
    its, plain, shape = model(), model(lambda stages, logits: 2 * logits), tuple(IMAGES.shape[1:])
    double = {"inputs": lambda images: (images, 2 * torch.ones_like(images[:, :1]))}
    assert erf.theoretical_rf(its, input_shape=shape, **double).size == (5, 5)
    assert erf.overlap(its, images=IMAGES, **double).exact_error < 1e-12
    found, expected = erf.perturbed(its, IMAGES, rings=2, **double), erf.perturbed(plain, IMAGES, rings=2)
    np.testing.assert_allclose(found.measured, expected.measured)
    found, expected = (erf.profile(one, IMAGES, **more) for one, more in ((its, double), (plain, {})))
    assert found.rows() == expected.rows()


HINTS = {
    'output="logits"': lambda stages, logits: {"logits": logits},
    'output="last"': lambda stages, logits: {"pooled": logits.mean((2, 3)), "last": logits},
    'output="[1]"': lambda stages, logits: (stages[0].long(), logits),
    'output="hidden[1]"': lambda stages, logits: Output(None, (None, logits)),
    'output="[0][logits]"': lambda stages, logits: [Output(logits, stages)],
}


@pytest.mark.parametrize("hint", HINTS)
def test_an_output_that_is_no_tensor_is_told_with_the_place_of_one(hint):
    its = model(HINTS[hint])
    with pytest.raises(InputError, match=re.escape(f"not a tensor: give {hint}, or choose a layer, such as")):
        erf.measure(its, IMAGES)
    equal(erf.measure(its, IMAGES, output=hint.split('"')[1]), erf.measure(model(), IMAGES))


def test_a_layers_output_that_is_no_tensor_is_told_with_the_place_of_one():
    with pytest.raises(
        InputError, match=re.escape("""layer 'stage2' gives a tuple, not a tensor: give layer="stage2[0]", or""")
    ):
        erf.measure(model(), IMAGES, "stage2")
    its = model(lambda stages, logits: {"names": ["a"]})
    with pytest.raises(InputError, match="gives a dict of names, not a tensor: choose a layer"):
        erf.measure(its, IMAGES)


BYTES = torch.randint(0, 256, (2, 3, 12, 14), generator=torch.Generator().manual_seed(0)).double()
VOLUME = torch.randint(-1000, 2000, (1, 1, 6, 12, 14), generator=torch.Generator().manual_seed(0)).double()
IN_ORDER = {
    "from 0 to 1": BYTES / 255,
    "normalised": (BYTES / 255 - 0.45) / 0.22,
    "masks": (BYTES > 128).double(),
    "of three kinds": (BYTES / 100).floor(),
    "bytes about their mean": BYTES - 128,
    "Hounsfield units": VOLUME,
    "windowed Hounsfield units": VOLUME.clamp(0, 255),
    "three phases in Hounsfield units": VOLUME.expand(1, 3, 6, 12, 14),
    "12 bits": 16 * BYTES,
    "physical quantities": BYTES + 0.5,
    "counts of one kind": BYTES[:, :1],
    "sound": BYTES[:, :, 0],
}


def averaging(images) -> nn.Module:
    layers = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
    return layers[images.dim()](images.shape[1], 1, 3, padding=1).double()


def test_the_bytes_of_photographs_are_warned_of_once():
    measured = {
        "measure": lambda images: erf.measure(averaging(images), images.split(1)),
        "by convention": lambda images: erf.by_convention(averaging(images), images, "netharn"),
        "of the paper": lambda images: erf.by_convention(averaging(images), images, "luo2016"),
        "perturbed": lambda images: erf.perturbed(averaging(images), images, rings=2, draws=2),
    }
    for function in measured.values():
        with pytest.warns(UserWarning) as found:
            function(BYTES.float())
        assert len(found) == 1
        assert "whole numbers from 0 to 255: divide them by 255, and normalise" in str(found[0].message)
    with pytest.warns(UserWarning, match="whole numbers from 0 to 255"):
        erf.measure(averaging(BYTES[:, :, None]), BYTES[:, :, None])  # of video


@pytest.mark.parametrize("what", IN_ORDER)
def test_other_numbers_are_not_warned_of(what):
    with warnings.catch_warnings(action="error"):
        erf.measure(averaging(IN_ORDER[what]), IN_ORDER[what], layout="channels_first")


WRONG = {
    "not a class: make one, such as Model()": Model,
    "not a OrderedDict: load the weights into a model": nn.Conv2d(1, 1, 1).state_dict(),
    "not a function: give what it returns, such as model()": model,
    "not a str": "resnet50",
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_no_model_is_named_with_the_fix(message):
    for measuring in (
        lambda given: erf.measure(given, IMAGES),
        lambda given: erf.theoretical_rf(given, input_shape=(2, 16, 18)),
        lambda given: erf.overlap(given, images=IMAGES),
        lambda given: erf.profile(given, IMAGES),
        lambda given: erf.perturbed(given, IMAGES),
        lambda given: erf.by_convention(given, IMAGES, "replknet"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            measuring(WRONG[message])


def test_inputs_by_name():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model()

        def forward(self, images):
            return self.inner(images, MASK.expand(len(images), -1, -1, -1), 3.0)

    expected = erf.measure(Masked(), IMAGES)
    given = {"mask": MASK, "scale": 3.0}
    for _ in range(2):
        equal(erf.measure(model(), IMAGES, inputs=given), expected)
    as_dict = lambda images: {"images": images, "mask": MASK.expand(len(images), -1, -1, -1), "scale": 3.0}  # noqa: E731
    equal(erf.measure(model(), IMAGES, inputs=as_dict), expected)
    equal(erf.measure(model(), IMAGES, inputs=lambda images: tuple(as_dict(images).values())), expected)


def test_images_in_a_dict():
    class FromDict(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model()

        def forward(self, batch):
            return {"out": self.inner(batch["image"])}

    found = erf.measure(FromDict(), IMAGES, inputs=lambda images: ({"image": images},), output="out")
    equal(found, erf.measure(model(), IMAGES))
    inside = erf.measure(FromDict(), IMAGES, "inner.stage2[1]", inputs=lambda images: ({"image": images},))
    equal(inside, erf.measure(model(), IMAGES, "stage2.conv"))


def test_the_model_is_left_as_it_was():
    its = model(OUTPUTS["logits"])
    its.train(), its.stage1.requires_grad_(False)
    before = [(module, module.training) for module in its.modules()]
    erf.measure(its, IMAGES, output="logits", inputs={"scale": 2.0})
    assert [(module, module.training) for module in its.modules()] == before
    assert [parameter.requires_grad for parameter in its.parameters()] == [False, False, True, True]


MISTAKES = [
    ({"output": "logit"}, "the model: its output has no 'logit', but has logits, stages"),
    ({"output": "stages[7]"}, "the model: its output has no '7', but is a tuple"),
    ({"layer": "stage2[2]"}, r"layer 'stage2\[2\]': its output has no '2', but is a tuple"),
    ({"layer": "stage3[1]"}, "unknown layer 'stage3': did you mean stage2"),
    (
        {"output": "stages"},
        re.escape('the model gives a tuple, not a tensor: give output="stages[0]", or choose a layer'),
    ),
    ({"inputs": {"masks": MASK}, "output": "logits"}, "the model fails on images of .* unexpected keyword argument"),
]


@pytest.mark.parametrize("arguments, words", MISTAKES)
def test_mistakes_end_in_one_line(arguments, words):
    with pytest.raises(InputError, match=words):
        erf.measure(model(OUTPUTS["logits"]), IMAGES, **arguments)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(2, 4, 5, padding=2), nn.Linear(4, 7)
        self.double()

    def forward(self, images):
        return self.head(self.body(images).tanh().mean((2, 3)))


def test_a_classs_logit_as_the_unit():
    torch.manual_seed(0)
    its = Classifier()
    field = erf.measure(its, IMAGES, unit=lambda logits: logits[:, 3])
    maps = []
    for image in IMAGES.split(1):
        source = image.clone().requires_grad_()
        its(source)[0, 3].backward()
        maps.append(source.grad[0].abs().mean(0).numpy())
    expected = np.mean(maps, 0)
    np.testing.assert_allclose(field.map, expected, rtol=1e-10)
    middle = [np.average(np.arange(n), weights=expected.sum(1 - axis)) for axis, n in enumerate(expected.shape)]
    np.testing.assert_allclose(field.position, middle)
    assert field.theoretical_rf == (np.inf, np.inf) and field.reference == "maximum"
    assert field.settings["sees_all"] == "a function of the output" and field.settings["unit"] == "<lambda>"


def test_any_function_of_a_layers_output():
    def energy(output):
        return output.square().sum((1, 2, 3))

    torch.manual_seed(0)
    its = Classifier()
    field = erf.measure(its, IMAGES[:1], "body", unit=energy)
    source = IMAGES[:1].clone().requires_grad_()
    its.body(source).square().sum().backward()
    np.testing.assert_allclose(field.map, source.grad[0].abs().mean(0).numpy(), rtol=1e-10)
    with pytest.raises(InputError, match=r"must give a number for each of 1 images, not a float"):
        erf.measure(its, IMAGES, "body", unit=lambda output: 3.0)
