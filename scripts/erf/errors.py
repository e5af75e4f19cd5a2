"""The one exception that means "the input is wrong, not the code", and what other exceptions mean."""

import difflib
import errno
from collections.abc import Iterable

__all__ = [
    "InputError",
    "did_you_mean",
    "is_damage",
    "is_out_of_memory",
]


class InputError(ValueError):
    """A mistake in what the user gave: a setting, a file, a model. Its message names the thing and the fix."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a line on an unknown name: which may have been meant, if any comes near."""
    found = difflib.get_close_matches(name, known, n=3)
    return f": did you mean {', '.join(found)}?" if found else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that there is no more memory, which torch says in words."""
    words = ("out of memory", "not enough memory", "can't allocate memory", "could not create a memory object")
    memory = isinstance(error, MemoryError) or isinstance(error.__context__, MemoryError)
    return memory or any(word in str(error) for word in words)


def is_damage(error: Exception) -> bool:
    """Whether what went wrong while a file was read is the file's fault, and not the disk's or the memory's."""
    disk = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
    return not disk and not is_out_of_memory(error)
