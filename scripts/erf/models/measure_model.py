"""Measure a model as a configuration or a command line describes it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from erf.errors import InputError
from erf.measuring.layer import layer_output
from erf.measuring.measure import measure
from erf.models import images
from erf.models.batch_norm import batch_norms, calibrate_batch_norm
from erf.models.factory import load_model
from erf.result.field import ReceptiveField
from erf.system.seeds import seed_for

CALIBRATION = 32  # images, at most, for the statistics of an untrained model's batch norms


def measure_model(
    settings: dict,
    device: torch.device,
    dtype: torch.dtype,
    batch_size: int | None = None,
    progress: bool = False,
    trust: Sequence[str] = (),
) -> ReceptiveField:
    """The field of a unit of a model, with a bootstrap over images.

    settings : `factory`, `kwargs`, `weights` and `seed` as in `load_model`; `layer` ("" for the model's own output),
        `unit` ("center" or [row, column]), `channels` and `mode` as in `erf.measure`; `source`, "noise" or a folder
        of images; `images`, the number of those taken, of `input_size` (height, width), and normalised by `mean` and
        `std`, whose length is the number of their channels
    batch_size, progress : as in `erf.measure`
    trust : as in `load_factory`; the settings have no say in it

    InputError for whatever is wrong with these. The same settings give the same field, and all models with the same
    seed get the same noise.
    """
    model = load_model(settings["factory"], settings["kwargs"], settings["weights"], settings["seed"], trust)
    shown = load_images(settings)
    model, layer = model.to(device, dtype), settings["layer"] or None
    if settings["weights"] == "none" and is_untrained(model):
        calibrate_batch_norm(
            model, shown[:CALIBRATION].to(device, dtype), lambda batch: layer_output(model, batch, layer)
        )
    field = measure(
        model,
        shown,
        layer,
        settings["unit"] if settings["unit"] == "center" else tuple(settings["unit"]),
        settings["channels"],
        settings["mode"],
        batch_size=batch_size,
        rng=np.random.default_rng(seed_for(settings["seed"], "bootstrap")),
        progress=progress,
    )
    field.settings.update(model=settings)
    return field


def load_images(settings: dict) -> torch.Tensor:
    """The images of `settings` as `measure_model` has them, float32 (images, channels, height, width)."""
    count, size, seed = settings["images"], tuple(settings["input_size"]), settings["seed"]
    mean, std = settings["mean"], settings["std"]
    if len(mean) != len(std):
        raise InputError(
            f"a mean for {len(mean)} channels and a std for {len(std)}: give one of each for every channel"
        )
    if settings["source"] == "noise":
        return images.noise(count, size, seed, len(mean))
    if len(mean) not in images.MODES:
        raise InputError(f"images of a folder have 3 channels, or 1, not the {len(mean)} of mean and std")
    return images.from_folder(Path(settings["source"]), count, size, mean, std, seed)


def is_untrained(model: nn.Module) -> bool:
    """Whether all batch norms have the statistics that they begin with: a factory may give trained ones."""
    norms = [norm for norm in batch_norms(model) if norm.running_mean is not None]
    return bool(norms) and not any(norm.running_mean.any() or (norm.running_var != 1).any() for norm in norms)
