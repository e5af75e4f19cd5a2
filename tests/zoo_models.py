"""Models of installed libraries for `make zoo`: a small one of each family, with random weights.

A model's name is `library/model`, such as `timm/resnet18`. `NAMES` gives the names of a library, `build` makes one.
A library that is not installed has no models.
"""

import importlib
import importlib.util
import itertools
import os
import re

import torch
from torch import nn

from erf.models.torchvision_import import import_torchvision

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is downloaded

SIDE = 224
# Parts of names that tell a model's size, from small to large; a name without any of them is "unnamed".
SIZES = (
    "test atto femto pico nano xxs xxtiny xx_small xs xtiny x_small ti tiny mini slim s0 s1 t0 m0 m1 b0 l0 f0 a0 s "
    "small unnamed m medium b base plus so150m l large x xl xxl h huge g giant enormous so400m"
)


def family(name: str) -> str:
    """The name up to its first digit or underscore: resnet18 and resnet50 are of one family."""
    return re.split(r"[_\d]", name)[0]


def size(name: str) -> tuple:
    """A key that sorts the models of a family from small to large, as far as their names tell."""
    sizes = SIZES.split()
    found = [sizes.index(part) for part in name.split("_")[1:] if part in sizes]
    numbers = [int(number) for number in re.findall(r"\d+", name)]
    return min(found, default=sizes.index("unnamed")), numbers[:1], len(name), numbers


def smallest(names: list[str]) -> list[str]:
    families: dict[str, list[str]] = {}
    for name in names:
        families.setdefault(family(name), []).append(name)
    return [min(members, key=size) for members in families.values()]


def available(library: str) -> bool:
    return importlib.util.find_spec(library) is not None


class Called(nn.Module):
    """A model that is called with an image alone; `given` are its other arguments."""

    def __init__(self, model: nn.Module, part: str | None = None, **given):
        super().__init__()
        self.model, self.part, self.given = model, part, given

    def forward(self, x):
        function = getattr(self.model, self.part) if self.part else self.model
        given = {name: one.to(x.dtype) if torch.is_tensor(one) else one for name, one in self.given.items()}
        output = function(x, **given)
        while not torch.is_tensor(output):  # a library's own class, whose first entry is the result
            output = output.latent_dist.mean if hasattr(output, "latent_dist") else output[0]
        return output


