"""Weights of a model: from its library, or from a file."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from erf.errors import InputError, did_you_mean, is_damage
from erf.models.torchvision_import import import_torchvision
from erf.system.files import check_archive, noted

WRAPPERS = ("state_dict", "model")  # keys under which files of weights have them, beside an optimiser's and the like


def library_weights(factory: str, build: Callable) -> dict:
    """Keyword arguments with which a library's factory gives its own trained weights."""
    if factory.startswith("timm:"):
        return {"pretrained": True}
    if factory.startswith("torchvision."):
        try:
            return {"weights": import_torchvision().models.get_model_weights(build).DEFAULT}
        except (ValueError, AttributeError) as error:
            raise InputError(f"torchvision has no weights for {factory}") from error
    raise InputError(f"{factory} has no default weights, which are torchvision's and timm's: give a file, or none")


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Load the state dict in a file into the model, all of it; `name` is the model's in errors."""
    if not path.is_file():
        raise InputError(f"{path}: no such file of weights")
    try:
        if zipfile.is_zipfile(noted(path)):
            check_archive(path)  # torch itself looks at no checksum
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file brings torch, zipfile and the unpickler to
        if not is_damage(error):
            raise
        raise InputError(f"{path}: damaged, or more than tensors: save a model's state_dict()") from error
    while isinstance(state, dict) and (wrapper := next((key for key in WRAPPERS if key in state), None)):
        state = state[wrapper]
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path}: no state dict in it: save a model's state_dict()")
    state = {key.removeprefix("module."): value for key, value in state.items()}  # DataParallel's prefix
    own = model.state_dict()
    for key in own.keys() & state.keys():
        if (found := getattr(state[key], "shape", None)) != own[key].shape:
            shapes = [" x ".join(map(str, shape)) or "a number" for shape in (found or (), own[key].shape)]
            raise InputError(f"{path}: not the weights of {name}: {key} is {shapes[0]}, not {shapes[1]}")
    missing, unknown = model.load_state_dict(state, strict=False)
    if missing or unknown:
        first = f"{missing[0]} is missing{did_you_mean(missing[0], state)}" if missing else f"{unknown[0]} is not in it"
        more = f", and {len(missing) + len(unknown) - 1} others" if len(missing) + len(unknown) > 1 else ""
        raise InputError(f"{path}: not the weights of {name}: {first}{more}")
