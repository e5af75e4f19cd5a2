"""CIFAR-10 (Krizhevsky 2009): 50,000 and 10,000 images of 32 x 32 pixels, in 10 classes."""

from replication.datasets.dataset import Dataset, Task

CIFAR10 = Dataset(
    name="cifar10",
    title="CIFAR-10",
    task=Task(10, "accuracy", mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
    score_title="accuracy",
    arrays=("train_images", "train_labels", "test_images", "test_labels"),
    images={"train": 50_000, "test": 10_000},
    calibration=1000,
    network="ResNetCifar",
    program="train_classifier",
    full_scale=(64, 30),
    credit="Krizhevsky 2009",
)
