"""The picture of one field: what it shows, where, and that it leaves the user's matplotlib alone."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from conftest import SCRIPTS
from erf import theory
from erf.result.display import THEORY
from erf.result.field import ReceptiveField
from erf.size import THRESHOLD

PLACE = {"map": theory.gaussian_map((4.0, 9.0), (61, 91), (30, 40)), "position": (30, 40)}


def field_of(theoretical_rf=(41, 51), **changes) -> ReceptiveField:
    return ReceptiveField(**{**PLACE, "theoretical_rf": theoretical_rf, "run_sizes": np.ones(1), **changes})


@pytest.fixture
def axes():
    return Figure().subplots()


def labels(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_it_draws_on_the_axes_given_and_returns_them(axes):
    field = field_of()
    assert field.plot(axes) is axes
    assert labels(axes) == [f"ERF, size {field.size:.1f} px", "theoretical field, 41 × 51 px", "unit"]
    axes.figure.canvas.draw()


def test_things_lie_where_they_are_in_the_image(axes):
    field_of().plot(axes)
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 90.5), (60.5, -0.5))
    (unit,) = (line for line in axes.lines if line.get_label() == "unit")
    assert (unit.get_xdata().item(), unit.get_ydata().item()) == (40, 30)
    (rectangle,) = axes.patches
    assert to_hex(rectangle.get_edgecolor()) == THEORY
    assert rectangle.get_bbox().extents == pytest.approx([40 - 25.5, 30 - 20.5, 40 + 25.5, 30 + 20.5])
    (bound,) = axes.collections
    columns, rows = bound.get_paths()[0].vertices.T
    reach = np.sqrt(-2 * np.log(THRESHOLD))
    assert [rows.max() - 30, 30 - rows.min()] == pytest.approx([4 * reach] * 2, rel=0.01)
    assert [columns.max() - 40, 40 - columns.min()] == pytest.approx([9 * reach] * 2, rel=0.01)


def test_the_bound_is_that_of_the_fields_own_threshold(axes):
    spiked = PLACE["map"].copy()
    spiked[10, 10] = 5.0
    field_of(map=spiked, reference="maximum").plot(axes)
    columns, _ = axes.collections[0].get_paths()[0].vertices.T
    assert columns.max() - 40 == pytest.approx(9 * np.sqrt(-2 * np.log(5 * THRESHOLD)), rel=0.01)


@pytest.mark.parametrize("theoretical_rf", [(np.inf, np.inf), (np.inf, 31), (505, 505)])
def test_a_theoretical_field_that_is_not_in_the_image_is_not_drawn(axes, theoretical_rf):
    field_of(theoretical_rf).plot(axes)
    assert not axes.patches and len(labels(axes)) == 2


def test_one_that_leaves_the_image_on_one_side_is(axes):
    field_of((101, 61)).plot(axes)  # the right edge is in the image
    assert len(axes.patches) == 1 and axes.get_xlim() == (-0.5, 90.5)


@pytest.mark.parametrize("impact", [np.zeros((5, 7)), np.ones((5, 7)), np.ones((1, 7))])
def test_maps_without_a_bound_are_drawn_without_one(axes, impact):
    field_of(map=impact, position=(0, 3)).plot(axes)
    assert not axes.collections and "unit" in labels(axes)
    axes.figure.canvas.draw()


def test_large_maps_say_that_the_bound_is_smoothed(axes):
    field = field_of(map=theory.gaussian_map(20.0, (200, 240), (100, 120)), position=(100, 120))
    field.plot(axes)
    assert labels(axes)[0] == f"ERF, size {field.size:.1f} px (outline smoothed)"


def test_without_axes_there_is_a_new_figure():
    plt.switch_backend("agg")
    first, second = field_of().plot(), field_of().plot()
    assert first.figure is not second.figure
    plt.close(first.figure)
    plt.close(second.figure)


def run(program: str) -> None:
    start = "import sys, numpy as np; from erf.result.field import ReceptiveField\n"
    start += "field = ReceptiveField(np.eye(5), (2, 2), (3, 3), np.ones(1))\n"
    subprocess.run([sys.executable, "-c", start + program], check=True, cwd=SCRIPTS)


def test_matplotlib_is_left_as_it_was():
    run(
        "assert 'matplotlib' not in sys.modules\n"
        "import matplotlib as mpl; mpl.use('svg'); before = dict(mpl.rcParams)\n"
        "field.plot(); assert mpl.get_backend() == 'svg' and dict(mpl.rcParams) == before\n"
        "assert not {'seaborn', 'pandas', 'torch'} & set(sys.modules)"
    )


def test_without_matplotlib_one_line_says_what_to_install():
    run(
        "from erf import InputError; sys.modules['matplotlib'] = None\n"
        "try: field.plot()\n"
        "except InputError as error: assert 'python -m pip install matplotlib' in str(error)\n"
        "else: raise AssertionError"
    )
