"""Effective receptive fields of PyTorch models, after Luo, Li, Urtasun and Zemel (NIPS 2016).

    import erf
    field = erf.measure(model, images)      # how strongly each input pixel moves the centre unit
    field.size, field.sigma, field.map      # pixels, pixels, float64 (H, W)
    field.summary(), field.plot()           # all its numbers, by name; matplotlib's axes
    erf.theory.uniform_map(20, 3)           # the closed form to hold it against

The names below are loaded when first used, so that `import erf` costs nothing; `erf.field` and `erf.theory` need no
torch.
"""

import importlib
import sys
from types import ModuleType

_HOMES = {
    "measure": "erf.measure",
    "ReceptiveField": "erf.field",
    "InputError": "erf.errors",
    "TheoreticalRF": "erf.structure",
    "theoretical_rf": "erf.structure",
}
__all__ = ["InputError", "ReceptiveField", "TheoreticalRF", "measure", "theoretical_rf", "theory"]


class _Package(ModuleType):
    """`erf.measure` is the function although a submodule has that name: importing a submodule binds its name in the
    package, and this property, which ignores that, is what attribute look-up finds first."""

    measure = property(lambda self: __getattr__("measure"), lambda self, submodule: None)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "theory":
        return importlib.import_module("erf.theory")
    raise AttributeError(f"module 'erf' has no attribute {name!r}")


sys.modules[__name__].__class__ = _Package
