"""The documentation site: its order has every page, its reference every public name, and its notebooks run."""

import inspect
import os
import re
import subprocess
import sys

import docutils.core
import pytest
import yaml
from docutils.parsers.rst import roles

import erf
from conftest import ROOT, SCRIPTS
from erf import naive, theory
from lib.figures import FIGURES

sys.path.insert(0, str(ROOT / "docs"))

import gallery
from docstrings import as_rst

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.py"))
REFERENCE = (ROOT / "docs/reference.md").read_text(encoding="utf-8") + (ROOT / "docs/theory.md").read_text("utf-8")


def test_the_order_has_every_page():
    toc = yaml.safe_load((ROOT / "docs/_toc.yml").read_text(encoding="utf-8"))
    listed = [entry["file"] for tree in toc["subtrees"] for entry in tree["entries"]]
    pages = [*(ROOT / "docs").glob("*.md"), *NOTEBOOKS, ROOT / "config/README.md"]
    assert sorted(listed) == sorted(page.relative_to(ROOT).with_suffix("").as_posix() for page in pages)


def test_the_reference_has_every_public_name_and_no_other():
    assert sorted(re.findall(r"^\.\. auto\w+:: erf\.(\w+)$", REFERENCE, re.MULTILINE)) == sorted(erf.__all__)
    for module in (naive, theory):  # of a module all names are shown that have a docstring of their own
        named = {name for name in module.__all__ if inspect.getmodule(getattr(module, name)) is module}
        assert named == {*module.__all__} - {"Stack"}
        assert all(getattr(module, name).__doc__ for name in named)


def public_docstrings() -> dict[str, str]:
    """All docstrings that the reference shows, by name."""
    found = {name: getattr(erf, name) for name in erf.__all__}
    for module in (naive, theory):
        found |= {name: getattr(module, name) for name in module.__all__ if name != "Stack"}
    for cls in [one for one in found.values() if inspect.isclass(one)]:
        members = {name: getattr(cls, name) for name in vars(cls) if not name.startswith("_")}
        found |= {f"{cls.__name__}.{name}": one for name, one in members.items() if isinstance(one.__doc__, str)}
    return {name: inspect.getdoc(one) for name, one in found.items()}


@pytest.mark.parametrize("name", public_docstrings())
def test_a_docstring_is_sound_markup_on_the_site(name):
    """docutils, which warns of stars and bars that are taken for markup, stops at any warning."""
    roles.register_generic_role("py:obj", docutils.nodes.literal)
    text = "\n".join(as_rst(public_docstrings()[name].splitlines()))
    shown = docutils.core.publish_string(text, settings_overrides={"halt_level": 2, "report_level": 2})
    assert b"problematic" not in shown


def test_lists_of_a_docstring_become_definitions():
    lines = [
        "Draw |g| * 2 of `size`.",
        "",
        "Parameters",
        "----------",
        "a, b : `x + 1`, and",
        "    more",
        "**options : c_",
    ]
    assert as_rst(lines) == [
        *(r"Draw \|g\| \* 2 of :py:obj:`size`.", "", ".. rubric:: Parameters", ""),
        *("", "``a, b``", "    ``x + 1``, and", "    more"),
        *("", "``**options``", r"    c\_"),
    ]
    assert as_rst(["    >>> f(*x) : |y|", "    *a"]) == ["    >>> f(*x) : |y|", "    *a"]


def test_the_gallery_has_every_figure_its_section_and_its_program():
    shown = gallery.shown()
    kept = {path.stem for path in (ROOT / "figures/reference").rglob("*.png")}
    assert {one.picture.rsplit("/")[-1].removesuffix(".png") for one in shown} == kept
    assert kept >= FIGURES.keys() - {"fixed_point"}  # whose runs are to come
    for one in shown:
        assert (ROOT / one.picture).exists() and (ROOT / one.program).exists()
        assert f"# {one.title}\n" in (ROOT / one.page).read_text(encoding="utf-8")
        assert one.title in gallery.cards()
    titles = {one.program: one.title for one in shown}
    assert all(titles[f"scripts/figure_{name}.py"] == FIGURES[name].title for name in kept & FIGURES.keys())


SAYS = {  # of each notebook, in Python and with its names, what a reader is told
    "poster": "abs(deep.size / sizes[2] - 1) < 0.15 and abs(relu.size / sizes[2] - 1) < 0.15 and shallow.clipped",
    "own_model": "field.ratio < 1 and found.rows()[-1]['adds_nothing'] and check.distance < check.distance_by_chance",
    "training": "after.size > 1.5 * before.size and min(losses) < 0.1 * losses[0]",
}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_says(notebook, tmp_path):
    code = f"import runpy; names = runpy.run_path({str(notebook)!r}); assert eval({SAYS[notebook.stem]!r}, names)"
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS), "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    running = {"cwd": tmp_path, "env": environment, "capture_output": True, "encoding": "utf-8"}
    result = subprocess.run([sys.executable, "-c", code], **running)
    assert (result.returncode, result.stderr) == (0, "")
    assert "px" in result.stdout
