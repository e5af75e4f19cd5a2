"""Whose code may run as a model. Without torch, so that the pipeline asks before anything is imported."""

from collections.abc import Sequence
from pathlib import Path

# Trusted with their models, but no further; the project's networks too, where the library lies among its programs.
_PROJECT = ("replication",) if (Path(__file__).resolve().parents[2] / "measure_model.py").is_file() else ()
LIBRARIES = ("erf", *_PROJECT, "torch.nn", "torchvision.models", "torchvision.ops")


def lies_in(place: str, trusted: Sequence[str]) -> bool:
    """Whether a module's name, or the path of a .py file, is one of the trusted, or a module in a trusted package."""
    if place.endswith(".py"):
        return any(one.endswith(".py") and Path(one).resolve() == Path(place).resolve() for one in trusted)
    return any(place == one or place.startswith(f"{one}.") for one in trusted)


def how_to_trust(place: str) -> str:
    """The end of a line on code that is not trusted."""
    return f": if you know what it does, add --trust {place}, for snakemake --config=trust={place}"
