"""Files that are either whole or not there, and that are known when they are damaged.

Beside what a command has made lies its record (`erf.provenance`), which has a digest of every file: whoever reads one
of them with `checked` is told if it is no longer what was made.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from erf.errors import InputError, is_damage

try:
    import fcntl
except ImportError:  # Windows, where what a kill leaves of a file stays
    fcntl = None


@dataclass
class Journal:
    """What has been read, by path with its digest, and written."""

    read: dict[str, str] = field(default_factory=dict)
    written: list[Path] = field(default_factory=list)


_journal: ContextVar[Journal | None] = ContextVar("journal", default=None)


@contextlib.contextmanager
def journal() -> Iterator[Journal]:
    """A journal of what `checked` and `atomic` read and write meanwhile."""
    token = _journal.set(Journal())
    try:
        yield _journal.get()
    finally:
        _journal.reset(token)


@contextlib.contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; move it to `path` at the end, remove it if anything fails.

    The temporary name keeps the suffix, by which matplotlib and numpy choose a format. What a killed process left of
    the same file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    temporary = Path(name)
    if fcntl:
        _lock(handle)  # until the end: a killed process leaves the file, but not the lock
    else:
        os.close(handle)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes it private
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # or a machine that goes down may leave the name without the content
        if record := record_of(path):
            record[0].unlink(missing_ok=True)  # it tells of the file that is replaced
        temporary.replace(path)
    except OSError as error:
        if error.filename in (None, name, temporary):  # a full disk names no file, and a temporary one says nothing
            error.filename = str(path)
        raise
    finally:
        if fcntl:
            os.close(handle)
        temporary.unlink(missing_ok=True)
    if _journal.get():
        _journal.get().written.append(path)


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of `atomic` for `path` that no process writes."""
    for leftover in path.parent.glob(f".{_literally(path.stem)}.????????{_literally(path.suffix)}"):
        # Another process may be as quick. To be locked on NFS, a file has to be open for writing.
        with contextlib.suppress(OSError), leftover.open("r+b") as file:
            if fcntl and _lock(file.fileno()):
                leftover.unlink()


def _literally(name: str) -> str:
    """A name in a pattern for glob."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _lock(handle: int) -> bool:
    """Take the lock of an open file; False if another process has it, or where there are no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_paths(path: Path) -> tuple[Path, Path]:
    """Where the record of a file may lie: that of its stem, or that of its folder."""
    return path.with_name(f"{path.stem}.provenance.json"), path.with_name("provenance.json")


def record_of(path: Path) -> tuple[Path, dict] | None:
    """The record that tells of a file: where it lies, and what it says; None if there is none that is legible."""
    for record in record_paths(path):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # one of a folder may be somebody else's
            content = json.loads(record.read_text(encoding="utf-8"))
            if path.name in content["written"]:
                return record, content
    return None


def checked(path: str | os.PathLike) -> Path:
    """The same path, if the file there has the digest of its record; one without a record passes.

    Otherwise it is set aside, so that the pipeline makes it anew when it is run again, and InputError says so.
    """
    path = Path(path)
    found, record = digest(path), record_of(path)
    if record and record[1]["written"][path.name] != found:
        raise InputError(f"{path}: damaged, or changed since it was made; {set_aside(path)}")
    if _journal.get():
        _journal.get().read[str(path)] = found
    return path


def set_aside(path: Path) -> str:
    """Give a damaged file another name, so that it is made anew; in words, what has been done or is to be done."""
    kept = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(kept)
    except FileNotFoundError:
        pass  # another job has read it, too
    except OSError:
        return "delete it and run again"
    return f"it is {kept.name} now: run again to make it anew"


def read_arrays(path: str | os.PathLike, *names: str) -> dict[str, np.ndarray]:
    """The arrays `names` of a .npz. InputError if it is damaged or something else; nothing is ever unpickled."""
    checked(path)
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in names}
    except Exception as error:  # whatever a damaged archive brings numpy, zipfile and zlib to
        if not is_damage(error):
            raise
        raise InputError(f"{path}: damaged, or something else ({error}); delete it and run again") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
