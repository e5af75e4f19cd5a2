"""What the scripts that fetch a dataset share: where to look, downloads, and members read from archives in memory.

A source is a URL, a local archive or a folder of its extracted content. The folder in ERF_DATA_MIRROR, where that is
set, comes first: it holds the archive under its official name or the extracted folder under its usual one. Nothing is
extracted to disk.
"""

import functools
import os
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import numpy as np
import pooch
import requests

from cli import json_object, new_parser
from erf.errors import InputError
from erf.files import atomic

RETRIES = 3
TIMEOUT = 60  # seconds without a byte
MEMBER_LIMIT = 64 * 2**20  # bytes; the largest official member has half of that

# What a damaged archive, or a zip that is encrypted or compressed in a way that is not known, brings their readers to.
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, RuntimeError)

Members = dict[str, bytes]  # content by path within the dataset's folder


def run(description: str, argv: list[str] | None, name: str, arrays: Callable[[Members, dict], dict]) -> None:
    """The command: write what `arrays` makes of the members that the first good source gives, as one .npz.

    `arrays` gets them and the dataset's entry in the registry, and raises InputError for what is not intact.
    """
    parser = new_parser(description)
    parser.add_argument("--dataset", type=json_object, required=True, help="the dataset's entry in the registry, JSON")
    parser.add_argument("--out", type=Path, required=True, help="arrays of all images and labels, .npz")
    args = parser.parse_args(argv)
    content = fetch(args.dataset, args.out.parent / "downloads", name, arrays)
    with atomic(args.out) as temporary:
        np.savez(temporary, **content)
    print(f"{args.out}: " + ", ".join(f"{key} {array.shape}" for key, array in content.items()))


def fetch(dataset: dict, downloads: Path, name: str, arrays: Callable[[Members, dict], dict]) -> dict[str, np.ndarray]:
    """Arrays from the first source that gives all members intact; InputError that tells what failed with each."""
    failures = []
    for source in sources(dataset):
        print(f"trying {source}", file=sys.stderr)
        remote = "://" in source
        path = downloads / dataset["archive"] if remote else Path(source)
        try:
            if remote:
                download(source, path)
            return arrays(read_members(path, dataset), dataset)
        except InputError as error:
            failures.append(f"{source}: {error}")
        finally:
            if remote:
                path.unlink(missing_ok=True)  # a bad one must not be found again, a good one is not needed again
    raise InputError(
        f"no source of {name} worked: set ERF_DATA_MIRROR to a folder that holds "
        f"{dataset['archive']} or {dataset['folder']}/. Tried: " + ("; ".join(failures) or "nothing")
    )


def sources(dataset: dict) -> list[str]:
    """Where to look, in order: the mirror's archive, the mirror's folder, the configured sources."""
    mirror = os.environ.get("ERF_DATA_MIRROR")
    local = [str(Path(mirror) / dataset[key]) for key in ("archive", "folder")] if mirror else []
    return local + dataset["sources"]


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


def read_members(path: Path, dataset: dict) -> Members:
    """The members from a local archive or folder."""
    if path.is_dir():
        files = (file for file in sorted(path.rglob("*")) if file.is_file() and file.stat().st_size <= MEMBER_LIMIT)
        return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}
    if path.is_file():
        return members_of_archive(path, PurePosixPath(dataset.get("archive_folder", dataset["folder"])))
    raise InputError("not there")


def members_of_archive(archive: Path, folder: PurePosixPath) -> Members:
    """The files under `folder` of a .tar.gz or .zip, read in memory; an archive with a member that would leave the
    top folder is refused, a link is passed over."""
    members = {}
    try:
        for name, size, read in (_of_zip if archive.suffix == ".zip" else _of_tar)(archive):
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or path.parts[:1] != folder.parts[:1]:
                raise InputError(f"member {name!r} lies outside of {folder.parts[0]}/; archive refused")
            if read is not None and path.is_relative_to(folder):
                if size > MEMBER_LIMIT:
                    raise InputError(f"member {name!r} is too large; archive refused")
                members[path.relative_to(folder).as_posix()] = read()
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the archive's
        with archive.open("rb") as file:
            start = file.read(60)
        kind = "an HTML page" if b"<html" in start.lower() or b"<!doctype" in start.lower() else "damaged or incomplete"
        raise InputError(f"not a {''.join(archive.suffixes[-2:])} but {kind} ({error})") from error
    return members


Member = tuple[str, int, Callable[[], bytes] | None]  # name, size in bytes, and how to read it, if it is a file


def _read_tar(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    return tar.extractfile(member).read()


def _of_tar(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            read = functools.partial(_read_tar, tar, member) if member.isfile() else None
            yield member.name, member.size, read


def _of_zip(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            read = None if member.is_dir() else functools.partial(file.read, member)
            yield member.filename, member.file_size, read


def chosen(members: Members, names: list[str]) -> Members:
    """The named members; InputError if some are missing."""
    missing = [name for name in names if name not in members]
    if missing:
        raise InputError(f"{', '.join(missing[:8])}{', …' if len(missing) > 8 else ''} not in it")
    return {name: members[name] for name in names}
