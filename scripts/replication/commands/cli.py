"""What every script here shares: errors in one line, a record beside what it makes, settings as JSON, tables."""

import argparse
import functools
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from erf.errors import InputError
from erf.system.exits import exit_status
from erf.system.files import atomic, checked, noted
from replication.commands import kept
from replication.commands.provenance import recorded
from replication.commands.source_code import code_digest


def command(main: Callable[[list[str] | None], None]) -> Callable[[list[str] | None], int]:
    """Make `main` return an exit status, say a user's or the disk's fault in one line, without a traceback, and leave a
    record beside what it makes. `main` does not run if the very same was kept of an earlier run, which is put back."""

    @functools.wraps(main)
    def wrapped(argv: list[str] | None = None) -> int:
        def run() -> None:
            script, arguments = Path(inspect.getfile(main)), sys.argv[1:] if argv is None else argv
            code = code_digest(script)
            if made := kept.put_back(script, code, arguments):
                print(f"unchanged since {made}: kept")
                return
            try:
                with recorded(script, arguments, code):
                    main(argv)
            except BaseException:
                if told := kept.whereabouts(arguments):
                    print(told, file=sys.stderr)
                raise
            kept.discard(arguments)

        return exit_status(run)

    return wrapped


def new_parser(description: str) -> argparse.ArgumentParser:
    """A parser that shows a script's docstring as it stands."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def figure_arguments(description: str, argv: list[str] | None, settings: str = "", **inputs: str) -> argparse.Namespace:
    """Arguments of a figure's script: its settings, if it has any, and lists of files, each by its name, with their
    help, and --out."""
    parser = new_parser(description)
    if settings:
        add_settings(parser, settings)
    for name, text in inputs.items():
        parser.add_argument(f"--{name}", type=Path, nargs="+", required=True, help=text)
    parser.add_argument("--out", type=Path, required=True, help=".png; the .pdf and .csv come beside it")
    return parser.parse_args(argv)


def add_settings(parser: argparse.ArgumentParser, text: str, default: dict | None = None) -> None:
    """Give a parser --settings, whose help is `text`; it may be left out if there is a default."""
    options = {"default": default, "required": default is None}
    parser.add_argument("--settings", type=read_settings, metavar="FILE", help=f"{text}, .json", **options)


def read_settings(path: str) -> dict:
    """For argparse: a program's settings, from a .json file that the pipeline has written, or the user."""
    try:
        settings = json.loads(noted(path).read_text(encoding="utf-8"))
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror}); a run of the pipeline writes it"
        raise argparse.ArgumentTypeError(problem) from error
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{path} is not JSON ({error})") from error
    if not isinstance(settings, dict):
        raise argparse.ArgumentTypeError(f"{path} is no JSON object of settings")
    return settings


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a CSV, or a .tsv, whole or not at all; floats in full, so that reading gives back what was computed."""
    with atomic(path) as temporary:
        table.to_csv(temporary, sep=separator(path), index=False, lineterminator="\n", encoding="utf-8")


def separator(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","


def read_table(path: Path, *columns: str) -> pd.DataFrame:
    """Read a table that `write_table` made; InputError if it is empty, not a table, or without one of `columns`."""
    checked(path)
    try:
        table = pd.read_csv(path, sep=separator(path), encoding="utf-8")
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a table ({error}); delete it and run again") from error
    missing = [name for name in columns if name not in table]
    if missing:
        raise InputError(f"{path}: has no column {missing[0]!r}: another table is wanted here")
    return table
