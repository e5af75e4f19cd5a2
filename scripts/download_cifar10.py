"""CIFAR-10 from a mirror folder or the first source that works, checked member by member, as one file of arrays.

A source is a URL, a local archive or a folder of the extracted batches. The folder in ERF_DATA_MIRROR, where that is
set, comes first: it holds the archive under its official name or the extracted folder under its usual one. Nothing is
extracted to disk, and nothing is unpickled before its official MD5 is right.
"""

import hashlib
import os
import sys
import tarfile
import time
import zlib
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import numpy as np
import pooch
import requests

from cli import command, json_object, new_parser
from erf.datasets import read_cifar10_batch
from erf.errors import InputError
from erf.files import atomic

RETRIES = 3
TIMEOUT = 60  # seconds without a byte
MEMBER_LIMIT = 64 * 2**20  # bytes; the largest official member has half of that


def members_of_folder(folder: Path, names: list[str]) -> dict[str, bytes]:
    """The named files of an extracted folder."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{', '.join(missing)} not there")
    return {name: (folder / name).read_bytes() for name in names}


def members_of_archive(archive: Path, folder: str, names: list[str]) -> dict[str, bytes]:
    """The named files in `folder` of a .tar.gz, read in memory; an archive with a member outside of it is refused."""
    found = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts or path.parts[:1] != (folder,):
                    raise InputError(f"member {member.name!r} lies outside of {folder}/; archive refused")
                if path.name in names and path.parent == PurePosixPath(folder) and member.isfile():
                    if member.size > MEMBER_LIMIT:
                        raise InputError(f"member {member.name!r} is too large; archive refused")
                    found[path.name] = tar.extractfile(member).read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the archive's
        start = archive.open("rb").read(60)
        kind = "an HTML page" if b"<html" in start.lower() or b"<!doctype" in start.lower() else "damaged or incomplete"
        raise InputError(f"not a .tar.gz but {kind} ({error})") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(f"{', '.join(missing)} not in it")
    return found


def download(url: str, target: Path) -> None:
    """Fetch `url` to `target` with a progress bar; InputError after the last retry."""
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)
    for attempt in range(1, RETRIES + 1):
        try:
            # No hash of the whole file: the members' checksums decide.
            pooch.retrieve(url, known_hash=None, path=target.parent, fname=target.name, downloader=downloader)
            return
        except requests.ConnectionError:
            reason = f"no connection to {urlsplit(url).hostname}"
        except requests.RequestException as error:
            reason = str(error)
        print(f"{url}: attempt {attempt} of {RETRIES}: {reason}", file=sys.stderr)
        time.sleep(attempt)
    raise InputError(reason)


def read_members(path: Path, dataset: dict) -> dict[str, bytes]:
    """The members from a local archive or folder."""
    names = list(dataset["members"])
    if path.is_dir():
        return members_of_folder(path, names)
    if path.is_file():
        return members_of_archive(path, dataset["folder"], names)
    raise InputError("not there")


def arrays(members: dict[str, bytes], md5: dict[str, str]) -> dict[str, np.ndarray]:
    """Images uint8 (n, 3, 32, 32) and labels uint8 (n,) of both sets, every official MD5 checked first."""
    batches = {name: verified(name, members[name], md5[name]) for name in md5}
    train = [read_cifar10_batch(batches[name]) for name in sorted(batches) if name.startswith("data_batch")]
    test_images, test_labels = read_cifar10_batch(batches["test_batch"])
    train_images, train_labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return {
        "train_images": train_images,
        "train_labels": train_labels,
        "test_images": test_images,
        "test_labels": test_labels,
    }


def verified(name: str, data: bytes, md5: str) -> bytes:
    """`data`, if it has the official checksum."""
    found = hashlib.md5(data).hexdigest()
    if found != md5:
        raise InputError(f"{name} has MD5 {found}, the official one has {md5}: damaged, or something else")
    return data


def sources(dataset: dict) -> list[str]:
    """Where to look, in order: the mirror's archive, the mirror's folder, the configured sources."""
    mirror = os.environ.get("ERF_DATA_MIRROR")
    local = [str(Path(mirror) / dataset[key]) for key in ("archive", "folder")] if mirror else []
    return local + dataset["sources"]


def fetch(dataset: dict, downloads: Path) -> dict[str, np.ndarray]:
    """Arrays from the first source that gives all members intact; InputError that tells what failed with each."""
    failures = []
    for source in sources(dataset):
        print(f"trying {source}", file=sys.stderr)
        remote = "://" in source
        path = downloads / dataset["archive"] if remote else Path(source)
        try:
            if remote:
                download(source, path)
            return arrays(read_members(path, dataset), dataset["members"])
        except InputError as error:
            failures.append(f"{source}: {error}")
        finally:
            if remote:
                path.unlink(missing_ok=True)  # a bad one must not be found again, a good one is not needed again
    raise InputError(
        "no source of CIFAR-10 worked: set ERF_DATA_MIRROR to a folder that holds "
        f"{dataset['archive']} or {dataset['folder']}/. Tried: " + ("; ".join(failures) or "nothing")
    )


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--dataset", type=json_object, required=True, help="folder, archive, sources, members; JSON")
    parser.add_argument("--out", type=Path, required=True, help="arrays of all images and labels, .npz")
    args = parser.parse_args(argv)
    content = fetch(args.dataset, args.out.parent / "downloads")
    with atomic(args.out) as temporary:
        np.savez(temporary, **content)
    print(f"{args.out}: " + ", ".join(f"{name} {array.shape}" for name, array in content.items()))


if __name__ == "__main__":
    sys.exit(main())
