"""Effective receptive fields of PyTorch models, after Luo, Li, Urtasun and Zemel (NIPS 2016).

    import erf
    field = erf.measure(model, images)      # how strongly each input pixel moves the centre unit
    field.size, field.sigma, field.map      # pixels, pixels, float64 (H, W)
    field.summary(), field.plot()           # all its numbers, by name; matplotlib's axes
    erf.theory.uniform_map(20, 3)           # the closed form to hold it against

    erf.naive.impact_map(model, images)     # the definition in 50 lines, which gives the same map

Names are loaded when they are first used, so that `import erf` takes no time. `ReceptiveField` and `theory` need no
torch.
"""

import importlib

_HOMES = {
    "measure": "erf.measuring.measure",
    "Monitor": "erf.applied.monitor",
    "compare": "erf.result.compare",
    "overlap": "erf.applied.overlap",
    "Overlap": "erf.applied.overlap",
    "register_rule": "erf.ops.table",
    "ReceptiveField": "erf.result.field",
    "InputError": "erf.errors",
    "TheoreticalRF": "erf.measuring.theoretical",
    "theoretical_rf": "erf.measuring.theoretical",
}
__all__ = [
    "InputError",
    "Monitor",
    "Overlap",
    "ReceptiveField",
    "TheoreticalRF",
    "compare",
    "measure",
    "naive",
    "overlap",
    "register_rule",
    "theoretical_rf",
    "theory",
]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in __all__:
        return importlib.import_module(f"erf.{name}")
    raise AttributeError(f"module 'erf' has no attribute {name!r}")
