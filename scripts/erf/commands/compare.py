"""The command `erf compare`: several fields side by side."""

import argparse
import json
import math
from pathlib import Path

from erf.commands import arguments
from erf.system.files import atomic

WORDS = """Compare effective receptive fields (ERFs), which `erf measure --out` or ReceptiveField.save wrote.

The figure has one scale of colours and one of lengths for all of them. A logarithm or a power changes its colours
alone: all numbers are those of the linear maps."""


def add_to(commands, **options) -> None:
    """Make `erf compare` one of the commands."""
    words = {"usage": "erf compare A.npz B.npz ... [options]", "description": WORDS, "help": "compare measured fields"}
    parser = commands.add_parser("compare", **words, **options)
    text = "a field, whose label is the name of the file"
    parser.add_argument("files", nargs="+", type=arguments.with_suffix(".npz"), metavar="FILE.npz", help=text)
    parser.add_argument("--labels", nargs="+", metavar="LABEL", help="in place of the files' names, one for each")
    arguments.add_figure(parser)
    text = "of the figure's colours (log)"
    parser.add_argument("--scale", choices=["log", "power", "linear"], default="log", help=text)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.set_defaults(run=run_command, complain=parser.error)


def run_command(args: argparse.Namespace) -> None:
    if args.labels and len(args.labels) != len(args.files):
        args.complain(f"argument --labels: {len(args.labels)} labels for {len(args.files)} files")
    labels = args.labels or _labels(args.files)
    if len(set(labels)) < len(labels):
        args.complain("argument --labels: they must differ")
    if args.figure:
        from erf.result.compare import compare  # here, so that matplotlib is missed before anything is read
    from erf.result.field import ReceptiveField

    fields = {label: ReceptiveField.load(path) for label, path in zip(labels, args.files, strict=True)}
    if args.figure:
        figure = compare(fields, scale=args.scale)
        with atomic(args.figure) as temporary:
            figure.savefig(temporary)
    found = {label: field.summary() for label, field in fields.items()}
    if args.json:
        print(json.dumps({label: arguments.finite(numbers) for label, numbers in found.items()}, indent=1))
    else:
        print(_side_by_side(found))


def _labels(files: list[Path]) -> list[str]:
    """The files' names; with their folders if several have one name."""
    names = [path.stem for path in files]
    return names if len(set(names)) == len(names) else [str(path.with_suffix("")) for path in files]


def _side_by_side(found: dict[str, dict]) -> str:
    """A line for each number, to four digits, and a column for each field."""
    lines = [["", *found]]
    for name in dict.fromkeys(name for numbers in found.values() for name in numbers):
        lines.append([name, *(_number(numbers.get(name)) for numbers in found.values())])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = []
    for first, *others in lines:
        cells = [first.ljust(widths[0]), *(text.rjust(width) for text, width in zip(others, widths[1:], strict=True))]
        rows.append("  ".join(cells))
    return "\n".join(rows)


def _number(value: float | int | bool | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
