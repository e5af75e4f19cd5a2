"""Images and labels as whole arrays, and what happens to a batch of them on its way into training."""

import io
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike

import numpy as np
import torch

from erf.errors import InputError
from erf.files import read_arrays
from erf.seeds import seed_for, torch_generator

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)  # of the training set, in units of full scale
CIFAR10_STD = (0.2470, 0.2435, 0.2616)
CIFAR10_PADDING = 4  # pixels by which a random crop may leave the image, whose reflection it then shows


class _BatchUnpickler(pickle.Unpickler):
    """Reads the dictionaries of arrays that CIFAR-10's batches are, and refuses every other class or function."""

    ALLOWED = frozenset({("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")})

    def find_class(self, module: str, name: str):
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"refused to load {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_cifar10_batch(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 3, 32, 32) and labels uint8 (n,) from the bytes of one official batch file.

    The caller has checked the MD5; the unpickler trusts nothing all the same.
    """
    batch = _BatchUnpickler(io.BytesIO(data), encoding="latin1").load()
    return batch["data"].reshape(-1, 3, 32, 32), np.array(batch["labels"], np.uint8)


@dataclass(frozen=True)
class Split:
    """Images uint8 (n, 3, H, W) and labels int64 (n,)."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: torch.Tensor) -> "Split":
        return Split(self.images[indices], self.labels[indices])

    def to(self, device: torch.device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


def load_cifar10(path: str | PathLike, validation: int, seed: int) -> dict[str, Split]:
    """The splits "train", "validation" and "test" from the file that download_cifar10 makes.

    `validation` images of the training set, drawn by `seed`, are held out of "train".
    """
    names = ("train_images", "train_labels", "test_images", "test_labels")
    arrays = {name: torch.from_numpy(array) for name, array in read_arrays(path, *names).items()}
    train = Split(arrays["train_images"], arrays["train_labels"].long())
    test = Split(arrays["test_images"], arrays["test_labels"].long())
    if not 0 < validation < len(train):
        raise InputError(f"validation must lie between 1 and {len(train) - 1} images, not {validation}")
    order = torch.from_numpy(np.random.default_rng(seed_for(seed, "validation split")).permutation(len(train)))
    return {"train": train.take(order[validation:]), "validation": train.take(order[:validation]), "test": test}


def normalise(images: torch.Tensor) -> torch.Tensor:
    """uint8 (n, 3, H, W) to float32 of zero mean and unit variance per channel, over CIFAR-10's training set."""
    mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (CIFAR10_MEAN, CIFAR10_STD))
    return (images.float() / 255 - mean) / std


def crop_and_flip(count: int, side: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column indices (count, side) of random crops of reflection-padded images, half of them mirrored."""
    shift = torch.randint(-CIFAR10_PADDING, CIFAR10_PADDING + 1, (count, 2), generator=generator)
    mirrored = torch.randint(2, (count, 1), generator=generator).bool()
    rows, columns = (_reflect(shift[:, axis, None] + torch.arange(side), side) for axis in (0, 1))
    return rows, torch.where(mirrored, columns.flip(1), columns)


def _reflect(index: torch.Tensor, side: int) -> torch.Tensor:
    """Positions beyond either end mirrored about the first or last pixel."""
    index = index.abs()
    return torch.where(index < side, index, 2 * (side - 1) - index)


class ClassifierData:
    """CIFAR-10 on the training device: shuffled, cropped and flipped a whole batch at a time."""

    def __init__(self, splits: dict[str, Split], batch_size: int, seed: int, device: torch.device):
        if batch_size > len(splits["train"]):
            raise InputError(f"batch_size is {batch_size}, but there are only {len(splits['train'])} training images")
        self.splits = {name: split.to(device) for name, split in splits.items()}
        self.batch_size, self.seed, self.device = batch_size, seed, device

    @property
    def steps(self) -> int:
        """Batches per epoch; the few images that fill no batch sit this epoch out."""
        return len(self.splits["train"]) // self.batch_size

    def training_batches(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches ((n, 3, 32, 32) float32, channels last; (n,) labels) of one epoch, fixed by it and the seed."""
        train = self.splits["train"]
        count, side = len(train), train.images.shape[-1]
        order = torch.randperm(count, generator=torch_generator(self.seed, "order", epoch))
        rows, columns = crop_and_flip(count, side, torch_generator(self.seed, "augmentation", epoch))
        order, rows, columns = (indices.to(self.device) for indices in (order, rows, columns))
        for start in range(0, self.steps * self.batch_size, self.batch_size):
            here = slice(start, start + self.batch_size)
            chosen = order[here]
            # The slice between the index arrays puts the channels last: (n, 32, 32, 3), without a copy.
            images = train.images[chosen[:, None, None], :, rows[here, :, None], columns[here, None, :]]
            yield normalise(images.permute(0, 3, 1, 2)), train.labels[chosen]

    def evaluation_batches(self, split: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The images of `split` in their order, without augmentation."""
        chosen = self.splits[split]
        for images, labels in zip(chosen.images.split(500), chosen.labels.split(500), strict=True):
            yield normalise(images).contiguous(memory_format=torch.channels_last), labels
