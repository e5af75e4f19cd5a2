"""The plan of the code: two libraries, rooms of a few modules, imports that lead downwards only, and public names."""

import ast
import graphlib
import tomllib

import pytest
from setuptools import find_packages

import erf
from conftest import ROOT, SCRIPTS

MOST = 7  # modules in a room, beside its __init__.py
LIBRARIES = ("erf", "replication")
MODULES = {
    ".".join(path.relative_to(SCRIPTS).with_suffix("").parts): path
    for library in LIBRARIES
    for path in sorted((SCRIPTS / library).rglob("*.py"))
}


def imported(name: str) -> set[str]:
    """Modules of the libraries that a module imports when it is loaded, not those that a function loads when called."""
    found = set()
    for node in ast.parse(MODULES[name].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found & MODULES.keys()


def room(name: str) -> str:
    """Of `erf.tracing.cone` it is `erf.tracing`; a module that lies beside the rooms is one by itself."""
    return ".".join(name.split(".")[:2])


def test_no_module_imports_itself_by_way_of_others():
    list(graphlib.TopologicalSorter({name: imported(name) for name in MODULES}).static_order())


def test_no_room_leads_back_to_itself_by_way_of_others():
    below = {}
    for name in MODULES:
        below.setdefault(room(name), set()).update(set(map(room, imported(name))) - {room(name)})
    list(graphlib.TopologicalSorter(below).static_order())


def test_the_instrument_knows_nothing_of_the_experiments():
    """Nor of the programs; not even in functions, which are loaded late."""
    programs = {path.stem for path in SCRIPTS.glob("*.py")}
    for name, path in MODULES.items():
        forbidden = programs | ({"replication"} if name.startswith("erf") else set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not forbidden & {one.split(".")[0] for one in names}, f"{name}, line {node.lineno}"


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES.values()}), ids=lambda path: path.name)
def test_a_room_is_small_and_says_what_it_is(folder):
    assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= MOST
    tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assert folder.name == "erf" or len(tree.body) == 1  # a package that imports makes every program depend on it all
    if folder.parent.name == "erf":
        assert ast.get_docstring(tree).startswith("Private: ") and "\n" not in ast.get_docstring(tree)


PUBLIC = [name for name in MODULES if name.startswith("erf.") and name.count(".") == 1 and "__init__" not in name]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_lists_its_names_and_underscores_all_others(name):
    found, listed = set(), []
    for node in ast.parse(MODULES[name].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            found.update(names)
            listed = ast.literal_eval(node.value) if names == ["__all__"] else listed
    assert sorted(listed) == sorted(one for one in found if not one.startswith("_"))


def test_what_the_library_exports_is_there_and_no_more():
    assert set(erf.__all__) == {*erf._HOMES, "naive", "theory"}
    assert all(getattr(erf, name) for name in erf.__all__)


def underscored(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("erf")])
def test_no_module_uses_private_names_of_another(name):
    """torch's are allowed in one module alone, which lists them: a new torch may change any of them."""
    allowed = name == "erf.graph.torch_private"
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.ImportFrom):
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            names = [node.attr]
        elif isinstance(node, ast.Constant) and str(node.value).startswith("torch."):
            names = node.value.split(".")
        found = list(filter(underscored, names))
        assert allowed or not found, f"line {node.lineno}: {found}"


def test_the_definition_stays_short_enough_to_be_read():
    assert len(MODULES["erf.naive"].read_text(encoding="utf-8").splitlines()) <= 60


def test_the_distribution_holds_the_library_alone_under_a_name_that_is_free():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["name"] == "effective-receptive-field"  # `erf` is another project's on the package index
    options = project["tool"]["setuptools"]["packages"]["find"]
    found = find_packages(SCRIPTS, include=options["include"])
    folders = {path.parent for name, path in MODULES.items() if name.startswith("erf")}
    assert {*found} == {".".join(folder.relative_to(SCRIPTS).parts) for folder in folders}
    assert [ROOT / where for where in options["where"]] == [SCRIPTS]
