"""The effective receptive field (ERF) of any PyTorch model, from the command line."""

import argparse
import json
import math
import sys
import warnings
from pathlib import Path

from erf.system.exits import exit_status
from erf.system.files import atomic

__all__ = ["main"]

_MEASURE = """Measure the effective receptive field (ERF) of one unit of a model: how strongly each pixel moves it.

The model is built by a factory, MODEL, which is one of
  torchvision.models:resnet50        a model of torchvision
  timm:convnext_tiny                 a name of timm's
  path/to/file.py:function           a function in a file
  package.module:function            a function of any other module, with --trust package
and which may have weights that it draws at random or loads by itself, or be given some by --weights.

MODEL is code, and runs: a file that you name here, models of torchvision and timm, and what --trust names."""
_EXAMPLES = """examples:
  erf measure torchvision.models:resnet50 --layer layer4
  erf measure torchvision.models:resnet50 --layer layer4 --weights default --images photographs/ --count 50
  erf measure net.py:build --kwargs '{"width": 64}' --weights best.pt --layer encoder --out erf.npz --figure erf.png
  erf measure mypackage.nets:build --trust mypackage --layer encoder
  erf measure timm:vit_base_patch16_224 --layer blocks.11 --input-size 224 --json

exit status: 0 if all went well, 1 for what a line on stderr names, 2 for wrong arguments, 130 after Ctrl-C"""


def main(argv: list[str] | None = None) -> int:
    """The command `erf`; its exit status."""
    options = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": _EXAMPLES}
    parser = argparse.ArgumentParser("erf", description=__doc__, **options)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    words = {"usage": "erf measure MODEL [options]", "description": _MEASURE, "help": "measure one unit of a model"}
    _add_arguments(commands.add_parser("measure", **words, **options))
    args = parser.parse_args(argv)
    return exit_status(lambda: _measure(args))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `erf measure`."""
    parser.add_argument("factory", metavar="MODEL", help="what builds the model, see above")
    model = parser.add_argument_group("the model")
    model.add_argument("--kwargs", type=_json_object, default={}, metavar="JSON", help="keyword arguments for MODEL")
    text = "a module or package, or a .py file, whose code may run, once for each"
    model.add_argument("--trust", action="append", default=[], metavar="MODULE", help=text)
    text = "none (default): as MODEL gives it, with batch norms calibrated if they are new; default: the library's "
    text += "own, trained; or a file with a state dict"
    model.add_argument("--weights", default="none", metavar="WEIGHTS", help=text)
    model.add_argument("--seed", type=int, default=0, help="of random weights, noise and drawn images (0)")
    unit = parser.add_argument_group("the unit")
    unit.add_argument("--layer", default="", help="submodule in whose output it is (the model's own output)")
    text = "where in the output (the middle)"
    unit.add_argument("--unit", type=_whole, nargs=2, metavar=("ROW", "COLUMN"), help=text)
    text = "sum (default) of them, each by itself, or the number of one"
    unit.add_argument("--channels", type=_sum_each_or_one, default="sum", metavar="CHANNELS", help=text)
    modes, text = ["abs", "square", "signed", "positive"], "what of the gradient is averaged (abs)"
    unit.add_argument("--mode", choices=modes, default="abs", help=text)
    images = parser.add_argument_group("the images")
    images.add_argument("--images", dest="source", default="noise", metavar="FOLDER", help="of images (normal noise)")
    text = "how many to average over (16)"
    images.add_argument("--count", dest="images", type=_positive, default=16, metavar="COUNT", help=text)
    text = "one number for a square (224)"
    images.add_argument(
        "--input-size", type=_positive, nargs="+", default=[224], metavar="PIXELS", help=f"height and width, {text}"
    )
    for name, text in (("mean", "0.485 0.456 0.406"), ("std", "0.229 0.224 0.225")):
        values = {"type": float, "nargs": "+", "default": [float(value) for value in text.split()]}
        words = f"of each channel, for their normalisation; one number for grey images ({text})"
        images.add_argument(f"--{name}", **values, metavar="CHANNEL", help=words)
    run = parser.add_argument_group("the run")
    run.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    run.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    run.add_argument("--batch-size", type=_positive, metavar="N", help="images in one pass (as memory suggests)")
    run.add_argument("--threads", type=_positive, metavar="N", help="of the CPU (torch's default)")
    output = parser.add_argument_group("what comes of it")
    output.add_argument("--out", type=_with_suffix(".npz"), metavar="FILE.npz", help="for erf.ReceptiveField.load")
    output.add_argument(
        "--figure", type=_with_suffix(".png", ".pdf", ".svg"), metavar="FILE.png", help="or .pdf or .svg"
    )
    output.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.set_defaults(complain=parser.error)


def _measure(args: argparse.Namespace) -> None:
    """The command `erf measure`."""
    if len(args.input_size) > 2:
        args.complain("argument --input-size: one number or two")
    if args.figure:
        import erf.result.display  # noqa: F401, so that matplotlib is missed before anything is measured
    import torch  # not above: --help and wrong arguments need not wait for it

    from erf.models.measure_model import measure_model
    from erf.system.devices import choose_device

    if args.threads:
        torch.set_num_threads(args.threads)
    described = ("factory", "kwargs", "weights", "seed", "layer", "channels", "mode", "source", "images", "mean", "std")
    settings = {name: getattr(args, name) for name in described}
    settings |= {"unit": args.unit or "center", "input_size": [args.input_size[0], args.input_size[-1]]}
    with warnings.catch_warnings(action="ignore"):  # that there is no GPU: here that is nothing to wonder at
        device = choose_device(args.device)
    dtype, progress = getattr(torch, args.dtype), sys.stderr.isatty()
    place = args.factory.rpartition(":")[0]
    trust = [*args.trust, *([place] if place.endswith(".py") else [])]  # who names a file here means its code
    field = measure_model(settings, device, dtype, args.batch_size, progress, trust)
    found = field.summary()
    if args.out:
        field.save(args.out)
    if args.figure:
        _draw(field, args.figure)
    print(_as_json(found) if args.json else _in_words(found, field))


def _draw(field, path: Path) -> None:
    """Write the field's picture, whole or not at all."""
    from matplotlib.figure import Figure

    axes = field.plot(Figure(figsize=(3.5, 3.3), dpi=300, layout="constrained").subplots())  # without any display
    with atomic(path) as temporary:
        axes.figure.savefig(temporary)


