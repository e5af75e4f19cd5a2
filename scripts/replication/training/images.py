"""Images and labels as whole arrays, and what happens to a batch of them on its way into training."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike

import numpy as np
import torch

from erf.errors import InputError
from erf.system.files import read_arrays
from erf.system.seeds import seed_for, torch_generator
from replication.datasets.dataset import Dataset, Task, content_digest


@dataclass(frozen=True)
class Split:
    """Images uint8 (n, 3, H, W) and labels, int64 (n,) or uint8 (n, H, W)."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: torch.Tensor) -> "Split":
        return Split(self.images[indices], self.labels[indices])

    def to(self, device: torch.device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


def load_splits(path: str | PathLike, dataset: Dataset, settings: dict) -> dict[str, Split]:
    """The splits "train", "validation" and "test" from the dataset's file, for a training with these settings.

    settings : "validation", where the dataset has no such split, is how many images of the training set are held out
        of "train", the same for every seed; "sha256" is the digest of the dataset's content, which the pipeline
        always gives

    InputError if the file's content has another digest, or is not what `Split` says.
    """
    arrays = read_arrays(path, *dataset.arrays)
    sha256 = settings.get("sha256")
    if sha256 and (found := content_digest(arrays.values())) != sha256:
        raise InputError(
            f"{path}: other images or labels than the configuration's (SHA-256 {found}, not {sha256}); "
            "delete it and run again, or set the dataset's sha256"
        )
    splits = {
        name: split_of(path, name, arrays[f"{name}_images"], arrays[f"{name}_labels"], dataset.task)
        for name in ("train", "validation", "test")
        if f"{name}_images" in dataset.arrays
    }
    return splits if "validation" in splits else held_out(splits, settings["validation"])


def held_out(splits: dict[str, Split], validation: int) -> dict[str, Split]:
    """The same splits, and "validation" with images that "train" has lost."""
    train = splits["train"]
    if not 0 < validation < len(train):
        raise InputError(f"validation must lie between 1 and {len(train) - 1} images, not {validation}")
    order = torch.from_numpy(np.random.default_rng(seed_for(0, "validation split")).permutation(len(train)))
    return {**splits, "train": train.take(order[validation:]), "validation": train.take(order[:validation])}


def split_of(path: str | PathLike, name: str, images: np.ndarray, labels: np.ndarray, task: Task) -> Split:
    """A split of a file's arrays. InputError, which names the file, for arrays that are not what `Split` says."""
    fits = images.ndim == 4 and images.shape[1] == 3 and images.size and images.dtype == labels.dtype == np.uint8
    if not fits:
        raise InputError(f"{path}: {name} has no images uint8 (n, 3, H, W) with labels uint8; delete it and run again")
    count, _, height, width = images.shape
    if labels.shape != ((count, height, width) if task.labels_pixels else (count,)):
        raise InputError(f"{path}: the labels of {name}, {labels.shape}, do not fit its images, {images.shape}")
    if labels.max() > (last := task.classes if task.labels_pixels else task.classes - 1):
        void = ", void" if task.labels_pixels else ""
        raise InputError(f"{path}: a label of {name} is {labels.max()}; they go from 0 to {last}{void}")
    labels = torch.from_numpy(labels)
    return Split(torch.from_numpy(images), labels if task.labels_pixels else labels.long())


def calibration_images(train: Split, dataset: Dataset) -> torch.Tensor:
    """Training images, normalised, (n, 3, H, W), by which batch norm's statistics are set: the same for every seed and
    snapshot. They are spread over the split, since neighbours may be frames of one video."""
    return normalise(spread(train.images, dataset.calibration), dataset.task)


def spread(images: torch.Tensor, count: int) -> torch.Tensor:
    """`count` of the images, at equal distances in their order; all of them where there are not so many."""
    return images[torch.linspace(0, len(images) - 1, min(count, len(images))).long()]


def median_frequency_weights(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Weights (classes,) that make rare classes count as much as others, from labels (n, H, W).

    A class's frequency is its share of the pixels of those images that show it; its weight is the median of all
    frequencies over its own (Badrinarayanan et al. 2017). InputError for a class that no image shows.
    """
    counts = torch.stack([torch.bincount(image.flatten(), minlength=classes + 1) for image in labels])[:, :classes]
    shown = (counts > 0).sum(0) * labels[0].numel()
    if not shown.all():
        raise InputError(f"no training image shows class {int(shown.argmin())}, so that it has no weight")
    frequency = counts.sum(0).double() / shown
    return (frequency.quantile(0.5) / frequency).float()


def normalise(images: torch.Tensor, task: Task) -> torch.Tensor:
    """uint8 (n, 3, H, W) to float32 of zero mean and unit variance per channel, over the task's training set."""
    mean, std = _statistics(task, images.device)
    return (images.float() / 255 - mean) / std


@functools.cache  # made once: a copy to the GPU makes the CPU wait for it
def _statistics(task: Task, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (1, 3, 1, 1) on the device."""
    return tuple(torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (task.mean, task.std))


def crop_and_flip(
    count: int, size: tuple[int, int], crop: tuple[int, int], padding: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column indices (count, crop) of random crops of images of `size`, half of them mirrored.

    A crop may leave the image by `padding` pixels, whose reflection it then shows.
    """
    indices = []
    for side, length in zip(size, crop, strict=True):
        first = torch.randint(-padding, side - length + padding + 1, (count, 1), generator=generator)
        indices.append(_reflect(first + torch.arange(length), side))
    rows, columns = indices
    mirrored = torch.randint(2, (count, 1), generator=generator).bool()
    return rows, torch.where(mirrored, columns.flip(1), columns)


def shifted(labels: torch.Tensor, by: int, void: int) -> torch.Tensor:
    """Label maps (n, H, W) moved `by` pixels to the right: a pixel has the label of what lies `by` pixels to its left.
    The first `by` columns, whose label lies outside of the image, are void."""
    if not by:
        return labels
    moved = torch.full_like(labels, void)
    moved[..., by:] = labels[..., :-by]
    return moved


def _reflect(index: torch.Tensor, side: int) -> torch.Tensor:
    """Positions beyond either end mirrored about the first or last pixel."""
    index = index.abs()
    return torch.where(index < side, index, 2 * (side - 1) - index)


class ImageData:
    """Images on the training device: shuffled, cropped and flipped a whole batch at a time, their label maps too.

    crop : (height, width) of what training shows of an image; it may leave the image by `padding` pixels
    label_shift : of label maps, pixels to the right, in every split. A batch is shifted when it has been cropped and
        mirrored, so that a unit looks for its label to the left in what it is shown, mirrored or not, and never beyond
        the crop
    """

    def __init__(
        self,
        splits: dict[str, Split],
        task: Task,
        crop: tuple[int, int],
        padding: int,
        batch_size: int,
        seed: int,
        device: torch.device,
        label_shift: int = 0,
    ):
        if batch_size > len(splits["train"]):
            raise InputError(f"batch_size is {batch_size}, but there are only {len(splits['train'])} training images")
        size = tuple(splits["train"].images.shape[2:])
        if any(length > side for length, side in zip(crop, size, strict=True)):
            raise InputError(f"crop is {tuple(crop)}, but the images have only {size} pixels")
        if label_shift >= crop[1]:
            raise InputError(f"label_shift is {label_shift}, but a crop has only {crop[1]} columns")
        self.splits = {name: split.to(device) for name, split in splits.items()}
        self.task, self.size, self.crop, self.padding = task, size, tuple(crop), padding
        self.batch_size, self.seed, self.device, self.label_shift = batch_size, seed, device, label_shift

    @property
    def steps(self) -> int:
        """Batches per epoch; the few images that fill no batch sit this epoch out."""
        return len(self.splits["train"]) // self.batch_size

    def training_batches(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches ((n, 3, *crop) float32, channels last; labels int64) of one epoch, fixed by it and the seed."""
        train = self.splits["train"]
        order = torch.randperm(len(train), generator=torch_generator(self.seed, "order", epoch))
        generator = torch_generator(self.seed, "augmentation", epoch)
        rows, columns = crop_and_flip(len(train), self.size, self.crop, self.padding, generator)
        order, rows, columns = (indices.to(self.device) for indices in (order, rows, columns))
        for start in range(0, self.steps * self.batch_size, self.batch_size):
            here = slice(start, start + self.batch_size)
            sample, row, column = order[here, None, None], rows[here, :, None], columns[here, None, :]
            # The slice between the index arrays puts the channels last: (n, h, w, 3), without a copy.
            images = train.images[sample, :, row, column].permute(0, 3, 1, 2)
            labels = train.labels[order[here]] if train.labels.dim() == 1 else train.labels[sample, row, column]
            yield normalise(images, self.task), self.told(labels)

    def evaluation_batches(self, split: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The images of `split` in their order, whole and without augmentation."""
        chosen = self.splits[split]
        for images, labels in zip(
            *(part.split(self.batch_size) for part in (chosen.images, chosen.labels)), strict=True
        ):
            yield normalise(images, self.task).contiguous(memory_format=torch.channels_last), self.told(labels)

    def told(self, labels: torch.Tensor) -> torch.Tensor:
        """Labels as training and scores know them: int64, label maps shifted."""
        return shifted(labels.long(), self.label_shift, self.task.classes)
