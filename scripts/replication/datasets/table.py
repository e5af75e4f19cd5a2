"""All datasets by name. What trains on one imports its module alone: a further dataset retrains nothing."""

from replication.datasets.camvid import CAMVID
from replication.datasets.cifar10 import CIFAR10

DATASETS = {dataset.name: dataset for dataset in (CIFAR10, CAMVID)}
