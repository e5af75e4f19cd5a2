"""The plan of the code: two libraries, rooms of a few modules, and imports that lead downwards only."""

import ast
import graphlib

import pytest

from conftest import SCRIPTS

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
