"""Effective receptive field of one unit of any model, built by a factory: torchvision's, timm's or anybody's.

Writes the field, and beside it a table of its numbers, .csv. `python -m erf measure` does the same without settings in
JSON.

Takes seconds to a minute on one core, by the model's size.
"""

import sys
from pathlib import Path

import pandas as pd
import torch

from erf.models.measure_model import measure_model
from erf.system.devices import choose_device
from erf.system.files import listed
from replication.commands.cli import add_settings, command, new_parser, write_table


@command
def main(argv: list[str] | None = None) -> None:
    parser = new_parser(__doc__)
    add_settings(parser, "the model's settings, and its name in tables and figures")
    words = "a module or package, or a .py file, whose code may run, once for each"
    parser.add_argument("--trust", action="append", default=[], metavar="MODULE", help=words)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="the field, .npz; its numbers come beside it as .csv")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    settings, name = args.settings, args.settings.pop("name")
    if settings["source"] != "noise":
        listed(settings["source"])
    field = measure_model(settings, choose_device(args.device), torch.float32, trust=args.trust)
    field.settings["name"] = name
    field.save(args.out)
    labels = {"model": name, **{key: settings[key] for key in ("factory", "weights", "layer")}}
    write_table(pd.DataFrame([labels | field.summary()]), args.out.with_suffix(".csv"))
    print(f"{name}: ERF size {field.size:.1f} px, theoretical {field.theoretical_rf[0]:.0f} px")


if __name__ == "__main__":
    sys.exit(main())
