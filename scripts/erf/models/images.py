"""Images to measure a model on: noise, or those of a folder."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from erf.errors import InputError, is_damage
from erf.system.extras import extra
from erf.system.files import noted
from erf.system.seeds import torch_generator

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # whatever the suffix; Pillow gives PostScript to a program
MODES = {1: "L", 3: "RGB"}  # Pillow's names, by the number of channels
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF, and a value
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}  # by which most models' inputs are normalised


def noise(count: int, size: tuple[int, int], seed: int, channels: int = 3) -> torch.Tensor:
    """Independent normal values of mean 0 and standard deviation 1, (count, channels, height, width)."""
    return torch.randn(count, channels, *size, generator=torch_generator(seed, "noise images"))


def from_folder(
    folder: Path, count: int, size: tuple[int, int], mean: Sequence[float], std: Sequence[float], seed: int
) -> torch.Tensor:
    """`count` images of a folder and the folders in it, drawn without replacement, (count, channels, height, width).

    Each is turned upright, as its EXIF entry says; made RGB, or grey where `mean` and `std` have one number and not
    three; cropped around its middle to the proportions of `size`, (height, width); resized to it; and normalised:
    (value - mean) / std of each channel, for values from 0 to 1. Transparency and colour profiles are left out. Of an
    animation, and of a file of several pages, the first picture is taken, with a warning.

    InputError where there is no such folder, where it has too few images, for a file that is no image, and for an image
    that is too large or whose values have no defined range.
    """
    paths = image_paths(folder)
    if count > len(paths):
        raise InputError(
            f"{folder}: {count} images are wanted, but there are only {len(paths)}: ask for fewer (--count)"
        )
    chosen = torch.randperm(len(paths), generator=torch_generator(seed, "drawn images"))[:count].sort().values
    pixels = torch.stack([read_image(paths[number], size, MODES[len(mean)]) for number in chosen])
    mean, std = (torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (mean, std))
    return (pixels - mean) / std


def image_paths(folder: Path) -> list[Path]:
    """Files with an image's suffix in a folder and the folders in it, sorted; not hidden ones, and none behind a link
    to a folder."""
    if not folder.is_dir():
        problem = "a file: give the folder that it is in" if folder.is_file() else "no such folder of images"
        raise InputError(f"{folder}: {problem}")
    named = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    paths = sorted(path for path in named if not any(part[0] == "." for part in path.relative_to(folder).parts))
    if not paths:
        raise InputError(f"{folder}: no image in it, which are files named {', '.join(SUFFIXES)}")
    return paths


def read_image(path: Path, size: tuple[int, int], mode: str = "RGB") -> torch.Tensor:
    """An image as `from_folder` has it, but not normalised: (channels, height, width), from 0 to 1."""
    extra("PIL", "Pillow", "reading images")
    from PIL import Image, ImageOps, UnidentifiedImageError

    noted(path)
    try:
        # As an open file: by its name Pillow would map a TIFF into memory, and scramble one that is to be turned.
        # Warnings are of what is done here on purpose, or of what does not matter, such as damaged EXIF entries.
        with (
            warnings.catch_warnings(action="ignore"),
            path.open("rb") as file,
            Image.open(file, formats=FORMATS) as image,
        ):
            # A photograph from a phone, a JPEG of the kind MPO, has a preview behind it.
            several = image.format != "MPO" and getattr(image, "is_animated", False)
            tags = dict(getattr(image, "tag_v2", {}))  # a TIFF's; no copy of the image keeps them
            upright = ImageOps.exif_transpose(image)
            whole = deep_grey(upright, tags, path) if upright.mode[0] in "IF" else upright.convert(mode)
            fitted = ImageOps.fit(whole, size[::-1], Image.Resampling.BICUBIC)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels: save a smaller copy") from error
    except Exception as error:  # whatever a damaged file brings Pillow's readers to
        if not is_damage(error):
            raise
        unknown = f"its content is none of {', '.join(FORMATS)}" if path.stat().st_size else "it is empty"
        reason = unknown if isinstance(error, UnidentifiedImageError) else error
        raise InputError(f"{path}: not an image that can be read ({reason})") from error
    if several:
        warnings.warn(f"{path}: holds several pictures, of which the first is taken", stacklevel=3)
    pixels = torch.from_numpy(np.atleast_3d(np.array(fitted))).permute(2, 0, 1).float() / 255
    return pixels.clamp(0, 1).expand(Image.getmodebands(mode), -1, -1)  # deep grey overshoots, and has one channel


def deep_grey(image, tags: dict, path: Path):
    """A grey image of 16 bits as one of floats from 0 to 255; Pillow's own conversion would clip it to white.

    tags : a TIFF's, by their numbers; empty for other files

    InputError for floats and for integers of 32 bits or with a sign: no convention says which of their values is white.
    """
    from PIL import Image

    if not image.mode.startswith("I;16"):
        kind = "floats" if image.mode == "F" else "integers of 32 bits or with a sign"
        raise InputError(f"{path}: holds {kind}, and no convention says which is white: save it with 8 or 16 bits")
    levels = np.asarray(image).astype(np.float32) * (255 / (4095 if tags.get(BITS_PER_SAMPLE) == (12,) else 65535))
    return Image.fromarray(255 - levels if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else levels)
