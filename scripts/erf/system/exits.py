"""How a command ends: a user's or the disk's fault in one line, a signal after the clean-up."""

import contextlib
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

from erf.errors import InputError, is_out_of_memory, one_line

OUT_OF_MEMORY = "memory has run out: lower batch_size, width or input_size, or run it on a larger machine"


def exit_status(run: Callable[[], None]) -> int:
    """Call `run`, and return the command's exit status. Errors that a user can mend take one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal or a log that has no σ gets \u03c3
            stream.reconfigure(errors="backslashreplace")
    try:
        with stoppable(), plain_warnings():
            run()
    except Stopped as stopped:
        with contextlib.suppress(OSError):  # Ctrl-C has also ended whoever reads it
            print(f"error: stopped by {stopped.args[0].name}", file=sys.stderr)
        return 128 + stopped.args[0]
    except InputError as error:
        print(one_line(f"error: {error}"), file=sys.stderr)
    except OSError as error:
        print(one_line(f"error: {error.filename or 'writing'}: {error.strerror or error}"), file=sys.stderr)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"error: {OUT_OF_MEMORY}", file=sys.stderr)
    else:
        return 0
    return 1


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings for the user on one line each, without the place in the code."""
    before = warnings.formatwarning

    def plain(message, category, *rest, **options) -> str:
        if category is not UserWarning:
            return before(message, category, *rest, **options)
        return one_line(f"warning: {' '.join(str(message).split())}") + "\n"

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = before


class Stopped(BaseException):
    """A signal, its argument, has asked the process to end."""


def _stop(number: int, frame) -> None:
    for again in (signal.SIGTERM, signal.SIGINT):  # a second one would break off the clean-up
        signal.signal(again, signal.SIG_IGN)
    raise Stopped(signal.Signals(number))


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """End by way of Python's own clean-up, which removes half-written files, when SIGTERM or SIGINT arrives."""
    if threading.current_thread() is not threading.main_thread():  # only that one may ask for signals
        yield
        return
    numbers = [number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
