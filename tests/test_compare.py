"""Several fields side by side: what the figure shows, and `erf compare` and `erf layers`."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import LogNorm, PowerNorm, to_hex
from matplotlib.figure import Figure
from PIL import Image

import erf
from conftest import NETS
from erf import theory
from erf.__main__ import main
from erf.result.compare import COLUMNS, FLOOR, POWER
from erf.result.display import THEORY
from erf.size import THRESHOLD

REACH = math.sqrt(-2 * math.log(THRESHOLD))  # of the bound of a Gaussian, in standard deviations


def gaussian(sigma, shape=(61, 91), position=(30, 40), theoretical_rf=(41, 51)) -> erf.ReceptiveField:
    impact = 1e-7 * theory.gaussian_map(sigma, shape, position)
    return erf.ReceptiveField(impact, position, theoretical_rf, np.ones(1))


def maps(figure: Figure) -> list:
    return [axes for axes in figure.axes if axes.images]


def bar(figure: Figure):
    (axes,) = (axes for axes in figure.axes if "impact" in axes.get_ylabel())
    return axes


PAIR = {"before": gaussian(3), "after": gaussian((4, 6))}


def test_each_field_has_a_panel_with_its_label_and_size():
    figure = erf.compare(PAIR)
    assert [axes.get_title() for axes in maps(figure)] == [f"{name}\n{one.size:.1f} px" for name, one in PAIR.items()]
    numbered = erf.compare([gaussian(2)] * (COLUMNS + 2))
    assert [axes.get_title().split("\n")[0] for axes in maps(numbered)] == [*"123456"]
    figure.canvas.draw()
    numbered.canvas.draw()


def test_the_bound_lies_where_the_map_crosses_the_threshold():
    for axes, (down, right) in zip(maps(erf.compare(PAIR)), [(3, 3), (4, 6)], strict=True):
        (bound,) = axes.collections
        columns, rows = bound.get_paths()[0].vertices.T
        assert [-rows.min(), rows.max()] == pytest.approx([down * REACH] * 2, rel=0.02)
        assert [-columns.min(), columns.max()] == pytest.approx([right * REACH] * 2, rel=0.02)


def test_all_panels_lie_about_their_units_on_one_scale_of_lengths():
    """Of images with other sides, whose units look at other pixels."""
    figure = erf.compare([gaussian(3), gaussian(3, (31, 33), (10, 20), (11, 21))])
    first, second = maps(figure)
    assert first.get_xlim() == second.get_xlim() and first.get_ylim() == second.get_ylim()
    assert second.images[0].get_extent() == [-20.5, 12.5, 20.5, -10.5]
    boxes = [tuple(axes.patches[0].get_bbox().extents) for axes in (first, second)]
    assert boxes == [(-25.5, -20.5, 25.5, 20.5), (-10.5, -5.5, 10.5, 5.5)]
    assert to_hex(first.patches[0].get_edgecolor()) == THEORY
    assert all(line.get_xydata().tolist() == [[0, 0]] for axes in (first, second) for line in axes.lines)
    left, right = first.get_xlim()
    assert -30 < left < -25.5 and 25.5 < right < 30  # the theoretical field, and no more
    bottom, top = first.get_ylim()
    assert 20.5 < bottom < 24 and -24 < top < -20.5


def test_a_theoretical_field_larger_than_the_image_shows_the_image():
    axes, _ = maps(erf.compare([gaussian(3, theoretical_rf=(505, 505)), gaussian(3, theoretical_rf=(math.inf,) * 2)]))
    assert axes.get_xlim() == (-40.5, 50.5) and axes.get_ylim() == (30.5, -30.5)


def test_without_a_finite_theoretical_field_the_panels_show_a_thousandth_of_the_maximum():
    figure = erf.compare([gaussian(3, theoretical_rf=(math.inf, math.inf))])
    (axes,) = maps(figure)
    assert not axes.patches and [text.get_text() for text in figure.legends[0].texts] == [
        "ERF, size in the title",
        "unit",
    ]
    reach = 3 * math.sqrt(-2 * math.log(FLOOR))
    assert axes.get_xlim()[1] == pytest.approx(reach, abs=3) and axes.get_ylim()[1] == pytest.approx(-reach, abs=3)


@pytest.mark.parametrize("scale", ["linear", "log", "power"])
def test_one_scale_of_colours_which_is_named_and_changes_no_number(scale):
    figure = erf.compare(PAIR, scale=scale)
    first, second = (axes.images[0] for axes in maps(figure))
    assert first.norm is second.norm and (first.norm.vmin, first.norm.vmax) == (FLOOR if scale == "log" else 0, 1)
    kinds = {"log": LogNorm, "power": PowerNorm}
    assert isinstance(first.norm, kinds.get(scale, object)) and (scale != "power" or first.norm.gamma == POWER)
    label = bar(figure).get_ylabel()
    assert f"{scale} scale" in label and ("display only" in label) == (scale != "linear")
    for image, field in zip((first, second), PAIR.values(), strict=True):
        expected = np.maximum(field.map / field.map.max(), first.norm.vmin)
        np.testing.assert_allclose(image.get_array(), expected)  # linear: the norm alone turns it into a colour
    (bound,) = maps(figure)[0].collections
    assert bound.get_paths()[0].vertices.max() == pytest.approx(3 * REACH, rel=0.02)
    figure.canvas.draw()


def test_the_bound_is_smoothed_where_many_pixels_are_shown_and_says_so():
    large = gaussian(50, (400, 420), (200, 210), (399, 399))
    words = lambda figure: figure.legends[0].texts[0].get_text()  # noqa: E731
    assert words(erf.compare([large])) == "ERF, size in the title (outline smoothed)"
    small = gaussian(5, (400, 420), (200, 210), (41, 41))
    assert words(erf.compare([small])) == "ERF, size in the title"  # only a part of the map is shown


@pytest.mark.parametrize("impact", [np.zeros((5, 7)), np.ones((5, 7)), np.ones((1, 7))])
def test_maps_without_a_bound_are_drawn_without_one(impact):
    figure = erf.compare([erf.ReceptiveField(impact, (0, 3), (3, 3), np.ones(1))])
    assert not maps(figure)[0].collections
    figure.canvas.draw()


def test_pyplot_keeps_none_of_the_figures():
    from matplotlib import pyplot as plt

    before = plt.get_fignums()
    assert isinstance(erf.compare(PAIR), Figure) and plt.get_fignums() == before


def test_one_field_alone_is_drawn_as_a_list_of_one():
    alone, listed = (erf.compare(fields) for fields in (PAIR["before"], [PAIR["before"]]))
    assert [axes.get_title() for axes in alone.axes] == [axes.get_title() for axes in listed.axes]


@pytest.mark.parametrize(
    "fields, scale, message",
    [
        (PAIR, "sqrt", "unknown scale 'sqrt': choose one of linear, log, power"),
        ([], "log", "there are no fields to compare"),
        ({"a": PAIR["before"].map}, "log", "a is no receptive field"),
        (1.5, "log", "fields must be a list, or a dict by their labels, not a float"),
    ],
)
def test_a_mistake_is_named(fields, scale, message):
    with pytest.raises(erf.InputError, match=message):
        erf.compare(fields, scale=scale)


# The commands.


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with two fields and nets.py in it."""
    monkeypatch.chdir(tmp_path)
    for name, field in PAIR.items():
        field.save(f"{name}.npz")
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