class UNet(nn.Module):
    """Ronneberger, Fischer and Brox 2015, padded, of a quarter of the width; the units are those of the last layer."""

    def __init__(self, width: int = 16, depth: int = 4):
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        double = lambda a, b: nn.Sequential(  # noqa: E731
            nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.ReLU()
        )
        self.down = nn.ModuleList(map(double, [3, *widths[:-1]], widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in itertools.pairwise(widths))
        self.join = nn.ModuleList(double(b, a) for a, b in itertools.pairwise(widths))
        self.head = nn.Conv2d(width, 11, 1)

    def forward(self, x):
        skips = []
        for level, layer in enumerate(self.down):
            x = layer(x if level == 0 else nn.functional.max_pool2d(x, 2))
            skips.append(x)
        for up, join, skip in zip(self.up[::-1], self.join[::-1], skips[-2::-1], strict=True):
            x = join(torch.cat([skip, up(x)], 1))
        return self.head(x)


def torchvision_names() -> list[str]:
    models = import_torchvision().models
    return [
        *smallest(models.list_models(module=models)),
        *models.list_models(module=models.segmentation, include=["fcn_resnet50", "deeplabv3_mobilenet*", "lraspp*"]),
    ]


def torchvision_model(name: str) -> nn.Module:
    models = import_torchvision().models
    given = {"weights_backbone": None} if name in models.list_models(module=models.segmentation) else {}
    return models.get_model(name, weights=None, **given)


def timm_names() -> list[str]:
    """A family of each of timm's modules, and after them the modules' other families."""
    timm = importlib.import_module("timm")
    found = [list(enumerate(smallest(timm.list_models(module=module)))) for module in timm.models.list_modules()]
    return [name for _, name in sorted(itertools.chain(*found), key=lambda pair: pair[0])]


def timm_model(name: str) -> nn.Module:
    return importlib.import_module("timm").create_model(name)


SEGMENTERS = {  # of segmentation_models_pytorch, with their encoders
    **dict.fromkeys(("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "PAN", "UPerNet"), "resnet18"),
    **{"DeepLabV3": "mobilenet_v2", "DeepLabV3Plus": "efficientnet-b0", "Segformer": "mit_b0"},
}


def segmenter_names() -> list[str]:
    return list(SEGMENTERS)


def segmenter(name: str) -> nn.Module:
    library = importlib.import_module("segmentation_models_pytorch")
    return getattr(library, name)(SEGMENTERS[name], encoder_weights=None, classes=4)


# Of transformers: of the first ones, the usual settings are those of large models, and are made smaller.
SMALLER = {"hidden_size": 96, "intermediate_size": 192, "num_attention_heads": 3, "num_hidden_layers": 2}
TO_SHRINK = (
    "ViTModel DeiTModel BeitModel Data2VecVisionModel ViTMSNModel IJepaModel SiglipVisionModel CLIPVisionModel "
    "Dinov2Model Dinov2WithRegistersModel DINOv3ViTModel HieraModel YolosModel ViTMAEModel VitDetModel PixioModel"
)
TRANSFORMERS = (
    "ConvNextModel ConvNextV2Model DINOv3ConvNextModel SwinModel Swinv2Model Swin2SRModel DonutSwinModel "
    "MaskFormerSwinModel Swin2SRForImageSuperResolution SegformerModel SegformerForSemanticSegmentation "
    "GLPNForDepthEstimation PvtModel PvtV2Model CvtModel LevitModel PoolFormerModel FocalNetModel MobileViTModel "
    "MobileViTV2Model MobileNetV1Model MobileNetV2Model MobileViTForSemanticSegmentation ResNetModel RegNetModel "
    "MobileNetV2ForSemanticSegmentation BitModel HGNetV2Backbone TextNetModel SwiftFormerModel EfficientNetModel "
    "UperNetForSemanticSegmentation DPTForDepthEstimation DepthAnythingForDepthEstimation "
    "SuperPointForKeypointDetection SamVisionModel"
)


def transformers_names() -> list[str]:
    library = importlib.import_module("transformers")
    return [name for name in f"{TO_SHRINK} {TRANSFORMERS}".split() if hasattr(library, name)]


def transformers_model(name: str) -> nn.Module:
    maker = getattr(importlib.import_module("transformers"), name)
    config = maker.config_class()
    for key, value in SMALLER.items() if name in TO_SHRINK.split() else []:
        if isinstance(getattr(config, key, None), int):
            setattr(config, key, value)
    return maker(config)


def monai_model(name: str) -> nn.Module:
    nets = importlib.import_module("monai.networks.nets")
    return getattr(nets, name)(**MONAI[name])


PLAIN = {"spatial_dims": 2, "in_channels": 3, "out_channels": 4}
DEEP = PLAIN | {"channels": (16, 32, 64), "strides": (2, 2)}
WIDE = PLAIN | {"features": (16, 16, 32, 64, 128, 16)}
TOKENS = {"hidden_size": 96, "mlp_dim": 192, "num_heads": 3, "img_size": SIDE}
MONAI = {
    "UNet": {**DEEP, "num_res_units": 2},
    "AttentionUnet": DEEP,
    "AutoEncoder": DEEP | {"strides": (2, 2, 2)},
    "BasicUNet": WIDE,
    "BasicUNetPlusPlus": WIDE,
    "SegResNet": {**PLAIN, "init_filters": 8},
    "DynUNet": {**PLAIN, "kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]},
    "HighResNet": PLAIN,
    "RegUNet": {**PLAIN, "num_channel_initial": 8, "depth": 3},
    "FlexibleUNet": {"in_channels": 3, "out_channels": 4, "backbone": "efficientnet-b0"},
    "DenseNet121": PLAIN,
    "SEResNet50": {"spatial_dims": 2, "in_channels": 3, "num_classes": 4},
    "SwinUNETR": {**PLAIN, "feature_size": 12},
    "UNETR": {**PLAIN, **TOKENS},
    "ViTAutoEnc": {**PLAIN, **TOKENS, "patch_size": 16, "num_layers": 2},
}

BLOCKS = {"block_out_channels": (32, 64), "norm_num_groups": 8, "layers_per_block": 1}
DOWN = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
CROSS = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    **{"in_channels": 3, "cross_attention_dim": 32},
}
CODE = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
LINEAR = {
    f"{half}_{key}": value
    for half in ("encoder", "decoder")
    for key, value in {
        "block_out_channels": (32, 64),
        "layers_per_block": (1, 1),
        "qkv_multiscales": ((), (5,)),
        "block_types": ("ResBlock", "EfficientViTBlock"),
    }.items()
}
TEXT = {"encoder_hidden_states": torch.ones(1, 4, 32)}
DIFFUSERS = {  # class: (settings, the method that is called, its other arguments)
    "UNet2DModel": ({**BLOCKS, **DOWN, "sample_size": 64}, None, {"timestep": 10}),
    "UNet2DConditionModel": ({**BLOCKS, **CROSS, "sample_size": 64}, None, {"timestep": 10, **TEXT}),
    "AutoencoderKL": ({**BLOCKS, **CODE}, "encode", {}),
    "VQModel": ({**BLOCKS, **CODE}, "encode", {}),
    "AutoencoderTiny": ({}, "encode", {}),
    "AutoencoderDC": (LINEAR, "encode", {}),
}
SIDES = {f"diffusers/{name}": 64 for name in DIFFUSERS}
SIDES |= {f"transformers/Swin2SR{kind}": 64 for kind in ("Model", "ForImageSuperResolution")}


def diffusers_model(name: str) -> nn.Module:
    settings, part, given = DIFFUSERS[name]
    return Called(getattr(importlib.import_module("diffusers"), name)(**settings), part, **given)


LIBRARIES = {  # name: (the names of its models, how one is made)
    "own": (lambda: ["unet"], lambda name: UNet()),
    "torchvision": (torchvision_names, torchvision_model),
    "timm": (timm_names, timm_model),
    "segmentation_models_pytorch": (segmenter_names, segmenter),
    "transformers": (transformers_names, transformers_model),
    "monai": (lambda: list(MONAI), monai_model),
    "diffusers": (lambda: list(DIFFUSERS), diffusers_model),
}


def names(library: str) -> list[str]:
    """`library/model` of each model; of a library that is not installed, none."""
    import_torchvision()  # before other libraries import it
    return [f"{library}/{name}" for name in LIBRARIES[library][0]()] if library == "own" or available(library) else []


def build(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """A model in evaluation mode, with random weights, and the shape (C, H, W) of its images."""
    import_torchvision()
    library, model = name.split("/", 1)
    torch.manual_seed(0)
    built = LIBRARIES[library][1](model).eval()
    side = SIDES.get(name, 299 if model == "inception_v3" else SIDE)
    shape = (3, side, side)
    if library == "timm":
        shape = built.default_cfg.get("input_size", shape)
    elif library == "transformers":
        wanted = getattr(built.config, "image_size", None)
        wanted = wanted if isinstance(wanted, int) and name not in SIDES else side
        shape = (getattr(built.config, "num_channels", 3), min(wanted, 512), min(wanted, 512))
    return built, shape
