"""Which project modules a script is made of: a change in any of them reruns its rule, and is told by their digest."""

import ast
import functools
import hashlib
from pathlib import Path


def modules(script: Path) -> list[Path]:
    """Paths of all modules in the script's folder that it imports, directly or not, sorted."""
    found, pending = set(), [script]
    while pending:
        for module in imported_names(pending.pop()):
            parts = module.split(".")
            for depth in range(1, len(parts) + 1):
                stem = script.parent.joinpath(*parts[:depth])
                for path in (stem.with_suffix(".py"), stem / "__init__.py"):
                    if path.is_file() and path not in found:
                        found.add(path)
                        pending.append(path)
    return sorted(found)


@functools.cache  # rules share most modules
def imported_names(path: Path) -> list[str]:
    """Dotted names in the import statements of a file, wherever they stand."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


@functools.cache
def code_digest(script: Path) -> str:
    """SHA-256 of a script and the modules that it imports."""
    contents = [path.read_bytes() for path in [script, *modules(script)]]
    return hashlib.sha256(b"".join(contents)).hexdigest()
