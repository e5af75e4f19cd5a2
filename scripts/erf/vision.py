"""torchvision beside a torch that its compiled operators were not built for, such as torch's CPU build."""

import importlib

import torch


def import_torchvision():
    """The torchvision package; its models, datasets and transforms work without its compiled operators.

    Those that cannot be loaded make `import torchvision` fail with "operator torchvision::nms does not exist", only
    because their schemas are then missing; declared here, nothing calls them. A complete installation is left alone.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    import_torchvision.library = torch.library.Library("torchvision", "DEF")  # kept: dropping it undeclares
    import_torchvision.library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import_torchvision.library.define(
        "qnms(Tensor dets, Tensor scores, float iou_threshold, float score_threshold=0) -> Tensor"
    )
    return importlib.import_module("torchvision")
