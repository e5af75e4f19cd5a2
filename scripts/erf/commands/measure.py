"""The command `erf measure`: one unit of a model."""

import argparse
import json
import math
import sys
import warnings
from pathlib import Path

from erf.commands import arguments
from erf.commands.arguments import positive, sum_each_or_one, whole, with_suffix
from erf.system.files import atomic

WORDS = f"""Measure the effective receptive field (ERF) of one unit of a model: how strongly each pixel moves it.

{arguments.MODEL}
and which may have weights that it draws at random or loads by itself, or be given some by --weights.

{arguments.CODE}"""


def add_to(commands, **options) -> None:
    """Make `erf measure` one of the commands."""
    words = {"usage": "erf measure MODEL [options]", "description": WORDS, "help": "measure one unit of a model"}
    parser = commands.add_parser("measure", **words, **options)
    model = arguments.add_model(parser)
    text = "none (default): as MODEL gives it, with batch norms calibrated if they are new; default: the library's "
    text += "own, trained; or a file with a state dict"
    model.add_argument("--weights", default="none", metavar="WEIGHTS", help=text)
    model.add_argument("--seed", type=int, default=0, help="of random weights, noise and drawn images (0)")
    unit = parser.add_argument_group("the unit")
    unit.add_argument("--layer", default="", help="submodule in whose output it is (the model's own output)")
    text = "where in the output (the middle)"
    unit.add_argument("--unit", type=whole, nargs=2, metavar=("ROW", "COLUMN"), help=text)
    text = "sum (default) of them, each by itself, or the number of one"
    unit.add_argument("--channels", type=sum_each_or_one, default="sum", metavar="CHANNELS", help=text)
    modes, text = ["abs", "square", "signed", "positive"], "what of the gradient is averaged (abs)"
    unit.add_argument("--mode", choices=modes, default="abs", help=text)
    images = parser.add_argument_group("the images")
    images.add_argument("--images", dest="source", default="noise", metavar="FOLDER", help="of images (normal noise)")
    text = "how many to average over (16)"
    images.add_argument("--count", dest="images", type=positive, default=16, metavar="COUNT", help=text)
    arguments.add_input_size(images)
    for name, text in (("mean", "0.485 0.456 0.406"), ("std", "0.229 0.224 0.225")):
        values = {"type": float, "nargs": "+", "default": [float(value) for value in text.split()]}
        words = f"of each channel, for their normalisation; one number for grey images ({text})"
        images.add_argument(f"--{name}", **values, metavar="CHANNEL", help=words)
    run = parser.add_argument_group("the run")
    run.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    run.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    run.add_argument("--batch-size", type=positive, metavar="N", help="images in one pass (as memory suggests)")
    run.add_argument("--threads", type=positive, metavar="N", help="of the CPU (torch's default)")
    output = parser.add_argument_group("what comes of it")
    output.add_argument("--out", type=with_suffix(".npz"), metavar="FILE.npz", help="for erf.ReceptiveField.load")
    arguments.add_figure(output)
    output.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.set_defaults(run=run_command, complain=parser.error)


def run_command(args: argparse.Namespace) -> None:
    size = arguments.input_size(args)
    if args.figure:
        import erf.result.display  # noqa: F401, so that matplotlib is missed before anything is measured
    import torch  # not above: --help and wrong arguments need not wait for it

    from erf.models.measure_model import measure_model
    from erf.system.devices import choose_device

    if args.threads:
        torch.set_num_threads(args.threads)
    described = ("factory", "kwargs", "weights", "seed", "layer", "channels", "mode", "source", "images", "mean", "std")
    settings = {name: getattr(args, name) for name in described}
    settings |= {"unit": args.unit or "center", "input_size": size}
    with warnings.catch_warnings(action="ignore"):  # that there is no GPU: here that is nothing to wonder at
        device = choose_device(args.device)
    dtype, progress = getattr(torch, args.dtype), sys.stderr.isatty()
    field = measure_model(settings, device, dtype, args.batch_size, progress, arguments.trusted(args))
    found = field.summary()
    if args.out:
        field.save(args.out)
    if args.figure:
        _draw(field, args.figure)
    print(json.dumps(arguments.finite(found), indent=1) if args.json else _in_words(found, field))


def _draw(field, path: Path) -> None:
    """Write the field's picture, whole or not at all."""
    from matplotlib.figure import Figure

    axes = field.plot(Figure(figsize=(3.5, 3.3), dpi=300, layout="constrained").subplots())  # without any display
    with atomic(path) as temporary:
        axes.figure.savefig(temporary)


def _in_words(found: dict, field) -> str:
    """The numbers for a reader."""
    measured, interval = field.settings, ""
    weights = str(measured["model"]["weights"])
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
        "weights": {"none": "as the model is built, without trained ones"}.get(weights, weights),
        "looks at": f"pixel ({found['row']:g}, {found['column']:g}) of {found['height']} x {found['width']}",
        "ERF size": f"{found['size']:.1f} px{interval}{', cut off' if found['clipped'] else ''}",
        "diameter": f"{found['diameter']:.1f} px",
        "sigma": f"{found['sigma_rows']:.1f} px along rows, {found['sigma_columns']:.1f} px along columns",
        "Gaussian": f"R2 {found['gaussian_r2']:.3f}",
        "theory": theory,
        "images": f"{found['images']}, {found['dead']} of them with no gradient",
    }
    return "\n".join(f"{name:<10}{text}" for name, text in rows.items())
