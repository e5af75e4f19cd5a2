"""Files that are either whole or not there, and that are known when they are damaged.

Beside what a command has made lies its record (`replication.commands.provenance`), which has a digest of every file:
whoever reads one of them with `checked` is told if it is no longer what was made.
"""

import contextlib
import hashlib
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from erf.errors import InputError, is_damage

try:
    import fcntl
except ImportError:  # Windows: there, a killed process leaves its temporary file behind
    fcntl = None


@dataclass
class Journal:
    """The files that were read, by path with their digests, and the files that were written."""

    read: dict[str, str] = field(default_factory=dict)
    written: list[Path] = field(default_factory=list)


_journal: ContextVar[Journal | None] = ContextVar("journal", default=None)


@contextlib.contextmanager
def journal() -> Iterator[Journal]:
    """A journal of the files that `checked` reads and `atomic` writes meanwhile."""
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
    """SHA-256 of a file, or of the names of all files in a folder and the folders in it."""
    path = Path(path)
    if path.is_dir():
        names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
        return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed(folder: str | os.PathLike) -> None:
    """Note in the journal which files a folder has: one more may change what is made from them."""
    if _journal.get():
        _journal.get().read[str(folder)] = digest(folder)


def record_paths(path: Path) -> tuple[Path, Path]:
    """Where the record of a file may lie: that of its stem, or that of its folder."""
    return path.with_name(f"{path.stem}.provenance.json"), path.with_name("provenance.json")


RECORDED = {"script", "arguments", "commit", "finished", "read", "written"}  # keys that all records of ours have


def record_of(path: Path) -> tuple[Path, dict] | None:
    """The record of a file: its path and its content; None if there is no record of this project."""
    for record in record_paths(path):
        with contextlib.suppress(OSError, ValueError, RecursionError):  # one of a folder may be somebody else's
            content = json.loads(record.read_text(encoding="utf-8"))
            ours = isinstance(content, dict) and content.keys() >= RECORDED and isinstance(content["written"], dict)
            if ours and path.name in content["written"]:
                return record, content
    return None


def checked(path: str | os.PathLike) -> Path:
    """The same path of a result, if the file there has the digest of its record; one without a record passes.

    Otherwise InputError. A command of the pipeline has then set the file aside, so that it is made anew when the
    pipeline is run again. Files of the user's own are read with `noted`.
    """
    path = Path(path)
    found, record = digest(path), record_of(path)
    if record and record[1]["written"][path.name] != found:
        done = set_aside(path) if _journal.get() and may_be_renamed(path, record[1]) else "delete it and make it anew"
        raise InputError(f"{path}: damaged, or changed since it was made; {done}")
    if _journal.get():
        _journal.get().read[str(path)] = found
    return path


def noted(path: str | os.PathLike) -> Path:
    """The same path, after the journal has its digest. For files of the user's own, such as photographs and code: no
    record tells of these, whatever lies beside them, and they keep their name."""
    if _journal.get():
        _journal.get().read[str(path)] = digest(path)
    return Path(path)


MADE = {".csv", ".html", ".json", ".npz", ".pdf", ".png", ".pt"}  # the kinds of files that the scripts make
SCRIPTS = Path(__file__).resolve().parents[2]  # where the library is installed without them, nothing is renamed


def may_be_renamed(path: Path, record: dict) -> bool:
    """Whether the project made a file: its record names one of the project's scripts, and these make such files."""
    script = record["script"]
    known = isinstance(script, str) and script == Path(script).name and (SCRIPTS / script).is_file()
    return known and path.suffix in MADE


def set_aside(path: Path) -> str:
    """Give a damaged file of the pipeline another name, so that it is made anew; returns a sentence for the error."""
    kept = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(kept)
    except FileNotFoundError:
        pass  # another job has read it, too
    except OSError:
        return "delete it and run again"
    return f"it is {kept.name} now: run again to make it anew"


def read_arrays(path: str | os.PathLike, *names: str) -> dict[str, np.ndarray]:
    """The arrays `names` of a .npz, or all. InputError if it is damaged or something else; nothing is ever unpickled,
    and a header is held against its file before memory is taken for an array."""
    checked(path)
    try:
        with zipfile.ZipFile(path) as archive:
            chosen = [f"{name}.npy" for name in names] or archive.namelist()
            members = [archive.getinfo(name) for name in dict.fromkeys(chosen)]
            _check_size(path, members)
            return {member.filename.removesuffix(".npy"): _read_array(archive, member) for member in members}
    except Exception as error:  # whatever a damaged archive brings numpy, zipfile and zlib to
        if not is_damage(error):
            raise
        raise InputError(f"{path}: damaged, or something else ({error}); delete it and run again") from error


def check_archive(path: str | os.PathLike) -> None:
    """Go through a zip archive, such as torch writes. ValueError, or an error of zipfile, if a member has changed, or
    if it would take more memory than the file accounts for."""
    with zipfile.ZipFile(path) as archive:
        _check_size(path, archive.infolist())
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} has changed")


def _check_size(path: str | os.PathLike, members: Iterable[zipfile.ZipInfo]) -> None:
    """ValueError if members of an archive are larger than `allowance`."""
    total, limit = sum(member.file_size for member in members), allowance(Path(path).stat().st_size)
    if total > limit:
        raise ValueError(f"{total} bytes when unpacked, where {limit} are allowed")


def allowance(size: int) -> int:
    """Bytes that an archive of `size` bytes may have when it is unpacked.

    Arrays of nothing but zeros shrink a thousandfold, others by much less.
    """
    return max(2**30, 200 * size)


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """An array of a .npz, after its header was held against the size that the archive gives it."""
    with archive.open(member) as file:
        if np.lib.format.read_magic(file) != (1, 0):  # the others are for structured arrays
            raise ValueError(f"{member.filename} is no plain array")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        content = member.file_size - file.tell()
        if dtype.hasobject or not dtype.itemsize or min(shape, default=0) < 0:
            raise ValueError(f"{member.filename} is no plain array")
        if math.prod(shape) * dtype.itemsize != content:
            raise ValueError(f"{member.filename} has {content} bytes, not those of {shape} times {dtype.itemsize}")
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
