"""What the scripts that fetch a dataset share: where to look, and downloads.

A source is a URL, a local archive or a folder of its extracted content. The folder in ERF_DATA_MIRROR, where that is
set, comes first: it holds the archive under its official name or the extracted folder under its usual one.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pooch
import requests

from cli import json_object, new_parser
from download_archive import Members, read_members
from erf.errors import InputError
from erf.files import atomic

RETRIES = 3
TIMEOUT = 60  # seconds without a byte


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
