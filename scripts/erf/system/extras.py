"""Packages that only some uses of the library need: Pillow, matplotlib, timm."""

import importlib
from types import ModuleType

from erf.errors import InputError


def extra(module: str, package: str, purpose: str) -> ModuleType:
    """Import a module; if it is missing, InputError says what needs it and how to install its package."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise  # it is there, but something that it needs is not
        raise InputError(f"{purpose} needs {package}: pip install {package.lower()}") from error
