"""torchvision beside a torch that its compiled operators were not built for, such as torch's CPU build."""

import importlib
from collections.abc import Callable
from typing import TypeVar

import torch

Loaded = TypeVar("Loaded")


def import_torchvision():
    """The torchvision package; its models, datasets and transforms work without its compiled operators.

    Those that cannot be loaded make `import torchvision` fail with "operator torchvision::nms does not exist", only
    because their schemas are then missing; declared here, nothing calls them. A complete installation is left alone.
    """
    return with_torchvision(lambda: importlib.import_module("torchvision"))


def with_torchvision(load: Callable[[], Loaded]) -> Loaded:
    """Call `load`, which may import torchvision; if compiled operators are missing, declare them and call it again."""
    try:
        return load()
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    with_torchvision.library = torch.library.Library("torchvision", "DEF")  # kept: dropping it undeclares
    with_torchvision.library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    with_torchvision.library.define(
        "qnms(Tensor dets, Tensor scores, float iou_threshold, float score_threshold=0) -> Tensor"
    )
    return load()
