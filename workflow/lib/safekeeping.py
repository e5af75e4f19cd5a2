"""Nothing finished is lost: damage is found before a run is planned, and what jobs make anew is kept aside.

replication/commands/kept.py is the other half: it puts back what was kept.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from erf.system.files import digest, record_of, record_paths, set_aside
from replication.commands.kept import FOLDER, RECORD, link, remove

ROUNDING = 2  # seconds: a record tells to the second when it was finished


def keep(outputs: Sequence[str], forced: bool) -> None:
    """Link what exists of a job's outputs into the folder .kept beside them.

    If all exist, they replace what an earlier run kept. If only some do, they may be half of a run that was killed, and
    only add to it. If the user forces the job, no record is kept: nothing is put back then.
    """
    here = [path for path in map(Path, outputs) if path.exists()]
    for path in here:
        kept = path.parent / FOLDER / path.name
        if kept.exists() and len(here) < len(outputs):
            continue
        kept.unlink(missing_ok=True)
        if not (forced and path.name.endswith(RECORD)):
            kept.parent.mkdir(exist_ok=True)
            link(path, kept)


def drop(outputs: Sequence[str]) -> None:
    """Remove what was kept of a job whose outputs are all in place: it has ended well, or has not started."""
    paths = list(map(Path, outputs))
    if all(path.exists() for path in paths):
        remove(path.parent / FOLDER / path.name for path in paths)


def inspect(paths: Iterable[str], mend: bool) -> Iterator[str]:
    """Before anything is planned: which of the outputs are not what their records say, one line each.

    To `mend` is to set them aside, so that they are made anew, and to date the others as their records do. Nothing is
    read unless a file is newer than its record: it was touched or changed, or the project is a copy. Then all dates
    are looked at, since Snakemake would read a whole file at every start if it is newer than what is made from it.
    """
    paths = [path for path in map(Path, paths) if not path.name.endswith(RECORD) and path.exists()]
    newer = {path for path in paths if _is_newer(path)}
    times: dict[Path, float] = {}
    for path in paths if newer else ():
        with contextlib.suppress(OSError):  # it is somebody else's, or a second run has just replaced it
            found = record_of(path)
            if not found or (path not in newer and path.stat().st_mtime < _finished(found[1]) + ROUNDING):
                continue
            if digest(path) == found[1]["written"][path.name]:
                if mend:
                    for file in (path, found[0]):
                        os.utime(file, (_time(path, times),) * 2)
            elif record_of(path) == found:
                told = f"a run sets it aside as {path.name}.damaged and makes it anew"
                if mend:
                    told = set_aside(path)
                    told = told if path.exists() else f"it is {path.name}.damaged now, and is made anew"
                yield f"{path}: damaged, or changed since it was made; {told}"


def _is_newer(path: Path) -> bool:
    """Whether a file is newer than its record."""
    with contextlib.suppress(OSError):  # a second run has just replaced it
        for record in record_paths(path):
            if record.exists():
                return path.stat().st_mtime_ns > record.stat().st_mtime_ns
    return False


def _finished(record: dict) -> float:
    return datetime.fromisoformat(record["finished"]).timestamp()


def _time(path: Path, times: dict[Path, float]) -> float:
    """When a file was made, and not before what it was made from, if that is still so: it may have been put back after
    its inputs were made anew with the same content."""
    if path not in times:
        _, record = record_of(path)
        inputs = [
            Path(read)
            for read, was in record["read"].items()
            if (found := record_of(Path(read))) and found[1]["written"][Path(read).name] == was
        ]
        times[path] = max([_finished(record), *(_time(read, times) for read in inputs)])
    return times[path]


def has_gpu() -> bool:
    """Whether this machine seems to have a GPU, NVIDIA's or AMD's, that this process may see; torch takes seconds to
    tell for sure."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    devices = [*Path("/dev").glob("nvidia[0-9]*"), *filter(Path.exists, map(Path, ("/dev/kfd", "/dev/dxg")))]
    return bool(devices) and not hidden
