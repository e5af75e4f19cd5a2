"""What the scripts that fetch a dataset share: the sources, tried in order until one is good.

A source is a URL, a local archive or a folder of its extracted content. The folder in ERF_DATA_MIRROR, where that is
set, comes first: it holds the archive under its official name or the extracted folder under its usual one.
"""

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import filelock
import numpy as np

from erf.errors import InputError
from erf.system.files import atomic
from replication.commands.cli import add_settings, new_parser
from replication.datasets.dataset import content_digest
from replication.downloads.archive import Members, read_members
from replication.downloads.http import discard, download

Arrays = Callable[[Members, dict], dict[str, np.ndarray]]


def run(description: str, argv: list[str] | None, name: str, arrays: Arrays) -> None:
    """The command: write what `arrays` makes of the members that the first good source gives, as one .npz.

    `arrays` gets them and the dataset's entry in the registry, and raises InputError for what is not intact.
    """
    parser = new_parser(description)
    add_settings(parser, "the dataset's entry in the configuration")
    parser.add_argument("--sources", nargs="*", default=[], help="URLs, archives or folders, in the order to be tried")
    parser.add_argument("--out", type=Path, required=True, help="arrays of all images and labels, .npz")
    args = parser.parse_args(argv)
    downloads = args.out.parent / "downloads"
    dataset = {**args.settings, "sources": args.sources}
    content = fetch(dataset, downloads, name, arrays)
    with atomic(args.out) as temporary:
        np.savez(temporary, **content)
    for part in downloads.glob(f"{dataset['archive']}.*"):  # of all sources; not before the arrays are on the disk
        part.unlink(missing_ok=True)
    print(f"{args.out}: " + ", ".join(f"{key} {array.shape}" for key, array in content.items()))


def check_content(content: dict[str, np.ndarray], dataset: dict) -> None:
    """InputError if the arrays have not the dataset's digest."""
    if (found := content_digest(content.values())) != dataset["sha256"]:
        raise InputError(
            f"the pixels have SHA-256 {found}, the official ones {dataset['sha256']}: "
            "some images or labels are not the official ones"
        )


def fetch(dataset: dict, downloads: Path, name: str, arrays: Arrays) -> dict[str, np.ndarray]:
    """Arrays from the first source that gives all members intact; InputError that tells what failed with each."""
    failures = []
    for source in sources(dataset):
        print(f"trying {source}", file=sys.stderr)
        try:
            if "://" in source:
                return from_url(source, dataset, downloads, arrays)
            return arrays(read_members(Path(source), dataset), dataset)
        except InputError as error:
            failures.append(f"{source}: {printable(str(error))}")
    raise InputError(
        f"no source of {name} worked: set ERF_DATA_MIRROR to a folder that holds "
        f"{dataset['archive']} or {dataset['folder']}/. Tried: " + ("; ".join(failures) or "nothing")
    )


def sources(dataset: dict) -> list[str]:
    """Where to look, in order: the mirror's archive, the mirror's folder, the configured sources."""
    mirror = os.environ.get("ERF_DATA_MIRROR")
    local = [str(Path(mirror) / dataset[key]) for key in ("archive", "folder")] if mirror else []
    return local + dataset["sources"]


def from_url(url: str, dataset: dict, downloads: Path, arrays: Arrays) -> dict[str, np.ndarray]:
    """Arrays from an archive that is downloaded; a bad one is removed, so that nothing goes on from it."""
    downloads.mkdir(parents=True, exist_ok=True)
    source = hashlib.sha256(url.encode()).hexdigest()[:8]  # so that one server's bytes never follow another's
    part = downloads / f"{dataset['archive']}.{source}.part"
    try:
        with filelock.FileLock(f"{part}.lock", timeout=0):
            return whole(url, part, dataset, arrays)
    except filelock.Timeout as error:
        raise InputError("another process is fetching it; wait for it, or end it") from error


def whole(url: str, part: Path, dataset: dict, arrays: Arrays) -> dict[str, np.ndarray]:
    """The same, while no other process does it; what was put together and is damaged is fetched once more."""
    for last in (False, True):
        resumed = download(url, part)
        try:
            return arrays(read_members(part, dataset, dataset["archive"]), dataset)
        except InputError as error:
            discard(part)
            if last or not resumed:
                raise
            print(f"{url}: {printable(str(error))}; once more from the beginning", file=sys.stderr)


def printable(text: str) -> str:
    """One line of bounded length, of what may quote names that a server chose."""
    return "".join(character if character.isprintable() else "?" for character in text[:500])
