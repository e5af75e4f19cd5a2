"""Arguments that several commands take, and how their values are read."""

import argparse
import json
import math
from pathlib import Path

MODEL = """The model is built by a factory, MODEL, which is one of
  torchvision.models:resnet50        a model of torchvision
  timm:convnext_tiny                 a name of timm's
  path/to/file.py:function           a function in a file
  package.module:function            a function of any other module, with --trust package"""
CODE = "MODEL is code, and runs: a file that you name here, models of torchvision and timm, and what --trust names."


def add_model(parser: argparse.ArgumentParser):
    """MODEL and the options of its factory; the group that they are in."""
    parser.add_argument("factory", metavar="MODEL", help="what builds the model, see above")
    model = parser.add_argument_group("the model")
    model.add_argument("--kwargs", type=json_object, default={}, metavar="JSON", help="keyword arguments for MODEL")
    text = "a module or package, or a .py file, whose code may run, once for each"
    model.add_argument("--trust", action="append", default=[], metavar="MODULE", help=text)
    return model


def trusted(args: argparse.Namespace) -> list[str]:
    """What may run: who names a file as MODEL means its code."""
    place = args.factory.rpartition(":")[0]
    return [*args.trust, *([place] if place.endswith(".py") else [])]


def add_input_size(group) -> None:
    words = "height and width, one number for a square (224)"
    group.add_argument("--input-size", type=positive, nargs="+", default=[224], metavar="PIXELS", help=words)


def input_size(args: argparse.Namespace) -> list[int]:
    """Height and width."""
    if len(args.input_size) > 2:
        args.complain("argument --input-size: one number or two")
    return [args.input_size[0], args.input_size[-1]]


def add_figure(group) -> None:
    suffixes = with_suffix(".png", ".pdf", ".svg")
    group.add_argument("--figure", type=suffixes, metavar="FILE.png", help="or .pdf or .svg")


def finite(numbers: dict) -> dict:
    """Numbers for JSON, which has none that are infinite or undefined: null."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def json_object(text: str) -> dict:
    """For argparse: an object in JSON."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no object in JSON, such as '{{\"width\": 64}}'")
    return value


def whole(text: str) -> int:
    """For argparse: a whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0")
    return int(text)


def positive(text: str) -> int:
    """For argparse: a whole number from 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def sum_each_or_one(text: str) -> str | int:
    """For argparse: which channels."""
    return text if text in ("sum", "each") else whole(text)


def with_suffix(*suffixes: str):
    """For argparse: a path that ends in one of these."""

    def path(text: str) -> Path:
        if Path(text).suffix not in suffixes:
            raise argparse.ArgumentTypeError(f"{text!r} does not end in {' or '.join(suffixes)}")
        return Path(text)

    return path
