"""What every script here shares: errors in one line, a record beside what it makes, settings as JSON, tables."""

import argparse
import contextlib
import functools
import inspect
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from erf.errors import InputError, is_out_of_memory
from erf.files import atomic, checked
from erf.provenance import recorded

OUT_OF_MEMORY = "memory has run out: lower batch_size or width, or run it on a larger machine"


def command(main: Callable[[list[str] | None], None]) -> Callable[[list[str] | None], int]:
    """Make `main` return an exit status, say a user's or the disk's fault in one line, without a traceback, and leave a
    record beside what it makes."""

    @functools.wraps(main)
    def wrapped(argv: list[str] | None = None) -> int:
        try:
            with stoppable(), recorded(inspect.getfile(main), sys.argv[1:] if argv is None else argv):
                main(argv)
        except Stopped as stopped:
            with contextlib.suppress(OSError):  # Ctrl-C has also ended whoever reads it
                print(f"error: stopped by {stopped.args[0].name}", file=sys.stderr)
            return 128 + stopped.args[0]
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
        except OSError as error:
            print(f"error: {error.filename or 'writing'}: {error.strerror or error}", file=sys.stderr)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            print(f"error: {OUT_OF_MEMORY}", file=sys.stderr)
        else:
            return 0
        return 1

    return wrapped


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


def new_parser(description: str) -> argparse.ArgumentParser:
    """A parser that shows a script's docstring as it stands."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def figure_arguments(
    description: str,
    argv: list[str] | None,
    numbers: dict[str, str] | None = None,
    objects: dict[str, str] | None = None,
    **inputs: str,
) -> argparse.Namespace:
    """Arguments of a figure's script: lists of numbers, objects in JSON and lists of files, each by its name with its
    help, and --out."""
    parser = new_parser(description)
    for name, text in (objects or {}).items():
        parser.add_argument(f"--{name}", type=json_object, required=True, help=text)
    for name, text in (numbers or {}).items():
        parser.add_argument(f"--{name}", type=int, nargs="+", required=True, help=text)
    for name, text in inputs.items():
        parser.add_argument(f"--{name}", type=Path, nargs="+", required=True, help=text)
    parser.add_argument("--out", type=Path, required=True, help=".png; the .pdf and .csv come beside it")
    return parser.parse_args(argv)


def json_object(text: str) -> dict:
    """For argparse: an object in JSON."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV, whole or not at all; floats in full, so that reading gives back what was computed."""
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def read_table(path: Path, *columns: str) -> pd.DataFrame:
    """Read a CSV that `write_table` made; InputError if it is empty, not a table, or without one of `columns`."""
    checked(path)
    try:
        table = pd.read_csv(path)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a table ({error}); delete it and run again") from error
    missing = [name for name in columns if name not in table]
    if missing:
        raise InputError(f"{path}: has no column {missing[0]!r}: another table is wanted here")
    return table