def test_the_command_prints_the_numbers_side_by_side(folder, capsys):
    assert main(["compare", "before.npz", "after.npz"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["before", "after"]
    rows = {name: values for name, *values in lines[1:]}
    assert rows["size"] == [f"{field.size:.4g}" for field in PAIR.values()]
    assert rows["sigma_rows"] == ["3", "4"] and rows["clipped"] == ["no", "no"] and rows["low"] == ["-", "-"]
    assert rows.keys() == PAIR["before"].summary().keys()


def test_the_command_gives_json(folder, capsys):
    gaussian(3, theoretical_rf=(math.inf, math.inf)).save("all.npz")
    assert main(["compare", "before.npz", "all.npz", "--labels", "one", "two", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["one", "two"] and found["two"]["rf_height"] is None
    assert found["one"]["size"] == pytest.approx(PAIR["before"].size) and found["one"]["low"] is None


def test_the_command_draws_what_compare_draws(folder):
    arguments = ["--figure", "out/both.png", "--labels", "one", "two", "--scale", "power"]
    assert main(["compare", "before.npz", "after.npz", *arguments]) == 0
    expected = erf.compare(dict(zip(("one", "two"), PAIR.values(), strict=True)), scale="power")
    expected.savefig("expected.png")
    with Image.open("out/both.png") as drawn, Image.open("expected.png") as same:
        np.testing.assert_array_equal(np.asarray(drawn), np.asarray(same))
    assert [path.name for path in Path("out").iterdir()] == ["both.png"]


def test_files_of_one_name_have_their_folders_as_labels(folder, capsys):
    Path("runs").mkdir()
    PAIR["after"].save("runs/before.npz")
    assert main(["compare", "before.npz", "runs/before.npz"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["before", "runs/before"]


@pytest.mark.parametrize(
    "words, message",
    [
        ("before.npz after.csv", "argument FILE.npz: 'after.csv' does not end in .npz"),
        ("before.npz after.npz --labels one", "argument --labels: 1 labels for 2 files"),
        ("before.npz after.npz --labels one one", "argument --labels: they must differ"),
        ("before.npz before.npz", "argument --labels: they must differ"),
        ("before.npz --scale sqrt", "argument --scale: invalid choice: 'sqrt'"),
    ],
)
def test_wrong_arguments_end_in_their_use_and_2(folder, capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        main(["compare", *words.split()])
    assert ended.value.code == 2 and f"error: {message}" in capsys.readouterr().err


def test_a_file_that_is_no_field_ends_in_one_line_and_1(folder, capsys):
    Path("wrong.npz").write_bytes(b"wrong")
    for name in ("wrong.npz", "none.npz"):
        assert main(["compare", "before.npz", name, "--figure", "both.png"]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"error: {name}") and error.count("\n") == 1 and not Path("both.png").exists()


def test_the_layers_of_a_model(folder, capsys):
    words = ["layers", "nets.py:build", "--input-size", "12", "10"]
    assert main([*words, "--json", "--fields"]) == 0
    found = {row["layer"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(found) == ["dropout", "conv", "norm", "top", None]
    assert found["conv"] == {
        **{"layer": "conv", "kind": "Conv2d", "shape": [1, 4, 12, 10], "channels": 4},
        **{"units": [12, 10], "stride": [1, 1], "field": [3, 3]},
    }
    assert found[None] == found["top"] | {"layer": None, "kind": "Net"} and found["top"]["field"] == [5, 5]
    assert (found["top"]["units"], found["top"]["stride"], found["top"]["channels"]) == ([6, 5], [2, 2], 2)
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "channels", "stride,", "px"]
    assert " ".join(lines[-2].split()) == "top Conv2d 1 x 2 x 6 x 5 2 2 x 2" and lines[-1].startswith(
        "(its output)  Net"
    )


def test_every_layer_that_is_listed_can_be_measured(folder, capsys):
    """Of a model with a head and squeezed layers, whose units are none or one."""
    text = """from torch import nn

def build():
    body = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1))
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
"""
    (folder / "head.py").write_text(text)
    assert main(["layers", "head.py:build", "--image-channels", "1", "--input-size", "20", "24", "--json"]) == 0
    listed = [row["layer"] for row in json.loads(capsys.readouterr().out)]
    assert listed[:4] == ["0.0", "0.1", "0.2", "0"] and not {"2", "3", None} & set(listed)
    for layer in listed:
        words = ["measure", "head.py:build", "--layer", layer, "--input-size", "20", "24", "--mean", "0", "--std", "1"]
        assert main([*words, "--count", "2", "--json"]) == 0


@pytest.mark.parametrize(
    "words, message",
    [
        ("nets.py:biuld", "nets.py has no function 'biuld': did you mean build?"),
        ("nets.py:build --image-channels 2", "the model fails on images of 1 x 2 x 224 x 224: RuntimeError"),
        ("head.py:build", "head.py:build has no layer with units in a plane, for images of 224 x 224"),
    ],
)
def test_a_mistake_about_layers_ends_in_one_line_and_1(folder, capsys, words, message):
    (folder / "head.py").write_text("from torch import nn\n\ndef build():\n    return nn.Flatten()\n")
    assert main(["layers", *words.split()]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}") and error.count("\n") == 1
