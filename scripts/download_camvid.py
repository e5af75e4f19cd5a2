"""CamVid in SegNet's version of 11 classes, from a mirror folder or the first source that works, as one file of arrays.

Checked by the counts and sizes of its splits, by its labels, and by one digest over all decoded pixels: the archive,
and the images' files in a mirror, may have been packed anew.

Takes as long as the network does: the archive has 180 MB.
"""

import io
import sys
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from erf.errors import InputError
from replication.commands.cli import command
from replication.datasets.camvid import CAMVID
from replication.downloads import command as download_command
from replication.downloads.archive import Members, chosen

SPLITS = {"train": "train", "val": "validation", "test": "test"}  # the official names, and ours
LIST_LIMIT = 2**20  # bytes; the official lists have some 20,000, and a list of millions of names would fill the memory


def arrays(members: Members, dataset: dict) -> dict[str, np.ndarray]:
    """Images uint8 (n, 3, H, W) and labels uint8 (n, H, W) of each split, in the order of its list."""
    content = {}
    for split, name in SPLITS.items():
        pairs = listed(members, split)
        if len(pairs) != dataset["splits"][split]:
            raise InputError(f"{split}.txt lists {len(pairs)} images; {dataset['splits'][split]} belong to it")
        size = tuple(dataset["size"])
        images = np.stack([decoded(image, members[image], size, ("RGB",)) for image, _ in pairs])
        labels = np.stack([decoded(label, members[label], size, ("L", "P")) for _, label in pairs])
        check_labels(labels, [label for _, label in pairs])
        content[f"{name}_images"] = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        content[f"{name}_labels"] = labels
    download_command.check_content(content, dataset)
    return content


def listed(members: Members, split: str) -> list[tuple[str, str]]:
    """Names of image and label file, as members, from a split's list: lines of "/SegNet/CamVid/<image> <label>"."""
    (text,) = chosen(members, [f"{split}.txt"]).values()
    if len(text) > LIST_LIMIT:
        raise InputError(f"{split}.txt is too large for a list of images")
    pairs = []
    for line in text.decode(errors="replace").splitlines():
        if line.strip():
            pairs.append(tuple("/".join(PurePosixPath(path).parts[-2:]) for path in line.split()))
            if len(pairs[-1]) != 2:
                raise InputError(f"{split}.txt: {line[:80]!r} is not an image and its labels")
    chosen(members, [name for pair in pairs for name in pair])
    return pairs


def decoded(name: str, data: bytes, size: tuple[int, int], modes: tuple[str, ...]) -> np.ndarray:
    """Pixels uint8 (H, W, 3) or (H, W) of a PNG."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.mode not in modes or image.size != size[::-1]:
                found = f"{image.size[0]} x {image.size[1]} pixels of mode {image.mode}"
                raise InputError(f"{name} has {found}, not {size[1]} x {size[0]} of mode {modes[0]}")
            return np.array(image)
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what damage brings Pillow to
        raise InputError(f"{name} is damaged or no PNG ({str(error)[:80]})") from error


def check_labels(labels: np.ndarray, names: list[str]) -> None:
    """InputError for a label that is no class and not void either."""
    for pixels, name in zip(labels, names, strict=True):
        if pixels.max() > CAMVID.task.classes:
            raise InputError(
                f"{name} has a label {pixels.max()}; they go from 0 to {CAMVID.task.classes}, which is void"
            )


@command
def main(argv: list[str] | None = None) -> None:
    download_command.run(__doc__, argv, CAMVID.title, arrays)


if __name__ == "__main__":
    sys.exit(main())
