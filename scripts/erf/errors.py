"""InputError, which means that the input is wrong and not the code, and tests of what other exceptions mean."""

import difflib
import errno
from collections.abc import Iterable

__all__ = [
    "InputError",
    "did_you_mean",
    "is_damage",
    "is_out_of_memory",
    "one_line",
]


class InputError(ValueError):
    """A mistake in what the user gave: a setting, a file, a model. Its message names the thing and the fix."""


def one_line(text: str) -> str:
    """Text as one line for a terminal or a log.

    Names of files and layers may hold line breaks, or what a terminal obeys: these are shown as Python writes them.
    """
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: known names that are near it; empty if there is none."""
    found = difflib.get_close_matches(name, known, n=3)
    return f": did you mean {', '.join(found)}?" if found else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory has run out. torch raises a RuntimeError for it, with varying words."""
    words = (
        *("out of memory", "not enough memory", "can't allocate memory"),
        *("could not create a memory object", "could not create a primitive"),  # oneDNN's
    )
    memory = isinstance(error, MemoryError) or isinstance(error.__context__, MemoryError)
    return memory or any(word in str(error) for word in words)


def is_damage(error: Exception) -> bool:
    """Whether an error while reading a file means that the file is damaged, and not that disk or memory failed."""
    disk = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
    return not disk and not is_out_of_memory(error)
