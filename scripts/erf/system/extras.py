"""Packages that only some uses of the library need: Pillow, matplotlib, timm."""

import importlib
from types import ModuleType

from erf.errors import InputError


def extra(module: str, package: str, purpose: str) -> ModuleType:
    """The module; InputError that says what needs it, and how its package is installed, where it is not."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise  # it is there, but something that it needs is not
        raise InputError(f"{purpose} needs {package}: pip install {package.lower()}") from error
