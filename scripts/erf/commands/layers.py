"""The command `erf layers`: which layers of a model can be measured."""

import argparse
import json
import math

from erf.commands import arguments
from erf.commands.arguments import positive

WORDS = f"""List the layers of a model that can be measured, with the shape of their output for one image.

The model runs once, on one image of noise. Layers whose outputs have one shape are taken to have one stride.

{arguments.MODEL}

{arguments.CODE}"""


def add_to(commands, **options) -> None:
    """Make `erf layers` one of the commands."""
    words = {"usage": "erf layers MODEL [options]", "description": WORDS, "help": "list the layers of a model"}
    parser = commands.add_parser("layers", **words, **options)
    arguments.add_model(parser)
    images = parser.add_argument_group("the image")
    arguments.add_input_size(images)
    text = "of colours (3)"
    images.add_argument("--image-channels", type=positive, default=3, metavar="N", help=text)
    output = parser.add_argument_group("what comes of it")
    text = "the theoretical receptive field of each layer too, which takes longer"
    output.add_argument("--fields", action="store_true", help=text)
    output.add_argument("--json", action="store_true", help="print the list as JSON")
    parser.set_defaults(run=run_command, complain=parser.error)


def run_command(args: argparse.Namespace) -> None:
    shape = (args.image_channels, *arguments.input_size(args))
    # Not above: --help and wrong arguments need not wait for torch.
    from erf.applied.layers import measurable_layers
    from erf.errors import InputError
    from erf.measuring.recorded import theoretical_rf
    from erf.models.factory import load_model

    model = load_model(args.factory, args.kwargs, trust=arguments.trusted(args))
    found = measurable_layers(model, shape)
    if not found:
        raise InputError(f"{args.factory} has no layer with units in a plane, for images of {_sides(shape[1:])}")
    rows = []
    for layer in found:
        row = {"layer": layer.name, "kind": layer.kind, "shape": list(layer.shape)}
        row |= {"channels": layer.channels, "units": list(layer.units), "stride": list(layer.stride)}
        if args.fields:
            row["field"] = list(theoretical_rf(model, layer.name, input_shape=shape).size)
        rows.append(row)
    print(_as_json(rows) if args.json else _as_table(rows))


def _as_json(rows: list[dict]) -> str:
    """For a program; null where a side is infinite."""
    plain = [
        row | {"field": [side if math.isfinite(side) else None for side in row["field"]]} if "field" in row else row
        for row in rows
    ]
    return json.dumps(plain, indent=1)


def _as_table(rows: list[dict]) -> str:
    """For a reader: lengths in pixels."""
    titles = {"layer": "layer", "kind": "kind", "shape": "output", "channels": "channels", "stride": "stride, px"}
    titles |= {"field": "theoretical field, px"} if "field" in rows[0] else {}
    lines = [list(titles.values())]
    for row in rows:
        shown = row | {"layer": row["layer"] or "(its output)"}
        shown |= {key: _sides(row[key]) for key in ("shape", "stride", "field") if key in row}
        lines.append([str(shown[key]) for key in titles])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _sides(lengths) -> str:
    return " x ".join("all" if math.isinf(length) else f"{length:g}" for length in lengths)
