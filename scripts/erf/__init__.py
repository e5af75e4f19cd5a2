"""Effective receptive fields of PyTorch models, after Luo, Li, Urtasun and Zemel (NIPS 2016).

    import erf
    field = erf.measure(model, images)      # how strongly each input pixel moves the centre unit
    field.size, field.sigma, field.map      # pixels, pixels, float64 (H, W)
    field.summary(), field.plot()           # all its numbers, by name; matplotlib's axes
    erf.theory.uniform_map(20, 3)           # the closed form to hold it against

    erf.naive.impact_map(model, images)     # the definition in 50 lines, which gives the same map
    erf.by_convention(model, images, "replknet")    # a published script's number, to compare with
    erf.perturbed(model, images)            # noise drawn anew in rings, beside what the gradient predicts

Names are loaded when they are first used, so that `import erf` takes no time. `ReceptiveField` and `theory` need no
torch.
"""

import importlib

_HOMES = {
    "measure": "erf.measuring.measure",
    "theoretical_rf": "erf.measuring.recorded",
    "TheoreticalRF": "erf.measuring.theoretical",
    "ReceptiveField": "erf.result.field",
    "profile": "erf.applied.profile",
    "Profile": "erf.applied.profile",
    "compare": "erf.result.compare",
    "by_convention": "erf.comparing.conventions",
    "ConventionResult": "erf.comparing.conventions",
    "perturbed": "erf.comparing.perturbation",
    "Perturbation": "erf.comparing.perturbation",
    "overlap": "erf.applied.overlap",
    "Overlap": "erf.applied.overlap",
    "Monitor": "erf.applied.monitor",
    "register_rule": "erf.ops.table",
    "InputError": "erf.errors",
}
__all__ = [
    "ConventionResult",
    "InputError",
    "Monitor",
    "Overlap",
    "Perturbation",
    "Profile",
    "ReceptiveField",
    "TheoreticalRF",
    "by_convention",
    "compare",
    "measure",
    "naive",
    "overlap",
    "perturbed",
    "profile",
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
