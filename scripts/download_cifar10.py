"""CIFAR-10 from a mirror folder or the first source that works, checked member by member, as one file of arrays.

Nothing is unpickled before its official MD5 is right.

Takes as long as the network does: the archive has 170 MB.
"""

import hashlib
import sys

import numpy as np

from erf.errors import InputError
from replication.commands.cli import command
from replication.datasets.cifar10 import CIFAR10
from replication.downloads import command as download_command
from replication.downloads.archive import Members, chosen
from replication.downloads.cifar10_batch import read_cifar10_batch


def arrays(members: Members, dataset: dict) -> dict[str, np.ndarray]:
    """Images uint8 (n, 3, 32, 32) and labels uint8 (n,) of both sets, every official MD5 checked before they are read,
    and one digest over all of them afterwards."""
    official = dataset["members"]
    batches = chosen(members, list(official))
    for name, md5 in official.items():
        check_md5(name, batches[name], md5)
    train = [read_cifar10_batch(batches[name]) for name in sorted(batches) if name.startswith("data_batch")]
    test_images, test_labels = read_cifar10_batch(batches["test_batch"])
    train_images, train_labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    content = dict(zip(CIFAR10.arrays, (train_images, train_labels, test_images, test_labels), strict=True))
    download_command.check_content(content, dataset)
    return content


def check_md5(name: str, data: bytes, md5: str) -> None:
    """InputError if `data` has not the official checksum."""
    found = hashlib.md5(data).hexdigest()
    if found != md5:
        raise InputError(f"{name} has MD5 {found}, the official one has {md5}: damaged, or something else")


@command
def main(argv: list[str] | None = None) -> None:
    download_command.run(__doc__, argv, CIFAR10.title, arrays)


if __name__ == "__main__":
    sys.exit(main())