def _in_words(found: dict, field) -> str:
    """The numbers for a reader."""
    measured, interval = field.settings, ""
    if not math.isnan(found["low"]):
        interval = f" [{found['low']:.1f}, {found['high']:.1f}], a 95 % bootstrap over images"
    theory = f"{found['rf_height']:.0f} x {found['rf_width']:.0f} px, of which the ERF's side is"
    if measured["sees_all"]:
        theory = f"the whole image, or what is not known: {measured['sees_all']}"
    else:
        theory = f"{theory} {found['ratio']:.3f}"
    layer = f"layer {measured['layer']}" if measured["layer"] else "its output"
    rows = {
        "model": f"{measured['model']['factory']}, {layer}, unit {tuple(measured['unit'])}",
        "looks at": f"pixel ({found['row']:g}, {found['column']:g}) of {found['height']} x {found['width']}",
        "ERF size": f"{found['size']:.1f} px{interval}{', cut off' if found['clipped'] else ''}",
        "diameter": f"{found['diameter']:.1f} px",
        "sigma": f"{found['sigma_rows']:.1f} px along rows, {found['sigma_columns']:.1f} px along columns",
        "Gaussian": f"R2 {found['gaussian_r2']:.3f}",
        "theory": theory,
        "images": f"{found['images']}, {found['dead']} of them with no gradient",
    }
    return "\n".join(f"{name:<10}{text}" for name, text in rows.items())


def _as_json(found: dict) -> str:
    """The numbers for a program; null for those that are infinite or undefined."""
    plain = {name: value if math.isfinite(value) else None for name, value in found.items()}
    return json.dumps(plain, indent=1)


def _json_object(text: str) -> dict:
    """For argparse: an object in JSON."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no object in JSON, such as '{{\"width\": 64}}'")
    return value


def _whole(text: str) -> int:
    """For argparse: a whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0")
    return int(text)


def _positive(text: str) -> int:
    """For argparse: a whole number from 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def _sum_each_or_one(text: str) -> str | int:
    """For argparse: which channels."""
    return text if text in ("sum", "each") else _whole(text)


def _with_suffix(*suffixes: str):
    """For argparse: a path that ends in one of these."""

    def path(text: str) -> Path:
        if Path(text).suffix not in suffixes:
            raise argparse.ArgumentTypeError(f"{text!r} does not end in {' or '.join(suffixes)}")
        return Path(text)

    return path


if __name__ == "__main__":
    sys.exit(main())
