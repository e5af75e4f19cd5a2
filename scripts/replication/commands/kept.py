"""What a program was about to make may have been made before, and be kept aside: then it is put back.

Snakemake deletes the outputs of a job before it starts, and again when it fails. So before the first job, everything
that is about to be made anew is linked into a folder .kept beside it (safekeeping.py, among the rules). A program that
finds there what it is about to make, of equal code, arguments and inputs, puts it back. One that ends well removes what
was kept.
"""

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from erf.system.files import digest
from replication.commands.source_code import code_digest

FOLDER = ".kept"
WHERE = {"--device", "--threads", "--resume", "--sources"}  # arguments that say where or on what; not what is made
RECORD = "provenance.json"


def put_back(script: Path, code: str, arguments: Sequence[str]) -> str | None:
    """Put back what was kept if it is exactly what the program is about to make; when that was made, None if it is not.

    What was kept goes last: if the program is killed meanwhile, a rerun still finds it.
    """
    found = _kept_record(arguments)
    if not found or not _is_same(*found, script, code, arguments):
        return None
    path, record = found
    for name in [*record["written"], path.name]:  # the record comes last: no file is newer
        target = path.parent.parent / name
        target.unlink(missing_ok=True)
        link(path.parent / name, target)
        os.utime(target)
    discard(arguments)
    return record["finished"]


def former(script: Path, out: Path) -> Path | None:
    """What was kept of a program's file `out`, if the same code made it, from whatever settings; None if not.

    A program may take from it what does not depend on the settings that have changed.
    """
    found, path = _kept_record(["--out", str(out)]), out.parent / FOLDER / out.name
    return path if found and path.exists() and _is_whole(*found, script, code_digest(script)) else None


def discard(arguments: Sequence[str]) -> None:
    """Remove what was kept of the outputs that a program has just made."""
    remove(_kept_files(arguments))


def whereabouts(arguments: Sequence[str]) -> str | None:
    """Where the former outputs of a program lie, in words; None if there are none."""
    files = _kept_files(arguments)
    return f"what an earlier run made is kept in {files[0].parent}" if files else None


def _is_same(path: Path, record: dict, script: Path, code: str, arguments: Sequence[str]) -> bool:
    """Whether a kept record tells of this program, arguments and code, and all files are as it says."""
    try:
        return (
            _without_where(record["arguments"]) == _without_where(arguments)
            and _is_whole(path, record, script, code)
            and all(digest(Path(read)) == was for read, was in record["read"].items())
        )
    except (OSError, KeyError, TypeError):  # a file is missing, or the record is older and knows no code
        return False


def _is_whole(path: Path, record: dict, script: Path, code: str) -> bool:
    """Whether a kept record tells of this program and code, and all that these wrote is as it says. Files come last:
    they may be large."""
    try:
        return (record["script"], record["code"]) == (script.name, code) and all(
            digest(path.parent / name) == was for name, was in record["written"].items()
        )
    except (OSError, KeyError, TypeError):
        return False


def _without_where(arguments: Sequence[str]) -> list[str]:
    """Arguments but for those that say where or on what."""
    found, skipped = [], False
    for word in arguments:
        if word.startswith("--"):
            skipped = word in WHERE
        if not skipped:
            found.append(word)
    return found


def _out(arguments: Sequence[str]) -> Path | None:
    """What --out names: a file, or for a training the folder of all its outputs."""
    places = [place for word, place in itertools.pairwise(arguments) if word == "--out"]
    return Path(places[-1]) if places else None


def _kept_files(arguments: Sequence[str]) -> list[Path]:
    """What was kept of a program's outputs: of its folder, or of its file and those of the same stem."""
    out = _out(arguments)
    if not out:
        return []
    if not out.suffix:
        return _files(out / FOLDER)
    return [path for path in _files(out.parent / FOLDER) if path.name.startswith(f"{out.stem}.")]


def _kept_record(arguments: Sequence[str]) -> tuple[Path, dict] | None:
    """The record among what was kept, and its content."""
    for path in _kept_files(arguments):
        if path.name.endswith(RECORD):
            with contextlib.suppress(OSError, ValueError):
                return path, json.loads(path.read_text(encoding="utf-8"))
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def link(path: Path, target: Path) -> None:
    """A second name of a file, or a copy, where the file system has no links."""
    try:
        target.hardlink_to(path)
    except OSError:
        shutil.copy2(path, target)


def remove(paths: Iterable[Path]) -> None:
    """Remove files, and folders that are empty then."""
    for path in paths:
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # there are others
            path.parent.rmdir()
