"""What the project knows of a dataset, but for where it comes from, which is in the configuration."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Task:
    """What there is to learn: one of `classes` classes, for an image or for each of its pixels.

    Where `labels_pixels`, a label equal to `classes` is void: it is neither learnt nor counted. mean and std are those
    of the training set's red, green and blue, in units of full scale; `score` is the metric that chooses the best
    snapshot.
    """

    classes: int
    score: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    labels_pixels: bool = False


@dataclass(frozen=True)
class Dataset:
    """A dataset, its task, and the network and the program that learn it.

    score_title : how figures call the task's score
    arrays : names in the dataset's file, in the order of its digest: <split>_images uint8 (n, 3, H, W), and
        <split>_labels uint8 (n,), or (n, H, W) where pixels are labelled. Where there is no split "validation",
        images of "train" are held out.
    images : in each split of the file, where its entry in the configuration does not say
    calibration : training images that set batch norm's statistics before a measurement
    network : class in replication.training.resnets
    program : that trains; the rule has the same name
    full_scale : width and epochs from which absolute values are compared with the paper's: a choice of ours, since
        the paper's own are not known
    credit : what stands below a photograph of it, its licence among that
    """

    name: str
    title: str
    task: Task
    score_title: str
    arrays: tuple[str, ...]
    images: dict[str, int]
    calibration: int
    network: str
    program: str
    full_scale: tuple[int, int]
    credit: str = ""


def content_digest(arrays: Iterable[np.ndarray]) -> str:
    """SHA-256 of all values, in the order of the arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()
