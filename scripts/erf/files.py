"""Files that are either whole or not there."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from erf.errors import InputError


@contextlib.contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; move it to `path` at the end, remove it if anything fails.

    The temporary name keeps the suffix, by which matplotlib and numpy choose a format.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes it private
        temporary.replace(path)
    except OSError as error:
        if error.filename in (None, name, temporary):  # a full disk names no file, and a temporary one says nothing
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def read_arrays(path: str | os.PathLike, *names: str) -> dict[str, np.ndarray]:
    """The arrays `names` of a .npz. InputError if it is damaged or something else; nothing is ever unpickled."""
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in names}
    except Exception as error:  # whatever a damaged archive brings numpy, zipfile and zlib to
        if isinstance(error, OSError) and error.filename:
            raise  # not there, or not ours to read
        raise InputError(f"{path}: damaged, or something else ({error}); delete it and run again") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
